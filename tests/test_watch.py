"""A watched folder: each whole file is judged once, whatever happens to process, disk and share."""

import csv
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from chipdemo.__main__ import main
from chipdemo.batch.followers import POSITION, Webhook
from chipdemo.batch.report import CSV, row_of, write_tables
from chipdemo.batch.run import RESULTS
from chipdemo.batch.watch import BEHIND_S, STATUS_S, Watch, watching
from chipdemo.errors import BatchError
from chipdemo.files import append_whole
from tests.batches import task
from tests.drawn import picture
from tests.drawn_images import draw
from tests.fakes import Breaks, FakeModel
from tests.tiny import draw_chips, tiny_checkpoint
from tests.waiting import until

ROOT = Path(__file__).parent.parent
POLL_S = 1.0


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder "in" to watch, without events unless a test wants them."""
    monkeypatch.setitem(sys.modules, "watchdog.observers", None)
    (tmp_path / "in").mkdir()
    return tmp_path


@pytest.fixture
def watch_of(place, clock):
    """Watches "in" for results in "out", each for a block of its own."""

    def opened(model: FakeModel | None = None, **options):
        return watching(task(model), place / "in", place / "out", POLL_S, clock=clock, **options)

    return opened


def light(path: Path) -> Path:
    """A normal one for the fake model."""
    Image.new("RGB", (120, 90), (240, 240, 240)).save(path)
    return path


def settle(watch: Watch, clock: Clock) -> None:
    """Look twice, so that what is whole is judged."""
    for _ in range(2):
        clock.now += POLL_S
        watch.step()


def lines_in(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / RESULTS).read_text(encoding="utf-8").splitlines()]


def files_in(out: Path) -> list[str]:
    return sorted(line["file"] for line in lines_in(out))


def rows_in(out: Path) -> list[dict]:
    with (out / CSV).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def csv_of(out: Path, place: Path) -> bytes:
    """What `inspect` would write of the same lines."""
    (place / "expected").mkdir(exist_ok=True)
    write_tables(lines_in(out), place / "expected")
    return (place / "expected" / CSV).read_bytes()


# --- which files, and when ----------------------------------------------------------------------


def test_a_file_is_judged_when_it_has_stopped_growing(place, watch_of, clock):
    whole = picture(1)
    file = place / "in" / "lot" / "chip.png"
    file.parent.mkdir()
    with watch_of() as watch:
        file.write_bytes(whole[:100])
        assert not watch.step()
        clock.now += POLL_S
        file.write_bytes(whole)
        assert not watch.step()
        clock.now += POLL_S / 2
        assert not watch.step()
        clock.now += POLL_S / 2
        assert watch.step()
    (line,) = lines_in(place / "out")
    assert (line["file"], line["outcome"]) == ("lot/chip.png", "abnormal")
    assert (line["path"], line["size"]) == (str(file), len(whole))


def test_a_renamed_file_is_whole_at_once(place, watch_of):
    with watch_of() as watch:
        watch.step()
        draw(place / "part.png", 1).rename(place / "in" / "chip.png")
        watch.arrivals.note(str(place / "in" / "chip.png"), renamed=True)
        assert watch.step()
    assert files_in(place / "out") == ["chip.png"]


def test_an_event_is_enough(place, clock, monkeypatch):
    """With an hour between the looks, only events tell of a file."""
    monkeypatch.undo()
    pytest.importorskip("watchdog.observers")
    with watching(task(), place / "in", place / "out", 3600) as watch:
        thread = threading.Thread(target=watch.run)
        thread.start()
        until(lambda: watch.arrivals.walked_at is not None)
        draw(place / "in" / "part.png", 1).rename(place / "in" / "chip.png")
        until(lambda: lines_in(place / "out"))
        watch.stop()
        thread.join()
    assert files_in(place / "out") == ["chip.png"]


def test_what_is_no_image_is_skipped_and_counted(place, watch_of, clock, caplog):
    caplog.set_level(logging.INFO)
    folder = place / "in"
    for name in ("Thumbs.db", "chip.txt", "half.png.part", "half.png.tmp", ".hidden.png", "~half.png"):
        (folder / name).write_bytes(b"no image")
    (folder / ".trash").mkdir()
    draw(folder / ".trash" / "old.png", 1)
    draw(place / "elsewhere.png", 1)
    (folder / "link.png").symlink_to(place / "elsewhere.png")
    draw(folder / "CHIP.PNG", 1)
    with watch_of() as watch:
        settle(watch, clock)
    assert files_in(place / "out") == ["CHIP.PNG"]
    assert "holds 1 image, 0 of them judged before. Other files, which are skipped: 7." in caplog.text


def test_an_image_that_cannot_be_decoded_is_one_error_and_flagged(place, watch_of, clock):
    (place / "in" / "bad.png").write_bytes(b"no image")
    (place / "in" / "empty.png").write_bytes(b"")
    for _ in range(2):
        with watch_of() as watch:
            settle(watch, clock)
            settle(watch, clock)
    bad, empty = sorted(lines_in(place / "out"), key=lambda line: line["file"])
    assert "text" in bad["error"] and "outcome" not in bad and "empty" in empty["error"]
    assert (place / "out" / bad["flagged"]).read_bytes() == b"no image"
    assert (place / "out" / empty["flagged"]).read_bytes() == b""


def test_an_image_that_the_program_fails_at_is_one_error_and_judged_once(place, watch_of, clock):
    light(place / "in" / "a.png")
    Image.new("RGB", (120, 90), "red").save(place / "in" / "b.png")
    for _ in range(2):
        with watch_of(Breaks()) as watch:
            settle(watch, clock)
    light(place / "in" / "c.png")
    with watch_of(Breaks()) as watch:
        settle(watch, clock)
    a, b, c = lines_in(place / "out")
    assert (a["outcome"], c["outcome"]) == ("normal", "normal")
    assert b["error"].startswith("An error of the program (ValueError)")
    assert (place / "out" / b["flagged"]).read_bytes() == (place / "in" / "b.png").read_bytes()


def test_the_oldest_is_judged_first(place, watch_of, clock):
    for number in (3, 1, 2):
        path = light(place / "in" / f"{9 - number}.png")
        os.utime(path, (number, number))
    with watch_of() as watch:
        settle(watch, clock)
    assert [line["file"] for line in lines_in(place / "out")] == ["8.png", "7.png", "6.png"]


# --- once ---------------------------------------------------------------------------------------


def test_each_file_is_judged_once_over_restarts(place, watch_of, clock):
    model = FakeModel()
    for number in range(20):
        draw(place / "in" / f"{number:02}.png", number)
    for _ in range(3):
        with watch_of(model) as watch:
            settle(watch, clock)
            settle(watch, clock)
    assert model.predictions == 20
    draw(place / "in" / "20.png", 20)
    (place / "in" / "00.png").unlink()
    with watch_of(model) as watch:
        settle(watch, clock)
    assert model.predictions == 21
    assert files_in(place / "out") == [f"{number:02}.png" for number in range(21)]


def test_a_file_that_is_written_over_is_a_new_one_and_the_old_one_is_kept(place, watch_of, clock):
    file = draw(place / "in" / "chip.png", 1)
    first = file.read_bytes()
    with watch_of() as watch:
        settle(watch, clock)
        draw(file, 2)
        settle(watch, clock)
        os.utime(file, (1, 1))
        settle(watch, clock)
    lines = lines_in(place / "out")
    assert [line["file"] for line in lines] == ["chip.png"] * 3
    assert len({line["id"] for line in lines}) == 3
    kept = [(place / "out" / line["flagged"]).read_bytes() for line in lines]
    assert kept == [first, file.read_bytes(), file.read_bytes()]


def test_a_file_that_changes_while_it_is_read_is_judged_when_it_is_whole(place, watch_of, clock):
    """The first image changes the second one before that is read."""
    folder, model, late = place / "in", FakeModel(), place / "in" / "z.png"
    for number in range(12):
        draw(folder / f"{number:02}.png", number)
        os.utime(folder / f"{number:02}.png", (number, number))
    draw(late, 50)
    prepare = model.prepare

    def changing(image):
        with late.open("ab") as file:
            file.write(b"more")
        return prepare(image)

    model.prepare = changing
    with watch_of(model) as watch:
        settle(watch, clock)
        assert "z.png" not in files_in(place / "out")
        model.prepare = prepare
        settle(watch, clock)
    assert files_in(place / "out").count("z.png") == 1


def test_flagged_images_have_names_of_their_own(place, watch_of, clock):
    folder = place / "in"
    for name in ("a/chip.png", "b/chip.png", "a_chip.png", "c/good.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (light if "good" in name else lambda path: draw(path, len(path.name)))(folder / name)
    long = draw(folder / f"{'é' * 120}.png", 7)
    with watch_of() as watch:
        settle(watch, clock)
    flagged = {line["file"]: line["flagged"] for line in lines_in(place / "out")}
    assert flagged["c/good.png"] == ""
    assert Path(flagged["a/chip.png"]).name.startswith("a_chip-")
    assert Path(flagged[long.name]).name.startswith("éééé")
    found = {f"flagged/{path.name}" for path in (place / "out" / "flagged").iterdir()}
    assert found == set(flagged.values()) - {""} and len(found) == 4


def test_a_flagged_image_has_a_name_that_a_windows_share_takes(place, watch_of, clock):
    draw(place / "in" / '12:30:01 "a*b?".png', 1)
    with watch_of() as watch:
        settle(watch, clock)
    (line,) = lines_in(place / "out")
    assert (
        line["flagged"].startswith("flagged/12_30_01 _a_b__-") and (place / "out" / line["flagged"]).exists()
    )


def test_the_csv_is_that_of_inspect(place, watch_of, clock):
    for name in ("=1+1.png", "new\nline.png", "plain.png"):
        draw(place / "in" / name, 1)
    (place / "in" / "bad.png").write_bytes(b"no image")
    with watch_of() as watch:
        settle(watch, clock)
        assert (place / "out" / CSV).read_bytes() == csv_of(place / "out", place)
        draw(place / "in" / "later.png", 1)
        settle(watch, clock)
    assert (place / "out" / CSV).read_bytes() == csv_of(place / "out", place)
    assert {row["file"] for row in rows_in(place / "out")} == {
        "'=1+1.png",
        "new\nline.png",
        "plain.png",
        "bad.png",
        "later.png",
    }


@pytest.mark.parametrize("kept", ["nothing", "half a header", "half a row", "half a quoted row", "one more"])
def test_the_csv_is_completed_from_the_lines(place, watch_of, clock, kept):
    for name in ("a.png", "new\r\nline.png", "z.png"):
        os.utime(draw(place / "in" / name, 1), (len(name), len(name)))
    with watch_of() as watch:
        settle(watch, clock)
    path, lines = place / "out" / CSV, lines_in(place / "out")
    whole = path.read_bytes()
    middle = whole.index(b"new\r\n")
    path.write_bytes(
        {
            "nothing": b"",
            "half a header": whole[:20],
            "half a row": whole[:-9],
            "half a quoted row": whole[: middle + 5],
            "one more": whole + whole.splitlines(keepends=True)[1],
        }[kept]
    )
    with watch_of() as watch:
        assert path.read_bytes() == whole
        watch.step()
    assert lines_in(place / "out") == lines


# --- the process is killed ----------------------------------------------------------------------

VICTIM = """
import os, signal, sys
from importlib import import_module
from pathlib import Path
from tests.batches import task
from chipdemo.batch.watch import watching

