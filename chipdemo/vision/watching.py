"""An inspector whose model is replaced, while it serves, by the newer one that is pushed or trained."""

import logging
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from chipdemo.errors import CheckpointError, CheckpointOutOfReachError
from chipdemo.inspection import Inspection, Inspector, ModelInfo, NormalPatch, Prepared, Region
from chipdemo.vision.checkpoint import latest_revision
from chipdemo.vision.predictor import NetworkInspector, load_inspector

log = logging.getLogger(__name__)


class WatchedInspector:
    """An Inspector that looks for a newer revision of its model every few seconds, once started.

    A newer one is fetched, loaded and tried out beside the one in use, which it then replaces at
    once; what began with the old one ends with it. One that cannot be used is refused, for good.
    """

    def __init__(
        self,
        first: Inspector,
        model: str,
        every_s: float,
        load: Callable[[str, str | None], Inspector] = load_inspector,
    ):
        """first: what judges until there is a newer one. model: its checkpoint folder or Hub id.

        load: of a model and a revision, like load_inspector.
        """
        folder = Path(model).expanduser()
        # Absolute, so that a folder that goes missing is never asked for on the Hub as owner/name
        self.model = str(folder.resolve()) if folder.is_dir() else model
        self.every_s, self._load = every_s, load
        self._current = first
        self._settled = ""  # the revision that was last taken or refused
        self._seen = ""  # the revision at the last look
        self._in_reach = True
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def info(self) -> ModelInfo:
        return self._current.info

    @property
    def methods(self) -> Sequence[str]:
        return self._current.methods

    def current(self) -> Inspector:
        """The inspector of the model in use now."""
        return self._current

    @property
    def whole(self) -> Inspector:
        return self

    def inspect(self, image: Image.Image, threshold: float | None = None) -> Inspection:
        return self._current.inspect(image, threshold)

    def prepare(self, image: Image.Image) -> Prepared:
        return self._current.prepare(image)

    def inspect_batch(self, images: Sequence[Prepared], threshold: float | None = None) -> list[Inspection]:
        return self._current.inspect_batch(images, threshold)

    def nearest_normals(
        self, image: Image.Image, regions: Sequence[Region]
    ) -> tuple[tuple[NormalPatch, ...], ...]:
        return self._current.nearest_normals(image, regions)

    def regions(self, image: Image.Image, method: str) -> tuple[Region, ...]:
        return self._current.regions(image, method)

    def explain(self, image: Image.Image, method: str) -> np.ndarray:
        return self._current.explain(image, method)

    def start(self) -> None:
        """Look from now on, in a thread of its own that does not keep the process alive."""
        self._thread = threading.Thread(target=self._watch, name="model watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more. A download in progress is left to end with the process."""
        self._stopping.set()

    def _watch(self) -> None:
        while not self._stopping.wait(self.every_s):
            self.look()

    def look(self) -> None:
        """Look once. Never raises: what goes wrong is logged, and the model in use stays."""
        try:
            revision = latest_revision(self.model)
            if revision != self._settled and self._is_whole(revision):
                self._take_or_refuse(revision)
            self._seen = revision
        except Exception as error:  # noqa: BLE001 - mostly out of reach; the thread outlives any answer
            if self._in_reach:  # said once, not at every look
                log.warning("cannot look for a newer model, tried again every %g s: %s", self.every_s, error)
            self._in_reach = False
        else:
            self._in_reach = True

    def _is_whole(self, revision: str) -> bool:
        """Commits are whole. A folder may still be being copied: only when two looks agree is it whole."""
        return not Path(self.model).is_dir() or revision == self._seen

    def _take_or_refuse(self, revision: str) -> None:
        """Raises CheckpointOutOfReachError where it cannot be fetched now; it is tried again."""
        used = self._current.info
        try:
            newer = self._load(self.model, revision)
            try_out(newer)
            if latest_revision(self.model) != revision:
                return  # a folder that changed while it was read: the next look sees it as new
        except CheckpointOutOfReachError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a file holds, the model in use must go on
            log.warning(
                "refused revision %s of %s, %s goes on: %s", revision, self.model, used.revision, error
            )
        else:
            if newer.info != used:  # a commit may change the card alone
                self._current = newer
                log.info(
                    "%s is now at revision %s (%s), before %s",
                    self.model,
                    newer.info.revision,
                    revision,
                    used.revision,
                )
        self._settled = revision


def try_out(inspector: NetworkInspector) -> None:
    """Judge a gray image, which also warms the network up. Raises CheckpointError where it cannot."""
    side = inspector.info.image_size
    inspection = inspector.inspect(Image.new("RGB", (side, side), "gray"))
    inspector.info.validation.at(inspection.threshold)
    if not math.isfinite(inspection.log_odds):
        raise CheckpointError(
            f"Expected a finite number for a gray image; found {inspection.log_odds}. Train it again."
        )
