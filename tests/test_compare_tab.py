"""The Compare tab's work as functions of values, with fake models."""

import threading
from base64 import b64decode
from dataclasses import replace
from datetime import datetime, timezone
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from chipdemo.ablation.format import write_ablation
from chipdemo.errors import CheckpointError
from chipdemo.examples import ELPV_CREDIT, elpv_image
from chipdemo.images import decode_image, read_image
from chipdemo.inspection import outcome_text
from chipdemo.models import Models
from chipdemo.settings import Settings
from chipdemo.ui.compare import charts, html, logic, tab
from chipdemo.ui.compare.logic import (
    Answer,
    ComparedModel,
    Lineup,
    after_baselines,
    answers,
    disagreements,
    selected_rows,
)
from chipdemo.ui.inspect.logic import inspection_json
from tests.ablations import UNSURE, ablation_json, row_json, small_ablation
from tests.fakes import FakeModel, fake_judge

DATE = datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc)
HOSTILE = "<img src=x onerror=alert(1)>'\"${alert(2)}{{value}}"


@pytest.fixture
def dark() -> Path:
    """An uploaded black image: abnormal for the fake model, probability 1."""
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


@pytest.fixture(scope="module")
def parts() -> tab.Parts:
    """The tab's components, outside of an app."""
    with gr.Blocks():
        return tab.layout(Settings())


class Loader:
    """Loads fakes; svm's checkpoint is broken. folders: what was asked for."""

    def __init__(self):
        self.folders = []

    def __call__(self, folder: Path) -> FakeModel:
        self.folders.append(folder.name)
        if folder.name == "svm":
            raise CheckpointError("svm has no model.safetensors.")
        return FakeModel()


class Broken(FakeModel):
    def predict(self, pixels, methods=()):
        raise RuntimeError("out of memory at 0x7f00")


class Parsed(HTMLParser):
    """tags, with their classes; open is empty where each tag is closed; text of the rest."""

    VOID = ("img", "br", "input")

    def __init__(self, content: str):
        super().__init__()
        self.open, self.tags, self.classes, self.text = [], [], [], ""
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.classes += (dict(attrs).get("class") or "").split()
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def answered(lineup: Lineup, path: Path, name: str = "chip.png") -> list[tuple[Parsed, bool]]:
    steps = tab.answered(lineup, {"path": str(path), "orig_name": name}, 64)
    return [(Parsed(content), unfinished) for content, unfinished in steps]


def test_the_models_are_the_one_in_use_and_the_rows_whose_checkpoint_is_here(shipped):
    lineup = Lineup(Models(FakeModel()), ["elsewhere"], shipped, Loader())
    assert [(model.id, model.name) for model in lineup.models()] == [
        ("in-use", "fake-model"), ("plain", "Plain"), ("svm", "SVM"),
    ]  # fmt: skip


def test_the_model_in_use_is_not_asked_twice_where_it_is_a_row(shipped, dark):
    loader = Loader()
    lineup = Lineup(Models(FakeModel()), [str(shipped.parent / "runs" / "plain")], shipped, loader)
    assert [answer.model.id for answer in answers(lineup, read_image(dark))] == ["plain", "svm"]
    assert loader.folders == ["svm"]


def test_a_newer_model_in_use_answers_as_soon_as_it_has_taken_over(dark):
    older, newer = FakeModel(), FakeModel()
    models = Models(older)
    lineup = Lineup(models)
    models.first.replace(newer)
    list(answers(lineup, read_image(dark)))
    assert (older.predictions, newer.predictions) == (0, 1)


@pytest.mark.parametrize("content", [None, "no JSON"])
def test_without_a_usable_ablation_the_model_in_use_answers_alone(tmp_path, content):
    if content:
        (tmp_path / "ablation.json").write_text(content)
    lineup = Lineup(Models(FakeModel()), (), tmp_path / "ablation.json", Loader())
    assert [model.id for model in lineup.models()] == ["in-use"]
    assert [model.id for model in Lineup(Models(FakeModel())).models()] == ["in-use"]


