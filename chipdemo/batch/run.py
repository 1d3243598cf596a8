"""A batch of images -> a folder of results.

Images are read, decoded and scaled in threads while the network works; a few are in memory at a time,
however many there are. A run that was stopped continues where it was.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from chipdemo.batch.sources import RESUME, BatchImage
from chipdemo.errors import BatchError, CheckpointError, ChipDemoError, ImageError
from chipdemo.files import (
    DEFAULT_LIMITS,
    Limits,
    append_whole,
    as_text,
    content_of,
    in_parallel,
    prefetch,
    write_whole,
)
from chipdemo.images import DecodedImage
from chipdemo.inspection import Inspection, Model, ModelInfo
from chipdemo.judge import Judge, Prepared
from chipdemo.models import try_out
from chipdemo.overlay import encode, overlay, with_legend

log = logging.getLogger(__name__)

RESULTS = "inspections.jsonl"  # a line for each image, in the order given; see result_of
RUN = "run.json"
FORMAT = 2  # of RESULTS
BATCH = 16  # images and tiles prepared for one call of the judge
PICTURE_SIDE = 480  # pixels of the longer side of an image in the report

Progress = Callable[[int], None]  # called with how many more images are done


@dataclass(frozen=True)
class Task:
    """How each image of a batch is inspected.

    models: to choose from. threshold: 0-1; None for each model's own. tiles: inspect large images in tiles
    too.
    """

    judge: Judge
    models: Sequence[Model]
    threshold: float | None = None
    tiles: bool = True
    limits: Limits = DEFAULT_LIMITS

    @property
    def meaning(self) -> str:
        """What the threshold does to the validation split of each model, in plain text."""
        infos = [model.info for model in self.models]
        return meaning_of(infos, [self._threshold(info) for info in infos])

    def read(self, image: BatchImage) -> DecodedImage:
        """An image to be inspected. Raises ImageError."""
        content = content_of_image(image, self.limits)
        return self.judge.read(content, self.limits.megapixels, tiles=self.tiles, models=self.models)

    def _threshold(self, info: ModelInfo) -> float:
        return info.threshold if self.threshold is None else self.threshold

    def run(self) -> dict[str, Any]:
        """What all results of a folder have in common, for JSON. threshold: None for each model's own."""
        infos = [model.info for model in self.models]
        return {
            "format": FORMAT,
            "model": ", ".join(info.name for info in infos),
            "revision": ", ".join(info.revision for info in infos),
            "data": ", ".join(info.data for info in infos),
            "threshold": self._threshold(infos[0]) if len(infos) == 1 else self.threshold,
            "tiles": self.tiles,
        }


@dataclass(frozen=True)
class Inspected:
    """An image and its inspection. prepared, inspection: None for an image that could not be inspected.

    error: why, or "".
    """

    image: BatchImage
    prepared: Prepared | None
    inspection: Inspection | None
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Results:
    """A folder of results. run: as Task.run has it."""

    folder: Path
    run: Mapping[str, Any]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The results as result_of makes them, one in memory at a time."""
        with (self.folder / RESULTS).open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    def append(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Append all or none. Raises BatchError where there is no room; what was written before stays."""
        lines = "".join(json.dumps(result) + "\n" for result in results)
        try:
            append_whole(self.folder / RESULTS, lines.encode())
        except OSError as error:
            raise BatchError(
                f"Results cannot be written to {self.folder}: {error.strerror}. {RESUME}"
            ) from error


def content_of_image(image: BatchImage, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Of the file. Raises ImageError."""
    image = image.fetched()
    if image.error:
        raise ImageError(image.error)
    return content_of(image.file, limits)


def inspect_all(
    task: Task, images: Iterable[BatchImage], folder: Path, progress: Progress = lambda done: None
) -> Results:
    """Inspect the images that have no result in the folder yet.

    An image that cannot be inspected gets a result with the reason. Raises BatchError where the folder holds
    results of another model, threshold or choice of tiles.
    """
    results, todo = resume(task, images, folder, progress)
    with closing(inspect_stream(task, todo)) as batches:
        for batch in batches:
            results.append(map(result_of, batch))
            progress(len(batch))
    return results


def resume(
    task: Task, images: Iterable[BatchImage], folder: Path, progress: Progress
) -> tuple[Results, Iterator[BatchImage]]:
    """The results that the folder has so far, and the images that have none yet."""
    results = results_in(folder, task.run())
    done = {result["path"] for result in results}
    progress(len(done))
    return results, (image for image in images if image.path not in done)


def results_in(folder: Path, run: dict[str, Any]) -> Results:
    """The results in a folder, which have to be of the same run; a new folder has none. Raises BatchError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / RUN).exists():
            _check_run(run, json.loads((folder / RUN).read_text(encoding="utf-8")), folder)
        elif any(not path.name.startswith(".") for path in folder.iterdir()):
            raise BatchError(f"{folder} holds files that are no results. Choose a new folder for --out.")
        write_whole(folder / RUN, (json.dumps(run, indent=1) + "\n").encode())
        with (folder / RESULTS).open("a+b") as file:
            file.seek(0)
            file.truncate(sum(len(line) for line in file if line.endswith(b"\n")))  # a killed run's half line
    except (OSError, ValueError) as error:
        raise BatchError(f"{folder} cannot hold results: {error}. Choose another --out.") from error
    return Results(folder, run)


