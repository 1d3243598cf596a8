import io
import logging
import threading
from dataclasses import replace

import pytest
from PIL import Image

from chipdemo.images import content_sha256
from chipdemo.labeling import scoring
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Label
from chipdemo.labeling.queue import Queue
from chipdemo.labeling.scoring import Scorer
from tests.fakes import FakeModel, fake_judge


@pytest.fixture
def journal(tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "REST", 0)  # rank whenever something changed
    with Journal(tmp_path / "labels.db") as journal:
        yield journal


def add(journal, name, gray):
    """A plain image; the fake model's probability of abnormal is 1 - gray / 255."""
    image, file = Image.new("RGB", (32, 32), (gray,) * 3), io.BytesIO()
    image.save(file, "PNG")
    journal.add_image(content_sha256(image), image.size, name, file.getvalue())
    return content_sha256(image)


def work_through(scorer):
    while scorer.work():
        pass


def until(condition):
    """Ask again until it holds, for ten seconds."""
    assert any(condition() or threading.Event().wait(0.01) for _ in range(1_000))


def order(journal):
    return "".join(image.name for image in Queue(journal, lease_s=0).next("ann", 99))


def scored(journal):
    with journal.read() as database:
        return database.execute("SELECT COUNT(*), MIN(revision), MAX(revision) FROM scores").fetchone()[:]


def test_the_model_is_asked_once_about_each_image_and_orders_the_queue(journal):
    for name, gray in zip("abc", (250, 150, 5)):  # the threshold is 0.4
        add(journal, name, gray)
    model = FakeModel()
    work_through(Scorer(journal, fake_judge(model), every_s=0))
    assert order(journal)[0] == "b" and model.predictions == 3
    work_through(Scorer(journal, fake_judge(model), every_s=0))  # as after a restart
    assert model.predictions == 3


def test_a_new_image_is_scored_and_takes_its_place(journal):
    scorer = Scorer(journal, fake_judge(), every_s=0)
    add(journal, "a", 250)
    work_through(scorer)
    add(journal, "b", 153)
    work_through(scorer)
    assert order(journal) == "ba"


def test_a_label_changes_the_order_without_asking_again(journal):
    scorer = Scorer(journal, fake_judge(model := FakeModel()), every_s=0)
    sure = add(journal, "a", 5)
    add(journal, "b", 160)
    work_through(scorer)
    journal.append(Label(sure, "normal", "bob"))  # the model says abnormal
    work_through(scorer)
    first = Queue(journal, annotators_per_image=2).next("ann")[0]
    assert first.name == "a" and first.reason
    assert model.predictions == 2


def test_a_newer_revision_scores_all_anew(journal):
    for name, gray in zip("ab", (250, 150)):
        add(journal, name, gray)
    scorer = Scorer(journal, fake_judge(model := FakeModel()), every_s=0)
    work_through(scorer)
    model.info = replace(model.info, revision="newer")
    work_through(scorer)
    assert scored(journal) == (2, "newer", "newer") and model.predictions == 4


def test_an_image_that_cannot_be_read_holds_up_none(journal, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    journal.add_image("a" * 64, (32, 32), "gone", path=tmp_path / "gone.png")
    journal.add_image("b" * 64, (32, 32), "damaged", b"\x89PNG\r\n\x1a\n...")
    Image.new("RGB", (32, 32), "white").save(tmp_path / "other.png")
    journal.add_image("c" * 64, (32, 32), "another", path=tmp_path / "other.png")
    add(journal, "d", 100)
    scorer = Scorer(journal, fake_judge(model := FakeModel()), every_s=0)
    work_through(scorer)
    assert scored(journal)[0] == model.predictions == 1
    work_through(scorer)
    assert len(caplog.records) == 3  # each is tried once


def test_it_works_in_the_background_until_it_is_stopped_and_goes_on_when_started_again(journal):
    for gray in range(40):
        add(journal, f"chip {gray}", gray)
    asked = threading.Event()

    class Counting(FakeModel):
        def predict(self, views, methods=()):
            if self.predictions == 20:
                asked.set()
            return super().predict(views, methods)

    scorer = Scorer(journal, fake_judge(model := Counting()), every_s=0.001)
    scorer.start()
    assert asked.wait(10)
    scorer.stop()
    assert scored(journal)[0] == model.predictions  # what was asked is kept
    scorer.start()
    until(lambda: scored(journal)[0] == 40)
    scorer.stop()
    assert model.predictions == 40


def test_it_outlives_what_goes_wrong(journal, caplog):
    add(journal, "a", 100)
    failed = threading.Event()

    class Failing(FakeModel):
        def predict(self, views, methods=()):
            if not failed.is_set():
                failed.set()
                raise RuntimeError("out of memory")
            return super().predict(views, methods)

    scorer = Scorer(journal, fake_judge(Failing()), every_s=0.001)
    scorer.start()
    assert failed.wait(10)
    until(lambda: scored(journal)[0] == 1)
    scorer.stop()
    assert "out of memory" in caplog.text
