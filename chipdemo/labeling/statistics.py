"""Agreement of annotators with each other and with the model, and labels that may be wrong.

Votes are streamed from the journal: a million take seconds and little memory.
Intervals of kappa are 95 % bootstrap intervals over images. Only the number of images with each combination
of votes matters, so resampling images means drawing these numbers from a multinomial distribution.
"""

from array import array
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from chipdemo.inspection import ABNORMAL, CLASSES, NORMAL
from chipdemo.labeling.agreement import DISPUTED
from chipdemo.labeling.journal import Journal, JournalImage
from chipdemo.labeling.label import LABELS
from chipdemo.rates import Rate

if TYPE_CHECKING:
    from scipy.sparse import csr_array

RESAMPLES = 1_000
# The model's prediction of each image at its first label, from which it cannot have learned yet
FIRST_PREDICTION = """(
    SELECT image_sha256, prediction, MIN(seq) FROM votes WHERE prediction IS NOT NULL GROUP BY image_sha256
)"""
UNREVIEWED = """
    SELECT * FROM images WHERE id = :id AND votes >= :annotators_per_image AND NOT deleted
    AND (:labeled_by = ''
        OR EXISTS (SELECT 1 FROM votes WHERE image_sha256 = sha256 AND annotator = :labeled_by))
    AND NOT EXISTS (
        SELECT 1 FROM votes AS vote WHERE vote.image_sha256 = sha256 AND (vote.decides OR EXISTS (
            SELECT 1 FROM events AS earlier WHERE earlier.image_sha256 = sha256
            AND earlier.annotator = vote.annotator AND earlier.seq < vote.seq AND earlier.retracts = ''
        ))
    )
"""


@dataclass(frozen=True)
class Kappa:
    """Agreement beyond chance: 1 is perfect, 0 is chance; NaN where all labels are the same.

    low, high: 95 % interval; of no width where nobody ever disagreed. agreement: share of the pairs of
    votes that agree, 0-1; for one class, among the pairs with a vote for it. images: with two votes or more;
    for one class, one of them for it.
    """

    value: float
    low: float
    high: float
    agreement: float
    images: int

    @property
    def agreeing(self) -> Rate:
        """The agreement as a rate of images: an image counts once, however many votes it has."""
        return Rate(self.agreement * self.images, self.images)


@dataclass(frozen=True)
class Agreement:
    """overall, by_class: Fleiss' kappa. pairs: Cohen's kappa by two names, sorted."""

    overall: Kappa
    by_class: dict[str, Kappa]
    pairs: dict[tuple[str, str], Kappa]


@dataclass(frozen=True)
class LikelyError:
    """An image whose label the model contradicts.

    label: the consensus. probability: of abnormal, predicted before the first label. margin: probability of
    the other class minus that of the label; it may be below 0 where the model rarely predicts that class.
    """

    image: JournalImage
    label: str
    probability: float
    margin: float


def agreement(journal: Journal) -> Agreement:
    """Of all standing votes except decisions, whose reviewers knew the other votes."""
    annotators, votes = _votes(journal)
    counts = votes @ np.tile(np.eye(len(LABELS)), (len(annotators), 1))  # (images, labels)
    ways, times = np.unique(counts[counts.sum(1) >= 2], axis=0, return_counts=True)
    overall, *by_class = _fleiss_kappas(ways, times)
    tables = (votes.T @ votes).toarray().reshape(len(annotators), len(LABELS), len(annotators), len(LABELS))
    pairs = {
        (one, other): cohen_kappa(tables[i, :, j])
        for i, one in enumerate(annotators)
        for j, other in enumerate(annotators[i + 1 :], i + 1)
        if tables[i, :, j].any()
    }
    return Agreement(overall, dict(zip(LABELS, by_class)), pairs)


def consensus_counts(journal: Journal, annotators_per_image: int = 1) -> dict[str, int]:
    """Images in the queue with at least so many votes, by consensus: a label or "disputed"."""
    with journal.read() as database:
        rows = database.execute(
            "SELECT consensus, COUNT(*) FROM images WHERE consensus != '' AND votes >= ? AND NOT deleted "
            "GROUP BY consensus",
            (annotators_per_image,),
        ).fetchall()
    return dict.fromkeys((*LABELS, DISPUTED), 0) | dict(map(tuple, rows))


