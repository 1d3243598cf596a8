"""A fit -> a checkpoint folder: a model of its own, or a classifier's copy with a memory bank."""

import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from chipdemo.teaching import FALSE_POSITIVE_RATE
from chipdemo.threshold import promised
from chipdemo.vision.anomaly.anomaly_model import (
    AnomalyModel,
    NormalLimits,
    save_anomaly_model,
    weights_sha256,
)
from chipdemo.vision.anomaly.features import Backbone, ImageFeatures
from chipdemo.vision.anomaly.fitting import NO_DEFECTS, TYPICAL, Fit, limits_of, scores_of
from chipdemo.vision.checkpoint import CARD, FILES, METRICS, SPLIT, curve_of, read_json, write_json
from chipdemo.vision.output import replacing
from chipdemo.vision.runtimes.export import write_graph
from chipdemo.vision.weights import save_checkpoint

CARD_TEXT = """---
license: other
library_name: chipdemo
pipeline_tag: image-classification
tags: [image-classification, chip-inspection, anomaly-detection]
---

# {data}, from {images:,} good images

Tells normal from abnormal images and shows where, for Chip Inspector:
`python app.py --model FOLDER_OR_HUB_ID`. It was taught from good images alone: each patch of an image is
compared with a memory bank of {patches:,} patches of good images, and a patch without a match is abnormal.
{compared} {further}

- Threshold: a false positive rate of {false_positive_rate_wanted:.1%} was asked for. Each held out,
  {flagged} would be flagged. Of new ones, {promised} are, with 90 % confidence.{detected}
- The probability is a scale of the anomaly score: 0.5 is the threshold, {typical:g} the median good image.
- Features: intermediate layers of {backbone}; weights: {starting_weights}
- {copies}
"""
MEMORY_TITLE = "\n## Memory bank of normal images\n"
MEMORY_TEXT = (
    MEMORY_TITLE
    + """
"Inverse matching" compares an image with {images:,} good images and shows what none of them has.
The verdict is still that of the classifier. {copies}
"""
)
COPIES = {
    True: "`memory.safetensors` holds small copies of the good images.",
    False: "The files hold no copies of the images.",
}
NOT_STATED = "license not stated"


def save_taught(
    folder: Path,
    backbone: Backbone,
    fitted: Fit,
    name: str,
    false_positive_rate: float = FALSE_POSITIVE_RATE,
    defects: ImageFeatures | None = None,
    keep_images: bool = True,
    alignment: str = "",
    license: str = NOT_STATED,
) -> None:
    """Write the checkpoint of a model that judges by its memory bank, or nothing. Raises DataError.

    name: of the chip. defects: known ones, if any. keep_images: small copies of the good images, for
    Compare with normal images; whoever gets the folder can see them. alignment: sentences on how the parts
    are compared, for the model card. license: of the images.
    """
    scores = scores_of(fitted.bank, defects) if defects else NO_DEFECTS
    limits = limits_of(fitted.independent, fitted.highest, false_positive_rate, scores)
    metrics = _metrics(name, backbone, fitted, limits, false_positive_rate, scores, alignment, license)
    split = {
        "train": list(fitted.features.sha256),
        "val": list(defects.sha256) if defects else [],
        "test": [],
    }
    with replacing(folder, FILES) as new:
        save_checkpoint(new, backbone.net, replace(backbone.spec, threshold=0.5))
        save_anomaly_model(new, _anomaly_model(fitted, limits, weights_sha256(new), keep_images))
        write_json(new / METRICS, metrics)
        write_json(new / SPLIT, split)
        (new / CARD).write_text(card_of(metrics, keep_images), encoding="utf-8")
        write_graph(new)


def save_with_memory_bank(out: Path, classifier: Path, fitted: Fit, keep_images: bool = True) -> None:
    """Write a copy of a classifier with a memory bank: inverse matching joins its explanations.

    Its verdict, threshold and figures stay its own. classifier: its checkpoint, which is not changed.
    fitted: with trained_backbone(classifier). Raises DataError and then writes nothing.
    """
    # A card may show pictures
    copied = [path for path in classifier.iterdir() if path.name in FILES or path.suffix == ".png"]
    with replacing(out, [*FILES, *(path.name for path in copied)]) as new:
        for path in copied:
            shutil.copyfile(path, new / path.name)
        add_memory_bank(new, fitted, keep_images)
        write_graph(new)