def inspect_stream(task: Task, images: Iterable[BatchImage]) -> Iterator[list[Inspected]]:
    """Inspect images in their order, some at a time, and read the next ones meanwhile.

    What the program fails at costs that image its inspection, and no other.
    """

    def fetch(image: BatchImage) -> BatchImage:
        try:
            return image.fetched()
        except Exception as error:  # noqa: BLE001
            return replace(image, read=None, error=_reason(error))

    def prepare(image: BatchImage) -> Inspected:
        options = {"threshold": task.threshold, "tiles": task.tiles, "models": task.models}
        try:
            decoded = task.read(image)
            return Inspected(image, task.judge.prepare(decoded, **options), None, decoded.notes)
        except Exception as error:  # noqa: BLE001
            return Inspected(image, None, None, error=_reason(error))

    fetched = prefetch(map(fetch, images))
    with closing(fetched), closing(in_parallel(prepare, fetched)) as prepared:
        for batch in _batches(prepared):
            readable = [one.prepared for one in batch if one.prepared]
            inspections = iter(task.judge.inspect_each(readable) if readable else ())
            yield [_with(one, next(inspections)) if one.prepared else one for one in batch]


def _with(prepared: Inspected, inspection: Inspection | Exception) -> Inspected:
    if isinstance(inspection, Exception):
        _check_models([candidate.model for candidate in prepared.prepared.candidates], inspection)
        return replace(prepared, prepared=None, error=_reason(inspection))
    return replace(prepared, inspection=inspection)


def _check_models(models: Sequence[Model], error: Exception) -> None:
    """After an error at an image. Raises CheckpointError where a model fails at every image."""
    for model in models:
        try:
            try_out(model)
        except Exception as again:  # noqa: BLE001 - whatever the network raises
            raise CheckpointError(
                f"{model.info.name} fails at every image: {again or type(again).__name__}. Start again; "
                "what is inspected is kept."
            ) from error


def _reason(error: Exception) -> str:
    """Why an image has no inspection. Raises errors of the whole run, such as a model that is gone."""
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, ChipDemoError):
        raise error
    return f"An error of the program ({type(error).__name__}); the log has more under {logged(error)}."


def logged(error: Exception) -> str:
    """The id of a line in the log, which has no name of an image."""
    id = uuid4().hex[:12]
    log.error("an error of the program, %s", id, exc_info=error)
    return id


def meaning_of(infos: Sequence[ModelInfo], thresholds: Sequence[float]) -> str:
    """What a threshold for each model, 0-1, does to its validation split, in plain text."""
    meanings = [
        info.validation.meaning(threshold, info.target if threshold == info.threshold else None)
        for info, threshold in zip(infos, thresholds)
    ]
    if len(meanings) == 1:
        return meanings[0]
    return " ".join(f"{info.name}: {one}" for info, one in zip(infos, meanings))


def picture(task: Task, image: BatchImage) -> bytes:
    """A JPEG of an image with its heatmap and regions, small enough for a page.

    b"" where the image is gone, or cannot be drawn.
    """
    try:
        return _drawn(task, image)
    except ImageError:
        return b""
    except Exception as error:  # noqa: BLE001 - the report is worth more than one picture
        logged(error)
        return b""


def _drawn(task: Task, image: BatchImage) -> bytes:
    decoded = task.read(image)
    inspection, small = task.judge.inspect(decoded, tiles=task.tiles, models=task.models), decoded.image
    small.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    scale = max(small.size) / max(decoded.size)
    regions = [region.scaled(scale) for region in inspection.regions]
    method = inspection.method
    shown = overlay(small, inspection.heatmaps[method], method, regions=regions)
    return encode(with_legend(shown, method), "JPEG")


def result_of(inspected: Inspected) -> dict[str, Any]:
    """The JSON of an inspection, if there is one, with file, path, label, notes and error."""
    image, inspection = inspected.image, inspected.inspection
    result = {"file": as_text(image.file.name), "path": image.path, "label": image.label}
    if inspection:
        result |= inspection.to_json() | {"notes": list(inspected.notes)}
    return result | {"error": inspected.error}


def _check_run(run: Mapping[str, Any], before: Any, folder: Path) -> None:
    """Raises BatchError where the results in the folder are of another run. before: the JSON of that."""
    before = before if isinstance(before, dict) else {}
    different = [name for name in {**before, **run} if before.get(name) != run.get(name)]
    if different:
        changes = ", ".join(
            f"{name} {_told(name, before)} there and {_told(name, run)} now" for name in different
        )
        raise BatchError(
            f"{folder} holds results of another run: {changes}. Choose another --out, or delete {folder}."
        )


def _told(name: str, run: Mapping[str, Any]) -> Any:
    """What a run, as Task.run has it, says under a name, in words where it says nothing."""
    absent = "each model's own" if name == "threshold" else "unknown"
    return absent if run.get(name) is None else run[name]


def _batches(prepared: Iterable[Inspected]) -> Iterator[list[Inspected]]:
    """Runs of images with BATCH views: each image is one, and each of its tiles."""
    batch, views = [], 0
    for one in prepared:
        batch.append(one)
        views += one.prepared.views if one.prepared else 1
        if views >= BATCH:
            yield batch
            batch, views = [], 0
    if batch:
        yield batch
