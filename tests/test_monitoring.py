import dataclasses
import logging

import httpx
import numpy as np
from gradio_client import Client, handle_file
from PIL import Image

from chipdemo.labeling.journal import Journal
from chipdemo.metrics import Metrics
from chipdemo.monitoring import ENOUGH, KEPT, MonitoredInspector, Recent, log_inspection
from chipdemo.threshold import OperatingCurve
from chipdemo.ui.inspect.html import drift_html
from tests.drawn_images import fill
from tests.fakes import INFO, FakeModel
from tests.serving import served

GRAY = FakeModel().inspect(Image.new("RGB", (8, 8), "gray"))
CALIBRATED = OperatingCurve(
    "held out", tuple(np.linspace(0.05, 0.35, 100)) + (0.9,) * 50, (False,) * 100 + (True,) * 50
)
INFO_OF_MANY = dataclasses.replace(INFO, validation=CALIBRATED)


def seen(recent, probabilities, unlike=0, start=0):
    """Images with these probabilities; the first so many are unlike the training ones."""
    for number, probability in enumerate(probabilities, start):
        recent.add(
            dataclasses.replace(
                GRAY,
                image_sha256=f"{number:064}",
                abnormal_probability=float(probability),
                verdict="abnormal" if probability >= 0.4 else "normal",
                out_of_distribution=number - start < unlike,
            )
        )
    return recent


def test_nothing_is_said_of_few_images():
    drift = seen(Recent(), np.linspace(0.05, 0.35, ENOUGH - 1), unlike=20).drift(INFO_OF_MANY)
    assert (drift.sentence, drift_html(drift)) == ("", "")


def test_images_like_the_held_out_ones_are_no_drift_however_many_are_defective():
    drift = seen(Recent(), [*np.linspace(0.06, 0.34, 60), *[0.95] * 200]).drift(INFO_OF_MANY)
    assert drift.changed == () and (drift.images, drift.stopped) == (260, 200)
    assert drift.sentence == "The last 260 images look like those the model was calibrated on."


def test_unlike_images_beyond_chance_are_drift():
    assert seen(Recent(), np.linspace(0.05, 0.35, 100), unlike=2).drift(INFO_OF_MANY).changed == ()
    drift = seen(Recent(), np.linspace(0.05, 0.35, 100), unlike=12).drift(INFO_OF_MANY)
    assert "12 are unlike the training ones" in drift.sentence and "train again" in drift.sentence
    assert "class='changed'" in drift_html(drift)


def test_good_chips_that_score_otherwise_than_held_out_ones_are_drift():
    drift = seen(Recent(), np.linspace(0.3, 0.39, 100)).drift(INFO_OF_MANY)
    assert "those that pass score 0.34 in the middle (held-out ones 0.20)" in drift.sentence


def test_a_image_counts_once_old_ones_are_forgotten_and_so_are_those_of_another_model():
    recent = seen(seen(Recent(), [0.1] * 40), [0.2] * 40)
    assert recent.drift(INFO_OF_MANY).images == 40
    assert seen(recent, [0.2] * (KEPT + 10), start=100).drift(INFO_OF_MANY).images == KEPT
    assert recent.drift(dataclasses.replace(INFO_OF_MANY, revision="another")).images == 0


def test_listeners_hear_of_every_inspection_and_the_log_holds_no_name(caplog):
    recent, image = Recent(), Image.new("RGB", (8, 8), "black")
    inspector = MonitoredInspector(FakeModel(), recent.add, log_inspection).current()
    with caplog.at_level(logging.INFO, "chipdemo"):
        inspector.inspect(image)
        inspector.inspect_batch([inspector.prepare(Image.new("RGB", (8, 8), "white"))])
    assert recent.drift(INFO).images == 2
    line = caplog.messages[0]
    assert line.startswith("inspected sha256=") and "verdict=abnormal probability=1.0000 unlike=false" in line


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
        'chipdemo_inspections_total{verdict="abnormal"} 1.0',
        "chipdemo_inspection_seconds_count 1.0",
        "chipdemo_waiting 0.0",
        "chipdemo_images 3.0",
        "chipdemo_labels_pending 0.0",
    ):
        assert line in text.splitlines()


def test_without_the_setting_there_are_no_metrics():
    with served(FakeModel()) as address:
        assert "chipdemo_" not in httpx.get(f"{address}/metrics").text
