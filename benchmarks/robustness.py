"""How often verdicts flip under changes that no inspector would notice, and the metrics under each.

    python benchmarks/robustness.py --model FOLDER [FOLDER ...] --data elpv

The changes are those of training/robustness.py. Each model (a checkpoint folder or Hub id) is measured on
the images of the data that are in its own test split, in 15 forward passes an image. --record also writes
the figures into the metrics.json and the model card of each folder.
"""

import argparse
import datetime
import sys
from pathlib import Path

from tqdm import tqdm

from chipdemo.errors import ChipDemoError
from chipdemo.settings import DEFAULT_MODEL
from chipdemo.splits import TEST
from chipdemo.vision.checkpoint import SPLIT, find_checkpoint, write_json
from chipdemo.vision.weights import load_checkpoint
from training.record import record
from training.robustness import CARD_TITLE, measure_robustness, robustness_table
from training.sources import DATA_HELP, read_data
from training.splits import read_split

REPORT = Path(__file__).with_suffix(".json")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", nargs="+", default=[str(DEFAULT_MODEL)])
    parser.add_argument("--data", default="elpv", help=f"{DATA_HELP} (default: elpv)")
    parser.add_argument("--record", action="store_true", help="also write the figures into each folder")
    parser.add_argument("--report", type=Path, default=REPORT)
    options = parser.parse_args()
    data, rows = read_data(options.data), []
    for model in options.model:
        folder = find_checkpoint(model)
        net, spec, info = load_checkpoint(model)
        test = read_split(folder / SPLIT)[TEST]
        found = measure_robustness(net, spec, data, test, lambda it, **more: tqdm(it, disable=None, **more))
        rows.append({"model": info.name, "revision": info.revision, **found})
        print(f"\n{info.name} {info.revision}: {robustness_table(found)}", flush=True)
        if options.record:
            record(folder, "robustness", found, (CARD_TITLE, robustness_table(found)))
    report = {
        "command": " ".join(["python benchmarks/robustness.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "models": rows,
    }
    write_json(options.report, report)


if __name__ == "__main__":
    try:
        main()
    except ChipDemoError as error:
        sys.exit(f"error: {error}")
