import os
import re
import stat
import threading
import zipfile
from dataclasses import astuple
from pathlib import Path

import pytest

from chipdemo.errors import ExchangeError, JournalError, LabelError
from chipdemo.files import Limits
from chipdemo.images import read_image
from chipdemo.labeling.intake import add_contents, add_paths, add_uploads
from chipdemo.labeling.label import Label
from tests.drawn import picture

HOSTILE = "<img src=x onerror=alert(1)>\u202egnp.=1+1\n\x1b[31m" + "x" * 100


def fill(root, **files):
    """Images 0, 1, ... unless a content is given; names with __ for /."""
    for number, (name, content) in enumerate(files.items()):
        path = root / name.replace("__", "/").replace("_png", ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number) if content is None else content)
    return root


def zipped(path, *members):
    """A zip of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def names(journal):
    with journal.read() as database:
        return [row["name"] for row in database.execute("SELECT name FROM images ORDER BY id")]


def sha256(content):
    return read_image(content).sha256


def test_a_folder_is_added_with_all_below_it_in_the_order_of_names(journal, tmp_path):
    root = fill(tmp_path / "chips", b_png=None, a_png=None, lot1__deep__c_png=None)
    assert astuple(add_paths(journal, [root])) == (3, 0, ())
    assert names(journal) == ["a.png", "b.png", "lot1/deep/c.png"]
    stored = journal.image(sha256(picture(2)))
    assert stored.path == root / "lot1/deep/c.png" and (stored.width, stored.height) == (12, 8)


def test_images_of_a_folder_are_copied_only_when_they_are_labeled(journal, tmp_path):
    root = fill(tmp_path / "chips", a_png=None, b_png=None)
    add_paths(journal, [root])
    journal.append(Label(sha256(picture(0)), "normal", "ann"))
    with journal.read() as database:
        assert [row["sha256"] for row in database.execute("SELECT sha256 FROM contents")] == [
            sha256(picture(0))
        ]


def test_an_image_under_two_names_is_added_once(journal, tmp_path):
    root = fill(tmp_path / "chips", a_png=picture(0), b_png=picture(0), c_png=picture(1))
    assert astuple(add_paths(journal, [root])) == (2, 1, ())
    assert astuple(add_paths(journal, [root])) == (0, 3, ())
    assert names(journal) == ["a.png", "c.png"]


def test_more_images_than_a_transaction_takes_are_all_added(journal):
    images = ((f"{n}.png", picture(n)) for n in range(150))
    seen = []
    assert astuple(add_contents(journal, images, seen.append)) == (150, 0, ())
    assert names(journal) == [f"{n}.png" for n in range(150)] and seen == list(range(1, 151))


def test_few_images_are_read_ahead(journal):
    asked, most_ahead = 0, 0

    def images():
        nonlocal asked
        for n in range(200):
            asked += 1
            yield f"{n}.png", picture(n)

    def progress(done):
        nonlocal most_ahead
        most_ahead = max(most_ahead, asked - done)

    add_contents(journal, images(), progress)
    assert most_ahead < 40


def test_it_can_be_stopped_and_continued(journal):
    images = [(f"{n}.png", picture(n)) for n in range(300)]

    def stop(done):
        if done == 200:
            raise KeyboardInterrupt

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        add_contents(journal, images, stop)
    assert journal.counts().images == 200 and threading.active_count() == threads
    assert astuple(add_contents(journal, images)) == (100, 200, ())


def test_a_file_that_is_no_image_is_refused_by_name(journal, tmp_path):
    root = fill(tmp_path / "chips", a_png=None, b_png=b"text", c_png=b"\x89PNG\r\n\x1a\n", d_png=b"")
    intake = add_paths(journal, [root])
    assert intake.added == 1
    assert [line.split(":")[0] for line in intake.refused] == ["b.png", "c.png", "d.png"]


def test_more_megapixels_than_allowed_are_refused(journal):
    images = [("small.png", picture(0)), ("large.png", picture(1, (200, 200)))]
    intake = add_contents(journal, images, limits=Limits(megapixels=0.01))
    assert intake.added == 1 and re.search(r"large\.png: .*0\.01", intake.refused[0])


def test_a_hostile_name_is_kept_exactly_and_shown_on_one_line(journal):
    intake = add_contents(journal, [(HOSTILE, picture(0)), (HOSTILE[:40], b"none")])
    assert names(journal) == [HOSTILE]
    assert intake.refused[0].isprintable() and "<img src=x onerror=alert(1)>" in intake.refused[0]


@pytest.mark.skipif(os.name == "nt", reason="file names are text on Windows")
def test_a_file_whose_name_is_not_utf8_is_kept_by_content(journal, tmp_path):
    path = Path(os.fsdecode(bytes(tmp_path / "caf") + b"\xe9.png"))
    path.write_bytes(picture(0))
    assert add_paths(journal, [tmp_path]).added == 1
    assert names(journal) == ["caf\\udce9.png"]
    path.unlink()
    assert journal.content(sha256(picture(0))) == picture(0)


def test_links_are_not_followed_and_hidden_files_are_passed_over(journal, tmp_path):
    elsewhere = fill(tmp_path / "elsewhere", secret_png=picture(7))
    root = fill(tmp_path / "chips", a_png=None, z_png=None)
    (root / ".hidden.png").write_bytes(picture(8))
    fill(root / ".thumbnails", b_png=picture(9))
    (root / "link.png").symlink_to(elsewhere / "secret.png")
    (root / "folder").symlink_to(elsewhere)
    (root / "loop").symlink_to(root)
    intake = add_paths(journal, [root])
    assert names(journal) == ["a.png", "z.png"]
    assert [line.split(":")[0] for line in intake.refused] == ["folder", "loop", "link.png", "chips"]
    assert " 2 " in intake.refused[-1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_in_a_folder_does_not_hang(journal, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert add_paths(journal, [tmp_path]).refused[-1].startswith("pipe.png: ")


@pytest.mark.skipif(os.name == "nt", reason="paths are of another length on Windows")
def test_a_folder_below_that_cannot_be_read_is_named_and_the_rest_is_added(journal, tmp_path):
    root = fill(tmp_path / "chips", a_png=None)
    at, deep = os.open(root, os.O_RDONLY), "d" * 250
    for _ in range(20):  # longer than a path may be
        os.mkdir(deep, dir_fd=at)
        at = os.open(deep, os.O_RDONLY, dir_fd=at)
    intake = add_paths(journal, [root])
    assert intake.added == 1
    assert "File name too long" in intake.refused[0]


def test_a_wrong_path_is_an_error_before_anything_is_added(journal, tmp_path):
    root = fill(tmp_path / "chips", a_png=None)
    with pytest.raises(ExchangeError, match="gone"):
        add_paths(journal, [root, tmp_path / "gone"])
    assert journal.counts().images == 0


def test_a_zip_that_cannot_be_read_is_refused_under_its_name_and_the_rest_is_added(journal, tmp_path):
    root = fill(tmp_path / "uploads", one=b"PK\x03\x04 and no more", two=None)
    intake = add_uploads(journal, [("one.zip", root / "one"), ("two.png", root / "two")])
    assert names(journal) == ["two.png"] and intake.refused[0].startswith("one.zip: ")


def test_a_full_disk_is_an_error_and_earlier_images_stay(journal):
    with journal.read() as database:
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages + 20}")
    with pytest.raises(JournalError, match="disk"):
        add_contents(journal, ((f"{n}.png", picture(n)) for n in range(2_000)))
    assert 0 < journal.counts().images < 2_000
    assert len(names(journal)) == journal.counts().images


def test_an_image_that_moved_is_found_when_its_new_folder_is_added(journal, tmp_path):
    root = fill(tmp_path / "chips", a_png=None)
    add_paths(journal, [root])
    root.rename(tmp_path / "moved")
    with pytest.raises(LabelError, match="a.png"):
        journal.content(sha256(picture(0)))
    assert add_paths(journal, [tmp_path / "moved"]).known == 1
    assert journal.content(sha256(picture(0))) == picture(0)


def test_uploads_are_kept_by_content_under_the_names_they_had(journal, tmp_path):
    root = fill(tmp_path / "uploads", one=None, two=picture(1))
    zipped(root / "three", ("c.png", picture(2)))
    uploads = [(name, root / file) for name, file in (("A.png", "one"), ("b.png", "two"), ("c.zip", "three"))]
    assert astuple(add_uploads(journal, uploads)) == (3, 0, ())
    for file in root.iterdir():
        file.unlink()
    assert names(journal) == ["A.png", "b.png", "c.png"]
    assert journal.content(sha256(picture(0))) == picture(0)


def test_an_upload_that_is_gone_or_too_large_is_refused(journal, tmp_path):
    root = fill(tmp_path / "uploads", one=None)
    uploads = [("one.png", root / "one"), ("gone.png", root / "gone")]
    intake = add_uploads(journal, uploads, limits=Limits(file_bytes=10))
    assert intake.refused[0].startswith("one.png: ")
    assert intake.refused[1].startswith("gone.png: ")


def test_a_zip_is_added_by_content_and_nothing_is_written_to_disk(journal, tmp_path):
    path = zipped(tmp_path / "chips.zip", ("lot/a.png", picture(0)), ("lot/", b""), ("b.png", picture(1)))
    before = sorted(tmp_path.rglob("*"))
    assert astuple(add_paths(journal, [path])) == (2, 0, ())
    assert sorted(tmp_path.rglob("*")) == before
    path.unlink()
    assert names(journal) == ["lot/a.png", "b.png"] and journal.content(sha256(picture(1))) == picture(1)


@pytest.mark.parametrize(
    "name", ["../a.png", "/a.png", "..\\a.png", "C:\\a.png", "C:a.png", "lot/../../a.png"]
)
def test_a_path_that_leads_out_of_a_zip_is_refused(journal, tmp_path, name):
    path = zipped(tmp_path / "chips.zip", (name, picture(0)), ("b.png", picture(1)))
    intake = add_paths(journal, [path])
    assert names(journal) == ["b.png"] and len(intake.refused) == 1


def test_other_files_in_a_zip_are_refused_or_passed_over(journal, tmp_path):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    inner = zipped(tmp_path / "inner.zip", ("c.png", picture(1))).read_bytes()
    path = zipped(
        tmp_path / "chips.zip",
        (link, "/etc/passwd"),
        ("inner.zip", inner),
        ("__MACOSX/lot/._a.png", b"fork"),
        ("lot/.DS_Store", b"store"),
        ("lot/a.png", picture(0)),
    )
    intake = add_paths(journal, [path])
    assert names(journal) == ["lot/a.png"]
    assert [line.split(":")[0] for line in intake.refused] == ["link.png", "inner.zip", "chips.zip"]
    assert " 2 " in intake.refused[-1]


def test_a_zip_inside_a_folder_is_opened_and_a_file_that_is_only_called_so_is_read(journal, tmp_path):
    root = fill(tmp_path / "lot", a_png=picture(0))
    zipped(root / "inner.zip", ("day/c.png", picture(1)), ("d.png", picture(3)))
    (root / "image.zip").write_bytes(picture(2))
    (root / "damaged.zip").write_bytes(b"PK\x03\x04 and no more")
    intake = add_paths(journal, [root])
    assert names(journal) == ["a.png", "image.zip", "inner.zip/day/c.png", "inner.zip/d.png"]
    assert len(intake.refused) == 1 and intake.refused[0].startswith("damaged.zip: ")


def changed(path, offset, value, signature=b"PK\x01\x02"):
    """The zip with bytes changed behind each signature (of its directory, or b"PK\\x03\\x04" of a file)."""
    content, start = bytearray(path.read_bytes()), 0
    while (start := content.find(signature, start)) >= 0:
        content[start + offset : start + offset + len(value)] = value
        start += 4
    path.write_bytes(content)
    return path


def test_an_encrypted_file_is_refused(journal, tmp_path):
    path = changed(zipped(tmp_path / "chips.zip", ("a.png", picture(0))), 8, b"\x01\x00")
    assert add_paths(journal, [path]).refused[0].startswith("a.png: ")


def test_unsupported_compression_is_refused(journal, tmp_path):
    with zipfile.ZipFile(tmp_path / "chips.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.png", picture(0))
    assert add_paths(journal, [tmp_path / "chips.zip"]).added == 0


def test_a_zip_bomb_is_refused_before_it_is_unpacked(journal, tmp_path):
    path = zipped(tmp_path / "bomb.zip", ("a.bmp", bytes(30_000_000)), ("b.png", picture(0)))
    intake = add_paths(journal, [path])
    assert intake.added == 1 and re.search(r"a\.bmp: .* 100 ", intake.refused[0])


def test_a_file_that_lies_about_its_size_is_unpacked_no_further(journal, tmp_path):
    path = zipped(tmp_path / "bomb.zip", ("a.bmp", bytes(30_000_000)), ("b.png", picture(0)))
    changed(path, 24, (1_000).to_bytes(4, "little"))
    intake = add_paths(journal, [path])
    assert names(journal) == ["b.png"] and re.search(r"a\.bmp: .*CRC-32", intake.refused[0])


@pytest.mark.parametrize("limits", [Limits(files=2), Limits(total_bytes=300)])
def test_a_zip_over_the_limits_is_refused_as_a_whole(journal, tmp_path, limits):
    path = zipped(tmp_path / "chips.zip", *((f"{n}.png", picture(n)) for n in range(4)))
    intake = add_paths(journal, [path], limits=limits)
    assert intake.added == 0 and re.search(r"chips\.zip: .* 4 ", intake.refused[0])


def test_a_large_file_in_a_zip_is_refused(journal, tmp_path):
    path = zipped(tmp_path / "chips.zip", ("a.png", picture(0)))
    assert add_paths(journal, [path], limits=Limits(file_bytes=20)).added == 0


def test_a_zip_cut_short_is_an_error_and_a_damaged_file_in_it_is_refused(journal, tmp_path):
    path = zipped(tmp_path / "chips.zip", ("a.png", picture(0)), ("b.png", picture(1)))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert add_paths(journal, [path]).refused[0].startswith("chips.zip: ")
    broken = bytearray(whole)
    broken[40] ^= 0xFF  # within a.png
    path.write_bytes(broken)
    intake = add_paths(journal, [path])
    assert names(journal) == ["b.png"] and intake.refused[0].startswith("a.png: ")