def add_memory_bank(folder: Path, fitted: Fit, keep_images: bool = True) -> None:
    """The same in the folder of the classifier itself."""
    split = read_json(folder / SPLIT)
    known = {sha256 for images in split.values() for sha256 in images}
    new_images = [sha256 for sha256 in fitted.features.sha256 if sha256 not in known]
    split["train"] = [*split.get("train", ()), *new_images]
    limits = limits_of(fitted.independent, fitted.highest, FALSE_POSITIVE_RATE)
    model = _anomaly_model(fitted, limits, weights_sha256(folder), keep_images)
    save_anomaly_model(folder, model)
    write_json(folder / SPLIT, split)
    describe_memory_bank(folder, model)


def describe_memory_bank(folder: Path, model: AnomalyModel) -> None:
    """Its section of the model card, at the end."""
    card = folder / CARD
    text = card.read_text(encoding="utf-8") if card.exists() else ""
    about = MEMORY_TEXT.format(images=len(model.images), copies=COPIES[bool(model.thumbnails)])
    card.write_text(text.partition(MEMORY_TITLE)[0] + about, encoding="utf-8")


def _anomaly_model(fitted: Fit, limits: NormalLimits, weights: str, keep_images: bool) -> AnomalyModel:
    """weights: sha256 of the model.safetensors that the features are of."""
    features = fitted.features
    thumbnails = features.thumbnails if keep_images else ()
    return AnomalyModel(
        **vars(fitted.bank),
        limits=limits,
        head=None,
        images=features.sha256,
        thumbnails=thumbnails,
        weights_sha256=weights,
    )


def _metrics(
    name: str,
    backbone: Backbone,
    fitted: Fit,
    limits: NormalLimits,
    false_positive_rate: float,
    defects: np.ndarray,
    alignment: str,
    license: str,
) -> dict[str, Any]:
    features = fitted.features
    descriptor = asdict(fitted.bank.descriptor)
    return {
        "data": name,
        "data_license": license,
        "starting_weights": backbone.starting_weights,
        "image_side": round(float(np.median([math.sqrt(w * h) for w, h in features.sizes]))),
        "test": {"split": f"{name}, no test images"},
        "validation": validation_of(name, fitted.independent, defects, limits),
        "teaching": {
            "images": len(features.names),
            "patches": len(fitted.bank.memory_bank.features),
            "false_positive_rate_wanted": false_positive_rate,
            "unusable": len(features.unusable),
            "backbone": backbone.spec.backbone,
            "alignment": fitted.bank.alignment.kind,
            "compared": alignment or f"Alignment: {fitted.bank.alignment.kind}.",
            "further": "",
            "descriptor": {k: v for k, v in descriptor.items() if v != math.inf},
        },
    }


def validation_of(name: str, good: np.ndarray, defects: np.ndarray, limits: NormalLimits) -> dict[str, Any]:
    """What metrics.json says of held-out images that differ; near-duplicates would promise too much.

    good, defects: (G,) and (K,) scores.
    """
    scores = np.concatenate((good, defects))
    probabilities = 1 / (1 + np.exp(-(scores - limits.score) / limits.spread))
    flagged, goods = probabilities >= 0.5, len(good)
    known = f", {len(defects):,} known defects" if len(defects) else ""
    return {
        "split": f"{name}, {goods:,} good images, each held out{known}",
        "false_positive_rate": float(flagged[:goods].mean()),
        **({"recall": float(flagged[goods:].mean())} if len(defects) else {}),
        "probabilities": [round(float(p), 5) for p in probabilities],
        "abnormal": [False] * goods + [True] * len(defects),
    }


def card_of(metrics: dict[str, Any], keep_images: bool) -> str:
    """The model card of a model that judges by its memory bank, from its metrics.json."""
    point = curve_of(metrics["validation"]).at(0.5)
    detected = f" Detected are {point.recall.of('known defects')}." if point.recall.total else ""
    return CARD_TEXT.format(
        data=metrics["data"],
        starting_weights=metrics["starting_weights"],
        **metrics["teaching"],
        flagged=point.false_positive_rate.of("good images"),
        promised=f"at most {100 * promised(point.false_positive_rate):.1f} %",
        detected=detected,
        typical=TYPICAL,
        copies=COPIES[keep_images],
    )
