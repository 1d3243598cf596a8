"""Teaching a chip in the app: what the tab does and shows. test_teach.py is about the models."""

import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from gradio.utils import get_upload_folder

from chipdemo.errors import DataError
from chipdemo.files import Limits
from chipdemo.rates import Rate
from chipdemo.teaching import Draft, Outlier, Taught
from chipdemo.threshold import OperatingPoint
from chipdemo.ui.teach import logic
from chipdemo.ui.teach.html import progress_html, review_html, summary_html
from chipdemo.ui.teach.logic import Step, TaughtSource, TeachService, Work, file_name, in_background
from chipdemo.ui.teach.tab import newest
from chipdemo.ui.turns import Turns
from tests.drawn import picture
from tests.fakes import FakeModel, FakeTeacher
from tests.serving import served
from tests.test_api import MARK, call, file_takers

HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture
def service():
    teacher = FakeTeacher()
    return TeachService(lambda: teacher, Limits())


@pytest.fixture
def goods(tmp_path):
    """12 uploads, one of them an outlier."""
    names = [f"{number}.png" for number in range(11)] + ["odd.png"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(picture(number))
    return [(name, tmp_path / name) for name in names]


def drafted(service, goods, defects=()) -> Draft:
    return list(service.draft(goods, defects))[-1]


def taught(service, draft, without=(), name="Board 7") -> Taught:
    return list(service.finish(draft, without, 0.02, name))[-1]


def test_outliers_are_shown_before_a_model_is_made(service, goods):
    *steps, draft = service.draft(goods, [])
    assert all(isinstance(step, Step) for step in steps)
    assert [one.name for one in draft.outliers] == ["odd.png"]
    page = review_html(draft)
    assert "odd.png" in page and "3.5" in page and "data-row='11' checked" in page
    assert draft.warnings[0] in page


@pytest.mark.parametrize("without, images, dropped", [((11,), 11, ("odd.png",)), ((), 12, ())])
def test_each_outlier_is_left_out_or_kept_as_chosen(service, goods, without, images, dropped):
    draft = drafted(service, goods)
    result = taught(service, draft, without)
    assert (result.images, result.dropped) == (images, dropped)
    page = summary_html(draft, result)
    assert "odd.png" in page and f"<b>{images}</b>" in page


def test_only_outliers_can_be_left_out(service, goods):
    assert taught(service, drafted(service, goods), (0, 5, 99, -1)).images == 12


def test_the_summary_shows_what_was_measured_and_the_commands(service, goods):
    draft = drafted(service, goods)
    few = taught(service, draft)
    page = summary_html(draft, few)
    assert "<strong>0 of 12</strong> good images" in page and "(0 %, 95 % interval 0–26 %)" in page
    assert "at most <b>17.5\u00a0%</b> are flagged" in page and "teach 114 good images" in page
    assert "<b>20,000</b>" in page and "6.7 MB" in page
    assert "python app.py --model Board-7\npython training/push.py Board-7 owner/Board-7" in page
    many = replace(few, images=200, point=OperatingPoint(0.5, Rate(4, 5), Rate(4, 200)))
    page = summary_html(draft, many)
    assert "<strong>4 of 200</strong>" in page and "<strong>4 of 5</strong> known defects" in page
    assert "<b>4.0\u00a0%</b>" in page and "“Flag at most 2 %”" in page
    none = replace(few, images=200, point=OperatingPoint(0.5, Rate(0, 0), Rate(0, 200)))
    assert "<b>1.1\u00a0%</b> are flagged, with 90 % confidence.</dd>" in summary_html(draft, none)


def test_texts_of_strangers_are_escaped(service):
    draft = Draft(12, (HOSTILE,), HOSTILE, (HOSTILE,), (Outlier(3, HOSTILE, 9.0, b"", b""),), 1.0)
    service.works[draft] = Work(FakeTeacher(), (), ())
    result = replace(taught(service, draft), dropped=(HOSTILE,), kept=(HOSTILE,), warnings=(HOSTILE,))
    pages = review_html(draft), summary_html(draft, result), progress_html(Step(0.5, HOSTILE, 1))
    assert not any("<img src=x" in page for page in pages)


@pytest.mark.parametrize(
    "name, folder",
    [("Board 7/b", "Board-7-b"), ("../../etc", "etc"), ("  ", "my-chip"), ("\u202ea\0b", "a-b"),
     ("芯片", "芯片"), ("x" * 99, "x" * 60)],
)  # fmt: skip
def test_the_name_of_a_chip_becomes_a_harmless_folder(name, folder):
    assert file_name(name) == folder


@pytest.mark.parametrize("count", [9, 0])
def test_fewer_than_ten_are_refused_before_anything_is_computed(service, goods, count):
    with pytest.raises(DataError, match=str(count)):
        drafted(service, goods[:count])
    assert service.teacher().seen == 0


def test_too_many_are_refused_with_the_command_for_more(service, goods, monkeypatch):
    monkeypatch.setattr(logic, "MAX_IMAGES", 11)
    with pytest.raises(DataError, match="12 .*11 .*python -m chipdemo teach"):
        drafted(service, goods)


def test_zips_are_taken_and_a_folder_of_defects_is_not_good(service, goods, tmp_path):
    for name in ("lot", "defect"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for number in range(10):
                archive.writestr(f"{name}/{number}.png", picture(number))
    assert drafted(service, [("a.zip", tmp_path / "lot.zip")]).images == 10
    with pytest.raises(DataError, match="defect"):
        drafted(service, [*goods, ("b.zip", tmp_path / "defect.zip")])
    assert drafted(service, goods, [("b.zip", tmp_path / "defect.zip")]).images == 12


def test_models_of_visitors_are_bounded_and_make_room_when_nobody_holds_them(service, goods, monkeypatch):
    monkeypatch.setattr(logic, "MAX_IN_MEMORY", 2)
    held = [taught(service, drafted(service, goods)) for _ in range(2)]
    with pytest.raises(DataError, match="2"):
        drafted(service, goods)
    held.pop()
    assert drafted(service, goods)


def test_work_reports_its_steps_and_ends_when_nobody_listens():
    go_on, ended = threading.Event(), threading.Event()

    def work(progress):
        try:
            progress(0.25, "reading")
            go_on.wait(20)
            progress(0.5, "reading")
        finally:
            ended.set()

    steps = in_background(work)
    assert next(step for step in steps if step.done).done == 0.25
    steps.close()
    go_on.set()
    assert ended.wait(20)


def test_an_error_of_the_work_arrives():
    def work(progress):
        raise DataError("too few")

    with pytest.raises(DataError, match="too few"):
        list(in_background(work))


def test_progress_shows_the_time_that_is_left():
    page = progress_html(Step(0.25, "reading images", 10))
    assert "25%" in page and "30 s" in page
    assert " s " not in progress_html(Step(0, "reading", 0))


def test_what_is_stopped_shows_nothing_more_and_its_work_ends():
    turns, ended = Turns(), []

    def work():
        try:
            yield {"step": 1}
            yield {"step": 2}
        finally:
            ended.append(True)

    updates = newest(turns, work())
    assert next(updates) == {"step": 1}
    turns.begin("teach")
    assert {"step": 2} not in list(updates) and ended


def uploaded(address):
    """Ten good images as a page sends them."""
    files = [("files", (f"{number}.png", picture(number))) for number in range(10)]
    paths = httpx.post(f"{address}/gradio_api/upload", files=files).json()
    return [{"path": path, **MARK} for path in paths]


def test_only_uploaded_files_are_taken_and_the_download_goes_when_the_app_stops(tmp_path):
    (tmp_path / "private.png").write_bytes(picture(1))
    teacher = FakeTeacher()
    with served(FakeModel(), teacher=lambda: teacher) as address:
        id, (defects, _, rate, turns) = file_takers(address)["on_teach"]
        for mark in ({}, MARK):
            payload = [{"path": str(tmp_path / "private.png"), **mark}] * 10
            call(address, id, [payload, defects, "", rate, turns])
        assert teacher.seen == 0
        said = call(address, id, [uploaded(address), defects, "Kept nowhere", rate, turns])
        assert "teach-done" in said and teacher.seen == 10
        (archive,) = Path(get_upload_folder()).rglob("Kept-nowhere.zip")
        endpoints = httpx.get(f"{address}/gradio_api/info").json()["named_endpoints"]
        assert "/inspect" in endpoints and not any("teach" in name for name in endpoints)
    assert not archive.exists()


class Meeting:
    """Waits until two are here, half a second at most. met: whether two ever were."""

    def __init__(self):
        self.met, self._barrier = False, threading.Barrier(2)

    def wait(self, timeout: float) -> None:
        try:
            self._barrier.wait(0.5)
            self.met = True
        except threading.BrokenBarrierError:
            self._barrier.reset()


def test_one_chip_is_taught_at_a_time():
    meeting = Meeting()
    with served(FakeModel(), teacher=lambda: FakeTeacher(meeting)) as address:
        id, (defects, _, rate, turns) = file_takers(address)["on_teach"]
        payload = [uploaded(address), defects, "", rate, turns]
        with ThreadPoolExecutor(2) as visitors:
            said = list(visitors.map(lambda visitor: call(address, id, payload, visitor), "ab"))
    assert all("teach-done" in one for one in said) and not meeting.met


def test_a_model_taught_on_the_page_or_the_app_s_own_is_recalibrated(service, goods):
    asked = []

    def continuing(source):
        asked.append(source)
        return FakeTeacher()

    further = replace(service, continuing=continuing)
    draft = list(further.draft(goods, [], TaughtSource("board-7", "runs/board-7")))[-1]
    assert asked == ["runs/board-7"] and service.teacher().seen == 0
    assert list(further.finish(draft, (), 0.02, "board-7"))[-1].images == 12


def test_of_several_kinds_of_images_one_is_chosen(service, goods, tmp_path):
    (tmp_path / "wide.png").write_bytes(picture(40))
    mixed = [(f"{kind}-{number}.png", path) for kind in ("wide", "tall") for number, (_, path) in
             enumerate(goods[: 11 if kind == "wide" else 4])]  # fmt: skip
    draft = drafted(service, mixed)
    page = review_html(draft)
    assert "landscape: 11 images of about 64 × 48 px" in page and "data-row='0' checked" in page
    assert "portrait: 4 images of about 48 × 64 px; 6 more are needed to teach it" in page
    one = list(service.draft_kind(draft, 0))[-1]
    assert (one.images, one.kinds) == (11, ())
    assert list(service.draft_kind(draft, -1))[-1].images == 15
