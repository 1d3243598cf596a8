"""A batch on a real Ray of two workers. Slow: Ray takes seconds to start."""

import json
import os
import signal
import sys
import zipfile
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest

from chipdemo.__main__ import main
from chipdemo.batch.run import BATCH, RESULTS, inspect_all, inspect_stream
from chipdemo.batch.sources import find_images
from chipdemo.errors import BatchError, SettingsError
from chipdemo.vision.predictor import load_model
from tests.batches import task
from tests.drawn import picture
from tests.fakes import FakeModel
from tests.tiny import draw_chips, tiny_checkpoint


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "chipdemo.batch.ray", raising=False)
    with pytest.raises(SettingsError, match=r"pip install 'ray\[data\]'"):
        import chipdemo.batch.ray  # noqa: F401


@pytest.fixture(scope="module")
def cluster():
    """Two cores. It asks for no token, which it would keep at home, and its sockets need a short path."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory(dir="/tmp", prefix="ray") as folder:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=100_000_000,
            _temp_dir=folder,
        )
        yield ray
        ray.shutdown()


@pytest.fixture
def chips(tmp_path):
    """71 images in a folder and a zip, one of them unreadable."""
    data = draw_chips(tmp_path / "data", normal=30, abnormal=20)
    (data / "bad.png").write_bytes(b"no image")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        for number in range(20):
            archive.writestr(f"{number}.png", picture(number))
    return find_images([str(data), str(tmp_path / "more.zip")])


def without_times(results):
    return [{name: value for name, value in result.items() if name != "timing_ms"} for result in results]


def results_in(out):
    return [json.loads(line) for line in (out / RESULTS).read_text(encoding="utf-8").splitlines()]


def test_a_killed_worker_and_a_stopped_run_change_nothing(cluster, chips, tmp_path, monkeypatch):
    from chipdemo.batch import ray as ray_engine

    killed, out = tmp_path / "killed", tmp_path / "out"

    class DyingWorker(ray_engine.Worker):
        """Once, the block of the zip's first image kills the process that has inspected a part of it."""

        def __call__(self, blocks):
            if any(one.path.endswith("!0.png") for one in blocks["item"][0]) and not killed.exists():
                next(inspect_stream(self.task, blocks["item"][0][:5]))
                killed.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(blocks)

    def stop(done):
        if done:
            raise KeyboardInterrupt

    whole = list(inspect_all(task(), chips, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        inspect_all(task(), chips, out, stop)
    assert len(results_in(out)) == BATCH
    monkeypatch.setattr(ray_engine, "BLOCK", 16)
    monkeypatch.setattr(ray_engine, "Worker", DyingWorker)
    ray_engine.inspect_on_ray(task(), chips, out, load=lambda: [FakeModel()], workers=2)
    assert int(killed.read_text()) != os.getpid()
    assert without_times(results_in(out)) == without_times(whole)
    parts = sorted((out / "parts").iterdir())
    assert [pq.read_metadata(part).num_rows for part in parts] == [16] * 4 + [7]
    assert pq.read_table(out / "parts")["path"].to_pylist() == [one["path"] for one in whole]


def test_an_error_in_a_worker_ends_the_run_which_can_be_continued(cluster, tmp_path, monkeypatch, capsys):
    from chipdemo.batch import ray as ray_engine

    data, model = draw_chips(tmp_path / "data", normal=3, abnormal=2), tiny_checkpoint(tmp_path / "model")
    out = tmp_path / "out"
    command = ["inspect", str(data), "--model", str(model), "--runtime", "torch", "--out", str(out)]

    class FailingWorker:
        def __init__(self, *arguments):
            pass

        def __call__(self, blocks):
            raise BatchError("The storage did not answer.")

    monkeypatch.setattr(ray_engine, "Worker", FailingWorker)
    assert main([*command, "--engine", "ray"]) == 2
    assert "The storage did not answer." in capsys.readouterr().err
    assert results_in(out) == []
    assert main(command) == 0
    assert main([*command, "--engine", "ray"]) == 0  # all of them have results: no worker is started
    assert pq.read_table(out / "parts").num_rows == 5


def test_a_worker_refuses_another_revision_of_the_model(tmp_path):
    pytest.importorskip("ray")
    from chipdemo.batch.ray import Worker
    from chipdemo.files import DEFAULT_LIMITS

    model = load_model(str(tiny_checkpoint(tmp_path / "model")), runtime="torch")
    with pytest.raises(BatchError, match="0123456789ab"):
        Worker(lambda: [model], "0123456789ab", 0.4, True, DEFAULT_LIMITS)
