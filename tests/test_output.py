import errno

import pytest

from chipdemo.errors import DataError
from chipdemo.vision.output import replacing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_when_all_is_written(tmp_path):
    with replacing(tmp_path / "new" / "out", ["a.txt"]) as folder:
        (folder / "a.txt").write_text("1")
        assert not (tmp_path / "new" / "out").exists()
    assert names(tmp_path / "new") == ["out"]
    assert (tmp_path / "new" / "out" / "a.txt").read_text() == "1"


def test_an_earlier_run_is_replaced_as_a_whole(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.txt").write_text("earlier")
    with replacing(out, ["a.txt", "b.txt"]) as folder:
        (folder / "a.txt").write_text("2")
        assert names(out) == ["b.txt"]
    assert names(out) == ["a.txt"] and names(tmp_path) == ["out"]


def test_no_space_on_the_disk_leaves_what_was_there_and_says_so(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").write_text("earlier")
    with (
        pytest.raises(DataError, match="No space left on device"),
        replacing(out, ["a.txt"]) as folder,
    ):
        (folder / "a.txt").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "a.txt"))
    assert (out / "a.txt").read_text() == "earlier" and names(tmp_path) == ["out"]


def test_any_other_error_leaves_what_was_there_too(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "out", []):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_folder_with_files_of_ones_own_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("")
    with (
        pytest.raises(DataError, match=r"thesis\.txt"),
        replacing(tmp_path, ["a.txt"]),
    ):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["thesis.txt"]


def test_what_a_killed_run_left_is_cleared_and_put_back(tmp_path):
    """Killed between moving the earlier folder aside and putting the new one in its place."""
    for name, content in ((".out.part", "new"), (".out.replaced", "earlier")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(content)
    with replacing(tmp_path / "out", ["a.txt"]) as folder:
        assert names(folder) == []
        assert (tmp_path / "out" / "a.txt").read_text() == "earlier"
    assert names(tmp_path) == ["out"]
