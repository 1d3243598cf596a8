"""Teaching a chip in the app: what the tab does and says. test_teach.py is of what is learned."""

import threading
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from chipdemo.errors import DataError
from chipdemo.files import Found, Limits
from chipdemo.settings import Settings
from chipdemo.teaching import Draft, Standout, Taught
from chipdemo.ui.page import build_app
from chipdemo.ui.teach import html as teach_fragments
from chipdemo.ui.teach import logic as teaching
from chipdemo.ui.teach.logic import Classroom, Told, as_it_goes
from chipdemo.vision.anomaly.features import starting_backbone
from chipdemo.vision.anomaly.teacher import NetworkTeacher
from chipdemo.vision.predictor import load_model
from tests.drawn import chip, chips, picture
from tests.fakes import FakeModel, FakeTeacher
from tests.serving import served
from tests.test_api import MARK, call, file_takers

HOSTILE = "<img src=x onerror=alert(1)>.png"


@pytest.fixture
def room():
    teacher = FakeTeacher()
    return Classroom(lambda: teacher, Limits())


@pytest.fixture
def goods(tmp_path):
    """12 uploads, one of which stands out."""
    names = [f"{number}.png" for number in range(11)] + ["odd.png"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(picture(number))
    return [(name, tmp_path / name) for name in names]


def drafted(room, goods, defects=()) -> Draft:
    return list(teaching.look(room, goods, defects))[-1]


def taught(room, draft, without=(), name="Board 7") -> Taught:
    return list(teaching.finish(room, draft, without, 0.02, name))[-1]


def test_what_stands_out_is_shown_before_it_is_learned(room, goods):
    *told, draft = teaching.look(room, goods, [])
    assert all(isinstance(one, Told) for one in told) and [one.name for one in draft.standouts] == ["odd.png"]
    page = teach_fragments.review_html(draft)
    assert "1 of 12 good images stands out" in page and "3.5 times as far" in page
    assert "data-row='11' checked" in page and "All of them are drawn." in page


@pytest.mark.parametrize(
    "without, learned, said", [((11,), 11, "Left out by you"), ((), 12, "Learned, though")]
)
def test_each_that_stands_out_is_left_out_or_kept_as_chosen(room, goods, without, learned, said):
    draft = drafted(room, goods)
    found = taught(room, draft, without)
    assert found.images == learned
    page = teach_fragments.summary_html(draft, found)
    assert f"{said}" in page and "odd.png" in page and f"<b>{learned}</b> good images" in page


def test_only_what_stands_out_can_be_left_out(room, goods):
    assert taught(room, drafted(room, goods), (0, 5, 99, -1)).images == 12


def test_the_summary_says_what_was_measured_and_the_commands(room, goods):
    draft = drafted(room, goods)
    page = teach_fragments.summary_html(draft, taught(room, draft))
    assert "<b>0 of 12</b> would be stopped, each judged by the others; at most 2 % was asked for" in page
    assert "So few images cannot measure that" in page and "6.7 MB" in page and "none given" in page
    assert "python app.py --model Board-7\npython training/push.py Board-7 owner/Board-7" in page
    found = replace(taught(room, draft), images=100, false_positive_rate=0.02, defects=5, recall=0.8)
    page = teach_fragments.summary_html(draft, found)
    assert "<b>2 of 100</b>" in page and "cannot measure" not in page and "<b>4 of 5</b> are caught" in page


def test_texts_of_strangers_are_escaped(room):
    draft = Draft(12, (HOSTILE,), (HOSTILE,), (Standout(3, HOSTILE, 9.0, b"", b""),), 1.0)
    found = replace(taught(room, draft), left_out=(HOSTILE,), kept=(HOSTILE,), warnings=(HOSTILE,))
    pages = teach_fragments.review_html(draft), teach_fragments.summary_html(draft, found)
    pages += teach_fragments.refused_html(HOSTILE), teach_fragments.progress_html(Told(0.5, HOSTILE, 1))
    assert not any("<img src=x" in page for page in pages)


@pytest.mark.parametrize(
    "name, folder",
    [("Board 7/b", "Board-7-b"), ("../../etc", "etc"), ("  ", "my-chip"), ("\u202ea\0b", "a-b"),
     ("芯片", "芯片"), ("x" * 99, "x" * 60)],
)  # fmt: skip
def test_the_name_of_a_chip_becomes_a_harmless_folder(name, folder):
    assert teaching.file_name(name) == folder


def test_fewer_than_ten_are_refused_before_anything_is_computed(room, goods):
    with pytest.raises(DataError, match="at least 10 good images; found 9. Add more of them"):
        drafted(room, goods[:9])
    with pytest.raises(DataError, match="found 0"):
        drafted(room, [])
    assert room.teacher().looked == 0


def test_too_many_are_refused_with_the_command_for_more(room, goods, monkeypatch):
    monkeypatch.setattr(teaching, "MOST", 11)
    with pytest.raises(DataError, match="at most 11 images; found 12.*python -m chipdemo teach"):
        drafted(room, goods)


def test_a_zip_is_taken_and_one_with_a_folder_of_defects_is_no_good(room, goods, tmp_path):
    for name in ("lot", "defect"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for number in range(10):
                archive.writestr(f"{name}/{number}.png", picture(number))
    assert drafted(room, [("a.zip", tmp_path / "lot.zip")]).images == 10
    with pytest.raises(DataError, match="good images alone; found the folder defect"):
        drafted(room, [*goods, ("b.zip", tmp_path / "defect.zip")])
    assert drafted(room, goods, [("b.zip", tmp_path / "defect.zip")]).images == 12


def test_chips_of_visitors_in_memory_are_bounded_and_free_their_place_when_nobody_has_them(
    room, goods, monkeypatch
):
    monkeypatch.setattr(teaching, "MOST_KEPT", 2)
    held = [taught(room, drafted(room, goods)) for _ in range(2)]
    with pytest.raises(DataError, match="fewer than 2 taught chips in use at a time; found 2"):
        drafted(room, goods)
    held.pop()
    assert drafted(room, goods)


def test_progress_is_told_and_nobody_listening_ends_the_work():
    went_on, ended = threading.Event(), threading.Event()

    def work(progress):
        try:
            progress(0.25, "looking")
            went_on.wait(20)
            progress(0.5, "looking")
        finally:
            ended.set()

    going = as_it_goes(work)
    assert next(going).done == 0.25
    going.close()
    went_on.set()
    assert ended.wait(20)


def test_what_the_work_raises_arrives():
    def work(progress):
        raise DataError("Expected more.")

    with pytest.raises(DataError, match="Expected more"):
        list(as_it_goes(work))


def test_progress_says_how_long_it_will_take():
    page = teach_fragments.progress_html(Told(0.25, "looking at images", 10))
    assert "Looking at images: 25%, about 30 s left" in page
    assert "left" not in teach_fragments.progress_html(Told(0, "reading", 0))


@pytest.fixture(scope="module")
def teacher():
    made = NetworkTeacher()
    backbone = starting_backbone()
    made.backbone = replace(backbone, spec=replace(backbone.spec, image_size=96))
    return made


def found_in(folder):
    return [Found(path.name, path) for path in sorted(folder.iterdir())]


def silent(done, what):
    pass


def test_the_network_teaches_shows_where_and_packs_what_the_app_opens(teacher, tmp_path):
    folder = chips(tmp_path / "goods", 11)
    chip(50, "turned").resize((192, 96)).save(folder / "odd.png")
    told = []
    draft = teacher.look(
        found_in(folder),
        found_in(chips(tmp_path / "bad", 2, "scratch", first=300)),
        Limits(),
        lambda done, what: told.append(done),
    )
    assert told == sorted(told) and told[0] == 0 and 0.9 < told[-1] <= 1
    assert "Expected sides in one proportion; found 2, from 1.0 to 2.0" in draft.warnings[0]
    (odd,) = draft.standouts
    assert odd.name == "odd.png" and odd.times > 1.5
    red, green, _ = np.asarray(image_of(odd.marked), int).reshape(-1, 3).T
    assert image_of(odd.picture).size == (240, 120) and (red - green > 60).mean() > 0.02
    found = teacher.finish(draft, [odd.row], 0.02, "board-7", silent)
    assert (found.images, found.left_out, found.kept) == (11, ("odd.png",), ())
    assert found.warnings == ()
    assert (found.defects, found.recall) == (2, 1.0) and found.memory_bytes < 20_000_000
    (tmp_path / "it.zip").write_bytes(found.archive)
    zipfile.ZipFile(tmp_path / "it.zip").extractall(tmp_path / "unpacked")
    again = load_model(str(tmp_path / "unpacked" / "board-7"))
    assert again.info == found.inspector.info and again.info.name == "board-7"
    assert found.inspector.inspect(chip(301, "turned")).verdict == "abnormal"


def image_of(data):
    return Image.open(BytesIO(data))


def test_one_image_cannot_be_good_and_defective(teacher, tmp_path):
    goods = found_in(chips(tmp_path / "goods", 10))
    with pytest.raises(DataError, match="found 003.png among both"):
        teacher.look(goods, goods[3:4], Limits(), silent)


def test_defects_that_cannot_be_used_are_called_so(teacher, tmp_path):
    goods = found_in(chips(tmp_path / "goods", 10))
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="Known defects: Expected images that can be used"):
        teacher.look(goods, [Found("notes.txt", tmp_path / "notes.txt")], Limits(), silent)


def test_uploaded_files_alone_are_taken_and_what_was_taught_goes_when_the_app_stops(tmp_path):
    (tmp_path / "private.png").write_bytes(picture(1))
    teacher = FakeTeacher()
    with served(FakeModel(), teacher=lambda: teacher) as address:
        id, (defects, _, rate) = file_takers(address)["on_teach"]
        for mark in ({}, MARK):
            payload = [{"path": str(tmp_path / "private.png"), **mark}] * 10
            call(address, id, [payload, defects, "", rate])
        assert teacher.looked == 0
        files = [("files", (f"{number}.png", picture(number))) for number in range(10)]
        paths = httpx.post(f"{address}/gradio_api/upload", files=files).json()
        said = call(address, id, [[{"path": path, **MARK} for path in paths], defects, "Kept nowhere", rate])
        assert "is learned" in said and teacher.looked == 10
        (archive,) = Path(get_upload_folder()).rglob("Kept-nowhere.zip")
    assert not archive.exists()


def test_one_chip_is_taught_at_a_time_and_by_no_endpoint_of_the_api():
    app = build_app(FakeModel(), Settings(), teacher=FakeTeacher)
    events = [one for one in app.fns.values() if one.name in ("on_teach", "on_go_on")]
    assert {(one.concurrency_id, one.concurrency_limit) for one in events} == {("teach", 1)}
    assert list(app.get_api_info()["named_endpoints"]) == ["/inspect", "/inspect_batch", "/compare"]
