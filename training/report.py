"""The report of an evaluation as a page of Markdown."""

from typing import Any

PAGE = """# {model[name]} on {data[name]}

{data[part]}; data licence: {licence}. Model revision {model[revision]}, threshold {model[threshold]:.3f};
{date}. In brackets: 95 % of what other photographs of the same kind, as many as these, would give.

| metric | |
|---|---|
{metrics}

| photographs | judged normal | judged abnormal |
|---|---|---|
| normal | {tn:,} | {fp:,} |
| abnormal | {fn:,} | {tp:,} |

{fp:,} of {normal:,} normal photographs were stopped ({false_alarm_rate:.1%}).

| defect type | photographs | caught | recall |
|---|---|---|---|
{types}

- To catch {recall_98[recall]:.1%} of these defects the threshold would be {recall_98[threshold]:.3f}:
  precision {recall_98[precision]:.3f}, {recall_98[false_alarm_rate]:.1%} of the normal photographs stopped.
- {unlike_training:,} of {count:,} are unlike the training photographs; do not trust a verdict on them.
- Of the photographs asked for, the model was trained on {learnt[train]:,} and calibrated on {learnt[val]:,};
  {these}.
- One photograph takes {latency_ms[median]:.1f} ms, decoded, to verdict and heat map (median of
  {latency_ms[photographs]}; 95 % within {latency_ms[95_percent_within]:.1f} ms; {latency_ms[device]}).

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
    metrics, interval, learnt = report["metrics"], report["interval_95"], report["learnt"]
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
    listed = [f"{len(left_out):,} photographs were left out, {len(unreadable):,} of them unreadable:", ""]
    listed += [f"- {line}" for line in left_out]
    filled = {
        "licence": report["data"]["licence"] or "unknown",
        "metrics": "\n".join(rows),
        "types": "\n".join(types),
        "false_alarm_rate": fp / (tn + fp),
        "these": "these are not in the figures" if learnt["left_out"] else "the figures count these too",
        "left_out": "\n".join(listed if left_out else ["Every photograph could be read."]),
        "count": metrics["count"],
    }
    return PAGE.format(**(report | filled), tn=tn, fp=fp, fn=fn, tp=tp, normal=tn + fp) + "\n"
