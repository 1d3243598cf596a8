"""Train and compare every system of the two papers on the same images.

    python training/ablate.py --data elpv --split benchmarks/elpv_split.json

trains each row and seed, writes its result into a folder, and then ablation.json, ablation.md and charts
of all that are finished. Finished rows are not trained again; one that was killed continues. `--rows`
trains some only, `--report` none. `--ship chipdemo/ablation` also copies the ablation to where the app
reads it, with the checkpoints of a few rows.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from chipdemo.errors import ChipDemoError, DataError
from chipdemo.near_duplicates import SIDE
from chipdemo.vision.checkpoint import SPLIT, write_json
from chipdemo.vision.transforms import pixels_of
from training.ablation.plans import PLANS, Plan
from training.ablation.results import report, ship
from training.ablation.seeds import Run, finish
from training.data import load_images
from training.divided import AUTO, FIND_GROUPS_HELP, GROUPS, near_duplicate_groups
from training.sources import DATA_HELP, read_data
from training.splits import NONE_SEEN, SPLIT_HELP, divide, read_split


def parse(arguments: list[str] | None, plans: Sequence[Plan]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="elpv", help=f"{DATA_HELP} (default: elpv)")
    parser.add_argument("--split", type=Path, help=SPLIT_HELP)
    parser.add_argument("--groups", default=AUTO, choices=GROUPS, help=FIND_GROUPS_HELP)
    parser.add_argument("--out", type=Path, help="default: runs/ablation/DATA")
    parser.add_argument(
        "--weights",
        type=Path,
        help="folder with BACKBONE.imagenet.safetensors, for use without network",
    )
    parser.add_argument(
        "--teacher",
        default="",
        help="checkpoint to distill starting weights from, for backbones without ImageNet weights",
    )
    ids = [plan.id for plan in plans]
    parser.add_argument("--rows", nargs="+", choices=ids, default=ids, metavar="ROW", help=", ".join(ids))
    parser.add_argument("--seeds", type=int, help="the largest number of seeds of a row")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="ABLATION.json",
        help="an earlier ablation of the same images, whose rows stay where they are not trained anew",
    )
    parser.add_argument("--report", action="store_true", help="train nothing, report the finished rows")
    parser.add_argument(
        "--ship", type=Path, metavar="FOLDER", help="also copy the ablation to FOLDER, for the app"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None, plans: Sequence[Plan] = PLANS) -> None:
    options = parse(arguments, plans)
    out = options.out or Path("runs") / "ablation" / Path(options.data).stem
    out.mkdir(parents=True, exist_ok=True)
    flags = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["python", "training/ablate.py", *flags])
    split = write_split(options.data, options.split, options.groups, out)
    run = Run(command, options.data, split, out, options.weights, options.teacher)
    if not options.report:
        for seed in range(max(plan.seeds for plan in plans)):  # every row once before any row twice
            for plan in plans:
                if plan.id in options.rows and seed < min(plan.seeds, options.seeds or plan.seeds):
                    finish(plan, seed, run)
    written = report(run, plans, options.keep)
    print("wrote", written)
    if options.ship:
        print("wrote", ship(written, options.ship, out.name))


def write_split(data: str, given: Path | None, groups: str, out: Path) -> Path:
    """The split.json that all rows keep to. Raises DataError if finished rows have another one.

    groups: of near-duplicates, AUTO or OFF.
    """
    source, known = read_data(data), read_split(given) if given else NONE_SEEN
    images = load_images(source, partial(pixels_of, size=SIDE, interpolation="bilinear"))
    near = near_duplicate_groups(images, known) if groups == AUTO else {}
    split, how = divide(source.name, images, known, near)
    print(f"split: {how}", flush=True)
    path = out / SPLIT
    if path.exists() and read_split(path) != split:
        raise DataError(
            f"The finished rows have another division, {path}. Choose another --out, or give that as --split."
        )
    write_json(path, split)
    return path


if __name__ == "__main__":
    try:
        main()
    except ChipDemoError as error:
        sys.exit(f"error: {error}")
