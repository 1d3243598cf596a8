"""How often training/comparison.py is wrong, by simulation.

    python benchmarks/comparison_rule.py

Two models judge the same test images, a third of them abnormal. Their scores are normal, with an AUROC of
0.92 for the first, less for the second, and a correlation of 0.9 within a class, as if one had started from
the other. Each has the threshold of its best accuracy. Writes comparison_rule.json.
"""

import argparse
import datetime
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.stats import norm
from tqdm import tqdm

from chipdemo.comparison import VERDICTS
from chipdemo.vision.checkpoint import write_json
from training.comparison import MARGIN, PROBABLE, Answers, compare

REPORT = Path(__file__).resolve().with_suffix(".json")
AUROC, CORRELATION = 0.92, 0.9
DROPS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)  # of the AUROC
COUNTS = (6, 19, 75, 180, 656)  # test images
RESAMPLES = 200


def pair(generator: np.random.Generator, abnormal: np.ndarray, drop: float) -> tuple[Answers, Answers]:
    shared = np.sqrt(CORRELATION) * generator.normal(size=len(abnormal))
    answers = []
    for auroc in (AUROC, AUROC - drop):
        distance = np.sqrt(2) * norm.ppf(auroc)  # between the means of the classes
        own = np.sqrt(1 - CORRELATION) * generator.normal(size=len(abnormal))
        best = distance / 2 + np.log(2) / distance  # with twice as many normal images
        answers.append(Answers(shared + own + distance * abnormal, best))
    return tuple(answers)


def verdicts(count: int, drop: float, times: int) -> dict[str, float]:
    """The share of each verdict."""
    generator, abnormal = np.random.default_rng(0), np.arange(count) < count // 3
    none = np.zeros(count, bool)
    found = Counter(
        compare(*pair(generator, abnormal, drop), abnormal, none, RESAMPLES)["verdict"] for _ in range(times)
    )
    return {verdict: found[verdict] / times for verdict in VERDICTS}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=200, help="pairs of models for each case")
    options = parser.parse_args()
    rows = [
        {"test_images": count, "drop": drop, **verdicts(count, drop, options.times)}
        for count in tqdm(COUNTS, disable=None)
        for drop in DROPS
    ]
    for row in rows:
        print(row, flush=True)
    report = {
        "command": "python benchmarks/comparison_rule.py",
        "date": datetime.date.today().isoformat(),
        "margin": MARGIN,
        "probable": PROBABLE,
        "auroc": AUROC,
        "correlation": CORRELATION,
        "times": options.times,
        "rows": rows,
    }
    write_json(REPORT, report)


if __name__ == "__main__":
    main()
