import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from PIL import Image

from chipdemo.__main__ import main
from chipdemo.errors import CheckpointError, DataError, SettingsError
from chipdemo.images import decode_image
from chipdemo.inspection import CAM_OF_FLIPS, INVERSE
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.settings import DEFAULT_MODEL, SHIPPED, Settings
from chipdemo.view import SQUEEZED, View
from chipdemo.vision.checkpoint import GRAPH, WEIGHTS, model_revision
from chipdemo.vision.predictor import load_model
from chipdemo.vision.runtimes import load, select
from chipdemo.vision.runtimes.engine import EngineOutput
from chipdemo.vision.runtimes.export import save_graph, write_graph
from chipdemo.vision.weights import load_checkpoint
from tests.tiny import SPEC, draw_chip, tiny_checkpoint

ROOT = Path(__file__).parent.parent
RUNTIMES = ("openvino", "onnx")
PARITY = 1e-3  # of every output, in single precision
CHECKPOINTS = sorted(path.parent for path in (ROOT / "chipdemo").rglob(WEIGHTS))  # in the repository


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny"))


def pixels(count: int, size: int = SPEC.image_size) -> np.ndarray:
    """(count, size, size, 3) uint8, of drawn chips."""
    chips = [draw_chip(seed, seed % 2 == 1, size) for seed in range(count)]
    return np.stack([np.asarray(chip) for chip in chips])


def views(count: int) -> list[View]:
    """The same as a model takes them."""
    return [View(one, SQUEEZED, (SPEC.image_size,) * 2) for one in pixels(count)]


def assert_same(ours: EngineOutput, theirs: EngineOutput, rtol: float = 0) -> None:
    for name, one, other in zip(EngineOutput._fields, ours, theirs):
        assert (one is None) == (other is None), name
        if other is not None and not name.startswith("strongest"):  # two may be strongest by a hair
            np.testing.assert_allclose(one, other, rtol=rtol, atol=PARITY, err_msg=name)
    if theirs.strongest is not None:
        weights = [np.take_along_axis(each.channel_attention, each.strongest, 1) for each in (ours, theirs)]
        np.testing.assert_allclose(*weights, atol=PARITY)
        same = ours.strongest == theirs.strongest
        np.testing.assert_allclose(ours.strongest_maps[same], theirs.strongest_maps[same], atol=PARITY)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_gives_what_pytorch_gives_for_one_image_and_for_many(model, runtime):
    ours, theirs = load_model(model, runtime=runtime), load_model(model)
    for count in (1, 3):
        assert_same(ours.engine.run(pixels(count)), theirs.engine.run(pixels(count)))
    chip = decode_image(draw_chip(1, abnormal=True))
    one, other = (Judge(Models(each)).inspect(chip) for each in (ours, theirs))
    assert one.abnormal_probability == pytest.approx(other.abnormal_probability, abs=PARITY)
    assert one.verdict == other.verdict and one.regions == other.regions
    assert ours.methods == theirs.methods and ours.explain(views(1)[0], "Grad-CAM").shape == (4, 4)
    assert (ours.info.runtime, theirs.info.runtime) == (select.NAMES[runtime], "PyTorch")


@pytest.mark.parametrize("runtime", ("torch", *RUNTIMES))
def test_patches_are_described_only_where_the_memory_bank_is_searched(runtime, monkeypatch):
    model = load_model(str(DEFAULT_MODEL), runtime=runtime)
    every, fewer = model.engine.run(pixels(2, 224)), model.engine.run(pixels(2, 224), patches=False)
    assert every.patches is not None and fewer.patches is None
    assert_same(fewer, every._replace(patches=None))
    asked, run = [], model.engine.run
    monkeypatch.setattr(
        model.engine, "run", lambda pixels, patches=True: (asked.append(patches), run(pixels, patches))[1]
    )
    (view,) = [model.prepare(draw_chip(1, abnormal=True))]
    for methods in [], [INVERSE], [CAM_OF_FLIPS]:
        model.predict([view], methods)
    model.nearest_normal_patches(draw_chip(1, abnormal=True), [])
    assert asked == [False, True, False, False, False, False, True]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_images_of_several_threads_are_not_mixed_up(model, runtime):
    loaded, chips = load_model(model, runtime=runtime), [[view] for view in views(8)]
    alone = [loaded.predict(chip)[0].abnormal_probability for chip in chips]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(loaded.predict, chips * 4)
    assert [one.abnormal_probability for (one,) in together] == pytest.approx(alone * 4)


def test_a_network_without_attention_has_no_attention_maps(tmp_path):
    plain = str(tiny_checkpoint(tmp_path / "plain", replace(SPEC, attention="none")))
    ours, theirs = load_model(plain, runtime="onnx"), load_model(plain)
    assert_same(ours.engine.run(pixels(1)), theirs.engine.run(pixels(1)))


