"""The ablation on a second, small dataset: MVTec AD's transistors, cross-validated.

    python benchmarks/transistor.py --data FOLDER

FOLDER is mvtec_anomaly_detection/transistor (Bergmann et al., CVPR 2019; CC BY-NC-SA 4.0): 273
good transistors and 40 with four kinds of defect, so few that each fifth of them is the test part
once. Trains the rows of training/ablate.py in every fold and writes transistor.json and
transistor.md. Flags it does not know go to training/ablate.py; finished rows are kept.
"""

import argparse
import datetime
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from chipdemo.ablation.format import METRICS, Row, read_ablation
from chipdemo.vision.checkpoint import write_json
from chipdemo.vision.transforms import pixels_of
from training import ablate
from training.ablation.tables import markdown_table
from training.data import load_images
from training.sources import read_data

ROOT = Path(__file__).resolve().parent.parent
FOLDS = 5
VALIDATION = 5  # one in so many of the images that do not judge


def folds(data: str) -> list[dict[str, list[str]]]:
    """Five divisions by content, stratified by kind of defect; every image judges once."""
    images = load_images(read_data(data), partial(pixels_of, size=8, interpolation="bilinear"))
    order = np.argsort(images.sha256)
    sha256 = np.array(images.sha256)[order]
    strata = np.array([sample.stratum for sample in images.samples])[order]
    divisions = []
    for learning, test in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(sha256, strata):
        inner = StratifiedKFold(VALIDATION, shuffle=True, random_state=0).split(
            sha256[learning], strata[learning]
        )
        train, val = next(inner)
        divisions.append(
            {
                "train": sha256[learning[train]].tolist(),
                "val": sha256[learning[val]].tolist(),
                "test": sha256[test].tolist(),
            }
        )
    return divisions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "transistor")
    options, flags = parser.parse_known_args()
    ablations = []
    for number, division in enumerate(folds(options.data)):
        out = options.runs / f"fold{number}"
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "division.json", division)
        given = {"data": options.data, "split": out / "division.json", "out": out, "seeds": 1}
        ablate.main([word for name, value in given.items() for word in (f"--{name}", str(value))] + flags)
        ablations.append(read_ablation(out / "ablation.json"))
    rows = [
        over_folds([next(row for row in one.rows if row.id == first.id) for one in ablations])
        for first in ablations[0].rows
    ]
    report = {
        "command": " ".join(["python benchmarks/transistor.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": ablations[0].machine,
        "data": "MVTec AD, transistor (CC BY-NC-SA 4.0, non-commercial)",
        "folds": FOLDS,
        "rows": rows,
    }
    write_json(ROOT / "benchmarks" / "transistor.json", report)
    (ROOT / "benchmarks" / "transistor.md").write_text(
        f"# Transistors of MVTec AD, cross-validated\n\n{report['data']}: 273 normal and 40 abnormal "
        f"images, each judged once, in {FOLDS} folds. Mean ± standard deviation over the folds; tn, fp, "
        f"fn and tp are sums. {report['date']}, {report['machine']}.\n\n`{report['command']}`\n\n"
        + markdown_table(pd.DataFrame([cells(row) for row in rows]))
        + "\n",
        encoding="utf-8",
    )


def over_folds(rows: list[Row]) -> dict:
    """One system, from its row in every fold."""
    seeds = [row.seeds[0] for row in rows]
    values = {name: [seed.metrics[name] for seed in seeds] for name in METRICS}
    return {
        "model": rows[0].name,
        "starting_weights": rows[0].starting_weights,
        "metrics": {
            n: {"mean": float(np.mean(v)), "sd": float(np.std(v, ddof=1))} for n, v in values.items()
        },
        "confusion": np.sum([seed.confusion for seed in seeds], 0).tolist(),
    }


def cells(row: dict) -> dict[str, str]:
    figures = {METRICS[n]: f"{one['mean']:.3f} ± {one['sd']:.3f}" for n, one in row["metrics"].items()}
    (tn, fp), (fn, tp) = row["confusion"]
    counts = {"tn, fp, fn, tp": f"{tn}, {fp}, {fn}, {tp}"}
    return {"model": row["model"]} | figures | counts | {"starting weights": row["starting_weights"]}


if __name__ == "__main__":
    main()
