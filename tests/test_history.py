"""Inspections that are opened again, and the example that the page opens with."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from chipdemo.examples import Example, ExampleSet
from chipdemo.inspection import CAM, CBAM
from chipdemo.judge import Judge
from chipdemo.labeling.inspections import KeptHistory, PageHistory
from chipdemo.models import ModelInUse, Models
from chipdemo.monitoring import Recent
from chipdemo.settings import Settings
from chipdemo.ui.auth import Annotators
from chipdemo.ui.inspect import history, tab
from chipdemo.ui.inspect.first_example import FirstExample
from chipdemo.ui.inspect.history_html import Listing, history_html, listing_of
from chipdemo.ui.inspect.layout import AS_A_WHOLE, AUTOMATIC, IN_TILES, Parts, layout
from chipdemo.ui.inspect.logic import Current
from chipdemo.ui.turns import Turns
from tests.fakes import INFO, FakeModel, Knows, fake_judge
from tests.test_label_api import Asked, profile

ACCOUNTS = (("ada", "a"), ("bob", "b"))
HOSTILE = "<img src=x onerror=alert(1)>'\".png"


@pytest.fixture
def images(tmp_path) -> Path:
    """dark.png is abnormal, light.png normal, for the fake model."""
    Image.new("RGB", (60, 40), "black").save(tmp_path / "dark.png")
    Image.new("RGB", (60, 40), "white").save(tmp_path / "light.png")
    spot = Image.new("RGB", (90, 90), "white")
    spot.paste("black", (0, 0, 70, 54))
    spot.save(tmp_path / "spot.png")
    return tmp_path


def examples(*paths: Path) -> list[ExampleSet]:
    return [ExampleSet(INFO.name, "drawings", "ours", tuple(Example(path, path.stem) for path in paths))]


@cache
def components() -> Parts:
    with gr.Blocks():
        return layout(fake_judge(), gr.HTML(), Settings(), [])


class Visitor:
    """One page of a visitor: what gradio keeps for it, and its events."""

    def __init__(self, judge: Judge, journal, sets=(), first=None, who: Asked | None = None, **settings):
        self.settings = Settings(**settings)
        self.parts = replace(components(), example_sets=sets)
        self.inspecting = tab.Handlers(self.parts, judge, self.settings, Recent())
        annotators = Annotators(self.settings)
        self.handlers = history.Handlers(self.inspecting, annotators, journal, first)
        self.turns, self.page, self.who = Turns(), PageHistory(), who or Asked()
        self.current, self.info = None, judge.models.first.model.info

    def inspect(self, index: int, threshold: float = 0.4, method: str = CAM, tiles: str = IN_TILES):
        """An example of the page, as a visitor's image; the strip that is then shown."""
        chosen = gr.SelectData(None, {"index": index, "value": ""})
        found = self.inspecting.on_example(
            self.turns, None, AUTOMATIC, self.info, threshold, method, tiles, chosen
        )
        self.current = found[self.parts.current]
        return self.keep(self.handlers.on_inspected, threshold)

    def keep(self, handler: Callable, threshold: float):
        arguments = (self.current, self.turns, self.info, threshold, AUTOMATIC, Listing(), self.page)
        return handler(*arguments, self.who, None)[self.parts.history]

    def open(self, address: str) -> dict:
        return self.handlers.on_address(address, self.turns, None, self.page, self.who, None)


def told(current: Current, threshold: float) -> dict:
    """The JSON without what is measured anew."""
    result = current.to_json(threshold)
    assert result.pop("timing_ms")
    return result


def test_an_address_opens_the_same_inspection_on_another_page(images, journal):
    judge = fake_judge()
    first = Visitor(judge, journal, examples(images / "spot.png"))
    strip = first.inspect(0, 0.37, CBAM)
    sha256 = first.current.inspection.image_sha256
    assert f"data-shown='{sha256}'" in strip and "spot.png" in strip

    again = Visitor(judge, journal)
    shown = again.open(sha256)
    current = shown[again.parts.current]
    assert told(current, 0.37) == told(first.current, 0.37) and current.to_json(0.37)["method"] == CBAM
    assert (shown[again.parts.threshold], shown[again.parts.note]) == (0.37, "")
    assert shown[again.parts.stage]["heat"] == first.current.view()["heat"]
    assert shown[again.parts.method].value == CBAM and shown[again.parts.raw]["threshold"] == 0.37


