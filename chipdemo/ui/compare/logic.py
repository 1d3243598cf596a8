"""What the Compare tab and /compare do, as functions of values; tab.py wires them."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
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
from chipdemo.models import Models
from chipdemo.overlay import data_uri, overlay
from chipdemo.ui.compare.charts import SERIES
from chipdemo.ui.inspect.logic import inspection_json

IN_USE = "in-use"  # starts the id of a model of the app, where it is no row of the ablation
SELECTED = 4  # rows that are plotted at first
ANSWER_SIDE, TEST_SIDE = 360, 128  # pixels, of the pictures of an answer and of a test image
CACHED_ABLATIONS, CACHED_PICTURES = 8, 256

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComparedModel:
    """A model that can inspect an image here. folder: its checkpoint; in_use: or the app's own model."""

    id: str
    name: str
    folder: Path | None = None
    in_use: Model | None = None


@dataclass(frozen=True)
class Answer:
    """What a model says of an image. Without an inspection, error says why."""

    model: ComparedModel
    inspection: Inspection | None
    error: str = ""

    def to_json(self, name: str, date: datetime, notes: Sequence[str]) -> dict[str, Any]:
        """id and name, with either "inspection", as /inspect returns it, or "error".

        name: of the file. date: with time zone. notes: on how the file was read.
        """
        fields = {"id": self.model.id, "name": self.model.name}
        if self.inspection is None:
            return {**fields, "error": self.error}
        return {**fields, "inspection": inspection_json(self.inspection, name, date, notes)}


class Lineup:
    """The models that can inspect an image here: those in use, and rows of the shipped ablation.

    Rows take part whose checkpoint is a folder beside the ablation; each is loaded once, on its first
    image. The checkpoints of a file that a visitor loads are never opened.

    sources: where the models in use were loaded from, so that none is loaded again as a row.
    """

    def __init__(
        self,
        models: Models,
        sources: Sequence[str] = (),
        ablation: Path | None = None,
        load: Callable[[Path], Model] | None = None,
    ):
        self.judge = Judge(models)  # without listeners: a comparison is not counted as an inspection
        self.sources = [Path(source).resolve() for source in sources]
        self.ablation, self.load = ablation, load
        self._loaded: dict[Path, Model] = {}
        self._lock = threading.Lock()

    def models(self) -> list[ComparedModel]:
        """The models in use, then the rows in the order of the ablation."""
        rows, every = self._folders(), self.judge.models.every
        of_source = {folder: row for row, folder in rows}
        in_use = []
        for number, model in enumerate(every):
            row = of_source.get(self.sources[number]) if number < len(self.sources) else None
            name = f"{IN_USE}-{number + 1}" if number else IN_USE
            in_use.append(
                ComparedModel(row.id if row else name, row.name if row else model.info.name, in_use=model)
            )
        others = [
            ComparedModel(row.id, row.name, folder) for row, folder in rows if folder not in self.sources
        ]
        return [*in_use, *others]

    def inspect_with(self, model: ComparedModel, decoded: DecodedImage) -> Inspection:
        """Raises ChipDemoError where the checkpoint cannot be loaded."""
        loaded = model.in_use or self._load_once(model.folder)
        return self.judge.inspect(decoded, models=[loaded])

    def _load_once(self, folder: Path) -> Model:
        with self._lock:  # another visitor may be loading it right now
            if folder not in self._loaded:
                self._loaded[folder] = self.load(folder)
            return self._loaded[folder]

    def _folders(self) -> list[tuple[Row, Path]]:
        if self.ablation is None or self.load is None or not self.ablation.exists():
            return []
        try:
            rows = cached_ablation(self.ablation).rows
        except AblationError:  # the tab says why
            return []
        found = ((row, (self.ablation.parent / row.checkpoint).resolve()) for row in rows if row.checkpoint)
        return [(row, folder) for row, folder in found if folder.is_dir()]


def answers(lineup: Lineup, decoded: DecodedImage) -> Iterator[Answer]:
    """What each model says, one after the other; a model that fails says why."""
    for model in lineup.models():
        try:
            yield Answer(model, lineup.inspect_with(model, decoded))
        except ChipDemoError as error:
            yield Answer(model, None, str(error))
        except Exception as error:  # noqa: BLE001 - one broken model must not take the others' answers away
            log.exception("%s could not inspect an image", model.name)
            yield Answer(model, None, f"This model failed ({type(error).__name__}). See the server's log.")


def answer_picture(image: Image.Image, inspection: Inspection) -> str:
    """The image under the heatmap of the verdict, small, as a data URI."""
    small = image.copy()
    small.thumbnail((ANSWER_SIDE, ANSWER_SIDE), reducing_gap=2.0)
    method = inspection.method
    return data_uri(overlay(small, inspection.heatmaps[method], method), "JPEG")


@lru_cache(maxsize=CACHED_ABLATIONS)
def cached_ablation(path: Path) -> Ablation:
    """read_ablation, remembered. Raises AblationError."""
    return read_ablation(path)


def after_baselines(rows: Sequence[Row]) -> list[Row]:
    """The rows in their order, but each after its baseline."""
    ordered: dict[str, Row] = {}

    def add(row: Row) -> None:
        if row.id not in ordered:
            ordered[row.id] = row
            for other in rows:
                if other.baseline == row.id:
                    add(other)

    for row in sorted(rows, key=lambda row: row.baseline is not None):  # last, rows that name each other
        add(row)
    return list(ordered.values())


def selected_rows(rows: Sequence[Row], ids: Any) -> list[Row]:
    """The rows a visitor has selected, in their order; no more than can be plotted."""
    return [row for row in rows if isinstance(ids, list) and row.id in ids][:SERIES]


def disagreements(rows: Sequence[Row]) -> np.ndarray:
    """Indices of the test images to which the rows give different verdicts, the widest apart first."""
    if len(rows) < 2:
        return np.array([], int)
    flagged = np.array([row.flagged for row in rows])  # (rows, N)
    differ = np.flatnonzero(flagged.any(axis=0) & ~flagged.all(axis=0))
    spread = np.ptp(np.array([row.probabilities for row in rows])[:, differ], axis=0)
    return differ[np.argsort(-spread, kind="stable")]


@lru_cache(maxsize=CACHED_PICTURES)
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