place, url, module, name, moment, turn = sys.argv[1:]
module, calls = import_module(module), []
function = getattr(module, name)

def deadly(path, content):
    calls.append(path)
    if len(calls) != int(turn):
        return function(path, content)
    if moment == "in":
        with open(path, "ab") as file:
            file.write(content[: len(content) // 2])
    if moment == "after":
        function(path, content)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(module, name, deadly)
with watching(task(), Path(place, "in"), Path(place, "out"), 0.001, url) as watch:
    watch.run(once=True)
"""
MOMENTS = {
    "a flagged image is copied": ("chipdemo.batch.watch", "write_whole", "after", 3),
    "results are written": ("chipdemo.batch.run", "append_whole", "in", 2),
    "the CSV is to follow": ("chipdemo.batch.run", "append_whole", "after", 2),
    "the CSV is written": ("chipdemo.batch.followers", "append_whole", "in", 2),
    "the webhook has answered": ("chipdemo.batch.followers", "write_whole", "before", 4),
    "the first start": ("chipdemo.batch.run", "write_whole", "before", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_9_loses_nothing_and_doubles_nothing(place, watch_of, clock, moment):
    for number in range(40):
        (draw if number % 2 else lambda path, _: light(path))(place / "in" / f"{number:02}.png", number)
    with receiver() as server:
        command = [sys.executable, "-c", VICTIM, str(place), server.url, *map(str, MOMENTS[moment])]
        assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
        with watching(task(), place / "in", place / "out", 0.001, server.url) as watch:
            watch.run(once=True)
    lines = lines_in(place / "out")
    assert files_in(place / "out") == [f"{number:02}.png" for number in range(40)]
    assert (place / "out" / CSV).read_bytes() == csv_of(place / "out", place)
    flagged = {line["flagged"]: line["id"] for line in lines if line["flagged"]}
    assert len(flagged) == 20
    assert {f"flagged/{path.name}" for path in (place / "out" / "flagged").iterdir()} == flagged.keys()
    assert {key for key, _ in server.taken} == set(flagged.values())
    assert len(server.taken) <= len(flagged) + 1


# --- the webhook --------------------------------------------------------------------------------


class Receiver(ThreadingHTTPServer):
    """Takes posts. answers: status codes of the next ones, 200 after them."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken, self.refused, self.answers = [], [], []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/verdicts"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        status = self.server.answers.pop(0) if self.server.answers else 200
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kept = self.server.taken if status == 200 else self.server.refused
        kept.append((self.headers["Idempotency-Key"], json.loads(body)))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def posts(watch: Watch, server: Receiver) -> list[str]:
    """The names of the files that the server has taken after another try."""
    watch.webhook.deliver()
    return [result["file"] for _, result in server.taken]


def test_each_flagged_result_is_posted_until_it_is_taken(place, watch_of, clock, caplog):
    draw(place / "in" / "1.png", 1)
    light(place / "in" / "2.png")
    (place / "in" / "3.png").write_bytes(b"no image")
    for number in (1, 2, 3):
        os.utime(place / "in" / f"{number}.png", (number, number))
    with receiver() as server, watch_of(webhook=server.url) as watch:
        server.answers = [500, 404]
        settle(watch, clock)
        pauses = [watch.webhook.deliver() for _ in range(3)]
        assert pauses == [1, 2, 0]
        assert [(key, result) for key, result in server.taken] == [
            (line["id"], line) for line in lines_in(place / "out") if line["file"] != "2.png"
        ]
        assert [result["file"] for _, result in server.refused] == ["1.png", "1.png"]
    assert caplog.text.count("HTTP status 500") == 1 and caplog.text.count("takes results again") == 1


def test_pauses_grow_to_five_minutes_while_nobody_answers(place, watch_of, clock):
    draw(place / "in" / "1.png", 1)
    with receiver() as server:
        url = server.url
    with watch_of(webhook=url) as watch:
        settle(watch, clock)
        assert [watch.webhook.deliver() for _ in range(11)][-3:] == [256, 300, 300]


def test_what_was_not_delivered_is_sent_after_a_restart(place, watch_of, clock):
    with receiver() as server:
        with watch_of(webhook=server.url) as watch:
            server.answers = [503]
            draw(place / "in" / "1.png", 1)
            settle(watch, clock)
            assert posts(watch, server) == []
        with watch_of() as watch:  # without the webhook for a while
            draw(place / "in" / "2.png", 2)
            settle(watch, clock)
        with watch_of(webhook=server.url) as watch:
            assert posts(watch, server) == ["1.png", "2.png"]


def test_a_webhook_begins_with_new_results_and_may_have_all_of_them(place, watch_of, clock):
    light(place / "in" / "1.png")
    with watch_of() as watch:
        settle(watch, clock)
    light(place / "in" / "2.png")
    with receiver() as server, watch_of(webhook=server.url, everything=True) as watch:
        settle(watch, clock)
        assert posts(watch, server) == ["2.png"]


def test_judging_goes_on_while_the_webhook_hangs(place, watch_of, clock):
    hold = threading.Event()
    with receiver() as server:
        server.answers = type("Slow", (list,), {"__bool__": lambda self: hold.wait(20) and False})()
        with watch_of(webhook=server.url) as watch:
            draw(place / "in" / "1.png", 1)
            settle(watch, clock)
            watch.webhook.start()
            draw(place / "in" / "2.png", 2)
            settle(watch, clock)
            assert files_in(place / "out") == ["1.png", "2.png"] and server.taken == []
            hold.set()
            until(lambda: len(server.taken) == 2)


def test_a_position_that_cannot_be_read_is_an_error(place, watch_of):
    with watch_of(webhook="http://127.0.0.1:9/"):
        pass
    (place / "out" / POSITION).write_text("{")
    with pytest.raises(BatchError, match=POSITION), watch_of(webhook="http://127.0.0.1:9/"):
        pass


def test_a_position_after_the_last_line_is_that_of_the_last_line(place, watch_of, clock):
    """As after a power cut, which takes lines that were on their way to the disk."""
    with receiver() as server, watch_of(webhook=server.url) as watch:
        (place / "out" / POSITION).write_text('{"delivered": 5}')
        again = Webhook(place / "out", server.url)
        draw(place / "in" / "1.png", 1)
        settle(watch, clock)
        again.notify(1)
        again.deliver()
        again.close()
        assert len(server.taken) == 1


# --- how it goes --------------------------------------------------------------------------------


class Slow(FakeModel):
    """Takes a second of the clock for each image."""

    def __init__(self, clock: Clock):
        super().__init__()
        self.clock = clock

    def predict(self, views, methods=()):
        self.clock.now += len(views)
        return super().predict(views, methods)


def test_it_says_that_it_falls_behind_and_that_it_has_caught_up(place, watch_of, clock, caplog):
    caplog.set_level(logging.INFO)
    for number in range(60):
        light(place / "in" / f"{number:02}.png")
    with watch_of(Slow(clock)) as watch:
        settle(watch, clock)
        watch.step()
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 2
    assert said[0].startswith("falls behind: ") and "it judges 1.0 images a second" in said[0]
    assert int(said[0].split()[2]) > 0 and float(said[0].split("wait, ")[1].split(" s")[0]) > BEHIND_S
    assert said[1].startswith("has caught up")
    status = [record.getMessage() for record in caplog.records if " wait; it judges " in record.getMessage()]
    assert len(status) == int(60 / STATUS_S) and "0 abnormal" in status[0]


def test_a_folder_that_goes_away_is_waited_for(place, watch_of, clock, caplog):
    folder, away, model = place / "in", place / "away", FakeModel()
    for number in range(40):
        light(folder / f"{number:02}.png")
    prepare = model.prepare

    def unplugged(image):
        if folder.exists():
            folder.rename(away)
        return prepare(image)

    model.prepare = unplugged
    with watch_of(model) as watch:
        settle(watch, clock)
        clock.now += POLL_S
        assert not watch.step() and not watch.step()
        assert 0 < len(lines_in(place / "out")) < 40
        model.prepare = prepare
        away.rename(folder)
        settle(watch, clock)
        settle(watch, clock)
    lines = lines_in(place / "out")
    assert files_in(place / "out") == [f"{number:02}.png" for number in range(40)]
    assert not any(line["error"] for line in lines)
    assert caplog.text.count("is out of reach (No such file or directory)") == 1
    assert caplog.text.count(f"{folder} is back.") == 1


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on files here")
@pytest.mark.parametrize("bytes_free", [10, 3000])
def test_a_full_disk_is_waited_for(place, watch_of, clock, caplog, monkeypatch, bytes_free):
    """10: no flagged image fits; 3000: half of the lines do."""
    for number in range(10):
        (draw if bytes_free == 10 else lambda path, _: light(path))(place / "in" / f"{number}.png", number)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    waited = []

    def make_room(seconds):
        waited.append(seconds)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with watch_of() as watch:
        monkeypatch.setattr(watch.stopping, "wait", make_room)
        watch.step()
        clock.now += POLL_S
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_free, before[1]))
        try:
            watch.step()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(waited) == 1 and "File too large" in caplog.text
    assert files_in(place / "out") == [f"{number}.png" for number in range(10)]
    assert (place / "out" / CSV).read_bytes() == csv_of(place / "out", place)