def test_a_large_image_opens_in_the_view_that_was_chosen(tmp_path, journal):
    image = Image.new("RGB", (1600, 1600), (235, 235, 235))
    image.paste((20, 20, 20), (300, 300, 1000, 1000))
    image.save(tmp_path / "large.png")
    visitor = Visitor(fake_judge(), journal, examples(tmp_path / "large.png"))
    visitor.inspect(0, tiles=AS_A_WHOLE)
    shown = visitor.open(visitor.current.inspection.image_sha256)
    assert shown[visitor.parts.tiles].value == AS_A_WHOLE
    assert shown[visitor.parts.current].to_json(0.4)["tiles"]["seen"] == 0


def test_a_threshold_chosen_later_is_opened_too_and_the_list_says_what_it_decides(images, journal):
    visitor = Visitor(fake_judge(), journal, examples(images / "spot.png"))
    assert "class='outcome abnormal'" in visitor.inspect(0)
    strip = visitor.keep(visitor.handlers.on_chosen, 0.99)
    assert "class='outcome normal'" in strip and "data-shown" not in strip
    sha256 = visitor.current.inspection.image_sha256
    assert visitor.open(sha256)[visitor.parts.threshold] == 0.99


def test_opening_is_no_inspection_and_keeps_its_place(images, journal):
    heard = []
    visitor = Visitor(
        fake_judge(None, heard.append), journal, examples(images / "dark.png", images / "light.png")
    )
    visitor.inspect(0)
    dark = visitor.current
    visitor.inspect(1)
    shown = visitor.open(dark.inspection.image_sha256)
    assert len(heard) == 2 and shown[visitor.parts.current].date == dark.date
    listed = visitor.handlers.on_list(Listing(), visitor.page, visitor.who, None)[visitor.parts.history]
    assert listed.index("light.png") < listed.index("dark.png")


def test_an_inspection_of_somebody_else_or_of_nobody_is_not_in_the_history(images, journal):
    ada = Visitor(fake_judge(), journal, examples(images / "dark.png"), who=Asked("ada"), auth=ACCOUNTS)
    ada.inspect(0)
    for who, address in (("bob", ada.current.inspection.image_sha256), ("ada", "0" * 64), ("ada", "'\"--")):
        visitor = Visitor(fake_judge(), journal, who=Asked(who), auth=ACCOUNTS)
        shown = visitor.open(address)
        assert shown[visitor.parts.stage]["message"] == (
            "This inspection is not in your history. Inspect the image again, or sign in as who inspected it."
        )
        assert not isinstance(shown[visitor.parts.current], Current)
    assert isinstance(ada.open(ada.current.inspection.image_sha256)[ada.parts.current], Current)


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0"}, {"share": True}, {"history_images": 0}])
def test_of_a_visitor_whom_nobody_knows_only_the_page_remembers(images, journal, settings):
    visitor = Visitor(fake_judge(), journal, examples(images / "dark.png"), **settings)
    assert "only until this page is closed" in visitor.inspect(0)
    sha256 = visitor.current.inspection.image_sha256
    assert isinstance(visitor.open(sha256)[visitor.parts.current], Current)
    with journal.read() as database:
        for table in ("inspections", "contents"):
            assert database.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] == 0
    another = Visitor(fake_judge(), journal, **settings)
    assert "until the page is closed" in another.open(sha256)[another.parts.stage]["message"]


def test_an_owner_is_an_account_or_the_user_of_this_machine():
    local = Annotators(Settings())
    assert local.owner(Asked(), None) == "this machine"
    assert local.owner(Asked(host="chips.example"), None) is None
    assert local.owner(Asked(**{"sec-fetch-site": "cross-site"}), None) is None
    accounts = Annotators(Settings(auth=ACCOUNTS))
    assert accounts.owner(Asked("ada"), None) == "account ada" and accounts.owner(Asked(), None) is None
    space = Annotators(Settings(), oauth=True)
    assert space.owner(Asked(), profile("ada")) == "huggingface ada" and space.owner(Asked(), None) is None


def test_without_its_model_an_inspection_is_judged_by_those_in_use_and_the_page_says_so(images, journal):
    visitor = Visitor(fake_judge(), journal, examples(images / "dark.png"))
    visitor.inspect(0, 0.3)
    sha256 = visitor.current.inspection.image_sha256
    newer = Visitor(fake_judge(Knows("newer", 0.1)), journal)
    shown = newer.open(sha256)
    assert shown[newer.parts.threshold] == 0.1  # its own
    note = shown[newer.parts.note]
    assert f"fake-model {INFO.revision} said “abnormal” (1.00)" in note and "newer newer-1 judges now" in note
    assert visitor.open(sha256)[visitor.parts.note] == ""


