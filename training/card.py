"""The model card: what the model is, how good, on what, and under which licence."""

from typing import Any

from chipdemo.vision.checkpoint import ModelSpec

CARD = """---
license: {licence}
library_name: chipdemo
pipeline_tag: image-classification
tags:
- image-classification
- chip-inspection
- {backbone}
metrics:
- accuracy
- recall
- precision
- roc_auc
---

# {backbone}{with_attention} on {data}

Tells normal from abnormal photographs and shows where, for
Chip Inspector: `python app.py --model FOLDER_OR_HUB_ID`.

| {part} | |
|---|---|
| accuracy | {accuracy:.3f} |
| recall | {recall:.3f} |
| precision | {precision:.3f} |
| F1 | {f1:.3f} |
| AUROC | {auroc:.3f} |
| average precision | {average_precision:.3f} |
| expected calibration error | {expected_calibration_error:.3f} |

Threshold {threshold:.3f} and temperature {temperature:.3f} were chosen on the validation part;
this run measured the test part once, at its end, with the weights as stored here.

| {part} | judged normal | judged abnormal |
|---|---|---|
| normal | {tn} | {fp} |
| abnormal | {fn} | {tp} |

![ROC](roc.png) ![Precision and recall](precision_recall.png) ![Confusion](confusion.png)

- Starting weights: {starting_weights}
- Data: {data}; licence: {data_licence}. Trained on {train_count} photographs, validated on {val_count};
  `split.json` lists every photograph by the sha256 of its content.
- Command: `{command}`
- Photographs unlike the training photographs are marked as such; do not trust a verdict on them.
"""


def model_card(spec: ModelSpec, metrics: dict[str, Any]) -> str:
    """The README.md of a checkpoint, from its spec and its metrics.json."""
    test, training = metrics["test"], metrics["training"]
    (tn, fp), (fn, tp) = test["confusion"]
    return CARD.format(
        **{**test, "threshold": spec.threshold},
        tn=tn,
        fp=fp,
        fn=fn,
        tp=tp,
        backbone=spec.backbone,
        with_attention=" + CBAM" if spec.attention == "cbam" else "",
        temperature=spec.temperature,
        data=metrics["data"],
        data_licence=metrics["data_licence"] or "unknown",
        licence="cc-by-nc-sa-4.0" if "BY-NC-SA" in metrics["data_licence"].upper() else "other",
        starting_weights=metrics["starting_weights"],
        train_count=training["train_count"],
        val_count=training["val_count"],
        command=training["command"],
    )
