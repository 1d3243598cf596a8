"""The same 13 images get the same answer wherever they are judged."""

import json
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from chipdemo.__main__ import main
from chipdemo.images import read_image
from chipdemo.judge import Judge
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.scoring import Scorer
from chipdemo.models import Models
from chipdemo.settings import Settings
from chipdemo.ui.label import logic
from chipdemo.ui.label.logic import Answer, desk_of
from chipdemo.vision.predictor import load_model
from tests.serving import served
from tests.tiny import SPEC, draw_chip, tiny_checkpoint

LARGE = (700, 500)  # the tiny model's tiles are 192 pixels wide


def draw_all(folder: Path) -> list[Path]:
    """Small, large, tiled, out of distribution, 16-bit, rotated, with alpha, palette, gray, CMYK."""
    folder.mkdir()
    chip, defect = draw_chip(1, size=64), draw_chip(2, abnormal=True, size=64)
    large = draw_chip(3, size=700).crop((0, 0, *LARGE))
    tiled = large.copy()
    tiled.paste((0, 0, 0), (500, 100, 560, 160))
    rotated = Image.Exif()
    rotated[0x0112] = 6
    deep = np.asarray(defect.convert("L"), np.uint16) * 200
    transparent = defect.copy()
    transparent.putalpha(Image.linear_gradient("L").resize((64, 64)))
    images = {
        "chip.png": chip,
        "defect.bmp": defect,
        "large.png": large,
        "tiled.png": tiled,
        "tall.png": tiled.resize((150, 900)),
        "red.png": Image.new("RGB", (90, 60), "red"),
        "large red.png": Image.new("RGB", LARGE, "red"),
        "deep.tif": Image.fromarray(deep),
        "alpha.png": transparent,
        "palette.gif": defect.quantize(16),
        "cmyk.tif": defect.convert("CMYK"),
    }
    for name, image in images.items():
        image.save(folder / name)
    tiled.save(folder / "rotated.jpg", exif=rotated)
    tiled.resize((1500, 1100)).save(folder / "very large.jpg", exif=rotated)
    return [folder / name for name in sorted([*images, "rotated.jpg", "very large.jpg"])]


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[Path]:
    return draw_all(tmp_path_factory.mktemp("same") / "images")


