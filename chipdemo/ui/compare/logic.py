"""What the Compare tab and /compare do, as functions of values; ablation_tab.py wires them."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chipdemo.ablation.format import Ablation, Row, read_ablation
from chipdemo.errors import AblationError, ChipDemoError
from chipdemo.examples import elpv_image
from chipdemo.images import DecodedImage, read_image
from chipdemo.inspection import Inspection, Model
from chipdemo.judge import Judge
from chipdemo.overlay import data_uri, overlay
from chipdemo.ui.compare.charts import SERIES

IN_USE = "in-use"  # id of the app's own model, where it is no row of the ablation
TICKED = 4  # rows that are drawn at first
ANSWER_SIDE, TEST_SIDE = 360, 128  # pixels, of the pictures of an answer and of a test image
READ = 8  # ablations kept in memory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contender:
    """A model that can judge an image here. folder: its checkpoint; None for the model in use."""

    id: str
    name: str
    folder: Path | None


@dataclass(frozen=True)
class Answer:
    """What a contender says of an image; without an inspection, error says why."""

    contender: Contender
    inspection: Inspection | None
    error: str = ""

    def to_json(self, notes: Sequence[str]) -> dict[str, Any]:
        """id and name, with either "inspection", as /inspect gives it, or "error"."""
        told = {"id": self.contender.id, "name": self.contender.name}
        if self.inspection is None:
            return {**told, "error": self.error}
        return {**told, "inspection": {**self.inspection.to_json(), "notes": list(notes)}}


class Lineup:
    """The models that can judge an image here: the one in use, and rows of the shipped ablation.

    Rows take part whose checkpoint is a folder beside the ablation; each is loaded when it is first
    asked, once. A file that a visitor loads names models too, but none of them is ever touched.

    source: where the model in use was loaded from, so that it is not loaded again as a row.
    """

    def __init__(
        self,
        judge: Judge,
        source: str = "",
        ablation: Path | None = None,
        load: Callable[[Path], Model] | None = None,
    ):
        self.judge, self.source, self.ablation, self.load = judge, source, ablation, load
        self._loaded: dict[Path, Model] = {}
        self._lock = threading.Lock()

    def contenders(self) -> list[Contender]:
        """The model in use, then the rows in the order of the ablation."""
        own = Contender(IN_USE, self.judge.models.in_use.info.name, None)
        others = []
        for row, folder in self._folders():
            if self.source and folder == Path(self.source).resolve():
                own = Contender(row.id, row.name, None)
            else:
                others.append(Contender(row.id, row.name, folder))
        return [own, *others]

    def model_of(self, contender: Contender) -> Model:
        """Raises ChipDemoError where the checkpoint cannot be loaded."""
        if contender.folder is None:
            return self.judge.models.in_use
        if contender.folder not in self._loaded:
            with self._lock:  # another visitor may be loading it right now
                if contender.folder not in self._loaded:
                    self._loaded[contender.folder] = self.load(contender.folder)
        return self._loaded[contender.folder]

    def _folders(self) -> list[tuple[Row, Path]]:
        if self.ablation is None or self.load is None or not self.ablation.exists():
            return []
        try:
            rows = ablation_at(self.ablation).rows
        except AblationError:  # the tab says why
            return []
        found = ((row, (self.ablation.parent / row.checkpoint).resolve()) for row in rows if row.checkpoint)
        return [(row, folder) for row, folder in found if folder.is_dir()]


def answers(lineup: Lineup, decoded: DecodedImage) -> Iterator[Answer]:
    """What each contender says, one after the other; a contender that fails says why."""
    for contender in lineup.contenders():
        try:
            yield Answer(contender, lineup.judge.inspect(decoded, model=lineup.model_of(contender)))
        except ChipDemoError as error:
            yield Answer(contender, None, str(error))
        except Exception as error:  # noqa: BLE001 - one broken model must not take the others' answers away
            log.exception("%s could not judge an image", contender.name)
            yield Answer(
                contender, None, f"This model failed ({type(error).__name__}); the server's log says more."
            )


def answer_picture(image: Image.Image, inspection: Inspection) -> str:
    """The image with the model's first heat map laid over, small, as a data URI."""
    small = image.copy()
    small.thumbnail((ANSWER_SIDE, ANSWER_SIDE), reducing_gap=2.0)
    method = inspection.method
    return data_uri(overlay(small, inspection.heatmaps[method], method), "JPEG")


@lru_cache(maxsize=READ)
def ablation_at(path: Path) -> Ablation:
    """read_ablation, remembered. Raises AblationError."""
    return read_ablation(path)


def beside_twins(rows: Sequence[Row]) -> list[Row]:
    """The rows in their order, but each after its twin."""
    ordered: dict[str, Row] = {}

    def add(row: Row) -> None:
        if row.id not in ordered:
            ordered[row.id] = row
            for other in rows:
                if other.twin == row.id:
                    add(other)

    for row in sorted(rows, key=lambda row: row.twin is not None):  # last, twins that name each other
        add(row)
    return list(ordered.values())


def ticked_rows(rows: Sequence[Row], ids: Any) -> list[Row]:
    """The rows a visitor has ticked, in their order; no more than can be drawn."""
    return [row for row in rows if isinstance(ids, list) and row.id in ids][:SERIES]


def disagreements(rows: Sequence[Row]) -> np.ndarray:
    """Indices of the test images that not all rows judge alike, the widest apart first."""
    if len(rows) < 2:
        return np.array([], int)
    stopped = np.array([row.stopped for row in rows])  # (rows, N)
    differ = np.flatnonzero(stopped.any(axis=0) & ~stopped.all(axis=0))
    spread = np.ptp(np.array([row.probabilities for row in rows])[:, differ], axis=0)
    return differ[np.argsort(-spread, kind="stable")]


@lru_cache(maxsize=256)
def picture_of(file: str, sha256: str) -> str:
    """A test image of an installed dataset, small, as a data URI; "" where it is not here.

    The name comes from the ablation's file; only the content's hash shows that it is this image.
    """
    path = elpv_image(file)
    if path is None:
        return ""
    decoded = read_image(path)
    if decoded.sha256 != sha256:
        return ""
    small = decoded.image.copy()
    small.thumbnail((TEST_SIDE, TEST_SIDE))
    return data_uri(small, "JPEG")