def test_lines_are_appended_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "lines"
    append_whole(path, b"first\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            append_whole(path, b"second\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"first\n"


def test_a_csv_that_is_open_elsewhere_is_completed_later(place, watch_of, clock, caplog):
    path = place / "out" / CSV
    with watch_of() as watch:
        path.rename(place / "held")
        path.mkdir()
        draw(place / "in" / "1.png", 1)
        settle(watch, clock)
        assert files_in(place / "out") == ["1.png"] and "The CSV cannot be written" in caplog.text
        path.rmdir()
        (place / "held").rename(path)
        draw(place / "in" / "2.png", 2)
        settle(watch, clock)
    assert [row["file"] for row in rows_in(place / "out")] == ["1.png", "2.png"]


# --- what is refused ----------------------------------------------------------------------------


def test_a_second_watch_for_the_same_results_is_refused(place, watch_of):
    with watch_of(), pytest.raises(BatchError, match="in use by another watch"), watch_of():
        pass
    with watch_of():
        pass


def test_results_in_the_watched_folder_are_refused(place):
    (place / "link").symlink_to(place / "in")
    for out in (place / "in", place / "in" / "out", place / "link" / "out"):
        refused = pytest.raises(BatchError, match="flagged images would be judged again")
        with refused, watching(task(), place / "in", out, POLL_S):
            pass
    assert list((place / "in").iterdir()) == []


def test_results_of_another_folder_or_threshold_are_not_mixed(place, watch_of):
    with watch_of():
        pass
    (place / "other").mkdir()
    for folder, other in ((place / "other", task()), (place / "in", task(threshold=0.9))):
        with (
            pytest.raises(BatchError, match="there and .*(other|0.9) now"),
            watching(other, folder, place / "out", POLL_S),
        ):
            pass
    nowhere = watching(task(), place / "nowhere", place / "out", POLL_S)
    with pytest.raises(BatchError, match="nowhere is not a folder"), nowhere:
        pass


# --- the command --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_checkpoint(tmp_path_factory.mktemp("model")))


def test_the_command_judges_as_inspect_does(place, model):
    data = draw_chips(place / "in" / "lot", normal=4, abnormal=4)
    Image.new("RGB", (300, 200), "gray").save(data / "large.png")  # in tiles
    flags = ["--model", model, "--runtime", "torch", "--threshold", "0.4", "--out"]
    watch = ["watch", str(place / "in"), "--once", "--poll", "0.01", *flags, str(place / "out")]
    assert main(watch) == main(watch) == 0
    assert main(["inspect", str(place / "in"), *flags, str(place / "batch")]) == 0

    def by_file(out):
        rows = [{**row_of(line), "label": "", "probability": round(line["log"], 4)} for line in rounded(out)]
        return sorted(rows, key=lambda row: row["file"])

    def rounded(out):
        for line in lines_in(out):
            line["log"] = line.pop("abnormal_probability")
            line["regions"] = [{k: r[k] for k in ("x", "y", "width", "height")} for r in line["regions"]]
            line["distance"] = round(line["distance"], 2)
            yield line

    assert by_file(place / "out") == by_file(place / "batch") and len(by_file(place / "out")) == 9
    with pytest.raises(BatchError), watching(task(), place / "in", place / "batch", POLL_S):
        pass


COMMAND = """
import sys
from chipdemo.__main__ import main
from chipdemo.vision import predictor
from tests.fakes import FakeModel

predictor.load_model = lambda *source, **how: FakeModel()
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_when_what_was_taken_is_written(place, model, number):
    for index in range(3):
        draw(place / "in" / f"{index}.png", index)
    flags = ["watch", str(place / "in"), "--out", str(place / "out"), "--model", model, "--poll", "0.01"]
    with subprocess.Popen([sys.executable, "-c", COMMAND, *flags], cwd=ROOT) as process:
        until(lambda: (place / "out" / RESULTS).exists() and lines_in(place / "out"))
        process.send_signal(number)
        assert process.wait() == 0
    assert (place / "out" / CSV).read_bytes() == csv_of(place / "out", place)


@pytest.mark.parametrize(
    "flags",
    [
        ["--poll", "0"],
        ["--poll", "soon"],
        ["--webhook", "plant"],
        ["--webhook", "http:///x"],
        ["--webhook", ""],
    ],
)
def test_a_flag_that_cannot_be_used_ends_with_status_2(place, flags, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["watch", str(place / "in"), "--out", str(place / "out"), *flags])
    assert ended.value.code == 2 and flags[0] in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_an_error(place, capsys):
    assert main(["watch", str(place / "nowhere"), "--out", str(place / "out")]) == 2
    assert "nowhere is not a folder" in capsys.readouterr().err and not (place / "out").exists()