@pytest.fixture(scope="module")
def checkpoint(paths, tmp_path_factory) -> Path:
    """A model to which about half of the images are out of distribution."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    model = load_model(str(tiny_checkpoint(folder, replace(SPEC, distance_limit=1.0))))
    inputs = np.stack([model.prepare(read_image(path).image) for path in paths])
    distances = np.sort([prediction.distance for prediction in model.predict(inputs)])
    below = 4 + int(np.diff(distances[4:-4]).argmax())  # no image is at the limit itself
    return tiny_checkpoint(folder, replace(SPEC, distance_limit=float(distances[below : below + 2].mean())))


@pytest.fixture(scope="module")
def judge(checkpoint) -> Judge:
    return Judge(Models(load_model(str(checkpoint))))


@pytest.fixture(scope="module")
def expected(judge, paths) -> dict[str, dict]:
    """By file name."""
    return {path.name: judge.inspect(read_image(path)).to_json() for path in paths}


def essence(result: dict) -> dict:
    """What has to be the same everywhere."""
    names = ("outcome", "verdict", "threshold", "regions", "method", "tiles", "model", "image")
    return {name: result[name] for name in names} | {"probability": round(result["abnormal_probability"], 4)}


def test_the_images_are_of_all_kinds(expected):
    assert len(expected) == 13
    assert {result["outcome"] for result in expected.values()} > {"out_of_distribution"}
    assert sum(bool(result["tiles"]) for result in expected.values()) >= 4


def test_the_api_gives_the_same(judge, paths, expected, tmp_path):
    with served(judge.models) as address:
        client = Client(address, verbose=False, download_files=tmp_path / "downloads")
        many = client.predict(images=[handle_file(path) for path in paths], api_name="/inspect_batch")
        for path, of_batch in zip(paths, many, strict=True):
            alone, _ = client.predict(image=handle_file(path), api_name="/inspect")
            (compared,) = client.predict(image=handle_file(path), api_name="/compare")
            for result in (alone, of_batch, compared["inspection"]):
                assert essence(result) == essence(expected[path.name]), path.name


def test_the_http_api_gives_the_same(judge, paths, expected):
    with served(judge.models) as address:
        files = [("images", (path.name, path.read_bytes())) for path in paths]
        lines = httpx.post(f"{address}/v1/inspect_batch", files=files, timeout=60).text.splitlines()
        for path, line in zip(paths, lines, strict=True):
            alone = httpx.post(f"{address}/v1/inspect", content=path.read_bytes(), timeout=60).json()
            for result in (alone, json.loads(line)):
                assert essence(result) == essence(expected[path.name]), path.name


def test_the_command_line_gives_the_same(checkpoint, paths, expected, tmp_path):
    out = tmp_path / "out"
    command = ["inspect", str(paths[0].parent), "--model", str(checkpoint), "--runtime", "torch"]
    assert main([*command, "--out", str(out)]) == 0
    results = [json.loads(line) for line in (out / "inspections.jsonl").read_text().splitlines()]
    assert {Path(result["path"]).name: essence(result) for result in results} == {
        name: essence(result) for name, result in expected.items()
    }


def test_a_large_jpeg_is_the_same_as_a_whole(judge, checkpoint, paths, tmp_path):
    """Where it is reduced while it is decoded, and, within what that changes, where it is not."""
    path = next(path for path in paths if path.name == "very large.jpg")
    decoded = judge.read(path, tiles=False)
    assert decoded.image.size == (275, 375) and decoded.size == (1100, 1500)
    wanted = essence(judge.inspect(decoded, tiles=False).to_json())
    with served(judge.models) as address:
        client = Client(address, verbose=False, download_files=tmp_path / "downloads")
        found, _ = client.predict(image=handle_file(path), tiles=False, api_name="/inspect")
        address = f"{address}/v1/inspect?tiles=false"
        over_http = httpx.post(address, content=path.read_bytes(), timeout=60).json()
    assert essence(found) == essence(over_http) == wanted
    out = tmp_path / "out"
    command = ["inspect", str(path), "--model", str(checkpoint), "--runtime", "torch", "--tiles", "off"]
    assert main([*command, "--out", str(out)]) == 0
    assert essence(json.loads((out / "inspections.jsonl").read_text())) == wanted
    whole = judge.inspect(read_image(path), tiles=False).to_json()
    assert whole["image"]["sha256_of"] == "pixels" and wanted["image"]["sha256_of"] == "file"
    for name in ("outcome", "verdict", "tiles", "model"):
        assert whole[name] == wanted[name]
    assert whole["abnormal_probability"] == pytest.approx(wanted["probability"], abs=0.01)


def test_the_scores_of_the_queue_are_the_same(judge, paths, expected, tmp_path):
    with Journal(tmp_path / "labels.db") as journal:
        shas = {}
        for path in paths:
            image = read_image(path)
            journal.add_image(image.sha256, image.image.size, path.name, path.read_bytes())
            shas[path.name] = image.sha256
        scorer = Scorer(journal, judge)
        while scorer.work():
            pass
        with journal.read() as database:
            scores = dict(
                map(tuple, database.execute("SELECT image_sha256, abnormal_probability FROM scores"))
            )
    for name, sha256 in shas.items():
        assert scores[sha256] == pytest.approx(expected[name]["abnormal_probability"], abs=1e-5), name


def test_the_label_tab_gives_the_same(judge, paths, expected, tmp_path):
    with Journal(tmp_path / "labels.db") as journal:
        desk = desk_of(journal, judge, Settings())
        for path in paths:
            image = read_image(path)
            journal.add_image(image.sha256, image.image.size, path.name, path.read_bytes())
            looked = logic.look(desk, image.sha256)["model"]
            stored = logic.save(desk, "ann", Answer(image.sha256, "unsure"))["event"]["model"]
            wanted = expected[path.name]
            assert looked["outcome"] == wanted["outcome"], path.name
            assert looked["abnormal_probability"] == stored["abnormal_probability"], path.name
            probability = pytest.approx(wanted["abnormal_probability"], abs=1e-5)
            assert stored["abnormal_probability"] == probability, path.name
        desk.close()
