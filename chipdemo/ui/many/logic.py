"""What "Many images at once" and /inspect_batch do, as functions of values; tab.py wires the panel.

An image is inspected once. Another threshold judges what was found then; the pixels are read again from the
upload where they are asked for.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from chipdemo.batch import report, run
from chipdemo.batch.report import UNREADABLE
from chipdemo.batch.sources import BatchImage, uploaded_images
from chipdemo.errors import BatchError, ImageError
from chipdemo.files import Found, Limits, content_of, shown
from chipdemo.inspection import ABNORMAL, NORMAL, OUT_OF_DISTRIBUTION, Inspection, Model, ModelInfo
from chipdemo.judge import Judge
from chipdemo.overlay import encode, overlay
from chipdemo.ui.inspect.logic import file_stem, own_threshold

MOST = 1000  # images at a time in the app; the command line takes any number
QUEUE = "many"  # its events share one limit, beside single images, which wait for none of these
TILE_SIDE = 240  # pixels of the longer side
GROUPS = (ABNORMAL, OUT_OF_DISTRIBUTION, NORMAL, UNREADABLE)  # each image is in one
GONE = "These images are gone: they are kept for an hour. Drop them again."

Result = dict[str, Any]  # as run.result_of makes it


@dataclass(frozen=True)
class Tile:
    """An image as the page shows it.

    inspected: without its pixels, heatmaps and features. picture: a JPEG file; None where there is none.
    """

    inspected: run.Inspected
    picture: Path | None

    @property
    def group(self) -> str:
        inspection = self.inspected.inspection
        return inspection.outcome if inspection else UNREADABLE

    @property
    def probability(self) -> float:
        """Of "abnormal", 0-1; 0 for an unreadable image."""
        inspection = self.inspected.inspection
        return inspection.abnormal_probability if inspection else 0.0

    @property
    def model(self) -> tuple[str, str]:
        """Name and revision of the one that judged it; empty where none did."""
        inspection = self.inspected.inspection
        return (inspection.model_name, inspection.model_revision) if inspection else ("", "")

    @property
    def result(self) -> Result:
        return run.result_of(self.inspected)

    def at_threshold(self, threshold: float) -> "Tile":
        inspection = self.inspected.inspection.at_threshold(threshold)
        return replace(self, inspected=replace(self.inspected, inspection=inspection))


@dataclass(frozen=True)
class Progress:
    """done: of so many images. rate: a second."""

    done: int
    images: int
    rate: float


@dataclass(frozen=True)
class Many:
    """All images in their order; lives in gr.State. passed_over: a line on each zip's hidden files.

    uploads: (name, path), which the images are read from again. models: that there were to choose from.
    thresholds: of each of judges, 0-1. run: as Task.run has it.
    """

    tiles: tuple[Tile, ...]
    passed_over: tuple[str, ...]
    uploads: tuple[tuple[str, Path], ...]
    models: tuple[Model, ...]
    thresholds: tuple[float, ...]
    run: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """Of each of GROUPS; they add up to all images."""
        groups = [tile.group for tile in self.tiles]
        return {group: groups.count(group) for group in GROUPS}

    @cached_property
    def judges(self) -> tuple[ModelInfo, ...]:
        """Of the models that judged any of the images."""
        return judges_of(self.models, self.tiles)

    @property
    def order(self) -> list[int]:
        """The images by group, then by probability, the highest first."""
        keys = [
            report.severity({"outcome": tile.group, "abnormal_probability": tile.probability})
            for tile in self.tiles
        ]
        return sorted(range(len(keys)), key=keys.__getitem__, reverse=True)

    def judge_of(self, tile: Tile) -> tuple[ModelInfo, float] | None:
        """The model that judged an image, and its threshold; None where none did."""
        found = zip(self.judges, self.thresholds)
        return next((pair for pair in found if (pair[0].name, pair[0].revision) == tile.model), None)

    def at_thresholds(self, thresholds: Sequence[float]) -> "Many":
        """The same images at another threshold for each of judges (0-1), without running a model."""
        moved = replace(self, thresholds=tuple(thresholds))
        by_model = {(info.name, info.revision): one for info, one in zip(self.judges, thresholds)}
        tiles = (
            tile.at_threshold(by_model[tile.model]) if tile.model in by_model else tile for tile in self.tiles
        )
        return replace(moved, tiles=tuple(tiles))


def inspect_uploads(
    judge: Judge,
    models: Sequence[Model],
    uploads: Sequence[tuple[str, Path]],
    threshold: float | None,
    limits: Limits,
) -> Iterator[Progress | Many]:
    """Inspect and draw uploads, (name, path) of images and zips. Ends in Many.

    models: to choose from. threshold: None for each model's own.

    Raises BatchError where there are none or too many.
    """
    images, passed_over = listed(uploads, limits)
    found, started = [], perf_counter()
    yield Progress(0, len(images), 0)
    task = run.Task(judge, models, threshold, limits=limits)
    with closing(run.inspect_stream(task, images)) as batches:
        for batch in batches:
            found += [(_slim(one), picture_of(one)) for one in batch]
            yield Progress(len(found), len(images), len(found) / (perf_counter() - started))
    tiles = tuple(Tile(one, _kept(picture)) for one, picture in found)
    thresholds = [
        own_threshold(info) if threshold is None else threshold for info in judges_of(models, tiles)
    ]
    many = Many(tiles, tuple(passed_over), tuple(uploads), tuple(models), (), task.run())
    yield many.at_thresholds(thresholds)


def judges_of(models: Sequence[Model], tiles: Sequence[Tile]) -> tuple[ModelInfo, ...]:
    """Of the models that judged any of these images."""
    judged = {tile.model for tile in tiles}
    return tuple(model.info for model in models if (model.info.name, model.info.revision) in judged)


def results_of(
    judge: Judge,
    models: Sequence[Model],
    uploads: Sequence[tuple[str, Path]],
    threshold: float | None,
    limits: Limits,
) -> list[Result]:
    """The results of uploads, without pictures. Raises BatchError as inspect_uploads does."""
    images, _ = listed(uploads, limits)
    batches = run.inspect_stream(run.Task(judge, models, threshold, limits=limits), images)
    return [run.result_of(one) for batch in batches for one in batch]


def listed(uploads: Sequence[tuple[str, Path]], limits: Limits) -> tuple[list[BatchImage], list[str]]:
    """The images of uploads, (name, path), and a line on each zip's hidden files. Raises BatchError."""
    images, passed_over = uploaded_images(uploads, limits)
    if not images:
        raise BatchError("There are no images in these files. Choose images, or zips of images.")
    if len(images) > MOST:
        raise BatchError(
            f"These are {len(images):,} images; up to {MOST:,} can be inspected here. Use python -m chipdemo "
            "inspect for more."
        )
    return images, passed_over


