"""The next model from the labels, as a job: by a script that stands in for train.py, and by train.py."""

import json
import sys
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest

from app import accepted
from chipdemo.errors import JobError
from chipdemo.jobs import DONE, FAILED, RUNNING, STOPPED
from chipdemo.labeling.intake import add_contents
from chipdemo.labeling.label import Label
from chipdemo.labeling.training import Training
from chipdemo.models import ModelInUse
from chipdemo.settings import Settings
from chipdemo.ui.label.training_html import log_html, missing_html, progress_html
from chipdemo.vision.checkpoint import STATE
from chipdemo.vision.predictor import load_model
from tests.drawn import picture
from tests.fakes import FakeModel
from tests.tiny import compared, draw_chip, tiny_checkpoint
from tests.waiting import until

# Like train.py: an epoch is kept; without --resume it waits for a stop after that
SCRIPT = """
import json, pathlib, sys, time
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(exist_ok=True)
(out / "state.safetensors").touch()
print("epoch 1/3 loss 0.5", flush=True)
while "--resume" not in sys.argv:
    time.sleep(0.01)
(out / "state.safetensors").unlink()
print("epoch 3/3 loss 0.4")
(out / "metrics.json").write_text({metrics!r})
"""
FIGURES = {"before": 0.9, "now": 0.8, "difference": -0.1, "interval_95": [-0.2, -0.05], "verdict": "worse"}
WORSE = json.dumps({"comparison": compared("worse") | {"sets": {"new": {"count": 7, "auroc": FIGURES}}}})


def keeps(out: Path) -> bool:
    return (out / STATE).is_file()


def label(journal, images: dict[bytes, str]) -> None:
    add_contents(journal, [(f"{number}.png", content) for number, content in enumerate(images)])
    with journal.read() as database:
        shas = [row["sha256"] for row in database.execute("SELECT sha256 FROM images ORDER BY id")]
    journal.append(*(Label(sha256, given, "ann") for sha256, given in zip(shas, images.values())))


@pytest.fixture
def in_use() -> ModelInUse:
    return ModelInUse(FakeModel(), "ada/model@0123456")


@pytest.fixture
def training(journal, in_use, tmp_path):
    """With a script that trains nothing; its model is a fake one."""
    (tmp_path / "train.py").write_text(SCRIPT.replace("{metrics!r}", repr(WORSE)))
    loaded = FakeModel()
    training = Training(
        journal, Settings(), in_use, lambda folder: loaded, keeps, script=tmp_path / "train.py"
    )
    yield training
    training.jobs.close()


def png(seed: int) -> bytes:
    file = BytesIO()
    draw_chip(seed, seed % 2 == 1).save(file, "PNG")
    return file.getvalue()


def trained_until_stopped(training, journal) -> None:
    label(journal, {picture(0): "normal", picture(1): "abnormal"})
    training.start()
    until(lambda: training.progress().epoch)
    training.jobs.stop()


def test_a_stopped_training_keeps_its_epochs_and_is_resumed_with_the_same_command(training, journal):
    assert training.progress() is None
    trained_until_stopped(training, journal)
    stopped = training.progress()
    assert (stopped.job.status, stopped.epoch, stopped.epochs, stopped.keeps) == (STOPPED, 1, 3, True)
    assert "1 of 3 epochs are finished. Resume goes on from there." in progress_html(stopped, "")
    training.resume()
    done = until(lambda: (now := training.progress()).job.status != RUNNING and now)
    assert done.job.status == DONE and done.job.steps == stopped.job.steps
    export, train = done.job.steps
    assert export[1:5] == ("-m", "chipdemo", "labels", "export")
    assert [len(list(Path(export[5]).rglob(f"{name}/*.png"))) for name in ("normal", "abnormal")] == [1, 1]
    assert train[2:6] == ("--data", export[5], "--init", "ada/model@0123456")
    shown = progress_html(done, "")
    assert "data-verdict='worse'" in shown and "−0.100 (−0.200 to −0.050)" in shown
    assert "<details class='training-log'><summary>" in log_html(done)


def test_its_model_is_used_when_somebody_says_so(training, journal, in_use):
    with pytest.raises(JobError, match="no trained model"):
        training.use()
    trained_until_stopped(training, journal)
    with pytest.raises(JobError, match="no trained model"):
        training.use()
    training.resume()
    until(lambda: training.progress().job.status == DONE)
    before = in_use.model
    assert not training.progress().in_use
    training.use()
    assert in_use.model is not before and training.progress().in_use
    out = Path(training.progress().job.folder) / "fake-model"
    assert in_use.source == training.source == str(out)
    assert training.restart_command().startswith(f"python app.py --model {out}")
    assert "It is in use" in progress_html(training.progress(), training.restart_command())


def test_without_labels_no_training_starts(training, journal):
    label(journal, {picture(0): "unsure"})
    with pytest.raises(JobError, match="nothing to train from"):
        training.start()
    assert training.progress() is None and not training.jobs.folder.exists()


def test_published_labels_are_trained_from_the_dataset(journal, in_use, tmp_path):
    (tmp_path / "train.py").write_text("import sys; sys.exit('error: <b>too few</b>')")
    settings = Settings(dataset="ada/chips")
    training = Training(journal, settings, in_use, FakeModel, keeps, script=tmp_path / "train.py")
    training.start()
    failed = until(lambda: (now := training.progress()).job.status == FAILED and now)
    (train,) = failed.job.steps
    assert train[:4] == (sys.executable, str(tmp_path / "train.py"), "--data", "hf:ada/chips")
    assert failed.error == "<b>too few</b>" and not failed.keeps
    assert "&lt;b&gt;too few" in progress_html(failed, "") and "<b>" not in log_html(failed)
    assert "Resume begins the training again" in progress_html(failed, "")


def test_where_nothing_can_be_trained_it_says_why_and_what_to_run(journal, in_use, tmp_path, monkeypatch):
    training = Training(journal, Settings(), in_use, FakeModel, keeps, script=tmp_path / "train.py")
    assert "without its training scripts" in training.missing()
    with pytest.raises(JobError):
        training.start()
    (tmp_path / "train.py").touch()
    assert training.missing() == ""
    monkeypatch.setattr("chipdemo.labeling.training.PACKAGES", ("torch", "no_such_package"))
    assert "Training needs no_such_package" in training.missing()
    assert "<code>python a\npython b</code>" in missing_html(training.missing(), ["python a", "python b"])


def test_the_real_training_takes_the_labels_and_its_model_works_also_where_it_is_worse(
    journal, tmp_path, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as many as a network of this size can use
    model = tiny_checkpoint(tmp_path / "chips")
    label(journal, {png(seed): ("normal", "abnormal")[seed % 2] for seed in range(48)})
    in_use = ModelInUse(load_model(str(model)), str(model))
    training = Training(journal, Settings(), in_use, lambda folder: load_model(accepted(str(folder))), keeps)
    with closing(training.jobs):
        training.start()
        done = until(lambda: (now := training.progress()).job.status != RUNNING and now)
    assert done.job.status == DONE, done.log
    assert done.epoch == done.epochs == 6 and done.result.comparison.name == "chips"
    before = in_use.model.info
    training.use()
    after = in_use.model.info
    assert after.name == before.name and after.revision != before.revision
    assert after.comparison.takes_over and after.comparison.revision == before.revision