def test_of_several_models_the_one_that_judged_judges_again_though_another_knows_the_image_better(
    images, journal
):
    dark, light = Knows("dark-parts", 0.1), Knows("light-parts", 0.9)
    visitor = Visitor(Judge(Models(light)), journal, examples(images / "dark.png"))
    visitor.inspect(0, 0.9)
    both = Visitor(Judge(Models(light, dark)), journal)
    shown = both.open(visitor.current.inspection.image_sha256)
    assert shown[both.parts.shown_model].name == "light-parts" and shown[both.parts.note] == ""


def test_names_and_filters_from_outside_are_harmless(images, journal):
    visitor = Visitor(fake_judge(), journal, examples(images / "dark.png"))
    visitor.inspect(0)
    entry = history.entry_of(replace(visitor.current, name=HOSTILE), 0.4, AUTOMATIC)
    kept = KeptHistory(journal, "this machine", visitor.handlers._history(None, Asked(), None).limits)
    kept.keep(replace(entry, model=HOSTILE), images / "dark.png")
    text = history_html(kept.last(), Listing(), "kept")
    assert HOSTILE not in text and "<img src=x" not in text and "&lt;img src=x" in text
    assert listing_of({"outcome": "x' OR 1", "model": 5, "count": 10**9}) == Listing(count=1000)
    assert listing_of({}) == Listing()


def test_the_page_opens_with_the_first_clear_defect_judged_once_for_all(images):
    heard, model = [], FakeModel()
    sets = examples(images / "light.png", images / "dark.png", images / "spot.png")
    judge = fake_judge(model, heard.append)
    first = FirstExample(judge, sets, 64)
    visitors = [Visitor(judge, None, sets, first) for _ in range(3)]
    shown = [one.handlers.on_start("", one.turns, one.info, 0.4, CAM) for one in visitors]
    assert [each[one.parts.stage]["name"] for one, each in zip(visitors, shown)] == ["spot.png"] * 3
    assert model.predictions == 3 and heard == []  # dark.png is abnormal everywhere
    parts = components()
    assert "<strong>Example: </strong>spot. To inspect an image of your own" in shown[0][parts.note]
    assert "ABNORMAL" in shown[0][parts.verdict] and shown[0][parts.stage]["regions"]


def test_the_example_is_in_no_history(images, journal):
    sets = examples(images / "spot.png")
    judge = fake_judge()
    visitor = Visitor(judge, journal, sets, FirstExample(judge, sets, 64))
    visitor.current = visitor.open("")[visitor.parts.current]
    for handler in (visitor.handlers.on_inspected, visitor.handlers.on_chosen):
        visitor.keep(handler, 0.9)
    assert visitor.handlers.on_list(Listing(), visitor.page, visitor.who, None)[visitor.parts.history] == ""
    assert visitor.inspect(0)  # chosen by the visitor, it is one of theirs


def test_an_address_in_the_page_goes_before_the_example(images):
    sets = examples(images / "spot.png")
    judge = fake_judge()
    visitor = Visitor(judge, None, sets, FirstExample(judge, sets, 64))
    shown = visitor.handlers.on_start("0" * 64, visitor.turns, visitor.info, 0.4, CAM)
    assert visitor.parts.stage not in shown


def test_a_replaced_model_judges_the_example_anew(images):
    sets, model = examples(images / "spot.png"), FakeModel()
    in_use = ModelInUse(model)
    first = FirstExample(Judge(Models(in_use)), sets, 64)
    assert first.current(1).model is model and first.current(2).turn == 2
    in_use.replace(Knows("newer", 0.1))
    assert first.current(3).model.info.name == "newer"


def test_a_page_without_a_readable_example_opens_empty(images):
    (images / "bad.png").write_bytes(b"no image")
    sets = examples(images / "bad.png")
    judge = fake_judge()
    visitor = Visitor(judge, None, sets, FirstExample(judge, sets, 64))
    shown = visitor.handlers.on_start("", visitor.turns, visitor.info, 0.4, CAM)
    assert shown[visitor.parts.stage]["state"] == "empty" and "No image yet" in shown[visitor.parts.verdict]
