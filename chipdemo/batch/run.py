"""Many images, judged: from what listing.py finds to a folder of results.

They are read, decoded and scaled side by side while the network works, and a few are in memory at
a time, however many there are. A run that was stopped goes on where it was.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from chipdemo.batch.sources import Listed
from chipdemo.errors import BatchError, ImageError
from chipdemo.files import DEFAULT_LIMITS, Found, Limits, content_of, in_parallel, in_zip, is_zip, prefetch
from chipdemo.images import DecodedImage, read_image
from chipdemo.inspection import Inspection, Model
from chipdemo.judge import Judge, Prepared
from chipdemo.overlay import overlay, with_legend

RESULTS = "inspections.jsonl"  # a line an image, in the order given; see result_of
RUN = "run.json"
BATCH = 16  # images at a time through the network
SHOWN_SIDE = 480  # pixels of the longer side of an image in the report

Progress = Callable[[int], None]  # is told how many more images are done


@dataclass(frozen=True)
class Judged:
    """An image with what came of it. prepared, inspection: None where error says why."""

    one: Listed
    prepared: Prepared | None
    inspection: Inspection | None
    notes: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Results:
    """A folder of results. run: model, revision and threshold that all of them have."""

    folder: Path
    run: Mapping[str, Any]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """One after the other, as result_of has them."""
        with (self.folder / RESULTS).open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    def append(self, results: Iterable[Mapping[str, Any]]) -> None:
        """Raises BatchError where there is no room; what was written before stays."""
        try:
            with (self.folder / RESULTS).open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(result) + "\n" for result in results)
        except OSError as error:
            raise BatchError(
                f"Expected room for results in {self.folder}; {error.strerror}. Make room and run it again: "
                "it goes on from here."
            ) from error


def uploads_listed(
    uploads: Iterable[tuple[str, Path]], limits: Limits = DEFAULT_LIMITS
) -> tuple[list[Listed], list[str]]:
    """Uploaded files, as (name, path), images and zips of them, and a line on what is passed over.

    Where they lie on this machine stands nowhere in their places.
    """
    images, passed_over, times = [], [], Counter()
    for name, path in uploads:
        packed = is_zip(path)
        for found in in_zip(path, name, limits) if packed else [Found(name, path)]:
            if isinstance(found, str):
                passed_over.append(found)
                continue
            place = f"{name}!{found.name}" if packed else name
            times[place] += 1
            place += f" ({times[place]})" if times[place] > 1 else ""
            images.append(Listed(found, place))
    return images, passed_over


def inspect_all(
    judge: Judge,
    images: Iterable[Listed],
    folder: Path,
    threshold: float | None = None,
    progress: Progress = lambda done: None,
    limits: Limits = DEFAULT_LIMITS,
    tiles: bool = True,
) -> Results:
    """Judge images, but for those that folder has results of already.

    tiles: look at large ones in tiles too, see tiling.py. One that cannot be read gets a result with
    the reason. Raises BatchError where the results there are of another model or threshold, or with
    and without tiles.
    """
    model = judge.models.in_use
    results, todo = begun(model, images, folder, threshold, progress, tiles)
    with closing(inspect_stream(judge, model, todo, results.run["threshold"], limits, tiles)) as batches:
        for batch in batches:
            results.append(map(result_of, batch))
            progress(len(batch))
    return results


def begun(
    model: Model,
    images: Iterable[Listed],
    folder: Path,
    threshold: float | None,
    progress: Progress,
    tiles: bool,
) -> tuple[Results, Iterator[Listed]]:
    """The results that folder has so far, and the images that are still to be judged."""
    threshold = model.info.threshold if threshold is None else threshold
    results = _results(folder, model, threshold, tiles)
    done = {result["path"] for result in results}
    progress(len(done))
    return results, (one for one in images if one.place not in done)


def inspect_stream(
    judge: Judge,
    model: Model,
    images: Iterable[Listed],
    threshold: float | None = None,
    limits: Limits = DEFAULT_LIMITS,
    tiles: bool = True,
) -> Iterator[list[Judged]]:
    """Images in their order, some at a time: those that are read, decoded and scaled meanwhile."""

    def prepare(one: Listed) -> tuple[Listed, Prepared | None, Sequence[str], str]:
        try:
            decoded = read(one, limits)
        except ImageError as error:
            return one, None, (), str(error)
        return one, judge.prepare(decoded, tiles=tiles, model=model), decoded.notes, ""

    in_order = prefetch(one.fetched() for one in images)
    with closing(in_order), closing(in_parallel(prepare, in_order)) as prepared:
        for waiting in _batches(prepared):
            readable = [each for _, each, _, _ in waiting if each]
            inspections = iter(judge.inspect_batch(readable, threshold=threshold) if readable else ())
            yield [
                Judged(one, each, next(inspections) if each else None, tuple(notes), error)
                for one, each, notes, error in waiting
            ]


def read(one: Listed, limits: Limits = DEFAULT_LIMITS) -> DecodedImage:
    """Raises ImageError."""
    one = one.fetched()
    if one.refusal:
        raise ImageError(one.refusal)
    return read_image(content_of(one.found, limits), limits.megapixels)


def picture(
    judge: Judge, one: Listed, limits: Limits = DEFAULT_LIMITS, tiles: bool = True
) -> Image.Image | None:
    """An image with its heat and regions, small enough for a page; None where it is gone."""
    try:
        decoded = read(one, limits)
    except ImageError:
        return None
    inspection, image = judge.inspect(decoded, tiles=tiles), decoded.image
    scale = SHOWN_SIDE / max(SHOWN_SIDE, *image.size)
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    regions = [region.scaled(scale) for region in inspection.regions]
    method = inspection.method
    return with_legend(overlay(image, inspection.heatmaps[method], method, regions=regions), method)


def result_of(judged: Judged) -> dict[str, Any]:
    """The JSON of an inspection with file, path, label, notes and error, the reason why there is none."""
    one, inspection = judged.one, judged.inspection
    result = {"file": _text(one.found.name), "path": _text(one.place), "label": one.label}
    if inspection:
        result |= inspection.to_json() | {"notes": list(judged.notes)}
    return result | {"error": judged.error}


def _results(folder: Path, model: Model, threshold: float, tiles: bool) -> Results:
    """The results that a folder has of this model and threshold so far; a new folder has none."""
    info = model.info
    run = {"model": info.name, "revision": info.revision, "threshold": threshold, "data": info.data}
    run |= {"tiles": True} if tiles else {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / RUN).exists():
            before = json.loads((folder / RUN).read_text(encoding="utf-8"))
            if before != run:
                raise BatchError(
                    f"Expected results of {run} in {folder}; found some of {before}. Choose another --out, "
                    "or remove it."
                )
        elif any(folder.iterdir()):
            raise BatchError(f"Expected a new folder or an earlier --out; {folder} holds other files.")
        (folder / RUN).write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
        with (folder / RESULTS).open("a+b") as file:
            file.seek(0)
            file.truncate(sum(len(line) for line in file if line.endswith(b"\n")))  # a killed run's half line
    except (OSError, ValueError) as error:
        raise BatchError(
            f"Expected a folder for results at {folder}; {error}. Choose another --out."
        ) from error
    return Results(folder, run)


def _batches(prepared: Iterable[tuple]) -> Iterator[list[tuple]]:
    """Runs of BATCH of them; of fewer, where those are to be looked at in tiles."""
    waiting, pictures = [], 0
    for one in prepared:
        waiting.append(one)
        pictures += 1 + (len(one[1].tiles) if one[1] else 0)
        if pictures >= BATCH:
            yield waiting
            waiting, pictures = [], 0
    if waiting:
        yield waiting


def _text(name: str) -> str:
    """A file name need not be text."""
    return name.encode(errors="backslashreplace").decode()
