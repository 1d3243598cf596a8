"""A coreset: few patches, of which one is near each patch of many (greedy k-center; Roth et al., CVPR 2022).

Faster than one by one: distances are those of a random projection, and of the patches that are furthest from
all chosen ones a batch is taken at a time, greedily among themselves.
"""

import numpy as np

DIMENSIONS = 64  # of the random projection
CANDIDATES = 60_000  # patches that are chosen from, at most, drawn at random
BATCH = 64  # patches chosen at a time ...
FURTHEST = 4  # ... from so many times as many


def coreset(patches: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """(M, D) float32 -> the rows of at most `count` patches, sorted; the same every time."""
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.permutation(len(patches))[:CANDIDATES])
    if len(rows) <= count:
        return rows
    projection = generator.normal(size=(patches.shape[1], DIMENSIONS)).astype(np.float32) / DIMENSIONS**0.5
    points = patches[rows] @ projection
    squares = np.square(points).sum(1)
    distance = np.full(len(points), np.inf, np.float32)  # squared, to the nearest chosen one
    new = [int(generator.integers(len(points)))]
    chosen = list(new)
    while len(chosen) < count:
        to_new = squares[:, None] + squares[new] - 2 * points @ points[new].T
        np.minimum(distance, to_new.min(1), out=distance)
        furthest = np.argsort(-distance)[: FURTHEST * BATCH]
        among, left = points[furthest], distance[furthest]
        between = squares[furthest][:, None] + squares[furthest] - 2 * among @ among.T
        new = []
        for _ in range(min(BATCH, count - len(chosen))):
            best = int(left.argmax())
            new.append(int(furthest[best]))
            left = np.minimum(left, between[best])
            left[best] = -1
        chosen += new
    return rows[np.sort(chosen)]
