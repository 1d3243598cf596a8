"""CSV files as programs and spreadsheets write them."""

from pathlib import Path

import pytest

from chipdemo.errors import DataError
from chipdemo.tables import local_path, read_rows, whole_number

ROWS = [
    (2, {"image": "a.png", "label": "ok", "note": "x, y; z"}),
    (3, {"image": "b.png", "label": "1", "note": ""}),
]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiter_encoding_and_line_ends_are_found(tmp_path, delimiter, encoding, end):
    lines = [["Image", " LABEL", "Note"], ["a.png", "ok", '"x, y; z"'], ["b.png", "1"], []]
    text = end.join(delimiter.join(line) for line in lines)
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert list(read_rows(tmp_path / "a.csv", ("image", "label"))) == ROWS


def test_empty_lines_are_passed_over_and_counted(tmp_path):
    (tmp_path / "a.csv").write_text("image;label\n\na.png;ok;\n;;\n")
    assert list(read_rows(tmp_path / "a.csv")) == [(3, {"image": "a.png", "label": "ok"})]


def test_a_quoted_cell_may_hold_a_line_break(tmp_path):
    (tmp_path / "a.csv").write_text('image,note\na.png,"two\nlines"\nb.png,\n')
    assert [(line, row["note"]) for line, row in read_rows(tmp_path / "a.csv")] == [
        (3, "two\nlines"),
        (4, ""),
    ]


def test_spaces_around_cells_are_left_out(tmp_path):
    (tmp_path / "a.csv").write_text(" Image , Label \n img/0.png , 1 \n , \n")
    assert list(read_rows(tmp_path / "a.csv")) == [(2, {"image": "img/0.png", "label": "1"})]


def test_a_list_of_columns_is_bounded(tmp_path):
    (tmp_path / "a.csv").write_text(",".join(f"{n}{'x' * 100}" for n in range(1000)) + "\n")
    with pytest.raises(DataError, match="992") as failure:
        list(read_rows(tmp_path / "a.csv", ("image",)))
    assert len(str(failure.value)) - len(str(tmp_path)) < 500


@pytest.mark.parametrize("label, whole", [("1.0", "1"), (" 0.0", "0"), ("ok", "ok"), ("2.0", "2.0")])
def test_labels_of_pandas_are_whole_numbers(label, whole):
    assert whole_number(label) == whole


@pytest.mark.parametrize(
    "content, found",
    [
        (b"", "no header"),
        (b"\n\n", "no header"),
        (b"file,label\na.png,ok\n", "file, label"),
        ("image,label\nä.png,ok\n".encode("latin-1"), "UTF-8"),
        (b"\xff\xd8\xff\x00", "UTF-8"),
        (b"image,label\na,b.png,ok\n", "Line 2 .* 3 cells"),
        (b"image,label,Image\na.png,ok,b.png\n", "more than one column image"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, found):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=found):
        list(read_rows(tmp_path / "a.csv", ("image",)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="none.csv"):
        list(read_rows(tmp_path / "none.csv"))


@pytest.mark.parametrize("name", ["images/lot 1/a.png", "images\\lot 1\\a.png", ".\\images/lot 1\\a.png"])
def test_backslashes_are_separators(name):
    assert local_path(Path("labels"), name) == Path("labels/images/lot 1/a.png")
