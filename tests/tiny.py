"""A tiny real model and tiny images, for tests that need a network but no accuracy."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from chipdemo.vision.checkpoint import METRICS, SPLIT, ModelSpec, write_json
from chipdemo.vision.model import ChipNet
from chipdemo.vision.weights import save_checkpoint

BACKBONE = "test_efficientnet"
SPEC = ModelSpec(
    backbone=BACKBONE, stages=2, image_size=64, heat_scale=0.5, threshold=0.4, distance_limit=50.0
)
METRICS_JSON = {
    "data": "drawn chips",
    "data_license": "CC0",
    "starting_weights": "none (random)",
    "test": {"split": "drawn chips, test, 2 images", "accuracy": 1.0},
    "validation": {
        "split": "drawn chips, validation, 4 images",
        "probabilities": [0.1, 0.3, 0.6, 0.9],
        "abnormal": [False, False, True, True],
    },
}


def tiny_net(spec: ModelSpec = SPEC) -> ChipNet:
    """Random weights, the same every time, with embeddings fitted on noise."""
    torch.manual_seed(0)
    net = spec.build().eval()
    torch.nn.init.normal_(net.head.weight)
    net.ood.fit(torch.randn(100, net.head.in_features))
    return net


def tiny_checkpoint(folder: Path, spec: ModelSpec = SPEC, comparison: dict | None = None) -> Path:
    """A complete checkpoint folder. comparison: as in metrics.json, with an earlier model."""
    save_checkpoint(folder, tiny_net(spec), spec)
    write_json(folder / METRICS, METRICS_JSON | ({"comparison": comparison} if comparison else {}))
    write_json(folder / SPLIT, {"train": [], "val": [], "test": []})
    return folder


def compared(verdict: str, revision: str = "0" * 12, earlier_refused: bool = False) -> dict:
    """A comparison with an earlier revision, as in metrics.json."""
    reasons = ["AUROC on new test images from 0.950 to 0.900"] if verdict != "not distinguishable" else []
    return {
        "name": "chips",
        "revision": revision,
        "verdict": verdict,
        "reasons": reasons,
        "earlier_refused": earlier_refused,
    }


def draw_chip(seed: int, abnormal: bool = False, size: int = 64) -> Image.Image:
    """A gray chip with noise; an abnormal one has a dark crack."""
    generator = np.random.default_rng(seed)
    image = Image.fromarray(generator.integers(120, 160, (size, size, 3), np.uint8))
    if abnormal:
        start, end = generator.integers(4, size - 4, (2, 2))
        ImageDraw.Draw(image).line((*start, *end), fill="black", width=5)
    return image


def draw_chips(folder: Path, normal: int, abnormal: int, first: int = 0) -> Path:
    """A data folder with normal/ and abnormal/crack/. first: seed of the drawings."""
    for name, count in (("normal", normal), ("abnormal/crack", abnormal)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            seed = first + index + 1000 * (name != "normal")
            draw_chip(seed, name != "normal").save(folder / name / f"{index}.png")
    return folder
