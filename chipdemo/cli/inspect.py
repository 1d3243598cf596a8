"""python -m chipdemo inspect: a batch of images -> a folder with a report."""

import argparse
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chipdemo.cli import EXIT_ERROR, EXIT_FOUND, add_command, counted, fraction
from chipdemo.settings import TARGETS, Settings, add_flags

if TYPE_CHECKING:
    from chipdemo.batch.report import Result, Sums
    from chipdemo.batch.run import Results, Task
    from chipdemo.batch.sources import ImageList
    from chipdemo.files import Limits
    from chipdemo.inspection import Model

TILES = ("auto", "off")
ENGINES = ("here", "ray")
FINDINGS = ("abnormal", "out_of_distribution", "unreadable")
SETTINGS = ("model", "runtime", "precision", "max_megapixels")


def add_to(commands: argparse._SubParsersAction) -> None:
    about = "inspect any number of images and write a report"
    inspect = add_command(commands, "inspect", inspect_batch, about, *SETTINGS)
    inspect.epilog = (
        "The same command again continues a run that was stopped. Exit status: 0 when it came to "
        f"its end, {EXIT_FOUND} when --fail-on names what was found, {EXIT_ERROR} for an error."
    )
    inspect.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="image, folder, zip, pattern, CSV with a column image, hf:owner/name (a dataset of the "
        "Hugging Face Hub), or an address such as s3://bucket/folder",
    )
    inspect.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="new folder, or that of an interrupted run",
    )
    inspect.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="run in this process, or on the Ray cluster at RAY_ADDRESS; where that is not set, Ray starts "
        "on this machine (default: %(default)s)",
    )
    inspect.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="Ray worker processes, each with its own copy of the model (default: one per core)",
    )
    add_judging(inspect)
    inspect.add_argument(
        "--fail-on",
        nargs="+",
        choices=FINDINGS,
        default=(),
        metavar="OUTCOME",
        help=f"exit with status {EXIT_FOUND} if any image is: {', '.join(FINDINGS)}",
    )


def add_judging(parser: argparse.ArgumentParser) -> None:
    """The flags of how images are judged."""
    threshold = parser.add_mutually_exclusive_group()
    threshold.add_argument(
        "--threshold", type=fraction, help="decision threshold, 0 to 1 (default: the one of the model)"
    )
    add_flags(threshold, TARGETS)
    parser.add_argument(
        "--tiles",
        choices=TILES,
        default=TILES[0],
        help="auto: inspect large images in overlapping tiles too, which takes longer; off: as a whole only "
        "(default: %(default)s)",
    )


def _workers(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is not a number of processes, 1 or more")
    return int(text)


def inspect_batch(flags: argparse.Namespace, settings: Settings) -> int:
    from tqdm import tqdm

    from chipdemo.batch.report import images_text, rates_of, sums_of, write_tables
    from chipdemo.batch.run import inspect_all
    from chipdemo.batch.sources import find_images
    from chipdemo.files import Limits, as_text
    from chipdemo.inspection import outcome_text

    limits = Limits(megapixels=settings.max_megapixels)
    images = find_images(flags.paths, limits)
    load = loader(flags, settings)
    task = task_of(flags, load(), limits)
    inspect = inspect_all
    if flags.engine == "ray":
        from chipdemo.batch.ray import inspect_on_ray

        inspect = partial(inspect_on_ray, load=load, workers=flags.workers)
    with tqdm(total=len(images), unit=" images", disable=None) as bar:
        results = inspect(task, images, flags.out, bar.update)
    write_tables(results, flags.out)
    sums = sums_of(results)
    page = _write_page(task, images, results, sums)
    counts = {outcome_text(outcome): count for outcome, count in sums.counts.items()}
    print(f"{images_text(sums.images)}: {counted(counts)}.")
    print(*rates_of(sums), task.meaning, sep="\n")
    _show_refused(images.skipped, sums)
    print(f"wrote {as_text(str(page))}")
    return EXIT_FOUND if any(sums.counts[outcome] for outcome in flags.fail_on) else 0


def _show_refused(skipped: list[str], sums: "Sums") -> None:
    from chipdemo.batch.report import CSV, UNREADABLE

    if count := sums.counts[UNREADABLE]:
        print(f"Not inspected: {count:,}")
        for one in sums.refused:
            print(f"  {one['file']}: {one['error']}")
        if more := count - len(sums.refused):
            print(f"  and {more:,} more, in {CSV}")
    for line in skipped:
        print(line)


def task_of(flags: argparse.Namespace, models: "Sequence[Model]", limits: "Limits") -> "Task":
    """How the flags of add_judging want images to be inspected."""
    from chipdemo.batch.run import Task
    from chipdemo.judge import Judge
    from chipdemo.models import Models

    return Task(Judge(Models(*models)), models, flags.threshold, flags.tiles == "auto", limits)


def loader(flags: argparse.Namespace, settings: Settings) -> "Callable[[], list[Model]]":
    """What loads the models, in this process and in a worker of Ray."""
    from chipdemo.vision.revisions import newest_accepted

    sources = [newest_accepted(source).source for source in settings.model_sources]
    # Absolute, since a worker may run in another folder
    sources = [str(Path(source).absolute()) if Path(source).exists() else source for source in sources]
    options = {
        "runtime": settings.runtime,
        "precision": settings.precision,
        "graphs": settings.graphs,
        "target": settings.target if flags.threshold is None else None,
    }
    return partial(_load, sources, must_promise=len(sources) == 1, **options)


def _load(sources: "Sequence[str]", **options: Any) -> "list[Model]":
    from chipdemo.vision.predictor import load_model

    return [load_model(source, **options) for source in sources]


def _write_page(task: "Task", images: "ImageList", results: "Results", sums: "Sums") -> Path:
    from chipdemo.batch.report import HTML, write_page
    from chipdemo.batch.run import picture

    worst = {result["path"] for result in sums.worst}
    by_path = {image.path: image for image in images if image.path in worst}

    def picture_of(result: "Result") -> bytes:
        image = by_path.get(result["path"])  # none where an earlier run inspected other images too
        return picture(task, image) if image else b""

    page = results.folder / HTML
    write_page(sums, results.run, task.meaning, f"{datetime.now():%Y-%m-%d %H:%M}", picture_of, page)
    return page
