import dataclasses
import logging

import httpx
import numpy as np
from gradio_client import Client, handle_file
from PIL import Image

from chipdemo.images import decode_image
from chipdemo.labeling.journal import Journal
from chipdemo.metrics import Metrics
from chipdemo.monitoring import ENOUGH, KEPT, Recent, log_inspection
from chipdemo.threshold import OperatingCurve
from chipdemo.ui.inspect.html import drift_html
from tests.drawn_images import fill
from tests.fakes import INFO, FakeModel, fake_judge
from tests.serving import served

GRAY = fake_judge().inspect(decode_image(Image.new("RGB", (8, 8), "gray")))
CALIBRATED = OperatingCurve(
    "held out", tuple(np.linspace(0.05, 0.35, 100)) + (0.9,) * 50, (False,) * 100 + (True,) * 50
)
INFO_OF_MANY = dataclasses.replace(INFO, validation=CALIBRATED)


def seen(recent, probabilities, unknown=0, start=0):
    """Images with these probabilities; the first `unknown` ones are out of distribution."""
    for number, probability in enumerate(probabilities, start):
        recent.add(
            dataclasses.replace(
                GRAY,
                image_sha256=f"{number:064}",
                abnormal_probability=float(probability),
                verdict="abnormal" if probability >= 0.4 else "normal",
                out_of_distribution=number - start < unknown,
            )
        )
    return recent


def test_nothing_is_said_of_few_images():
    drift = seen(Recent(), np.linspace(0.05, 0.35, ENOUGH - 1), unknown=20).drift(INFO_OF_MANY)
    assert (drift.sentence, drift_html(drift)) == ("", "")


def test_images_like_the_held_out_ones_are_no_drift_however_many_are_defective():
    drift = seen(Recent(), [*np.linspace(0.06, 0.34, 60), *[0.95] * 200]).drift(INFO_OF_MANY)
    assert drift.changed == () and (drift.images, drift.flagged) == (260, 200)
    assert "260" in drift.sentence


def test_significantly_many_images_out_of_distribution_are_drift():
    assert seen(Recent(), np.linspace(0.05, 0.35, 100), unknown=2).drift(INFO_OF_MANY).changed == ()
    drift = seen(Recent(), np.linspace(0.05, 0.35, 100), unknown=12).drift(INFO_OF_MANY)
    assert drift.out_of_distribution == 12 and "12" in drift.changed[0]
    assert "class='changed'" in drift_html(drift)


def test_good_chips_that_score_otherwise_than_held_out_ones_are_drift():
    drift = seen(Recent(), np.linspace(0.3, 0.39, 100)).drift(INFO_OF_MANY)
    assert "0.34" in drift.changed[0] and "0.20" in drift.changed[0]


def test_an_image_counts_once_old_ones_are_forgotten_and_so_are_those_of_another_model():
    recent = seen(seen(Recent(), [0.1] * 40), [0.2] * 40)
    assert recent.drift(INFO_OF_MANY).images == 40
    assert seen(recent, [0.2] * (KEPT + 10), start=100).drift(INFO_OF_MANY).images == KEPT
    assert recent.drift(dataclasses.replace(INFO_OF_MANY, revision="another")).images == 0


def test_the_log_has_a_line_for_each_inspection_and_no_name(caplog):
    judge = fake_judge(None, log_inspection)
    with caplog.at_level(logging.INFO, "chipdemo"):
        judge.inspect(decode_image(Image.new("RGB", (8, 8), "black")))
        judge.inspect(decode_image(Image.new("RGB", (8, 8), "red")))
    fields = [dict(field.split("=") for field in line.split()[1:]) for line in caplog.messages]
    assert [one["outcome"] for one in fields] == ["abnormal", "out_of_distribution"]
    assert fields[0]["probability"] == "1.0000" and len(fields[0]["sha256"]) == 16


def test_health_and_metrics_are_answered_and_metrics_only_where_wanted(tmp_path):
    Image.new("RGB", (60, 40), "black").save(tmp_path / "black.png")
    with Journal(tmp_path / "labels.db") as journal:
        fill(journal, tmp_path, 3)
        with served(FakeModel(), journal=journal, metrics=Metrics(journal)) as address:
            Client(address, verbose=False).predict(
                image=handle_file(tmp_path / "black.png"), api_name="/inspect"
            )
            text = httpx.get(f"{address}/metrics").text
            assert httpx.get(f"{address}/health").text == "ok\n"
    for line in (
        'chipdemo_inspections_total{outcome="abnormal"} 1.0',
        "chipdemo_inspection_seconds_count 1.0",
        "chipdemo_waiting 0.0",
        "chipdemo_images 3.0",
        "chipdemo_labels_pending 0.0",
    ):
        assert line in text.splitlines()


def test_without_the_setting_there_are_no_metrics():
    with served(FakeModel()) as address:
        assert "chipdemo_" not in httpx.get(f"{address}/metrics").text
