"""What "Many images at once" and /inspect_batch do, as functions of values; tab.py wires the panel."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from chipdemo.batch import report, run
from chipdemo.batch.report import UNREADABLE
from chipdemo.batch.sources import BatchImage, uploaded_images
from chipdemo.errors import BatchError
from chipdemo.files import Limits
from chipdemo.inspection import ABNORMAL, NORMAL, OUT_OF_DISTRIBUTION, Model
from chipdemo.judge import Judge
from chipdemo.overlay import encode, overlay

MOST = 1000  # images at a time in the app; the command line takes any number
QUEUE = "many"  # its events share one limit, beside single images, which wait for none of these
SHOWN = 200  # of them as pictures on the page
TILE_SIDE = 240  # pixels of the longer side
GROUPS = (ABNORMAL, OUT_OF_DISTRIBUTION, NORMAL, UNREADABLE)  # each image is in one

Result = dict[str, Any]  # as run.result_of makes it


@dataclass(frozen=True)
class Tile:
    """An image as the page shows it. picture: JPEG, b"" for none."""

    result: Result
    picture: bytes

    @property
    def group(self) -> str:
        return UNREADABLE if self.result["error"] else self.result["outcome"]


@dataclass(frozen=True)
class Progress:
    """done: of so many images. rate: a second."""

    done: int
    images: int
    rate: float


@dataclass(frozen=True)
class Many:
    """All images in their order. passed_over: a line on each zip's hidden files.

    meaning: of the threshold. run: as Task.run has it.
    """

    tiles: tuple[Tile, ...]
    passed_over: tuple[str, ...]
    meaning: str
    run: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """Of each of GROUPS; they add up to all images."""
        groups = [tile.group for tile in self.tiles]
        return {group: groups.count(group) for group in GROUPS}


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
    images, passed_over = _listed(uploads, limits)
    tiles, started = [], perf_counter()
    yield Progress(0, len(images), 0)
    task = run.Task(judge, models, threshold, limits=limits)
    with closing(run.inspect_stream(task, images)) as batches:
        for batch in batches:
            tiles += [Tile(run.result_of(one), picture_of(one)) for one in batch]
            yield Progress(len(tiles), len(images), len(tiles) / (perf_counter() - started))
    yield Many(tuple(tiles), tuple(passed_over), task.meaning, task.run())


def results_of(
    judge: Judge,
    models: Sequence[Model],
    uploads: Sequence[tuple[str, Path]],
    threshold: float | None,
    limits: Limits,
) -> list[Result]:
    """The results of uploads, without pictures. Raises BatchError as inspect_uploads does."""
    images, _ = _listed(uploads, limits)
    batches = run.inspect_stream(run.Task(judge, models, threshold, limits=limits), images)
    return [run.result_of(one) for batch in batches for one in batch]


def _listed(uploads: Sequence[tuple[str, Path]], limits: Limits) -> tuple[list[BatchImage], list[str]]:
    images, passed_over = uploaded_images(uploads, limits)
    if not images:
        raise BatchError("There are no images in these files. Choose images, or zips of images.")
    if len(images) > MOST:
        raise BatchError(
            f"These are {len(images):,} images; up to {MOST:,} can be inspected here. Use python -m chipdemo "
            "inspect for more."
        )
    return images, passed_over


def picture_of(one: run.Inspected) -> bytes:
    """The image as the network saw it, in its own proportions, with the overlay."""
    if one.inspection is None:
        return b""
    width, height = one.inspection.image_size
    scale = TILE_SIDE / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    view, method = one.prepared.judged_by(one.inspection).view, one.inspection.method
    image = view.picture(size)
    return encode(overlay(image, one.inspection.heatmaps[method], method), "JPEG")


def gallery(many: Many) -> list[Tile]:
    """The images that are shown: by group, then by probability, the highest first."""
    return sorted(many.tiles, key=lambda tile: report.severity(tile.result), reverse=True)[:SHOWN]


def report_files(many: Many) -> dict[str, bytes]:
    """The report and the table, by name."""
    pictures = {tile.result["path"]: tile.picture for tile in many.tiles}
    results = [tile.result for tile in many.tiles]
    date = f"{datetime.now():%Y-%m-%d %H:%M}"

    with tempfile.TemporaryDirectory() as folder:
        report.write_tables(results, Path(folder))
        page = Path(folder, report.HTML)
        sums = report.sums_of(results)
        report.write_page(sums, many.run, many.meaning, date, lambda result: pictures[result["path"]], page)
        return {name: Path(folder, name).read_bytes() for name in (report.HTML, report.CSV)}
