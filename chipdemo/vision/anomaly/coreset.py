"""A coreset: few patches, of which one is near each patch of many (greedy k-center; Roth et al., CVPR 2022).

Faster than one by one: distances are those of a random projection, and of the patches that are furthest from
all chosen ones several are chosen at a time, as long as they are further than all others.
"""

import numpy as np

DIMENSIONS = 64  # of the random projection
CANDIDATES = 60_000  # patches that are chosen from, at most, drawn at random
BLOCK = 2_048  # patches that are compared at a time; their distances fit into a processor's cache
FURTHEST = 1_000  # patches of which several are chosen at a time


def coreset(patches: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """(M, D) float32 -> the rows of at most `count` patches, sorted; the same every time."""
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.permutation(len(patches))[:CANDIDATES])
    if len(rows) <= count:
        return rows
    projection = generator.normal(size=(patches.shape[1], DIMENSIONS)).astype(np.float32) / DIMENSIONS**0.5
    points = patches[rows] @ projection
    squares = np.square(points).sum(1)
    extended = np.hstack((points, np.ones_like(points[:, :1])))
    distance = np.full(len(points), np.inf, np.float32)  # squared, to the nearest chosen one
    new = [int(generator.integers(len(points)))]
    chosen = list(new)
    while len(chosen) < count:
        added = np.vstack((-2 * points[new].T, squares[new]))
        for start in range(0, len(points), BLOCK):
            block = slice(start, start + BLOCK)
            nearest = (extended[block] @ added).min(1) + squares[block]
            np.minimum(distance[block], nearest, out=distance[block])
        furthest = np.argpartition(-distance, min(FURTHEST, len(points)) - 1)[:FURTHEST]
        among, left = points[furthest], distance[furthest]
        others = left.min()
        new = []
        while len(chosen) + len(new) < count and (not new or left.max() >= others):
            best = int(left.argmax())
            new.append(int(furthest[best]))
            to_best = squares[furthest] + squares[new[-1]] - 2 * among @ among[best]
            left = np.minimum(left, to_best)
            left[best] = -1
        chosen += new
    return rows[np.sort(chosen)]
