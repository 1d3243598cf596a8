"""The last inspections: whether the images still look like those the model was calibrated on."""

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from chipdemo.inspection import ABNORMAL, OUT_OF_DISTRIBUTION, Inspection, ModelInfo

log = logging.getLogger(__name__)

KEPT = 500  # inspections that are remembered
ENOUGH = 30  # images before drift is reported
HELD_OUT_OOD = 0.005  # share of held-out images that a model calls out of distribution, at most
SIGNIFICANT = 0.001  # p-value below which something has changed


@dataclass(frozen=True)
class Drift:
    """How the last images compare with those the model was calibrated on.

    images, out_of_distribution, flagged: counts. changed: a phrase for each significant change.
    """

    images: int
    out_of_distribution: int
    flagged: int
    changed: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """A sentence for the screen; "" before there are enough images."""
        if self.images < ENOUGH:
            return ""
        if not self.changed:
            return f"The last {self.images:,} images look like those the model was calibrated on."
        return (
            f"Of the last {self.images:,} images, {' and '.join(self.changed)}. The camera, the light or "
            "the product may have changed. Label some of these images and train again."
        )


@dataclass(frozen=True)
class Seen:
    """What is remembered of an image. revision: of the model that judged it."""

    revision: str
    probability: float
    outcome: str


class Recent:
    """The last images that were inspected, each once. Safe to use from several threads."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, inspection: Inspection) -> None:
        seen = Seen(
            inspection.model_revision,
            inspection.abnormal_probability,
            inspection.outcome,
        )
        with self._lock:
            self._seen.pop(inspection.image_sha256, None)
            self._seen[inspection.image_sha256] = seen
            while len(self._seen) > KEPT:
                self._seen.popitem(last=False)

    def drift(self, info: ModelInfo) -> Drift:
        """The images that this model judged, against its validation split."""
        with self._lock:
            seen = [one for one in self._seen.values() if one.revision == info.revision]
        unknown, flagged = (
            sum(one.outcome == outcome for one in seen) for outcome in (OUT_OF_DISTRIBUTION, ABNORMAL)
        )
        if len(seen) < ENOUGH:
            return Drift(len(seen), unknown, flagged, ())
        from scipy.stats import binomtest, ks_2samp  # here, since importing it takes a second

        changed = []
        if binomtest(unknown, len(seen), HELD_OUT_OOD, "greater").pvalue < SIGNIFICANT:
            changed.append(
                f"{unknown:,} are out of distribution (of held-out images at most {HELD_OUT_OOD:.1%})"
            )
        # How many are defective differs from line to line; how good chips score does not
        passed, expected = (
            values[values < info.threshold]
            for values in (
                np.array([one.probability for one in seen]),
                np.array(info.validation.probabilities),
            )
        )
        if min(len(passed), len(expected)) >= ENOUGH and ks_2samp(passed, expected).pvalue < SIGNIFICANT:
            changed.append(
                f"the median probability of those that pass is {np.median(passed):.2f} (of held-out images "
                f"{np.median(expected):.2f})"
            )
        return Drift(len(seen), unknown, flagged, tuple(changed))


def log_inspection(inspection: Inspection) -> None:
    """A line of key=value pairs; nothing of the image but its hash."""
    log.info(
        "inspected sha256=%s outcome=%s probability=%.4f ms=%.1f model=%s revision=%s",
        inspection.image_sha256[:16],
        inspection.outcome,
        inspection.abnormal_probability,
        sum(inspection.timing_ms.values()),
        inspection.model_name,
        inspection.model_revision,
    )
