"""The report of an evaluation in Markdown."""

from typing import Any

from chipdemo.rates import Rate
from chipdemo.threshold import OperatingPoint
from training.robustness import robustness_table

PAGE = """# {model[name]} on {data[name]}

{data[split]}; data license: {license}. Model revision {model[revision]}, threshold {model[threshold]:.3f};
{date}. In brackets after a metric: 95 % bootstrap interval over the images, or over their groups.

| metric | |
|---|---|
{metrics}

| images | predicted normal | predicted abnormal |
|---|---|---|
| normal | {tn:,} | {fp:,} |
| abnormal | {fn:,} | {tp:,} |

False positives: {false_positives}.

| defect type | detected | recall |
|---|---|---|
{types}

- At threshold {recall_98[threshold]:.3f}, chosen on these images, {detected_98} are detected and
  {flagged_98} are flagged. Abnormal are {precision_98}.
- {out_of_distribution:,} of {count:,} images are out of distribution; do not trust the verdicts on them.
- The model was trained on {seen[train]:,} of the given images and calibrated on {seen[val]:,}, and
  {seen[same_group]:,} others are in a group with one of them; {these}.
- From decoded image to verdict and heat map: {latency_ms[median]:.1f} ms (median of
  {latency_ms[images]} images; 95 % within {latency_ms[95_percent_within]:.1f} ms; {latency_ms[device]}).

![Confusion](confusion.png) ![ROC](roc.png) ![Precision and recall](precision_recall.png)
![Reliability](reliability.png)

{robustness}{left_out}"""

NAMES = {
    "accuracy": "accuracy",
    "recall": "recall",
    "precision": "precision",
    "f1": "F1",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "expected_calibration_error": "expected calibration error",
}


def markdown(report: dict[str, Any]) -> str:
    """report: what evaluate() writes as report.json."""
    metrics, interval, seen = report["metrics"], report["interval_95"], report["seen"]
    (tn, fp), (fn, tp) = metrics["confusion"]
    rows = [
        f"| {name} | {metrics[key]:.3f} ({interval[key][0]:.3f}-{interval[key][1]:.3f}) |"
        for key, name in NAMES.items()
    ]
    types = [
        f"| {name} | {(rate := Rate(n['detected'], n['count']))} | {rate.uncertainty} |"
        for name, n in report["defect_types"].items()
    ]
    threshold, recall, false_positives = report["recall_98"].values()
    point = OperatingPoint(threshold, Rate(**recall), Rate(**false_positives))
    unreadable, left_out = report["unreadable"], report["left_out"]
    robustness = report.get("robustness")
    listed = [f"{len(left_out):,} images were left out, {len(unreadable):,} of them unreadable:", ""]
    listed += [f"- {line}" for line in left_out]
    filled = {
        "license": report["data"]["license"] or "unknown",
        "metrics": "\n".join(rows),
        "types": "\n".join(types),
        "false_positives": Rate(fp, tn + fp).of("normal images"),
        "detected_98": point.recall.of("abnormal images"),
        "flagged_98": point.false_positive_rate.of("normal images"),
        "precision_98": point.precision.of("flagged images"),
        "these": "these are left out" if seen["left_out"] else "these are included",
        "robustness": f"{robustness_table(robustness)}\n\n" if robustness else "",
        "left_out": "\n".join(listed if left_out else ["No image was left out."]),
        "count": metrics["count"],
    }
    return PAGE.format(**(report | filled), tn=tn, fp=fp, fn=fn, tp=tp) + "\n"
