"""Which images tell a model most: those are labeled first.

First where people disagree, then where the model and people do; after them, half and half, what the
model is undecided about and what is unlike everything labeled or chosen before it (k-center, greedy:
Sener and Savarese, ICLR 2018). The reason says which it was, but not who said what: whoever is still to
label an image must not learn that.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from threadpoolctl import threadpool_limits

from chipdemo.inspection import ABNORMAL, CLASSES, NORMAL
from chipdemo.labeling.agreement import DISPUTED
from chipdemo.labeling.journal import Journal

SIZE = 64  # numbers kept of an embedding
HEAD = 1_000  # images chosen one after the other; the others follow by what is left of their difference
BATCH = 500  # rows written in one transaction: a few milliseconds
PAUSE_S = 0.01  # between two, so that labelers come first
CHUNK = 1_024  # embeddings compared at a time, with as many others
LABELED = 10_000  # of more labeled images, as many, evenly spread, stand for all
PEOPLE_DISAGREE, MODEL_DISAGREES = 2.0, 1.0  # priorities; those below 1 are what an image could tell
TORN = "people disagree"  # a reason, even where no model was asked
LITTLE = 0.25  # less than this is no reason


@dataclass(frozen=True)
class Scored:
    """All images, in the order of their ids, and what a model says of them.

    id: (N,). consensus: N labels, "" for none. priority, reason: as they are now.
    probability: (N,) of abnormal; NaN where the model was not asked.
    embedding: (N, SIZE) float32 of unit length; 0 where there is none.
    """

    id: np.ndarray
    consensus: list[str]
    priority: np.ndarray
    reason: list[str]
    probability: np.ndarray
    embedding: np.ndarray


def set_scores(
    journal: Journal, revision: str, scores: Iterable[tuple[str, float, np.ndarray | None]]
) -> None:
    """Keep what a model says: (sha256, probability of abnormal, embedding (C,) or None) of each.

    Longer embeddings are projected at random to SIZE numbers, which hardly changes who is near whom
    (Johnson and Lindenstrauss), and keeps 100,000 images in 26 MB.
    """
    rows = [
        (sha256, revision, float(p), b"" if embedding is None else shorten(embedding).astype("<f4").tobytes())
        for sha256, p, embedding in scores
    ]
    with journal.write() as database:
        database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)", rows)


def rank(journal: Journal, threshold: float, revision: str) -> int:
    """Write priority and reason of what that revision has scored; gives how many of them changed.

    threshold: of the model, 0-1. Labelers are not held up: it reads without a lock, and writes in
    short transactions.
    """
    scored = _read(journal, revision)
    if not len(scored.id):
        return 0
    with threadpool_limits(1):  # a core, so that the others are for those who wait
        priority, reason = rank_scored(scored, threshold)
    changed = [
        (float(priority[i]), reason[i], int(scored.id[i]))
        for i in np.flatnonzero(~np.isnan(priority))
        if priority[i] != scored.priority[i] or reason[i] != scored.reason[i]
    ]
    for start in range(0, len(changed), BATCH):
        with journal.write() as database:
            database.executemany(
                "UPDATE images SET priority = ?, reason = ? WHERE id = ?", changed[start : start + BATCH]
            )
        time.sleep(PAUSE_S)
    return len(changed)


def rank_scored(scored: Scored, threshold: float) -> tuple[np.ndarray, list[str]]:
    """Priority (N,), NaN where there is nothing to go by, and its reason, of every image."""
    known = ~np.isnan(scored.probability)
    consensus = np.array(scored.consensus)
    verdict = np.where(scored.probability >= threshold, ABNORMAL, NORMAL)
    undecided = undecidedness(scored.probability, threshold)
    unlike = differences(scored.embedding, undecided, labeled=consensus != "")
    priority = (undecided + unlike) / 2
    against = known & np.isin(consensus, CLASSES) & (consensus != verdict)
    priority[against] = MODEL_DISAGREES + 1 - undecided[against]  # the surer the model, the sooner
    torn = consensus == DISPUTED
    priority[torn] = PEOPLE_DISAGREE + np.nan_to_num(undecided[torn])
    priority[~torn & ~known & (np.array(scored.reason) == TORN)] = 0  # settled since
    reasons = np.select(
        [torn, against, ~known, np.fmax(undecided, unlike) < LITTLE, undecided < unlike],
        [
            TORN,
            "the model and people disagree",
            "",
            "much like what is labeled, and the model is sure",
            "unlike anything labeled so far",
        ],
        "undecided",
    ).tolist()
    for i in (i for i, reason in enumerate(reasons) if reason == "undecided"):
        reasons[i] = f"the model is undecided ({scored.probability[i]:.2f})"
    return priority.round(4), reasons  # rounded: what hardly changed is not written again


def undecidedness(probability: np.ndarray, threshold: float) -> np.ndarray:
    """(N,) probabilities -> (N,): 1 at the threshold, 0 where the model is sure."""
    below, above = max(threshold, 1e-6), max(1 - threshold, 1e-6)
    return 1 - np.where(
        probability < threshold, (threshold - probability) / below, (probability - threshold) / above
    )


def differences(
    embedding: np.ndarray, undecided: np.ndarray, labeled: np.ndarray, head: int = HEAD
) -> np.ndarray:
    """How far each image is from everything labeled, and from what comes before it in the queue.

    embedding: (N, C) float32 of unit length. undecided: (N,), what else decides who comes first; NaN
    for who does not. labeled: (N,) bool. Gives (N,): 1 is as far as two images usually are.
    """
    usual = _usual_distance(embedding)
    compared = ~labeled & embedding.any(1)  # without an embedding, nothing is known of it
    nearest = np.zeros(len(embedding), np.float32)
    known = embedding[labeled]
    known = known[:: len(known) // LABELED + 1]
    nearest[compared] = _distance_to_nearest(embedding[compared], known) / usual
    nearest = np.minimum(nearest, 1)
    waiting = ~labeled & ~np.isnan(undecided)
    result, score = nearest.copy(), np.where(waiting, undecided + nearest, -1)
    for _ in range(min(head, int(waiting.sum()))):
        first = int(score.argmax())
        result[first], waiting[first] = nearest[first], False
        nearest = np.minimum(nearest, (1 - embedding @ embedding[first]) / usual)
        score = np.where(waiting, undecided + nearest, -1)
    return np.where(waiting, nearest, result)


def _distance_to_nearest(embedding: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """(N, C) and (L, C) of unit length -> (N,) cosine distances, 0-2; infinite where L is 0."""
    nearest = np.full(len(embedding), np.inf, np.float32)
    for start in range(0, len(embedding), CHUNK):
        rows = slice(start, start + CHUNK)
        for first in range(0, len(labeled), CHUNK):
            closeness = embedding[rows] @ labeled[first : first + CHUNK].T
            nearest[rows] = np.minimum(nearest[rows], 1 - closeness.max(1))
    return nearest


def _usual_distance(embedding: np.ndarray) -> float:
    """Median cosine distance between two of them at random."""
    one, other = np.random.RandomState(0).randint(0, len(embedding), (2, 2_000))
    return max(float(np.median(1 - (embedding[one] * embedding[other]).sum(1))), 1e-6)


def shorten(embedding: np.ndarray) -> np.ndarray:
    """(C,) -> at most SIZE numbers of unit length, float32; none of zeros or of what is not finite."""
    vector = np.asarray(embedding, np.float32).ravel()
    if len(vector) > SIZE:
        vector = vector @ _projection(len(vector))
    length = float(np.linalg.norm(vector))
    return vector / length if np.isfinite(length) and length else vector[:0]


@cache
def _projection(channels: int) -> np.ndarray:
    """(C, SIZE), the same for ever: RandomState's numbers are frozen, default_rng's are not."""
    return np.random.RandomState(0).standard_normal((channels, SIZE)).astype(np.float32)


def _read(journal: Journal, revision: str) -> Scored:
    with journal.read() as database:
        rows = database.execute(
            "SELECT id, consensus, priority, reason, abnormal_probability AS probability, embedding "
            "FROM images LEFT JOIN scores ON image_sha256 = sha256 AND revision = ? ORDER BY id",
            (revision,),
        ).fetchall()
    embedding = np.zeros((len(rows), SIZE), np.float32)
    for row, own in zip(embedding, (one["embedding"] for one in rows)):
        if own:
            vector = np.frombuffer(own, "<f4")
            row[: len(vector)] = vector
    return Scored(
        id=np.array([row["id"] for row in rows], np.int64),
        consensus=[row["consensus"] for row in rows],
        priority=np.array([row["priority"] for row in rows]),
        reason=[row["reason"] for row in rows],
        probability=np.array([row["probability"] for row in rows], float),  # None becomes NaN
        embedding=embedding,
    )
