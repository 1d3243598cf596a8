"""benchmarks/loop.py on drawn chips: the whole loop, by its own commands."""

import argparse
import json
from contextlib import redirect_stdout
from io import StringIO

import pytest

from benchmarks import loop
from benchmarks.loop import Cells, benchmark, cells, summary_of
from chipdemo.__main__ import main
from chipdemo.labeling.queue import INFORMATIVE, RANDOM
from tests.tiny import BACKBONE, draw_chip
from training.data import Sample
from training.options import parse
from training.train import train

FLAGS = f"--backbone {BACKBONE} --init none --image-size 64 --freeze 0 --epochs 2 --batch-size 8 --linear off"


@pytest.fixture
def drawn(tmp_path) -> Cells:
    """Small chips as one kind, and brighter ones as the other."""
    samples = []
    for kind, first in (("mono", 0), ("poly", 3000)):
        for label in ("normal", "abnormal"):
            for seed in range(first, first + 48):
                chip = draw_chip(seed + 1000 * (label == "abnormal"), label == "abnormal")
                path = tmp_path / "cells" / f"{kind}-{label}-{seed}.png"
                path.parent.mkdir(exist_ok=True)
                (chip if kind == "mono" else chip.point(lambda value: value + 60)).save(path)
                samples.append(Sample(path, label, float(label == "abnormal"), f"{label}, {kind}"))
    return cells(samples, {sample.path.name for sample in samples[::3]})


def test_cells_are_divided_by_kind_and_by_name(drawn):
    assert {kind: len(found) for kind, found in drawn.learning.items()} == {"mono": 64, "poly": 64}
    assert {kind: len(found) for kind, found in drawn.held_out.items()} == {"mono": 32, "poly": 32}
    assert len(drawn.truth) == 64 and set(drawn.truth.values()) == {"normal", "abnormal"}


@pytest.fixture
def in_process(monkeypatch):
    """The commands run in this process, which has imported everything."""

    def run(command, folder, environment) -> str:
        printed = StringIO()
        with monkeypatch.context() as patch, redirect_stdout(printed):
            patch.chdir(folder)
            for name, value in environment.items():
                patch.setenv(name, value)
            program, *flags = command[1:]
            if program == "training/train.py":
                train(parse(flags))
            else:
                main(flags[1:])  # python -m chipdemo
        return printed.getvalue()

    monkeypatch.setattr(loop, "run", run)


def test_a_round_labels_trains_and_reports_and_is_not_repeated(drawn, in_process, tmp_path, monkeypatch):
    options = argparse.Namespace(
        seeds=1, orders=[INFORMATIVE], rounds=[40], flags=FLAGS, without_earlier=False
    )
    report = benchmark(drawn, tmp_path / "runs", options)
    (found,) = report["rounds"]
    assert (found["order"], found["labels"]) == (INFORMATIVE, 40)
    assert found["verdict"] in ("better", "not distinguishable", "worse")
    assert found["taken_over"] == (found["verdict"] != "worse")
    assert set(found["poly"]) == set(found["mono"]) == {"auroc", "accuracy"}
    (labels,) = (tmp_path / "runs" / "informative-0").glob("labels-*")
    assert len(list(labels.rglob("*.png"))) == 40
    model = tmp_path / "runs" / "informative-0" / "models" / "chips"
    metrics = json.loads((model / "metrics.json").read_text())
    assert metrics["data"] == f"{labels.name} + mono" and metrics["comparison"]["name"] == "chips"
    monkeypatch.setattr(loop, "one_round", None)
    assert benchmark(drawn, tmp_path / "runs", options)["rounds"] == report["rounds"]


def result(order, labels, taken, poly, mono, seed=0):
    areas = {kind: {"auroc": {"before": a, "now": b}} for kind, (a, b) in (("poly", poly), ("mono", mono))}
    return {"order": order, "seed": seed, "labels": labels, "taken_over": taken, **areas}


def test_the_summary_is_of_the_models_in_use():
    rounds = [
        result(RANDOM, 60, True, (0.80, 0.83), (0.90, 0.90)),
        result(RANDOM, 120, False, (0.83, 0.70), (0.90, 0.80)),
        result(RANDOM, 240, True, (0.83, 0.86), (0.90, 0.895)),
    ]
    found = summary_of(rounds)[RANDOM]
    assert found["labels"] == [0, 60, 120, 240]
    assert found["poly"]["mean"] == [0.80, 0.83, 0.83, 0.86]
    assert found["mono"]["lowest_change_in_a_round"] == -0.005