def test_an_exported_network_is_kept_for_the_next_start_and_only_the_last_few(model, tmp_path, monkeypatch):
    folder = tmp_path / "graphs"
    first = load_model(model, runtime="onnx", graphs=folder)
    (kept,) = folder.iterdir()
    assert first.info.revision in kept.name
    monkeypatch.setattr(load, "exported", None)  # would be called if it were made again
    assert load_model(model, runtime="openvino", graphs=folder).info.runtime == "OpenVINO"
    for number in range(load.KEPT + 3):
        load.keep(folder / f"{number}.onnx", b"")
    assert len(list(folder.iterdir())) == load.KEPT


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_kept_network_that_is_damaged_is_exported_anew(model, tmp_path, runtime):
    first = load_model(model, runtime=runtime, graphs=tmp_path)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    again = load_model(model, runtime=runtime, graphs=tmp_path)
    assert_same(again.engine.run(pixels(1)), first.engine.run(pixels(1)))
    assert kept.read_bytes() == whole


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_a_shipped_model_is_loaded_without_an_export_and_gives_what_pytorch_gives(
    folder, runtime, monkeypatch
):
    monkeypatch.setattr(load, "exported", None)  # would be called if it were exported
    ours, theirs = load_model(str(folder), runtime=runtime), load_model(str(folder))
    shown = pixels(3, ours.spec.image_size)
    for count in (1, 3):
        assert_same(ours.engine.run(shown[:count]), theirs.engine.run(shown[:count]), rtol=1e-4)


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_the_graph_of_a_shipped_model_is_what_export_writes_today(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / folder.name)
    before, now = (onnx.load(path, load_external_data=False) for path in (copy / GRAPH, write_graph(copy)))
    for model in (before, now):
        model.producer_version = ""  # PyTorch's
    assert now == before
    assert len((copy / GRAPH).read_bytes()) < 300_000


def test_a_graph_of_another_model_or_a_damaged_one_is_not_used(tmp_path):
    folder = tiny_checkpoint(tmp_path / "tiny")
    graph = write_graph(folder)
    whole = graph.read_bytes()
    tiny_checkpoint(folder, replace(SPEC, temperature=3.0))  # another revision
    theirs = load_model(str(folder))
    for content in (whole, write_graph(folder).read_bytes()[:-3]):
        graph.write_bytes(content)
        for runtime in RUNTIMES:
            assert_same(
                load_model(str(folder), runtime=runtime).engine.run(pixels(2)), theirs.engine.run(pixels(2))
            )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_model_in_use_keeps_answering_when_its_files_are_written_over(tmp_path, runtime, monkeypatch):
    folder = tiny_checkpoint(tmp_path / "tiny")
    write_graph(folder)
    monkeypatch.setattr(load, "exported", None)
    model = load_model(str(folder), runtime=runtime)
    alone = model.engine.run(pixels(1))
    for name in (WEIGHTS, GRAPH):
        (folder / name).write_bytes(b"")
    assert_same(model.engine.run(pixels(1)), alone)
    assert_same(model.engine.run(pixels(3)).of(0), alone)


def test_a_folder_that_cannot_be_written_costs_the_next_start_time_and_nothing_else(model, tmp_path):
    (tmp_path / "file").write_text("no folder")
    loaded = load_model(model, runtime="onnx", graphs=tmp_path / "file" / "graphs")
    assert 0 <= loaded.predict(views(1))[0].abnormal_probability <= 1


def test_auto_is_the_fastest_that_is_installed(monkeypatch):
    there = {"openvino", "onnx", "onnxruntime"}
    monkeypatch.setattr(select, "find_spec", lambda package: package in there or None)
    assert select.chosen("auto") == "openvino"
    there.remove("openvino")
    assert select.chosen("auto") == "onnx"
    with pytest.raises(SettingsError, match="openvino"):
        select.chosen("openvino")
    there.remove("onnx")
    assert select.chosen("auto") == "torch"
    with pytest.raises(SettingsError, match="onnx"):
        select.chosen("onnx")


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_model_is_exported_by_a_command(model, tmp_path, format, capsys):
    out = tmp_path / "edge"
    assert main(["export", "--model", model, "--format", format, "--out", str(out)]) == 0
    names = {"onnx": ["model.onnx"], "openvino": ["model.bin", "model.xml"]}[format]
    assert sorted(path.name for path in out.iterdir()) == names
    assert capsys.readouterr().out.count("wrote ") == len(names)


