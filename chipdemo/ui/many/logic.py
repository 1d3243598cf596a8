"""What "Many images at once" of the Inspect tab does; many_panel.py wires it."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import Any

from PIL import Image

from chipdemo.batch import report
from chipdemo.batch import run as batch
from chipdemo.batch.run import Inspected, Task
from chipdemo.batch.sources import uploaded_images
from chipdemo.errors import BatchError
from chipdemo.files import Limits
from chipdemo.inspection import Model
from chipdemo.judge import Judge
from chipdemo.overlay import blend

MOST = 1000  # images at a time in the app; the command line takes any number
MANY_QUEUE = "many"  # its events share one limit, beside single images, which wait for none of these
SHOWN = 200  # of them as pictures on the page
TILE_SIDE = 240  # pixels of the longer side


@dataclass(frozen=True)
class Tile:
    """A judged image as the page shows it. result: batch.result_of; picture: JPEG, b"" for none."""

    result: dict[str, Any]
    picture: bytes


@dataclass(frozen=True)
class Progress:
    """done: of so many images. rate: a second."""

    done: int
    images: int
    rate: float


@dataclass(frozen=True)
class Many:
    """What came of all of them, in their order. passed_over: a line on each file that was not looked at."""

    tiles: tuple[Tile, ...]
    passed_over: tuple[str, ...]
    run: dict[str, Any]

    @property
    def results(self) -> list[dict[str, Any]]:
        return [tile.result for tile in self.tiles]


def inspect_uploads(
    judge: Judge, model: Model | None, uploads: Sequence[tuple[str, Path]], threshold: float, limits: Limits
) -> Iterator[Progress | Many]:
    """Judge uploads, (name, path) of images and zips; tells how far it is, and ends in Many.

    Raises BatchError where there are none or too many.
    """
    model = model or judge.models.in_use
    images, passed_over = uploaded_images(uploads, limits)
    if not 0 < len(images) <= MOST:
        raise BatchError(
            f"Expected 1 to {MOST:,} images; found {len(images):,}. "
            + ("Use python -m chipdemo inspect for more." if images else "Choose other files.")
        )
    tiles, started = [], perf_counter()
    task = Task(judge, model, threshold, limits=limits)
    yield Progress(0, len(images), 0)
    for some in batch.inspect_stream(task, images):
        tiles += [Tile(batch.result_of(one), picture_of(one)) for one in some]
        yield Progress(len(tiles), len(images), len(tiles) / (perf_counter() - started))
    yield Many(tuple(tiles), tuple(passed_over), task.run())


def picture_of(judged: Inspected) -> bytes:
    """The image, as the network saw it and in its own proportions, with its heat."""
    if judged.inspection is None:
        return b""
    width, height = judged.inspection.image_size
    scale = TILE_SIDE / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(judged.prepared.pixels).resize(size)
    heat = judged.inspection.heatmaps[judged.inspection.method]
    picture = blend(image, heat).crop((0, 0, *size))  # without the color bar
    picture.save(stream := BytesIO(), "JPEG", quality=80)
    return stream.getvalue()


def worst_first(many: Many) -> list[Tile]:
    """Those that are shown: the likeliest to be abnormal first, and what cannot be read after them."""
    return sorted(many.tiles, key=lambda tile: -tile.result.get("abnormal_probability", -1))[:SHOWN]


def report_files(many: Many) -> dict[str, bytes]:
    """The report and the table, by name."""
    pictures = {tile.result["path"]: tile.picture for tile in many.tiles}

    with tempfile.TemporaryDirectory() as folder:
        report.write_tables(many.results, Path(folder))
        report.write_page(
            report.sums_of(many.results),
            many.run,
            f"{datetime.now():%Y-%m-%d %H:%M}",
            lambda result: pictures[result["path"]],
            Path(folder, report.HTML),
        )
        return {name: Path(folder, name).read_bytes() for name in (report.HTML, report.CSV)}
