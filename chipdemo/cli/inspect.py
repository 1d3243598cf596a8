"""python -m chipdemo inspect: judge many images."""

import argparse
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from chipdemo.cli import add_command, counted, show_refused
from chipdemo.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

TILES = ("auto", "off")
ENGINES = ("here", "ray")
FINDINGS = ("abnormal", "unlike", "unreadable")
EXIT_FOUND = 1  # what --fail-on names was found
SETTINGS = ("model", "runtime", "max_megapixels")


def add_to(commands: argparse._SubParsersAction) -> None:
    inspect = add_command(commands, "inspect", inspect_many, "judge many images", *SETTINGS)
    inspect.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="image, folder, zip, pattern, CSV with a column image, hf:owner/name (a dataset of the "
        "Hugging Face Hub), or s3://bucket/folder and the like",
    )
    inspect.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="results; goes on with earlier"
    )
    inspect.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="this process, or the Ray cluster at RAY_ADDRESS, a local one where that is not set "
        "(default: %(default)s)",
    )
    inspect.add_argument(
        "--workers", type=_workers, metavar="N", help="of --engine ray (default: one a core of the cluster)"
    )
    inspect.add_argument("--threshold", type=float, help="0-1; default: the model's own")
    inspect.add_argument(
        "--tiles",
        choices=TILES,
        default=TILES[0],
        help="large images in overlapping tiles too, which take longer, or as a whole (default: %(default)s)",
    )
    inspect.add_argument(
        "--fail-on",
        nargs="+",
        choices=FINDINGS,
        default=(),
        help=f"end with status {EXIT_FOUND} if any is so",
    )


def _workers(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number of workers from 1; found {text}")
    return int(text)


def inspect_many(flags: argparse.Namespace, settings: Settings) -> int:
    from tqdm import tqdm

    from chipdemo.batch import report
    from chipdemo.batch import run as batch
    from chipdemo.batch.sources import listed
    from chipdemo.files import Limits
    from chipdemo.judge import Judge
    from chipdemo.models import Models
    from chipdemo.vision.predictor import load_model

    limits = Limits(megapixels=settings.max_megapixels)
    images = listed(flags.paths, limits)
    model = load_model(settings.model_source, runtime=settings.runtime, graphs=settings.graphs)
    judge = Judge(Models(model))
    tiles, inspect = flags.tiles == "auto", batch.inspect_all
    if flags.engine == "ray":
        from chipdemo.batch.ray import inspect_on_ray

        model = {"model": settings.model_source, "runtime": settings.runtime, "graphs": settings.graphs}
        inspect = partial(inspect_on_ray, **model, workers=flags.workers)
    with tqdm(total=len(images), unit=" images", disable=None) as bar:
        results = inspect(judge, images, flags.out, flags.threshold, bar.update, limits, tiles)
    report.write_tables(results, flags.out)
    sums = report.sums_of(results)
    worst = {result["path"] for result in sums.worst}
    by_place = {one.place: one for one in images if one.place in worst}

    def picture_of(result: report.Result) -> "Image | None":
        one = by_place.get(result["path"])
        return one and batch.picture(judge, one, limits, tiles)

    report.write_page(
        sums, results.run, f"{datetime.now():%Y-%m-%d %H:%M}", picture_of, flags.out / report.HTML
    )
    found = {
        "abnormal": sums.verdicts["abnormal"],
        "unlike": sums.out_of_distribution,
        "unreadable": sums.unreadable,
    }
    print(f"{sums.images:,} images: {counted({'normal': sums.verdicts['normal'], **found})}.")
    show_refused([*images.passed_over, *(f"{one['file']}: {one['error']}" for one in sums.refused)])
    print(f"wrote {flags.out / report.HTML}")
    return EXIT_FOUND if any(found[name] for name in flags.fail_on) else 0
