"""From the best weights of a run to its checkpoint: calibrated on validation, measured on test, written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from chipdemo.comparison import comparison_of
from chipdemo.splits import TEST, TRAIN, VAL
from chipdemo.vision.checkpoint import (
    CARD,
    METRICS,
    SPLIT,
    WEIGHTS,
    ModelSpec,
    curve_of,
    write_json,
)
from chipdemo.vision.model import ChipNet
from chipdemo.vision.weights import load_weights, save_checkpoint
from training.calibration import THRESHOLD, fit_calibration, fit_distance_limit, fit_heat_scale
from training.card import model_card
from training.comparison import Answers, compare_with, table
from training.divided import DividedImages
from training.in_use import InUse
from training.measure import draw, measure
from training.predict import Predictions, predict

NOT_PRINTED = ("split", "probabilities", "abnormal")


def write_checkpoint(
    folder: Path,
    net: ChipNet,
    spec: ModelSpec,
    images: DividedImages,
    starting_weights: str,
    training: dict[str, Any],
    in_use: InUse | None,
) -> None:
    """Everything of the checkpoint contract, and the pictures of the card.

    net: gets the weights as they are stored, rounded to half precision; they are what is calibrated and
    measured. training: what metrics.json says of the run. in_use: compared with it, if there is one.
    """
    device = next(net.parameters()).device
    net.ood.fit(torch.from_numpy(predict(net, images.pixels[TRAIN], spec).embedding).to(device))
    save_checkpoint(folder, net, spec)
    load_weights(net, folder / WEIGHTS)
    on_val = predict(net, images.pixels[VAL], spec)
    calibration = fit_calibration(on_val.log_odds, images.abnormal[VAL])
    with torch.no_grad():  # the offset becomes part of the log-odds
        net.head.bias += torch.tensor([-0.5, 0.5], device=device) * calibration.offset
    on_val = on_val._replace(log_odds=on_val.log_odds + calibration.offset)
    spec = calibrated(spec, calibration.temperature, on_val, images.abnormal[VAL])
    save_checkpoint(folder, net, spec)
    load_weights(net, folder / WEIGHTS)

    on_test = predict(net, images.pixels[TEST], spec)  # once, with everything chosen
    probabilities = {
        VAL: expit(on_val.log_odds / spec.temperature),
        TEST: expit(on_test.log_odds / spec.temperature),
    }
    draw(probabilities[TEST], images.abnormal[TEST], spec.threshold, images.title(TEST), folder)
    metrics = {
        "data": images.data.name,
        "data_license": images.data.license,
        "starting_weights": starting_weights,
        "image_side": images.side,
        "test": measured(images, TEST, probabilities[TEST], spec.threshold),
        "validation": measured(images, VAL, probabilities[VAL], spec.threshold),
        "training": training
        | {
            "division": images.division,
            "train_count": len(images.sha256[TRAIN]),
            "val_count": len(images.sha256[VAL]),
            "left_out": len(images.left_out),
        },
    }
    if in_use:
        answers = Answers(probabilities[TEST], spec.threshold)
        metrics["comparison"] = compare_with(in_use, answers, images)
    write_json(folder / METRICS, metrics)
    write_json(folder / SPLIT, images.to_json())
    (folder / CARD).write_text(model_card(spec, metrics), encoding="utf-8")
    shown = {name: value for name, value in metrics["test"].items() if name not in NOT_PRINTED}
    print(f"{metrics['test']['split']}: {json.dumps(shown)}", flush=True)
    print(curve_of(metrics["test"]).meaning(spec.threshold), flush=True)
    if in_use:
        print(table(metrics["comparison"]), comparison_of(metrics).text, sep="\n", flush=True)


def calibrated(spec: ModelSpec, temperature: float, on_val: Predictions, abnormal: np.ndarray) -> ModelSpec:
    """With temperature, threshold, heat scale and distance limit, which are chosen on validation.

    abnormal: (N,) bool, the truth.
    """
    passed = ~abnormal & (expit(on_val.log_odds / temperature) < THRESHOLD)
    passed = passed if passed.any() else ~abnormal
    return replace(
        spec,
        temperature=temperature,
        threshold=THRESHOLD,
        heat_scale=fit_heat_scale(on_val.highest_cam[passed]),
        distance_limit=fit_distance_limit(on_val.distance),
    )


def measured(
    images: DividedImages, split: str, probabilities: np.ndarray, threshold: float
) -> dict[str, Any]:
    """What metrics.json has of one split."""
    return {
        "split": images.title(split),
        **measure(probabilities, images.abnormal[split], threshold),
        "probabilities": [round(float(p), 5) for p in probabilities],
        "abnormal": images.abnormal[split].tolist(),
    }