def against_the_model(
    journal: Journal, threshold: float, annotators_per_image: int = 1
) -> dict[str, dict[str, int]]:
    """Images with at least so many votes: number by consensus, then by the model's earlier verdict.

    A probability counts as abnormal from the threshold of the model that judges the image (its score).
    threshold: 0-1, for images without a score.
    """
    table = {consensus: dict.fromkeys(CLASSES, 0) for consensus in (*LABELS, DISPUTED)}
    with journal.read() as database:
        for consensus, flagged, count in database.execute(
            f"SELECT consensus, first.prediction >= COALESCE(threshold, ?), COUNT(*) "
            f"FROM {FIRST_PREDICTION} AS first JOIN images ON sha256 = first.image_sha256 "
            "LEFT JOIN scores ON scores.image_sha256 = sha256 WHERE votes >= ? GROUP BY 1, 2",
            (threshold, annotators_per_image),
        ):
            table[consensus][ABNORMAL if flagged else NORMAL] = count
    return table


def likely_errors(
    journal: Journal, limit: int = 100, labeled_by: str = "", annotators_per_image: int = 1
) -> list[LikelyError]:
    """Labels that may be wrong, the likeliest errors first, without those labeled again or decided since.

    labeled_by: only images that this annotator labeled; "" for all. annotators_per_image: only images with
    at least so many votes.
    """
    with journal.read() as database:
        rows = database.execute(
            f"SELECT id, consensus = ?, prediction FROM {FIRST_PREDICTION} "
            "JOIN images ON sha256 = image_sha256 WHERE consensus IN (?, ?) ORDER BY id",
            (ABNORMAL, *CLASSES),
        )
        ids, abnormal, probability = np.array([tuple(row) for row in rows], float).reshape(-1, 3).T
        wanted = {"labeled_by": labeled_by, "annotators_per_image": annotators_per_image}
        found = (
            (database.execute(UNREVIEWED, wanted | {"id": int(ids[i])}).fetchone(), probability[i], margin)
            for i, margin in zip(*confidently_wrong(abnormal == 1, probability))
        )
        return [
            LikelyError(JournalImage.from_row(row), row["consensus"], float(prediction), float(margin))
            for row, prediction, margin in islice((one for one in found if one[0]), limit)
        ]