def _slim(one: run.Inspected) -> run.Inspected:
    """What a result takes of an inspection: 1,000 of them are kept for each visitor."""
    image = replace(one.image, file=Found(one.image.file.name, b""))
    return replace(one, image=image, prepared=None, inspection=one.inspection and _slim_one(one.inspection))


def _slim_one(inspection: Inspection) -> Inspection:
    nothing = np.zeros(0, np.float32)
    return replace(
        inspection,
        heatmaps=dict.fromkeys(inspection.heatmaps, nothing),
        channels=(),
        embedding=nothing,
        tiles=inspection.tiles and replace(inspection.tiles, whole=None),
    )


def picture_of(one: run.Inspected) -> bytes:
    """The image as the network saw it, in its own proportions, with the overlay; b"" where there is none."""
    if one.inspection is None:
        return b""
    width, height = one.inspection.image_size
    scale = TILE_SIDE / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    view, method = one.prepared.judged_by(one.inspection).view, one.inspection.method
    try:
        image = view.picture(size)
        return encode(overlay(image, one.inspection.heatmaps[method], method), "JPEG")
    except Exception as error:  # noqa: BLE001 - the inspections are worth more than one picture
        run.logged(error)
        return b""


def _kept(picture: bytes) -> Path | None:
    """In a file that gradio serves."""
    return Path(save_bytes_to_cache(picture, "tile.jpg", get_upload_folder())) if picture else None


def file_of(many: Many, row: int, limits: Limits) -> tuple[str, Path]:
    """(name, path) of an image; one that lies in a zip is unpacked. Raises ImageError and BatchError."""
    file = _files(many, limits)[row]
    if isinstance(file.source, Path):
        return file.name, file.source
    content = content_of(file, limits)
    return file.name, Path(save_bytes_to_cache(content, f"{file_stem(file.name)}.img", get_upload_folder()))


def contents_of(many: Many, rows: Sequence[int], limits: Limits) -> Iterator[tuple[str, bytes] | str]:
    """(name, content) of these images, or a line on why one cannot be read. Raises BatchError."""
    files = _files(many, limits)
    for row in rows:
        try:
            yield files[row].name, content_of(files[row], limits)
        except ImageError as error:
            yield f"{shown(files[row].name)}: {error}"


def _files(many: Many, limits: Limits) -> list[Found]:
    images, _ = uploaded_images(many.uploads, limits)
    if len(images) != len(many.tiles):  # a zip that is gone has none
        raise BatchError(GONE)
    return [image.file for image in images]


def report_file(many: Many, name: str) -> bytes:
    """The report or a table: report.HTML, CSV or PARQUET."""
    pictures = {tile.inspected.image.path: tile.picture for tile in many.tiles}
    results = [tile.result for tile in many.tiles]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        if name == report.HTML:
            of_run = many.run | {"threshold": many.thresholds[0] if len(many.judges) == 1 else None}
            meaning, date = run.meaning_of(many.judges, many.thresholds), f"{datetime.now():%Y-%m-%d %H:%M}"
            sums = report.sums_of(results)
            picture = lambda result: kept.read_bytes() if (kept := pictures[result["path"]]) else b""  # noqa: E731
            report.write_page(sums, of_run, meaning, date, picture, path)
        else:
            report.write_tables(results, Path(folder))
        return path.read_bytes()
