"""Uploaded images -> a model and its checkpoint as a zip."""

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from time import perf_counter
from zipfile import ZipFile

import numpy as np
from PIL import Image

from chipdemo.errors import DataError
from chipdemo.files import Found, Limits
from chipdemo.inspection import INVERSE
from chipdemo.overlay import encode, overlay
from chipdemo.teaching import Draft, Progress, Standout, Taught
from chipdemo.vision.anomaly import fitting as teaching
from chipdemo.vision.anomaly.features import Backbone, Study, starting_backbone, study_files
from chipdemo.vision.anomaly.fitting import Lesson
from chipdemo.vision.cam import fixed_scale_heatmap
from chipdemo.vision.checkpoint import MEMORY
from chipdemo.vision.predictor import load_model

PICTURE_SIDE = 240  # pixels of the longer side
LOOKING, LEARNING = 0.55, 0.95  # of the time, when these have ended


@dataclass(frozen=True, eq=False)
class NetworkDraft(Draft):
    lesson: Lesson
    defects: Study | None


class NetworkTeacher:
    """The Teacher of a backbone. See chipdemo.teaching.Teacher for the contract."""

    @cached_property
    def backbone(self) -> Backbone:
        return starting_backbone()

    def look(
        self, goods: Sequence[Found], defects: Sequence[Found], limits: Limits, progress: Progress
    ) -> NetworkDraft:
        started = perf_counter()
        progress(0, "preparing the network")
        between = LOOKING * len(goods) / (len(goods) + len(defects))
        study = study_files(goods, self.backbone, _within(progress, 0, between), limits)
        known = self._known(defects, study, limits, _within(progress, between, LOOKING)) if defects else None
        lesson = teaching.learn(study, progress=_within(progress, LOOKING, LEARNING))
        return NetworkDraft(
            images=len(study.names),
            left_out=study.left_out + (known.left_out if known else ()),
            warnings=study.warnings,
            standouts=standouts_of(lesson),
            seconds=perf_counter() - started,
            lesson=lesson,
            defects=known,
        )

    def _known(self, defects: Sequence[Found], goods: Study, limits: Limits, progress: Progress) -> Study:
        try:
            known = study_files(defects, self.backbone, progress, limits)
        except DataError as error:
            raise DataError(f"Known defects: {error}") from error
        if both := [name for name, sha in zip(known.names, known.sha256) if sha in goods.sha256]:
            raise DataError(
                f"Expected each image to be good or defective; found {both[0]} among both. Remove it "
                "from one of them."
            )
        return known

    def finish(
        self,
        draft: NetworkDraft,
        without: Collection[int],
        false_alarms: float,
        name: str,
        progress: Progress,
    ) -> Taught:
        started, lesson = perf_counter(), draft.lesson
        if without:
            lesson = teaching.learn(lesson.study.without(without), progress=_within(progress, 0, LEARNING))
        progress(LEARNING, "packing what was learned")
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent, name)
            metrics = teaching.save_taught(folder, self.backbone, lesson, name, false_alarms, draft.defects)
            model, archive = load_model(str(folder)), zipped(folder)
            memory_bytes = (folder / MEMORY).stat().st_size
        validation, about = metrics["validation"], metrics["teaching"]
        return Taught(
            model=model,
            archive=archive,
            images=about["images"],
            patches=about["places"],
            memory_bytes=memory_bytes,
            false_alarms=false_alarms,
            false_positive_rate=validation["false_positive_rate"],
            defects=len(draft.defects.names) if draft.defects else 0,
            recall=validation.get("recall"),
            left_out=tuple(one.name for one in draft.standouts if one.row in without),
            kept=tuple(lesson.study.names[row] for row in lesson.outliers),
            warnings=lesson.study.warnings,
            seconds=draft.seconds + perf_counter() - started,
        )


def _within(progress: Progress, start: float, end: float) -> Progress:
    """Progress of a part of the work, which takes from start to end of the whole, 0-1."""
    return lambda done, what: progress(start + (end - start) * done, what)


def standouts_of(lesson: Lesson) -> tuple[Standout, ...]:
    """The outliers, with the heat that they have when the others say what is normal."""
    if not lesson.outliers:
        return ()
    usual = max(float(np.median(lesson.scores)), 1e-6)
    others = np.delete(lesson.highest, lesson.outliers)
    scale = max(teaching.upper_limit(others, teaching.HEAT_ALARMS), 1e-6)
    return tuple(
        Standout(
            row,
            lesson.study.names[row],
            float(lesson.scores[row]) / usual,
            *_pictures(lesson.study, row, fixed_scale_heatmap(lesson.anomaly(row), scale)),
        )
        for row in lesson.outliers
    )


def _pictures(study: Study, row: int, heat: np.ndarray) -> tuple[bytes, bytes]:
    """An image without and with its heat."""
    width, height = study.sizes[row]
    scale = PICTURE_SIDE / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    with Image.open(BytesIO(study.thumbnails[row]), formats=["JPEG"]) as small:
        picture = small.convert("RGB").resize(size)
    return encode(picture, "JPEG"), encode(overlay(picture, heat, INVERSE), "JPEG")


def zipped(folder: Path) -> bytes:
    """A folder of files as a zip, not packed: weights do not get smaller."""
    with ZipFile(stream := BytesIO(), "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{folder.name}/{path.name}")
    return stream.getvalue()
