"""The report of an evaluation as a page of Markdown."""

from typing import Any

PAGE = """# {model[name]} on {data[name]}

{data[split]}; data license: {license}. Model revision {model[revision]}, threshold {model[threshold]:.3f};
{date}. In brackets: 95 % of what other images of the same kind, as many as these, would give.

| metric | |
|---|---|
{metrics}

| images | judged normal | judged abnormal |
|---|---|---|
| normal | {tn:,} | {fp:,} |
| abnormal | {fn:,} | {tp:,} |

{fp:,} of {normal:,} normal images were stopped ({false_positive_rate:.1%}).

| defect type | images | caught | recall |
|---|---|---|---|
{types}

- To catch {recall_98[recall]:.1%} of these defects the threshold would be {recall_98[threshold]:.3f}:
  precision {recall_98[precision]:.3f}, {recall_98[false_positive_rate]:.1%} of the normal images stopped.
- {out_of_distribution:,} of {count:,} are out of distribution; do not trust a verdict on them.
- Of the images asked for, the model was trained on {learned[train]:,} and calibrated on {learned[val]:,};
  {these}.
- One image takes {latency_ms[median]:.1f} ms, decoded, to verdict and heat map (median of
  {latency_ms[images]}; 95 % within {latency_ms[95_percent_within]:.1f} ms; {latency_ms[device]}).

![Confusion](confusion.png) ![ROC](roc.png) ![Precision and recall](precision_recall.png)
![Reliability](reliability.png)

{left_out}"""

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
    metrics, interval, learned = report["metrics"], report["interval_95"], report["learned"]
    (tn, fp), (fn, tp) = metrics["confusion"]
    rows = [
        f"| {name} | {metrics[key]:.3f} ({interval[key][0]:.3f}-{interval[key][1]:.3f}) |"
        for key, name in NAMES.items()
    ]
    types = [
        f"| {name} | {n['count']:,} | {n['caught']:,} | {n['caught'] / n['count']:.1%} |"
        for name, n in report["defect_types"].items()
    ]
    unreadable, left_out = report["unreadable"], report["left_out"]
    listed = [f"{len(left_out):,} images were left out, {len(unreadable):,} of them unreadable:", ""]
    listed += [f"- {line}" for line in left_out]
    filled = {
        "license": report["data"]["license"] or "unknown",
        "metrics": "\n".join(rows),
        "types": "\n".join(types),
        "false_positive_rate": fp / (tn + fp),
        "these": "these are not in the figures" if learned["left_out"] else "the figures count these too",
        "left_out": "\n".join(listed if left_out else ["Every image could be read."]),
        "count": metrics["count"],
    }
    return PAGE.format(**(report | filled), tn=tn, fp=fp, fn=fn, tp=tp, normal=tn + fp) + "\n"
