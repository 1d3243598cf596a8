"""A small ablation for tests: three models, two seeds each, on six images that do not exist."""

import json
from typing import Any

from chipdemo.ablation.format import METRICS, Ablation, ablation_of

ABNORMAL = [False, False, False, True, True, True]
SURE = [0.1, 0.2, 0.3, 0.7, 0.8, 0.9]  # every image right
UNSURE = [0.1, 0.6, 0.3, 0.2, 0.8, 0.9]  # images 1 and 3 wrong


def ablation_json(**changes: Any) -> dict[str, Any]:
    """The content of an ablation.json. changes: other values of its keys."""
    difference = {
        "metric": "accuracy",
        "difference": 0.333,
        "low": 0.02,
        "high": 0.61,
        "p": 0.031,
        "test": "paired",
    }
    content = {
        "format": 2,
        "command": "python training/ablate.py --seeds 2",
        "date": "2026-11-21",
        "machine": "2 cores of an imagined machine",
        "data": {
            "name": "drawn chips",
            "license": "CC0",
            "split": "drawn chips, test split, 6 images",
            "train": 20,
            "validation": 4,
            "test": 6,
        },
        "images": {
            "sha256": [f"{index:064x}" for index in range(6)],
            "abnormal": ABNORMAL,
            "file": [f"chip{index}.png" for index in range(6)],
        },
        "rows": [
            row_json(
                "plain-cbam",
                "Plain + CBAM",
                SURE,
                0.95,
                baseline="plain",
                versus_baseline=difference,
                latency_ms=12.0,
            ),
            row_json("plain", "Plain", UNSURE, 0.667, latency_ms=10.0),
            row_json("svm", "SVM", UNSURE, 0.6, latency_ms=2.0),
        ],
    }
    return json.loads(json.dumps(content | changes))  # nothing in it is shared


def row_json(
    id: str, name: str, probabilities: list[float], accuracy: float, **changes: Any
) -> dict[str, Any]:
    """A row. accuracy: stands for every metric."""
    flagged = [p >= 0.5 for p in probabilities]
    confusion = [
        [sum(t == truth and s == verdict for t, s in zip(ABNORMAL, flagged)) for verdict in (False, True)]
        for truth in (False, True)
    ]
    seed = {
        "threshold": 0.5,
        "probabilities": probabilities,
        "metrics": dict.fromkeys(METRICS, accuracy),
        "confusion": confusion,
    }
    summary = {"mean": accuracy, "sd": 0.01, "low": accuracy - 0.05, "high": accuracy + 0.05}
    return {
        "id": id,
        "name": name,
        "source": "an imagined paper",
        "baseline": None,
        "starting_weights": "none (random)",
        "precision": "float32",
        "parameters": 1_200_000,
        "macs": 350_000_000,
        "latency_ms": 10.0,
        "throughput": 120.0,
        "training_seconds": 90.0,
        "checkpoint": "",
        "seeds": [{"seed": number, **seed} for number in (0, 1)],
        "summary": {metric: dict(summary) for metric in METRICS},
        "versus_baseline": None,
    } | changes


def small_ablation(**changes: Any) -> Ablation:
    return ablation_of(ablation_json(**changes))
