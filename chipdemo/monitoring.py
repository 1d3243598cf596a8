"""What was inspected lately, and whether it still looks like what the model was made for."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from chipdemo.inspection import ABNORMAL, Inspection, Inspector, ModelInfo, NormalPatch, Prepared, Region

log = logging.getLogger(__name__)

KEPT = 500  # images that are remembered, by their numbers alone
ENOUGH = 30  # images before anything is said of them
UNLIKE = 0.005  # share of held-out images that a model calls unlike the training ones, at most
RARE = 0.001  # a chance below which something has changed

Listener = Callable[[Inspection], None]


@dataclass(frozen=True)
class Drift:
    """How the last images compare with those the model was calibrated on.

    images, unlike, stopped: counts. changed: what is beyond chance, in words; none is fine.
    """

    images: int
    unlike: int
    stopped: int
    changed: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """For people; "" before there are enough images."""
        if self.images < ENOUGH:
            return ""
        if not self.changed:
            return f"The last {self.images:,} images look like those the model was calibrated on."
        return (
            f"Of the last {self.images:,} images {' and '.join(self.changed)}. Camera, light or "
            "product may have changed: label some of them and train again."
        )


@dataclass(frozen=True)
class Seen:
    """What is remembered of an image. revision: of the model that judged it."""

    revision: str
    probability: float
    verdict: str
    unlike: bool


class Recent:
    """The last images that were inspected, each once. Safe to use from several threads."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, inspection: Inspection) -> None:
        seen = Seen(
            inspection.model_revision,
            inspection.abnormal_probability,
            inspection.verdict,
            inspection.out_of_distribution,
        )
        with self._lock:
            self._seen.pop(inspection.image_sha256, None)
            self._seen[inspection.image_sha256] = seen
            while len(self._seen) > KEPT:
                self._seen.popitem(last=False)

    def drift(self, info: ModelInfo) -> Drift:
        """Of those that this model judged, against its validation part."""
        with self._lock:
            seen = [one for one in self._seen.values() if one.revision == info.revision]
        unlike, stopped = sum(one.unlike for one in seen), sum(one.verdict == ABNORMAL for one in seen)
        if len(seen) < ENOUGH:
            return Drift(len(seen), unlike, stopped, ())
        from scipy.stats import binomtest, ks_2samp  # here, since importing it takes a second

        changed = []
        if binomtest(unlike, len(seen), UNLIKE, "greater").pvalue < RARE:
            changed.append(f"{unlike:,} are unlike the training ones (of held-out ones {UNLIKE:.1%} at most)")
        # How many are defective differs from place to place; how good chips score does not
        passed, expected = (
            values[values < info.threshold]
            for values in (
                np.array([one.probability for one in seen]),
                np.array(info.validation.probabilities),
            )
        )
        if min(len(passed), len(expected)) >= ENOUGH and ks_2samp(passed, expected).pvalue < RARE:
            changed.append(
                f"those that pass score {np.median(passed):.2f} in the middle (held-out ones "
                f"{np.median(expected):.2f})"
            )
        return Drift(len(seen), unlike, stopped, tuple(changed))


class MonitoredInspector:
    """An inspector that tells listeners of every inspection. Otherwise the one it is made from."""

    def __init__(self, inspector: Inspector, *listeners: Listener):
        self._inspector, self._listeners = inspector, listeners

    @property
    def info(self) -> ModelInfo:
        return self._inspector.info

    @property
    def methods(self) -> Sequence[str]:
        return self._inspector.methods

    def current(self) -> "MonitoredInspector":
        return MonitoredInspector(self._inspector.current(), *self._listeners)

    @property
    def whole(self) -> "MonitoredInspector":
        return MonitoredInspector(self._inspector.whole, *self._listeners)

    def inspect(self, image: Image.Image, threshold: float | None = None) -> Inspection:
        return self._told([self._inspector.inspect(image, threshold)])[0]

    def prepare(self, image: Image.Image) -> Prepared:
        return self._inspector.prepare(image)

    def inspect_batch(self, images: Sequence[Prepared], threshold: float | None = None) -> list[Inspection]:
        return self._told(self._inspector.inspect_batch(images, threshold))

    def nearest_normals(
        self, image: Image.Image, regions: Sequence[Region]
    ) -> tuple[tuple[NormalPatch, ...], ...]:
        return self._inspector.nearest_normals(image, regions)

    def regions(self, image: Image.Image, method: str) -> tuple[Region, ...]:
        return self._inspector.regions(image, method)

    def explain(self, image: Image.Image, method: str) -> np.ndarray:
        return self._inspector.explain(image, method)

    def _told(self, inspections: list[Inspection]) -> list[Inspection]:
        for inspection in inspections:
            for listener in self._listeners:
                listener(inspection)
        return inspections


def log_inspection(inspection: Inspection) -> None:
    """A line of key=value pairs; nothing of the image but its hash."""
    log.info(
        "inspected sha256=%s verdict=%s probability=%.4f unlike=%s ms=%.1f model=%s revision=%s",
        inspection.image_sha256[:16],
        inspection.verdict,
        inspection.abnormal_probability,
        str(inspection.out_of_distribution).lower(),
        sum(inspection.timing_ms.values()),
        inspection.model_name,
        inspection.model_revision,
    )
