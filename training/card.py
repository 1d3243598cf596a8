"""The model card: what the model is, its metrics and on what data, and its license."""

import math
import re
from typing import Any

import numpy as np
from huggingface_hub import EvalResult, ModelCardData
from timm.models import get_pretrained_cfg

from chipdemo.comparison import comparison_of
from chipdemo.rates import Rate, auroc_interval
from chipdemo.threshold import OperatingPoint
from chipdemo.vision.backbone_weights import FROM_HUB
from chipdemo.vision.checkpoint import ModelSpec
from training.comparison import table
from training.record import with_section
from training.robustness import CARD_TITLE, robustness_table

# Our names and the Hub's of the metrics on the test split in the card's model-index
HUB_METRICS = {
    "accuracy": "accuracy",
    "recall": "recall",
    "precision": "precision",
    "f1": "f1",
    "auroc": "roc_auc",
    "average_precision": "average_precision",
}

CARD = """---
{front_matter}
---

# {title}

Classifies images of chips as normal or abnormal and shows where the defects are, in
Chip Inspector: `python app.py --model FOLDER_OR_HUB_ID`.

| {split} | | 95 % interval |
|---|---|---|
{rates}
| AUROC | {auroc:.3f} | {auroc_interval} |
| F1 | {f1:.3f} | |
| average precision | {average_precision:.3f} | |
| expected calibration error | {expected_calibration_error:.3f} | |

The probability was calibrated on the validation split (temperature {temperature:.3f}); the threshold is
{threshold:.3f}. The test split was measured once, at the end of the run, with the weights as stored here.

| {split} | predicted normal | predicted abnormal |
|---|---|---|
| normal | {tn} | {fp} |
| abnormal | {fn} | {tp} |

{comparison}![ROC](roc.png) ![Precision and recall](precision_recall.png) ![Confusion](confusion.png)

- Starting weights: {starting_weights}
- Data: {data}; license: {data_license}. Trained on {train_count} images, validated on {val_count}.
- Division into training, validation and test: {division}.
  `split.json` lists every image by the sha256 of its content.
- Command: `{command}`
- Images out of distribution are marked; do not trust the verdict on them.
"""


def model_card(spec: ModelSpec, metrics: dict[str, Any]) -> str:
    """The README.md of a checkpoint, from its spec and its metrics.json."""
    test, training = metrics["test"], metrics["training"]
    (tn, fp), (fn, tp) = test["confusion"]
    interval = auroc_interval(np.array(test["probabilities"]), np.array(test["abnormal"], bool))
    title = f"{spec.backbone}{' + CBAM' if spec.attention == 'cbam' else ''} on {metrics['data']}"
    card = CARD.format(
        **{**test, "threshold": spec.threshold},
        front_matter=front_matter(title, spec, metrics),
        title=title,
        rates=rate_rows(OperatingPoint(spec.threshold, Rate(tp, tp + fn), Rate(fp, fp + tn))),
        auroc_interval="{:.3f}–{:.3f}".format(*interval[1:]) if interval else "",
        tn=tn,
        fp=fp,
        fn=fn,
        tp=tp,
        temperature=spec.temperature,
        data=metrics["data"],
        data_license=metrics["data_license"] or "unknown",
        starting_weights=metrics["starting_weights"],
        train_count=training["train_count"],
        val_count=training["val_count"],
        division=training["division"],
        command=training["command"],
        comparison=_comparison(metrics),
    )
    robustness = metrics.get("robustness")
    return with_section(card, CARD_TITLE, robustness_table(robustness)) if robustness else card


def _comparison(metrics: dict[str, Any]) -> str:
    """The section on the model that was in use, as far as there was one."""
    found = comparison_of(metrics)
    if found is None:
        return ""
    left_out = metrics["comparison"]["left_out"]
    return (
        f"## Compared with {found.name} {found.revision}\n\nThis model is **{found.text}**. Both judged the "
        "same test images. `earlier`: those of the earlier model; `new`: those that came since. "
        f"{f'{left_out:,} that the earlier model was trained on are left out. ' if left_out else ''}"
        f"\n\n{table(metrics['comparison'])}\n\n"
    )


def rate_rows(point: OperatingPoint) -> str:
    """Rows of a Markdown table: accuracy, recall, false positive rate and precision with their intervals."""
    rates = {
        "accuracy": (point.accuracy, "images"),
        "recall": (point.recall, "abnormal images"),
        "false positive rate": (point.false_positive_rate, "normal images"),
        "precision": (point.precision, "flagged images"),
    }
    rows = []
    for name, (rate, images) in rates.items():
        low, high = rate.interval
        rows.append(f"| {name} | {rate.value:.3f}: {rate} {images} | {low:.3f}–{high:.3f} |")
    return "\n".join(rows)


def front_matter(title: str, spec: ModelSpec, metrics: dict[str, Any]) -> str:
    """The metadata that the Hub reads, as YAML: license, tags, base model, data, metrics on the test split.

    base_model and datasets are given only if they are on the Hub.
    """
    data, test = metrics["data"], metrics["test"]
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", data) is not None
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=data if on_hub else re.sub(r"\W+", "-", data.lower()),
            dataset_name=test["split"],
            dataset_split="test",
            metric_type=type_,
            metric_value=round(test[name], 4),
        )
        for name, type_ in HUB_METRICS.items()
        if math.isfinite(test[name])  # the Hub does not read YAML's .nan
    ]
    cfg = get_pretrained_cfg(spec.backbone)
    card = ModelCardData(
        license="cc-by-nc-sa-4.0" if "BY-NC-SA" in metrics["data_license"].upper() else "other",
        library_name="chipdemo",
        pipeline_tag="image-classification",
        tags=["image-classification", "chip-inspection", spec.backbone],
        base_model=cfg.hf_hub_id if cfg and metrics["starting_weights"] == FROM_HUB else None,
        datasets=[data] if on_hub else None,
        metrics=[result.metric_type for result in results],
        model_name=title,
        eval_results=results,
    )
    return card.to_yaml(original_order=["license"])
