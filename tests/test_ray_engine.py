"""The batch on a real Ray of two workers. Slow: Ray takes seconds to start, and each worker imports torch."""

import json
import os
import signal
import sys
import zipfile

import pyarrow.parquet as pq
import pytest

from chipdemo import batch
from chipdemo.__main__ import main
from chipdemo.batch import inspect_all
from chipdemo.errors import SettingsError
from chipdemo.listing import listed
from chipdemo.vision.inspector import load_inspector
from tests.drawn import picture
from tests.tiny import draw_chips, tiny_checkpoint


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "chipdemo.ray_engine", raising=False)
    with pytest.raises(SettingsError, match=r"pip install 'ray\[data\]'"):
        import chipdemo.ray_engine  # noqa: F401


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Two cores. What it writes at home is in the test's folder."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    yield ray
    ray.shutdown()


def known(results):
    """What has to be the same however often, where and with whom a photograph is judged."""
    return [{name: value for name, value in result.items() if name != "timing_ms"} for result in results]


def test_a_killed_worker_and_a_stopped_run_change_nothing(cluster, tmp_path, monkeypatch, capsys):
    from chipdemo import ray_engine

    killed = tmp_path / "killed"

    class DyingWorker(ray_engine.Worker):
        """The first block that begins with the third run of photographs kills its process, half done."""

        def __call__(self, blocks):
            if blocks["item"][0][0].place.endswith("/22.png") and not killed.exists():
                killed.write_text(str(os.getpid()))
                next(batch.judged(self.inspector, blocks["item"][0][:5]))
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(blocks)

    data = draw_chips(tmp_path / "data", normal=60, abnormal=30)
    (data / "bad.png").write_bytes(b"no photograph")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        for number in range(20):
            archive.writestr(f"{number}.png", picture(number))
    model = str(tiny_checkpoint(tmp_path / "model"))
    paths = [str(data), str(tmp_path / "more.zip")]
    whole = list(inspect_all(load_inspector(model), listed(paths), tmp_path / "whole"))

    monkeypatch.setattr(ray_engine, "BLOCK", 16)
    monkeypatch.setattr(ray_engine, "Worker", DyingWorker)
    command = ["inspect", *paths, "--model", model, "--runtime", "torch", "--out", str(tmp_path / "out")]
    assert main([*command, "--engine", "ray", "--workers", "2"]) == 0
    assert int(killed.read_text()) != os.getpid()
    lines = (tmp_path / "out" / batch.RESULTS).read_text(encoding="utf-8").splitlines()
    assert known(map(json.loads, lines)) == known(whole)
    parts = sorted((tmp_path / "out" / "parts").iterdir())
    assert [pq.read_metadata(part).num_rows for part in parts] == [16] * 6 + [15]
    assert pq.read_table(tmp_path / "out" / "parts")["path"].to_pylist() == [one["path"] for one in whole]
    assert "111 photographs: " in capsys.readouterr().out