def confidently_wrong(abnormal: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confident learning (Northcutt et al., JAIR 2021): rows off the diagonal of the confident joint.

    abnormal: (N,) bool, labels. probability: (N,) of abnormal, out of sample. A row belongs to a class if
    its probability of that class reaches the mean of all rows labeled so, and to the likelier one if it
    reaches both. Returns the rows that belong to the class they are not labeled as, and the margin of
    probability of each, the largest first.
    """
    if not 0 < abnormal.sum() < len(abnormal):
        return np.zeros(0, int), np.zeros(0)
    reaches_abnormal = probability >= probability[abnormal].mean()
    reaches_normal = probability <= probability[~abnormal].mean()
    as_abnormal = reaches_abnormal & (~reaches_normal | (probability > 0.5))
    as_normal = reaches_normal & (~reaches_abnormal | (probability < 0.5))
    wrong = np.flatnonzero(np.where(abnormal, as_normal, as_abnormal))
    margin = np.where(abnormal, 1 - 2 * probability, 2 * probability - 1)  # of the other class
    rows = wrong[np.argsort(-margin[wrong], kind="stable")]
    return rows, margin[rows]


def cohen(tables: np.ndarray) -> np.ndarray:
    """Cohen's kappa (1960). tables: (..., J, J), images by the label of the one and of the other."""
    shares = tables / tables.sum((-1, -2), keepdims=True)
    agreed = np.trace(shares, axis1=-2, axis2=-1)
    by_chance = (shares.sum(-1) * shares.sum(-2)).sum(-1)
    return _ratio(agreed - by_chance, 1 - by_chance)


def fleiss(ways: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Fleiss' kappa (1971), overall and by class, for any number of votes an image.

    ways: (W, J) votes for each class, two or more in each combination. times: (..., W), images with that
    combination. Returns (..., 1 + J). Unequal numbers as in Fleiss, Levin and Paik (2003), equation 18.40.
    """
    votes = ways.sum(1)  # (W,)
    images, given = times.sum(-1, keepdims=True), (times @ votes)[..., None]
    share = times @ ways / given  # (..., J)
    chance = share * (1 - share)
    disagreed = times @ (ways * (votes[:, None] - ways) / votes[:, None])
    by_class = 1 - _ratio(disagreed, (given - images) * chance)
    all_disagreed, all_chance = disagreed.sum(-1, keepdims=True), chance.sum(-1, keepdims=True)
    overall = 1 - _ratio(all_disagreed, (given - images) * all_chance)
    return np.concatenate((overall, by_class), -1)


def _votes(journal: Journal) -> "tuple[list[str], csr_array]":
    """Annotators by name, and a 1 for each vote: (images, annotators * labels)."""
    from scipy.sparse import csr_array  # here, since importing it takes half a second

    columns, starts, last = array("q"), array("q"), ""
    with journal.read() as database:
        annotators = [
            row[0] for row in database.execute("SELECT of FROM tallies WHERE what = 'votes' ORDER BY of")
        ]
        codes = {
            (name, label): i * len(LABELS) + j
            for i, name in enumerate(annotators)
            for j, label in enumerate(LABELS)
        }
        for sha256, annotator, label in database.execute(
            "SELECT image_sha256, annotator, label FROM votes WHERE NOT decides ORDER BY image_sha256"
        ):
            if sha256 != last:
                starts.append(len(columns))
                last = sha256
            columns.append(codes[annotator, label])
    starts.append(len(columns))
    shape = (len(starts) - 1, len(annotators) * len(LABELS))
    return annotators, csr_array((np.ones(len(columns)), np.array(columns), np.array(starts)), shape)


def _fleiss_kappas(ways: np.ndarray, times: np.ndarray) -> list[Kappa]:
    """Overall, then by class."""
    images, votes = int(times.sum()), ways.sum(1, keepdims=True)
    agreed, possible = times @ (ways * (ways - 1)), times @ (ways * (votes - 1))  # (J,) pairs of votes
    shares = (_ratio(agreed.sum(), possible.sum()), *_ratio(agreed, possible))
    if not images:
        return [Kappa(np.nan, np.nan, np.nan, np.nan, 0)] * len(shares)
    values, bounds = fleiss(ways, times), _interval(fleiss(ways, _resampled(times)))
    counts = (images, *(times @ (ways > 0)).tolist())
    return [
        Kappa(float(value), float(low), float(high), float(share), count)
        for value, low, high, share, count in zip(values, *bounds, shares, counts)
    ]


def cohen_kappa(table: np.ndarray) -> Kappa:
    """table: (J, J)."""
    low, high = _interval(cohen(_resampled(table.ravel()).reshape(-1, *table.shape)))
    return Kappa(
        float(cohen(table)), float(low), float(high), float(np.trace(table) / table.sum()), int(table.sum())
    )


def _resampled(times: np.ndarray) -> np.ndarray:
    """(W,) images with each combination -> (RESAMPLES, W), as many images drawn with replacement."""
    total = int(times.sum())
    return np.random.default_rng(0).multinomial(total, times / total, RESAMPLES)


def _interval(values: np.ndarray) -> np.ndarray:
    """(RESAMPLES, ...) -> (2, ...): 2.5 and 97.5 %, without draws in which all labels are the same."""
    undefined = np.isnan(values).all(0)
    low_high = np.nanpercentile(np.where(undefined, 0, values), (2.5, 97.5), axis=0)
    return np.where(undefined, np.nan, low_high)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """NaN where the whole is 0, up to rounding."""
    whole = np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 1e-12)
