"""The batch on a real Ray of two workers. Slow: Ray takes seconds to start."""

import json
import os
import signal
import sys
import zipfile
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest

from chipdemo.__main__ import main
from chipdemo.batch import run as batch
from chipdemo.batch.run import inspect_all
from chipdemo.batch.sources import listed
from chipdemo.errors import BatchError, SettingsError
from chipdemo.settings import Settings
from chipdemo.vision.predictor import load_model
from tests.drawn import picture
from tests.tiny import draw_chips, tiny_checkpoint

RUNTIME = "openvino"  # its workers need not import PyTorch


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "chipdemo.batch.run.ray", raising=False)
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
    """111 images in a folder and a zip, one of them unreadable, and a model."""
    data = draw_chips(tmp_path / "data", normal=60, abnormal=30)
    (data / "bad.png").write_bytes(b"no image")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        for number in range(20):
            archive.writestr(f"{number}.png", picture(number))
    return [str(data), str(tmp_path / "more.zip")], str(tiny_checkpoint(tmp_path / "model"))


def command(paths, model, out):
    return ["inspect", *paths, "--model", model, "--runtime", RUNTIME, "--out", str(out), "--engine", "ray"]


def loaded(model):
    return load_model(model, runtime=RUNTIME, graphs=Settings.from_env(os.environ).graphs)


def known(results):
    """What has to be the same however often, where and with whom an image is judged."""
    return [{name: value for name, value in result.items() if name != "timing_ms"} for result in results]


def results_in(out):
    return [json.loads(line) for line in (out / batch.RESULTS).read_text(encoding="utf-8").splitlines()]


def test_a_killed_worker_and_a_stopped_run_change_nothing(cluster, chips, tmp_path, monkeypatch, capsys):
    from chipdemo.batch import ray as ray_engine

    (paths, model), killed, out = chips, tmp_path / "killed", tmp_path / "out"

    class DyingWorker(ray_engine.Worker):
        """The block of the zip's first image kills the process that has judged a part of it, once."""

        def __call__(self, blocks):
            if any(one.place.endswith("!0.png") for one in blocks["item"][0]) and not killed.exists():
                next(batch.judged(self.inspector, blocks["item"][0][:5]))
                killed.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(blocks)

    def stop(done):
        if done:
            raise KeyboardInterrupt

    inspector = loaded(model)
    whole = list(inspect_all(inspector, listed(paths), tmp_path / "whole", tiles=True))
    with pytest.raises(KeyboardInterrupt):
        inspect_all(inspector, listed(paths), out, progress=stop, tiles=True)
    assert len(results_in(out)) == 16
    monkeypatch.setattr(ray_engine, "BLOCK", 16)
    monkeypatch.setattr(ray_engine, "Worker", DyingWorker)
    assert main([*command(paths, model, out), "--workers", "2"]) == 0
    assert int(killed.read_text()) != os.getpid()
    assert known(results_in(out)) == known(whole)
    parts = sorted((out / "parts").iterdir())
    assert [pq.read_metadata(part).num_rows for part in parts] == [16] * 6 + [15]
    assert pq.read_table(out / "parts")["path"].to_pylist() == [one["path"] for one in whole]
    assert "111 images: " in capsys.readouterr().out


def test_what_a_worker_says_ends_the_run_and_what_is_judged_is_not_judged_again(
    cluster, chips, tmp_path, monkeypatch, capsys
):
    from chipdemo.batch import ray as ray_engine

    class FailingWorker:
        def __init__(self, *task):
            pass

        def __call__(self, blocks):
            raise BatchError("Expected an answer of the storage; found none.")

    (paths, model), out = chips, tmp_path / "out"
    monkeypatch.setattr(ray_engine, "Worker", FailingWorker)
    assert main(command(paths, model, out)) == 2
    said = capsys.readouterr().err
    assert "chipdemo: The Ray cluster gave up: Expected an answer of the storage; found none." in said
    assert "it goes on from here" in said and results_in(out) == []
    inspect_all(
        loaded(model),
        listed(paths),
        out,
        tiles=True,
    )
    assert main(command(paths, model, out)) == 0
    assert pq.read_table(out / "parts").num_rows == 111
