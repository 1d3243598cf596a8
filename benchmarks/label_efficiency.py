"""How many labels a model needs: the queue's informative order against a random one, on ELPV.

    python benchmarks/label_efficiency.py

The images of elpv_split.json's train and validation splits are labeled in batches, in the order of
labeling/ranking.py or at random. After each batch a logistic regression is trained on fixed features and
evaluated on the test split. The features are the pooled ones of EfficientNet-Lite0 with ImageNet weights,
because a network trained on ELPV has seen the labels. Both orders begin with the same random batch. Writes
label_efficiency.json and label_efficiency.png.
"""

import argparse
import datetime
import json
import sys
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.labeling.queue import INFORMATIVE, RANDOM
from chipdemo.labeling.ranking import Scored, rank_scored, shorten
from chipdemo.vision.checkpoint import write_json

ROOT = Path(__file__).resolve().parent.parent
SPLIT = ROOT / "benchmarks" / "elpv_split.json"
REPORT = ROOT / "benchmarks" / "label_efficiency.json"
FEATURES = ROOT / "runs" / "label_efficiency" / "features.npz"
BATCH, MOST = 20, 1_000  # labels
SHOWN = (20, 60, 100, 200, 300, 400, 500, 700, 1_000)  # printed
C = 0.01  # of the logistic regression
THRESHOLD = 0.5


def features() -> dict[str, np.ndarray]:
    """Features (N, 1280) and labels (N,), abnormal or not, to choose from and to test on; computed once."""
    if not FEATURES.exists():
        from training.ablation.seeds import Run, deep_network, pixels_and_truth  # here: they bring torch
        from training.predict import predict

        run = Run("", "elpv", SPLIT, FEATURES.parent, None, "")
        net, spec, source = deep_network(run)
        splits = pixels_and_truth(run)
        found = {
            f"{name}_features": predict(net, pixels, spec).embedding for name, (pixels, _) in splits.items()
        }
        found |= {f"{name}_abnormal": abnormal for name, (_, abnormal) in splits.items()}
        FEATURES.parent.mkdir(parents=True, exist_ok=True)
        np.savez(FEATURES, source=source, **found)
    found = np.load(FEATURES)
    return {
        "source": str(found["source"]),
        "features": np.concatenate((found["train_features"], found["val_features"])),
        "abnormal": np.concatenate((found["train_abnormal"], found["val_abnormal"])),
        "test_features": found["test_features"],
        "test_abnormal": found["test_abnormal"],
    }


def fit(data: dict, labeled: np.ndarray):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1_000))
    return model.fit(data["features"][labeled], data["abnormal"][labeled])


def evaluate(data: dict, model) -> dict[str, float]:
    probability, abnormal = model.predict_proba(data["test_features"])[:, 1], data["test_abnormal"]
    return {
        "accuracy": float(((probability >= THRESHOLD) == abnormal).mean()),
        "auroc": float(roc_auc_score(abnormal, probability)),
    }


def most_informative(data: dict, model, labeled: np.ndarray) -> np.ndarray:
    """The images that the queue gives next: (BATCH,) rows."""
    count = len(data["abnormal"])
    consensus = [""] * count
    for row in labeled:
        consensus[row] = ABNORMAL if data["abnormal"][row] else NORMAL
    probability = model.predict_proba(data["features"])[:, 1]
    threshold = np.full(count, THRESHOLD)
    scored = Scored(
        np.arange(count), consensus, np.zeros(count), [""] * count, probability, threshold, data["embedding"]
    )
    priority, _ = rank_scored(scored)
    priority[labeled] = -1
    return np.argsort(-priority, kind="stable")[:BATCH]


def curve(data: dict, order: str, seed: int) -> list[dict[str, float]]:
    """The metrics of the model after each batch."""
    shuffled = np.random.default_rng(seed).permutation(len(data["abnormal"]))
    labeled, points = shuffled[:BATCH], []
    while True:
        model = fit(data, labeled)
        points.append({"labels": len(labeled), **evaluate(data, model)})
        if len(labeled) >= MOST:
            return points
        if order == INFORMATIVE:
            chosen = most_informative(data, model, labeled)
        else:
            chosen = shuffled[len(labeled) : len(labeled) + BATCH]
        labeled = np.concatenate((labeled, chosen))


def summarize(curves: dict[str, list]) -> dict:
    """By metric: mean and sd over the seeds of each order, and of their difference seed by seed."""
    summary = {"labels": [point["labels"] for point in curves[RANDOM][0]]}
    for metric in ("accuracy", "auroc"):
        values = {
            order: np.array([[point[metric] for point in one] for one in runs])
            for order, runs in curves.items()
        }
        values["difference"] = values[INFORMATIVE] - values[RANDOM]
        summary[metric] = {
            name: {"mean": runs.mean(0).round(4).tolist(), "sd": runs.std(0, ddof=1).round(4).tolist()}
            for name, runs in values.items()
        }
    return summary


def draw(summary: dict, all_labels: dict[str, float], split: str) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for ax, metric in zip(axes, ("accuracy", "auroc")):
        for order, color in ((INFORMATIVE, "tab:blue"), (RANDOM, "gray")):
            mean, sd = (np.array(summary[metric][order][name]) for name in ("mean", "sd"))
            ax.plot(summary["labels"], mean, color=color, label=f"{order} order")
            ax.fill_between(summary["labels"], mean - sd, mean + sd, color=color, alpha=0.2, lw=0)
        ax.axhline(all_labels[metric], color="black", lw=0.8, ls=":", label="all labels")
        ax.set(xlabel="labels", ylabel={"auroc": "AUROC"}.get(metric, metric))
    axes[0].legend(frameon=False)
    figure.suptitle(f"{split}; mean and standard deviation over the seeds", fontsize=9)
    figure.savefig(REPORT.with_suffix(".png"), dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    data = features()
    data["embedding"] = np.stack([shorten(one) for one in data["features"]])
    curves = {
        order: [curve(data, order, seed) for seed in range(options.seeds)] for order in (INFORMATIVE, RANDOM)
    }
    summary, all_labels = summarize(curves), evaluate(data, fit(data, np.arange(len(data["abnormal"]))))
    split = f"ELPV, test split, {len(data['test_abnormal'])} images"
    write_json(
        REPORT,
        {
            "command": " ".join(["python benchmarks/label_efficiency.py", *sys.argv[1:]]),
            "date": datetime.date.today().isoformat(),
            "split": split,
            "features": f"EfficientNet-Lite0, pooled, {data['source']}, not trained further",
            "model": f"logistic regression, C = {C}, threshold {THRESHOLD}",
            "batch": BATCH,
            "seeds": options.seeds,
            "all_labels": {"labels": len(data["abnormal"]), **all_labels},
            **summary,
        },
    )
    draw(summary, all_labels, split)
    for count in SHOWN:
        at = summary["labels"].index(count)
        print(
            count,
            json.dumps(
                {
                    metric: {
                        name: f"{one['mean'][at]:.3f} +- {one['sd'][at]:.3f}"
                        for name, one in summary[metric].items()
                    }
                    for metric in ("accuracy", "auroc")
                }
            ),
        )
    print("all", json.dumps(all_labels))


if __name__ == "__main__":
    main()
