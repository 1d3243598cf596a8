"""An ablation as a Markdown table and as charts."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sklearn import metrics
from sklearn.calibration import CalibrationDisplay

from chipdemo.ablation.format import METRICS, PUBLISHED, PUBLISHED_SOURCE, Ablation, Row
from chipdemo.inspection import CLASSES
from training.measure import operating_point

RECALL = 0.98  # of the operating point whose precision is given

matplotlib.use("Agg")  # no screen


def table(ablation: Ablation) -> str:
    """Markdown: the metrics of every row, and what paper 1 reports of its own data."""
    rows = pd.DataFrame([_cells(row, ablation.abnormal) for row in ablation.rows])
    theirs = pd.DataFrame(
        {
            "model": one.name,
            **{n: f"{getattr(one, n):.2f}" for n in ("accuracy", "recall", "precision")},
        }
        for one in PUBLISHED
    )
    data = ablation.data
    return (
        f"# {data.split}\n\n"
        f"Trained on {data.train:,} images; threshold and calibration chosen on {data.validation:,} others. "
        "Mean ± standard deviation over the seeds; in brackets, the 95 % bootstrap interval over the images. "
        f"License of the data: {data.license or 'unknown'}. "
        f"{ablation.date}, {ablation.machine}.\n\n"
        f"`{ablation.command}`\n\n{markdown_table(rows)}\n\n"
        f"## {PUBLISHED_SOURCE}\n\n{markdown_table(theirs)}\n"
    )


def _cells(row: Row, abnormal: np.ndarray) -> dict[str, str]:
    cells = {"model": row.name, "from": row.source, "seeds": str(len(row.seeds))}
    for name, shown in METRICS.items():
        one = row.summary[name]
        spread = "" if one.sd is None else f" ± {one.sd:.3f}"
        cells[shown] = f"{one.mean:.3f}{spread} [{one.low:.3f}, {one.high:.3f}]"
    (tn, fp), (fn, tp) = row.confusion
    cells["tn, fp, fn, tp"] = f"{tn:.0f}, {fp:.0f}, {fn:.0f}, {tp:.0f}"
    cells[f"precision at {RECALL:.0%} recall"] = f"{precision_at_recall(row, abnormal):.3f}"
    versus = row.versus_baseline
    cells["AUROC less the baseline's"] = (
        f"{versus.difference:+.3f} [{versus.low:+.3f}, {versus.high:+.3f}], p {versus.p:.3f}"
        if versus
        else ""
    )
    return cells | {
        "parameters": f"{row.parameters / 1e6:.2f} M",
        "MACs": f"{row.macs / 1e6:,.0f} M",
        "one, ms": f"{row.latency_ms:.1f}",
        "32, a second": f"{row.throughput:.0f}",
        "training, min": f"{row.training_seconds / 60:.1f}",
        "starting weights": row.starting_weights,
    }


def precision_at_recall(row: Row, abnormal: np.ndarray) -> float:
    """The precision at the threshold with this recall on the same images; mean over the seeds, 0-1."""
    return float(
        np.mean(
            [operating_point(np.array(s.probabilities), abnormal, RECALL).precision.value for s in row.seeds]
        )
    )


def markdown_table(rows: pd.DataFrame) -> str:
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def draw(ablation: Ablation, folder: Path) -> None:
    """Write latency.png, roc.png, reliability.png and confusion.png."""
    abnormal = ablation.abnormal
    figure, ax = plt.subplots(figsize=(7, 5), layout="constrained")
    for row in ablation.rows:
        accuracy = row.summary["accuracy"]
        ax.errorbar(row.latency_ms, accuracy.mean, yerr=accuracy.sd or 0, fmt="o", capsize=3)
        ax.annotate(row.name, (row.latency_ms, accuracy.mean), (5, 4), textcoords="offset points", fontsize=7)
    ax.set(xscale="log", xlabel="one image, ms", ylabel="accuracy", title=ablation.data.split)
    _save(figure, folder / "latency.png")

    figure, ax = plt.subplots(figsize=(7, 6), layout="constrained")
    for row in ablation.rows:
        metrics.RocCurveDisplay.from_predictions(abnormal, row.probabilities, name=row.name, ax=ax)
    ax.set_title(ablation.data.split)
    ax.legend(fontsize=7)
    _save(figure, folder / "roc.png")

    figure, ax = plt.subplots(figsize=(7, 6), layout="constrained")
    for row in ablation.rows:
        CalibrationDisplay.from_predictions(abnormal, row.probabilities, name=row.name, ax=ax)
    ax.set_title(ablation.data.split)
    ax.legend(fontsize=7)
    _save(figure, folder / "reliability.png")

    columns = 4
    figure, axes = plt.subplots(
        -(-len(ablation.rows) // columns),
        columns,
        figsize=(11, 2.9 * -(-len(ablation.rows) // columns)),
        layout="constrained",
        squeeze=False,
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for row, ax in zip(ablation.rows, axes.flat):
        ax.set_axis_on()
        shown = metrics.ConfusionMatrixDisplay(
            np.round(row.confusion).astype(int), display_labels=list(CLASSES)
        )
        shown.plot(cmap="Grays", colorbar=False, ax=ax)
        ax.set_title(row.name, fontsize=9)
    _save(figure, folder / "confusion.png")


def _save(figure, path: Path) -> None:
    figure.savefig(path, dpi=120)
    plt.close(figure)