def test_a_model_is_exported_with_the_threshold_that_keeps_a_promise(model, tmp_path, capsys):
    command = ["export", "--model", model, "--out", str(tmp_path / "edge")]
    assert main([*command, "--target-fpr", "0.7"]) == 0
    about = {prop.key: prop.value for prop in onnx.load(tmp_path / "edge" / "model.onnx").metadata_props}
    assert about["threshold"] == "0.30001"
    assert "Threshold 0.30001, chosen to flag at most 70 %" in capsys.readouterr().out
    assert main([*command, "--target-fpr", "0.7", "--target-recall", "0.3"]) == 2


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_model_is_exported_in_8_bits_by_images(model, tmp_path, format):
    images = tmp_path / "seen"
    images.mkdir()
    for seed in range(4):
        draw_chip(seed, seed % 2 == 1).save(images / f"{seed}.png")
    out = tmp_path / "edge"
    given = ["export", "--model", model, "--format", format, "--out", str(out)]
    assert main([*given, "--int8", str(images)]) == 0
    name = {"onnx": "model.onnx", "openvino": "model.xml"}[format]
    read = openvino.Core().read_model(out / name)
    assert "FakeQuantize" in {node.get_type_name() for node in read.get_ops()}
    found = openvino.compile_model(read, "CPU")({"pixels": pixels(2)})["log_odds"]
    exact = load_model(model).engine.run(pixels(2)).log_odds
    np.testing.assert_allclose(found, exact, atol=0.2 * np.abs(exact).max())


def test_a_command_writes_the_graph_into_the_checkpoint(tmp_path, capsys):
    folder = tiny_checkpoint(tmp_path / "tiny")
    revision = model_revision(folder)
    assert main(["export", "--model", str(folder), "--in-checkpoint"]) == 0
    assert capsys.readouterr().out == f"wrote {folder / GRAPH}\n"
    assert onnx.load(folder / GRAPH, load_external_data=False).graph.input[0].name == "pixels"
    assert model_revision(folder) == revision


def test_what_judges_by_its_memory_is_not_exported_without_it(tmp_path):
    taught = tiny_checkpoint(tmp_path / "taught", replace(SPEC, verdict_by="memory"))
    net, spec, info = load_checkpoint(taught)
    with pytest.raises(DataError, match="taught"):
        save_graph(net, spec, info, tmp_path / "edge", "onnx")


def test_a_client_without_pytorch_reads_what_the_app_says(model, tmp_path):
    main(["export", "--model", model, "--out", str(tmp_path / "edge")])
    chips = [draw_chip(1, abnormal=True, size=90), draw_chip(2, size=70)]
    paths = [tmp_path / f"{index}.png" for index in range(len(chips))]
    for chip, path in zip(chips, paths):
        chip.save(path)
    script = (
        "import runpy, sys\nrunpy.run_path(sys.argv[1], run_name='__main__')\n"
        "assert not {'torch', 'chipdemo'} & set(sys.modules)"
    )
    code = "import sys; sys.argv.pop(0)\n" + script.replace("sys.argv[1]", "sys.argv[0]")
    ended = subprocess.run(
        [sys.executable, "-c", code, ROOT / "docs" / "client.py", tmp_path / "edge" / "model.onnx", *paths],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    judge = Judge(Models(load_model(model)))
    for chip, path, line in zip(chips, paths, ended.stdout.splitlines(), strict=True):
        inspection = judge.inspect(decode_image(chip))
        assert line.split("\t")[:3] == [
            str(path), inspection.verdict, f"{inspection.abnormal_probability:.3f}",
        ]  # fmt: skip
        assert path.with_name(f"{path.name}.heat.png").exists() == (inspection.verdict == "abnormal")
        if inspection.verdict == "abnormal":
            assert Image.open(f"{path}.heat.png").size == chip.size


STARTED = """
import sys
import app
from chipdemo.ui import page

def serve(*_, **__):
    raise KeyboardInterrupt  # as if it were stopped at once

page.serve = serve
assert app.main(sys.argv[1:]) == 0
slow = {"torch", "timm", "scipy.ndimage", "scipy.sparse", "scipy.fft", "scipy.stats", "sklearn", "skimage"}
print(*slow & set(sys.modules))
"""


def test_the_app_starts_without_pytorch_with_a_graph_or_once_the_network_is_exported(model, tmp_path):
    journal = tmp_path / "labels.db"
    load_model(model, runtime="auto", graphs=Settings(journal=journal).graphs)
    models = ",".join(map(str, (*SHIPPED, model)))
    ended = subprocess.run(
        [sys.executable, "-c", STARTED, "--model", models, "--journal", str(journal)],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == []


def test_gradients_are_not_taken_from_another_model_than_the_one_that_judged(tmp_path):
    folder = tiny_checkpoint(tmp_path / "tiny")
    model = load_model(str(folder), runtime="onnx")
    tiny_checkpoint(folder, replace(SPEC, threshold=0.9))
    with pytest.raises(CheckpointError, match=model.info.revision):
        model.explain(views(1)[0], "Grad-CAM")
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match=re.escape(str(folder))):
        model.explain(views(1)[0], "Grad-CAM")