def test_a_model_is_loaded_for_its_first_image_and_once(shipped, dark):
    loader = Loader()
    lineup = Lineup(Models(FakeModel()), (), shipped, loader)
    plain, decoded = lineup.models()[1], read_image(dark)
    assert loader.folders == []
    threads = [threading.Thread(target=lineup.inspect_with, args=[plain, decoded]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loader.folders == ["plain"]


def test_a_model_that_fails_says_why_and_the_others_still_answer(shipped, dark, caplog):
    in_use, plain, svm = answers(Lineup(Models(Broken()), (), shipped, Loader()), read_image(dark))
    assert in_use.inspection is None and "RuntimeError" in in_use.error
    assert "out of memory" in caplog.text and "out of memory" not in in_use.error
    assert plain.inspection.verdict == "abnormal"
    assert svm.to_json("chip.png", DATE, ()) == {
        "id": "svm",
        "name": "SVM",
        "error": "svm has no model.safetensors.",
    }


def test_the_answer_of_a_model_is_the_json_of_an_inspection(dark):
    inspection = fake_judge().inspect(read_image(dark))
    answer = Answer(ComparedModel("a", "A", None), inspection)
    assert answer.to_json("chip.png", DATE, ["Turned upright"]) == {
        "id": "a",
        "name": "A",
        "inspection": inspection_json(inspection, "chip.png", DATE, ["Turned upright"]),
    }


def test_the_page_grows_by_a_model_at_a_time(shipped, dark):
    steps = answered(Lineup(Models(FakeModel()), (), shipped, Loader()), dark, "my chip.png")
    assert [page.tags.count("article") for page, _ in steps] == [0, 1, 2, 3]
    assert [unfinished for _, unfinished in steps] == [True, True, True, False]
    last = steps[-1][0]
    assert "my chip.png" in last.text and "svm has no model.safetensors." in last.text
    assert [name for name in last.classes if name in ("abnormal", "failed")] == [
        "abnormal", "abnormal", "failed",
    ]  # fmt: skip
    assert last.text.count("1.00") == last.text.count("0.40") == 2


def test_an_image_that_cannot_be_read_says_why(tmp_path, dark):
    dark.with_name("text.png").write_text("this is no image")
    for path in (dark.with_name("text.png"), tmp_path):
        ((page, unfinished),) = answered(Lineup(Models(FakeModel())), path)
        assert "message" in page.classes and page.text and not unfinished


@pytest.mark.parametrize(
    "changes, outcome",
    [
        ({"verdict": "normal", "out_of_distribution": False}, "normal"),
        ({"verdict": "abnormal", "out_of_distribution": False}, "abnormal"),
        ({"verdict": "abnormal", "out_of_distribution": True}, "out_of_distribution"),
        ({"verdict": "normal", "out_of_distribution": True}, "out_of_distribution"),
    ],
)
def test_each_answer_is_of_one_of_three_classes(dark, changes, outcome):
    inspection = replace(fake_judge().inspect(read_image(dark)), **changes)
    page = Parsed(html.answer_html(Answer(ComparedModel("a", "A", None), inspection), ""))
    assert page.classes[:2] == ["answer", outcome]
    assert outcome_text(outcome) in page.text.lower()


def test_a_row_stands_after_its_baseline():
    assert [row.id for row in after_baselines(small_ablation().rows)] == ["plain", "plain-cbam", "svm"]


def test_rows_that_name_each_other_as_baselines_are_not_lost():
    rows = [row_json("a", "A", UNSURE, 0.6, baseline="b"), row_json("b", "B", UNSURE, 0.6, baseline="a")]
    assert [row.id for row in after_baselines(small_ablation(rows=rows).rows)] == ["a", "b"]


def test_only_rows_that_exist_can_be_selected_and_six_at_most():
    rows = small_ablation(rows=[row_json(f"r{i}", f"R{i}", UNSURE, 0.6) for i in range(9)]).rows
    assert [row.id for row in selected_rows(rows, ["r5", "nobody", "r2", {}, None])] == ["r2", "r5"]
    assert len(selected_rows(rows, [row.id for row in rows])) == 6
    for strange in (None, "r1", 3, {"r1": 1}):
        assert selected_rows(rows, strange) == []


def test_models_disagree_where_their_verdicts_differ_the_widest_apart_first():
    plain_cbam, plain, svm = small_ablation().rows
    assert disagreements([plain_cbam, plain]).tolist() == [3, 1]  # 0.7 and 0.2; 0.2 and 0.6
    assert disagreements([plain, svm]).tolist() == [] == disagreements([plain]).tolist()


def test_the_table_shows_what_stands_behind_each_number():
    ablation = small_ablation()
    page = Parsed(html.table_html(ablation, after_baselines(ablation.rows)))
    for part in (
        "none (random)", "2 seeds", "an imagined paper", "drawn chips, test split, 6 images",
        "+0.333", "0.031", "1.2 M", "350 M", "120/s", "90 s", "1,142 images",
    ):  # fmt: skip
        assert part in page.text


@pytest.mark.parametrize(
    "p, kind, number", [(0.049, "significant", "0.049"), (0.05, "not-significant", "0.050"),
                        (0, "significant", "< 0.001")],
)  # fmt: skip
def test_a_difference_is_significant_below_a_p_of_0_05(p, kind, number):
    page = Parsed(html.difference_html(replace(small_ablation().rows[0].versus_baseline, p=p)))
    assert page.classes == [kind] and number in page.text


def test_a_difference_of_nothing_has_no_sign():
    difference = replace(small_ablation().rows[0].versus_baseline, difference=-0.0001)
    assert Parsed(html.difference_html(difference)).text.startswith("0.000")


def test_the_head_shows_data_seeds_date_machine_and_command():
    text = html.about_html(small_ablation())
    for part in (
        "3 abnormal, 3 normal", "20 other", "CC0", "0, 1 for each", "2026-11-21", "imagined machine",
        "python training/ablate.py --seeds 2",
    ):  # fmt: skip
        assert part in text


def test_rows_may_have_different_numbers_of_seeds():
    rows = ablation_json()["rows"]
    rows[2]["seeds"] = rows[2]["seeds"][:1]
    for summary in rows[2]["summary"].values():
        summary["sd"] = None
    assert "1 to 2" in html.about_html(small_ablation(rows=rows))


def every_piece(ablation) -> list[str]:
    """The pieces of the tab that show an ablation."""
    rows = after_baselines(ablation.rows)
    return [
        html.about_html(ablation),
        html.table_html(ablation, rows),
        html.scatter_html(rows, "auroc"),
        html.plots_html(rows, ablation.abnormal, ablation.data.split),
        html.disagreements_html(ablation, rows),
    ]


def test_names_from_a_strangers_file_are_escaped():
    content = ablation_json()
    content |= {"machine": HOSTILE, "command": HOSTILE}
    content["data"] |= {"name": HOSTILE, "license": HOSTILE, "split": HOSTILE}
    content["images"]["file"] = [HOSTILE] * 6
    difference = content["rows"][0]["versus_baseline"] | {"test": HOSTILE}
    for index, row in enumerate(content["rows"]):
        row |= {"id": f"{HOSTILE}{index}", "name": HOSTILE, "source": HOSTILE, "starting_weights": HOSTILE}
        row |= {"precision": HOSTILE[:40], "baseline": None, "versus_baseline": None}
    content["rows"][0] |= {"baseline": f"{HOSTILE}1", "versus_baseline": difference}
    for piece in every_piece(small_ablation(**content)):
        page = Parsed(piece)
        assert "img" not in page.tags and page.open == []
        assert "onerror" in page.text


def test_answers_escape_names_and_errors():
    failed = html.answer_html(Answer(ComparedModel("a", HOSTILE, None), None, HOSTILE), "")
    page = Parsed(html.answers_html(HOSTILE, [failed], 1) + html.message_html(HOSTILE))
    assert "img" not in page.tags and page.text.count("onerror") == 4


def test_nothing_is_plotted_of_no_selection():
    ablation = small_ablation()
    assert Parsed(html.plots_html([], ablation.abnormal, "split")).tags == ["p"]
    assert Parsed(html.disagreements_html(ablation, ablation.rows[:1])).tags == ["p"]


def test_confusions_are_means_over_the_seeds():
    text = Parsed(html.plots_html(small_ablation().rows[1:2], small_ablation().abnormal, "split")).text
    assert "2 of 3 abnormal images (67 %, 95 % interval 9–99 %)" in text


def test_disagreements_show_truth_and_each_models_probability():
    ablation = small_ablation()
    page = Parsed(html.disagreements_html(ablation, ablation.rows[:2]))
    assert page.tags.count("article") == 2 and "img" not in page.tags
    assert page.text.index("chip3.png") < page.text.index("chip1.png")
    assert "0.20normal, wrong" in page.text and ELPV_CREDIT not in page.text


def test_a_picture_is_shown_only_where_its_content_is_the_one_measured_and_with_credit():
    path = elpv_image("cell0008.png")
    if path is None:
        pytest.skip("elpv-dataset is not installed")
    images = ablation_json()["images"]
    images["file"][3], images["sha256"][3] = "cell0008.png", read_image(path).sha256
    images["file"][1] = "cell0009.png"  # of another content
    ablation = small_ablation(images=images)
    text = html.disagreements_html(ablation, ablation.rows[:2])
    assert text.count("<img") == 1 and ELPV_CREDIT in text


@pytest.mark.parametrize("name", ["../labels.csv", "/etc/passwd", "..", "", "x" * 300, "none.png", "a\0b"])
def test_no_name_leads_out_of_the_data_set(name):
    assert elpv_image(name) is None
    assert logic.picture_of(name, "0" * 64) == ""


def test_numbers_keep_clear_of_each_other():
    points = [(50, 50), (51, 50), (52, 51), (50, 52), (90, 10), (0, 100)]
    offsets = charts.number_offsets(points)
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
    assert all(0 <= axis.percent(tick) <= 100 for tick in axis.ticks)
    assert all(f"{tick:e}"[0] in "125" for tick in axis.ticks)


def test_the_mean_roc_curve_of_a_right_and_a_wrong_seed_is_halfway():
    right, wrong = [0.1, 0.2, 0.3, 0.7, 0.8, 0.9], [0.9, 0.8, 0.7, 0.3, 0.2, 0.1]
    row = row_json("a", "A", right, 0.5)
    row["seeds"][1]["probabilities"] = wrong
    ablation = small_ablation(rows=[row])
    recall = charts.mean_recall(ablation.rows[0], ablation.abnormal)
    assert recall[1:-1].tolist() == pytest.approx([0.5] * 199) and recall[-1] == 1


def test_the_reliability_diagram_has_a_dot_for_each_filled_bin():
    # 0.1 and 0.2 are edges of bins; two seeds each
    rows = small_ablation(rows=[row_json("a", "A", [0.0, 0.1, 0.2, 0.2, 0.95, 1.0], 0.5)]).rows
    text = charts.reliability_svg(rows, small_ablation().abnormal)
    assert text.count("<circle") == 3
    for dot in ("0.05, abnormal 0 of 2 ", "0.20, abnormal 1 of 2 ", "0.97, abnormal 2 of 2 "):
        assert dot in text


def test_the_tab_shows_the_shipped_ablation(parts, shipped):
    values = tab.show_shipped(parts, shipped, "accuracy")
    assert set(values) == set(parts.shown)
    assert values[parts.loaded] == "" and not values[parts.back].visible and values[parts.metric].visible
    assert "drawn chips" in values[parts.about] and values[parts.plots].count("<svg class='chart") == 2


@pytest.mark.parametrize("path", [None, Path("nowhere/ablation.json")])
def test_without_an_ablation_the_tab_says_how_to_make_one(parts, path):
    values = tab.show_shipped(parts, path, "accuracy")
    assert set(values) == set(parts.shown)
    assert "training/ablate.py" in values[parts.about]
    assert values[parts.message] == "" and not values[parts.metric].visible
    assert "published" in Parsed(values[parts.table]).classes


def test_a_damaged_shipped_ablation_is_told_and_the_tab_stays_usable(parts, tmp_path):
    (tmp_path / "ablation.json").write_text("{}")
    values = tab.show_shipped(parts, tmp_path / "ablation.json", "accuracy")
    assert "message" in Parsed(values[parts.message]).classes
    assert "training/ablate.py" in values[parts.about]


def test_another_ablation_can_be_left_again(parts, shipped):
    values = tab.show_ablation(parts, str(shipped), shipped, "accuracy")
    assert values[parts.loaded] == str(shipped) and values[parts.back].visible


def test_the_picture_of_a_light_image_is_small_and_without_red():
    light = decode_image(Image.new("RGB", (900, 600), (240, 240, 240)))
    uri = logic.answer_picture(light.image, fake_judge().inspect(light))
    assert uri.startswith("data:image/jpeg;base64,") and len(uri) < 20_000
    picture = np.asarray(Image.open(BytesIO(b64decode(uri.partition(",")[2]))))
    assert picture.shape == (240, 360, 3) and abs(picture.astype(int) - 240).max() <= 2


def test_a_large_image_is_compared_as_it_is_inspected_in_tiles():
    image = Image.new("RGB", (1600, 1600), (240, 240, 240))
    image.paste((0, 0, 0), (700, 700, 900, 900))
    decoded, model = decode_image(image), FakeModel()
    model.info = replace(model.info, image_side=300)
    (answer,) = answers(Lineup(Models(model)), decoded)
    alone = fake_judge(model).inspect(decoded)
    assert answer.inspection.tiles.count == alone.tiles.count > 1
    assert answer.inspection.abnormal_probability == alone.abnormal_probability > 0.4
    assert answer.inspection.regions == alone.regions
