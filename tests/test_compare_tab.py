"""The Compare tab's work as functions of values, with fake inspectors."""

import threading
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from chipdemo.ablation.format import write_ablation
from chipdemo.errors import CheckpointError
from chipdemo.examples import ELPV_CREDIT, elpv_image
from chipdemo.images import read_image
from chipdemo.ui.compare import charts
from chipdemo.ui.compare import html as fragments
from chipdemo.ui.compare import logic as comparing
from chipdemo.ui.compare import tab as ablation_tab
from chipdemo.ui.compare.logic import (
    Answer,
    Contender,
    Lineup,
    answers,
    beside_twins,
    disagreements,
    ticked_rows,
)
from tests.ablations import UNSURE, ablation_json, row_json, small_ablation
from tests.fakes import FakeModel

HOSTILE = "<img src=x onerror=alert(1)>'\"${alert(2)}{{value}}"


@pytest.fixture
def dark() -> Path:
    """An uploaded black image: abnormal for the fake inspector, probability 1."""
    folder = Path(get_upload_folder()) / "compare-test"
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (60, 40), "black").save(folder / "dark.png")
    return folder / "dark.png"


@pytest.fixture
def shipped(tmp_path) -> Path:
    """A shipped ablation, where only the rows plain and svm have a checkpoint, and svm's is broken."""
    rows = ablation_json()["rows"]
    for row, checkpoint in zip(rows, ("runs/gone", "runs/plain", "runs/svm")):
        row["checkpoint"] = checkpoint
    for name in ("plain", "svm"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    write_ablation(tmp_path / "ablation.json", small_ablation(rows=rows))
    return tmp_path / "ablation.json"


class Loader:
    """Loads fakes; svm's checkpoint is broken. folders: what was asked for."""

    def __init__(self):
        self.folders = []

    def __call__(self, folder: Path) -> FakeModel:
        self.folders.append(folder.name)
        if folder.name == "svm":
            raise CheckpointError("Expected model.safetensors in svm; it is not there.")
        return FakeModel()


class Broken(FakeModel):
    def inspect(self, image, threshold=None):
        raise RuntimeError("out of memory at 0x7f00")


class Balanced(HTMLParser):
    """Counts the tags of a piece of HTML; open is empty where each is closed."""

    VOID = ("img", "br", "input")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def image(path: Path):
    return read_image(path, 64)


def judged(lineup: Lineup, payload) -> list[tuple[str, bool]]:
    return list(ablation_tab.judged(lineup, payload, 64))


def test_the_models_are_the_one_in_use_and_the_rows_whose_checkpoint_is_here(shipped):
    lineup = Lineup(FakeModel(), "elsewhere", shipped, Loader())
    assert [(c.id, c.name) for c in lineup.contenders()] == [
        ("in-use", "fake-model"), ("plain", "Plain"), ("svm", "SVM"),
    ]  # fmt: skip


def test_the_model_in_use_is_not_asked_twice_where_it_is_a_row(shipped):
    loader = Loader()
    lineup = Lineup(FakeModel(), str(shipped.parent / "runs" / "plain"), shipped, loader)
    assert [c.id for c in lineup.contenders()] == ["plain", "svm"]
    lineup.inspector_of(lineup.contenders()[0])
    assert loader.folders == []


def test_a_newer_model_in_use_judges_as_soon_as_it_has_taken_over(dark):
    inspector, newer = FakeModel(), FakeModel()
    lineup = Lineup(inspector)
    inspector.current = lambda: newer
    list(answers(lineup, image(dark)))
    assert (inspector.inspections, newer.inspections) == (0, 1)


@pytest.mark.parametrize("content", [None, "no JSON"])
def test_without_a_usable_ablation_the_model_in_use_answers_alone(tmp_path, content):
    if content:
        (tmp_path / "ablation.json").write_text(content)
    lineup = Lineup(FakeModel(), "", tmp_path / "ablation.json", Loader())
    assert [c.id for c in lineup.contenders()] == ["in-use"]
    assert [c.id for c in Lineup(FakeModel()).contenders()] == ["in-use"]


def test_a_model_is_loaded_when_it_is_first_asked_and_once(shipped, dark):
    loader = Loader()
    lineup = Lineup(FakeModel(), "", shipped, loader)
    lineup.contenders()
    assert loader.folders == []
    plain = lineup.contenders()[1]
    threads = [threading.Thread(target=lineup.inspector_of, args=[plain]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loader.folders == ["plain"]


def test_a_model_that_fails_says_why_and_the_others_still_answer(shipped, dark, caplog):
    lineup = Lineup(Broken(), "", shipped, Loader())
    in_use, plain, svm = answers(lineup, image(dark))
    assert in_use.error == "This model failed (RuntimeError); the server's log says more."
    assert "out of memory" in caplog.text
    assert plain.inspection.verdict == "abnormal"
    assert svm.to_json(()) == {
        "id": "svm", "name": "SVM", "error": "Expected model.safetensors in svm; it is not there.",
    }  # fmt: skip


def test_the_answer_of_a_model_is_the_json_of_an_inspection(dark):
    inspection = FakeModel().inspect(image(dark).image)
    told = Answer(Contender("a", "A", None), inspection).to_json(["Turned upright"])
    assert told == {
        "id": "a",
        "name": "A",
        "inspection": {**inspection.to_json(), "notes": ["Turned upright"]},
    }


def test_the_page_grows_by_a_model_at_a_time(shipped, dark):
    steps = judged(
        Lineup(FakeModel(), "", shipped, Loader()), {"path": str(dark), "orig_name": "my chip.png"}
    )
    assert [text.count("<article") for text, _ in steps] == [0, 1, 2, 3]
    assert [going_on for _, going_on in steps] == [True, True, True, False]
    last = steps[-1][0]
    assert "my chip.png" in last and "3 models;" in last and "2 of 3 models so far" in steps[-2][0]
    assert "No verdict" in last and "model.safetensors" in last
    assert "probability <strong>1.00</strong>, threshold 0.40" in last and "16 ms" in last


def test_a_image_that_cannot_be_read_says_why(tmp_path, dark):
    dark.with_name("text.png").write_text("this is no image")
    for path, message in ((dark.with_name("text.png"), "found text"), (tmp_path, "was not uploaded")):
        ((text, going_on),) = judged(Lineup(FakeModel()), {"path": str(path)})
        assert message in text and "role='alert'" in text and not going_on


def test_a_image_unlike_the_training_ones_is_not_called_abnormal_in_red(dark):
    inspection = replace(FakeModel().inspect(image(dark).image), out_of_distribution=True)
    text = fragments.answer_html(Answer(Contender("a", "A", None), inspection), "")
    assert "class='answer unlike'" in text and "out of distribution" in text


def test_a_row_stands_after_its_twin():
    assert [row.id for row in beside_twins(small_ablation().rows)] == ["plain", "plain-cbam", "svm"]


def test_twins_that_name_each_other_are_not_lost():
    rows = [row_json("a", "A", UNSURE, 0.6, twin="b"), row_json("b", "B", UNSURE, 0.6, twin="a")]
    assert [row.id for row in beside_twins(small_ablation(rows=rows).rows)] == ["a", "b"]


def test_only_rows_that_exist_can_be_ticked_and_six_at_most():
    rows = small_ablation(rows=[row_json(f"r{i}", f"R{i}", UNSURE, 0.6) for i in range(9)]).rows
    assert [row.id for row in ticked_rows(rows, ["r5", "nobody", "r2", {}, None])] == ["r2", "r5"]
    assert len(ticked_rows(rows, [row.id for row in rows])) == 6
    for strange in (None, "r1", 3, {"r1": 1}):
        assert ticked_rows(rows, strange) == []


def test_models_differ_where_their_verdicts_do_the_widest_apart_first():
    plain_cbam, plain, svm = small_ablation().rows
    assert disagreements([plain_cbam, plain]).tolist() == [3, 1]  # 0.7 and 0.2; 0.2 and 0.6
    assert disagreements([plain, svm]).tolist() == [] == disagreements([plain]).tolist()


def test_the_table_says_what_stands_behind_each_number():
    ablation = small_ablation()
    text = fragments.table_html(ablation, beside_twins(ablation.rows))
    assert "weights: none (random)" in text and "2 seeds" in text and "an imagined paper" in text
    assert "drawn chips, test, 6 images" in text
    assert "<strong>+0.333</strong> accuracy" in text and "beyond chance</span>, p 0.031" in text
    assert "1.2 M" in text and "350 M" in text and "120/s in 32s" in text and "90 s" in text
    assert "Theirs, not ours" in text and "1,142 images, which are private" in text


@pytest.mark.parametrize(
    "p, words",
    [(0.049, "beyond chance</span>, p 0.049"), (0.05, "within chance</span>, p 0.050"), (0, "p below 0.001")],
)
def test_a_difference_is_called_beyond_chance_in_words(p, words):
    difference = replace(small_ablation().rows[0].versus_twin, p=p)
    assert words in fragments.difference_html(difference)


def test_a_difference_of_nothing_has_no_sign():
    difference = replace(small_ablation().rows[0].versus_twin, difference=-0.0001)
    assert "<strong>0.000</strong>" in fragments.difference_html(difference)


def test_the_head_says_data_seeds_date_machine_and_command():
    text = fragments.about_html(small_ablation())
    for told in (
        "3 abnormal, 3 normal", "20 others", "CC0", "0, 1 for each model", "2026-11-21", "imagined machine",
        "python training/ablate.py --seeds 2",
    ):  # fmt: skip
        assert told in text


def test_rows_may_have_different_numbers_of_seeds():
    rows = ablation_json()["rows"]
    rows[2]["seeds"] = rows[2]["seeds"][:1]
    for summary in rows[2]["summary"].values():
        summary["sd"] = None
    text = fragments.about_html(small_ablation(rows=rows))
    assert "1 to 2 a model" in text


def everything(ablation) -> dict[str, str]:
    """Each piece of the tab that shows an ablation."""
    rows = beside_twins(ablation.rows)
    return {
        "about": fragments.about_html(ablation),
        "table": fragments.table_html(ablation, rows),
        "scatter": fragments.scatter_html(rows, "auroc"),
        "drawn": fragments.drawn_html(rows, ablation.abnormal, ablation.data.part),
        "disagreements": fragments.disagreements_html(ablation, rows),
    }


@pytest.mark.parametrize("piece", list(everything(small_ablation())))
def test_names_from_a_strangers_file_are_escaped(piece):
    content = ablation_json()
    content |= {"machine": HOSTILE, "command": HOSTILE}
    content["data"] |= {"name": HOSTILE, "license": HOSTILE, "part": HOSTILE}
    content["images"]["file"] = [HOSTILE] * 6
    for index, row in enumerate(content["rows"]):
        row |= {"id": f"{HOSTILE}{index}", "name": HOSTILE, "source": HOSTILE, "starting_weights": HOSTILE}
        row |= {"precision": HOSTILE[:40], "twin": None, "versus_twin": None}
    content["rows"][0] |= {"twin": f"{HOSTILE}1", "versus_twin": ablation_json()["rows"][0]["versus_twin"]}
    content["rows"][0]["versus_twin"]["test"] = HOSTILE
    parsed = Balanced(everything(small_ablation(**content))[piece])
    assert "img" not in parsed.tags and parsed.open == []


def test_answers_escape_names_and_errors():
    failed = fragments.answer_html(Answer(Contender("a", HOSTILE, None), None, HOSTILE), "")
    text = fragments.answers_html(HOSTILE, [failed], 1) + fragments.message_html(HOSTILE)
    assert "img" not in Balanced(text).tags


def test_without_ticks_the_page_says_what_to_do():
    ablation = small_ablation()
    assert "Tick models in the table" in fragments.drawn_html([], ablation.abnormal, "part")
    assert "Tick two models" in fragments.disagreements_html(ablation, ablation.rows[:1])


def test_confusions_are_means_over_the_seeds():
    text = fragments.drawn_html(small_ablation().rows[1:2], small_ablation().abnormal, "part")
    assert "2 <small>67%</small>" in text and "1 <small>33%</small>" in text


def test_disagreements_show_truth_and_each_models_probability():
    ablation = small_ablation()
    text = fragments.disagreements_html(ablation, ablation.rows[:2])
    assert "2 of 6 test images" in text
    assert text.index("chip3.png") < text.index("chip1.png")
    assert "labeled abnormal" in text and "<td>0.20</td><td>normal, <strong>wrong</strong></td>" in text
    assert "<img" not in text and "CC BY-NC-SA" not in text


def test_a_picture_is_shown_only_where_its_content_is_the_one_measured_and_with_credit():
    path = elpv_image("cell0008.png")
    if path is None:
        pytest.skip("elpv-dataset is not installed")
    sha256 = read_image(path).sha256
    images = ablation_json()["images"]
    images["file"][3], images["sha256"][3] = "cell0008.png", sha256
    images["file"][1] = "cell0009.png"  # of another content
    ablation = small_ablation(images=images)
    text = fragments.disagreements_html(ablation, ablation.rows[:2])
    assert text.count("<img") == 1 and ELPV_CREDIT in text


@pytest.mark.parametrize("name", ["../labels.csv", "/etc/passwd", "..", "", "x" * 300, "none.png", "a\0b"])
def test_no_name_leads_out_of_the_data_set(name):
    assert elpv_image(name) is None
    assert comparing.picture_of(name, "0" * 64) == ""


def test_numbers_keep_clear_of_points_and_of_each_other():
    points = [(50, 50), (51, 50), (52, 51), (50, 52), (90, 10), (0, 100)]
    offsets = charts.number_places(points)
    places = [
        (x / 100 * charts.NARROW + dx, y / 100 * charts.HEIGHT + dy)
        for (x, y), (dx, dy) in zip(points, offsets)
    ]
    for i, (x, y) in enumerate(places):
        for a, b in places[i + 1 :]:
            assert abs(x - a) >= charts.LABEL[0] or abs(y - b) >= charts.LABEL[1]


def test_charts_can_be_drawn_of_one_row_without_time_or_spread():
    summary = dict.fromkeys(
        small_ablation().rows[0].summary, {"mean": 1.0, "sd": 0.0, "low": 1.0, "high": 1.0}
    )
    rows = small_ablation(rows=[row_json("a", "A", UNSURE, 0.6, latency_ms=0, summary=summary)]).rows
    text = charts.scatter_svg(rows, "accuracy")
    assert "nan" not in text and "<circle" in text


@pytest.mark.parametrize("values", [[3, 160], [0.002, 0.003], [1e-3, 1e5]])
def test_the_axis_of_time_has_a_few_round_ticks(values):
    axis = charts.log_axis("ms", values)
    assert 1 <= len(axis.ticks) <= 9
    assert all(0 <= axis.share(tick) <= 1 for tick in axis.ticks)
    assert all(f"{tick:e}"[0] in "125" for tick in axis.ticks)


def test_the_tab_shows_the_shipped_ablation(shipped):
    values = dict(zip(SHOWN, ablation_tab.shipped(shipped, "accuracy")))
    assert values["loaded"] == "" and not values["back"].visible and values["metric"].visible
    assert "3 models on drawn chips" in values["about"] and "ROC curves" in values["drawn"]


SHOWN = ("loaded", "message", "back", "about", "table", "metric", "scatter", "drawn", "disagreements")


@pytest.mark.parametrize("path", [None, Path("nowhere/ablation.json")])
def test_without_an_ablation_the_tab_says_what_to_do_next(path):
    values = dict(zip(SHOWN, ablation_tab.shipped(path, "accuracy"), strict=True))
    assert "No comparison here yet" in values["about"] and "training/ablate.py" in values["about"]
    assert values["message"] == "" and not values["metric"].visible
    assert "Theirs, not ours" in values["table"]


def test_a_damaged_shipped_ablation_is_told_and_the_tab_stays_usable(tmp_path):
    (tmp_path / "ablation.json").write_text("{}")
    values = dict(zip(SHOWN, ablation_tab.shipped(tmp_path / "ablation.json", "accuracy"), strict=True))
    assert "found format None" in values["message"] and "No comparison here yet" in values["about"]


def test_another_ablation_can_be_left_again(shipped):
    values = dict(zip(SHOWN, ablation_tab.shown(str(shipped), shipped, "accuracy"), strict=True))
    assert values["loaded"] == str(shipped) and values["back"].visible


def test_the_picture_of_an_answer_is_small_and_red_only_where_evidence_is(dark):
    image = Image.new("RGB", (900, 600), (240, 240, 240))
    light = FakeModel().inspect(image)
    uri = comparing.answer_picture(image, light)
    assert uri.startswith("data:image/jpeg;base64,") and len(uri) < 20_000
    assert np.array(light.heat["evidence"]).max() == 0
