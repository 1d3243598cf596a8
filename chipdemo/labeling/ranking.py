"""Orders the queue by how much a label would tell the model (active learning).

First come disputed images, then those where the model contradicts the consensus. The others are ordered by
the mean of two numbers: how uncertain the model is, and how far the image is from everything labeled or
chosen before it (greedy k-center: Sener and Savarese, ICLR 2018). The reason that is shown with an image
does not tell its labels, because the next annotator must not know them.
"""

import json
import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from functools import cache

import numpy as np
from threadpoolctl import threadpool_limits

from chipdemo.inspection import ABNORMAL, CLASSES, NORMAL
from chipdemo.labeling.agreement import DISPUTED
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import ModelPrediction

SIZE = 64  # dimensions kept of an embedding
HEAD = 1_000  # images chosen greedily; the others follow by their remaining distance
BATCH = 500  # rows written in one transaction: a few milliseconds
PAUSE_S = 0.01  # between two, to let labelers write
CHUNK = 1_024  # embeddings compared at a time, with as many others
LABELED = 10_000  # labeled images compared with; of more, an evenly spaced sample
DISPUTED_FIRST, MODEL_DISAGREES = 2.0, 1.0  # added to the priority, which is otherwise 0-1
DISPUTED_REASON = "annotators disagree"  # also without a model
UNCERTAIN = "the model is uncertain"
LITTLE = 0.25  # below this, neither number is a reason


@dataclass(frozen=True)
class Scored:
    """All images in the order of their ids, with the scores of the models.

    id: (N,). consensus: N labels, "" for none. priority, reason: current values.
    probability: (N,) of abnormal; NaN without a score. threshold: (N,) of the model that it is from.
    embedding: (N, SIZE) float32 of unit length; 0 where there is none.
    """

    id: np.ndarray
    consensus: list[str]
    priority: np.ndarray
    reason: list[str]
    probability: np.ndarray
    threshold: np.ndarray
    embedding: np.ndarray


@dataclass(frozen=True)
class Score:
    """What a model says of an image. threshold: of that model, 0-1. embedding: (C,), or None."""

    image_sha256: str
    prediction: ModelPrediction
    threshold: float
    embedding: np.ndarray | None = None
    out_of_distribution: bool = False


def set_scores(journal: Journal, revision: str, scores: Iterable[Score]) -> None:
    """Store scores. revision: of all models together.

    Longer embeddings are projected at random to SIZE dimensions, which approximately preserves distances
    (Johnson and Lindenstrauss), so that 100,000 images take 26 MB.
    """
    rows = [
        (
            one.image_sha256,
            revision,
            json.dumps(astuple(one.prediction)),
            one.prediction.abnormal_probability,
            one.threshold,
            b"" if one.embedding is None else shorten(one.embedding).astype("<f4").tobytes(),
            one.out_of_distribution,
        )
        for one in scores
    ]
    with journal.write() as database:
        database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def rank(journal: Journal, revision: str) -> int:
    """Update priority and reason of the images that the models have scored; returns how many changed.

    revision: of all models together. Labelers do not have to wait: it reads without a lock, and writes in
    short transactions.
    """
    scored = _read(journal, revision)
    if not len(scored.id):
        return 0
    with threadpool_limits(1):  # leaves the other cores to the app
        priority, reason = rank_scored(scored)
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


def rank_scored(scored: Scored) -> tuple[np.ndarray, list[str]]:
    """Priority (N,), NaN where unknown, and reason of every image."""
    known = ~np.isnan(scored.probability)
    consensus = np.array(scored.consensus)
    verdict = np.where(scored.probability >= scored.threshold, ABNORMAL, NORMAL)
    uncertain = uncertainty(scored.probability, scored.threshold)
    distance = differences(scored.embedding, uncertain, labeled=consensus != "")
    priority = (uncertain + distance) / 2
    against = known & np.isin(consensus, CLASSES) & (consensus != verdict)
    priority[against] = MODEL_DISAGREES + 1 - uncertain[against]  # the more certain the model, the sooner
    disputed = consensus == DISPUTED
    priority[disputed] = DISPUTED_FIRST + np.nan_to_num(uncertain[disputed])
    priority[~disputed & ~known & (np.array(scored.reason) == DISPUTED_REASON)] = 0  # decided since
    reasons = np.select(
        [disputed, against, ~known, np.fmax(uncertain, distance) < LITTLE, uncertain < distance],
        [
            DISPUTED_REASON,
            "the model disagrees with the annotators",
            "",
            "similar to labeled images, and the model is certain",
            "different from all labeled images",
        ],
        UNCERTAIN,
    ).tolist()
    for i in (i for i, reason in enumerate(reasons) if reason == UNCERTAIN):
        reasons[i] = f"{UNCERTAIN} ({scored.probability[i]:.2f})"
    return priority.round(4), reasons  # rounded: tiny changes are not written


def uncertainty(probability: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """(N,) probabilities and thresholds -> (N,): 1 at the threshold, 0 at probability 0 or 1."""
    below, above = np.maximum(threshold, 1e-6), np.maximum(1 - threshold, 1e-6)
    return 1 - np.where(
        probability < threshold, (threshold - probability) / below, (probability - threshold) / above
    )


def differences(
    embedding: np.ndarray, uncertain: np.ndarray, labeled: np.ndarray, head: int = HEAD
) -> np.ndarray:
    """How far each image is from all labeled ones and from those before it in the queue.

    embedding: (N, C) float32 of unit length. uncertain: (N,), added to the distance when choosing the next
    image; NaN for images that are not to be chosen. labeled: (N,) bool. Returns (N,): 1 is the median
    distance of two images.
    """
    usual = _usual_distance(embedding)
    compared = ~labeled & embedding.any(1)  # without an embedding there is no distance
    nearest = np.zeros(len(embedding), np.float32)
    known = embedding[labeled]
    known = known[:: len(known) // LABELED + 1]
    nearest[compared] = _distance_to_nearest(embedding[compared], known) / usual
    nearest = np.minimum(nearest, 1)
    waiting = ~labeled & ~np.isnan(uncertain)
    result, score = nearest.copy(), np.where(waiting, uncertain + nearest, -1)
    for _ in range(min(head, int(waiting.sum()))):
        first = int(score.argmax())
        result[first], waiting[first] = nearest[first], False
        nearest = np.minimum(nearest, (1 - embedding @ embedding[first]) / usual)
        score = np.where(waiting, uncertain + nearest, -1)
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
    """(C,) -> at most SIZE numbers of unit length, float32; (0,) for zeros or values that are not finite."""
    vector = np.asarray(embedding, np.float32).ravel()
    if len(vector) > SIZE:
        vector = vector @ _projection(len(vector))
    length = float(np.linalg.norm(vector))
    return vector / length if np.isfinite(length) and length else vector[:0]


@cache
def _projection(channels: int) -> np.ndarray:
    """(C, SIZE), always the same: RandomState's numbers are frozen, default_rng's are not."""
    return np.random.RandomState(0).standard_normal((channels, SIZE)).astype(np.float32)


def _read(journal: Journal, revision: str) -> Scored:
    with journal.read() as database:
        rows = database.execute(
            "SELECT id, consensus, priority, reason, abnormal_probability AS probability, threshold, "
            "embedding FROM images LEFT JOIN scores ON image_sha256 = sha256 AND revision = ? ORDER BY id",
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
        threshold=np.array([row["threshold"] for row in rows], float),
        embedding=embedding,
    )
