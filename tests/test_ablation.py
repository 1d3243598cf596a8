import json
import sys
from dataclasses import replace

import pytest

from chipdemo.ablation import format as module
from chipdemo.ablation.format import PUBLISHED, AblationError, ablation_of, read_ablation, write_ablation
from tests.ablations import ablation_json, small_ablation


def changed(place: tuple, value) -> dict:
    """The small ablation's JSON with one value replaced; a value of DELETE removes the key."""
    content = ablation_json()
    inner = content
    for step in place[:-1]:
        inner = inner[step]
    if value is DELETE:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return content


DELETE = object()


def test_what_is_written_is_read_back_equal(tmp_path):
    write_ablation(tmp_path / "ablation.json", small_ablation())
    assert read_ablation(tmp_path / "ablation.json") == small_ablation()
    assert json.loads((tmp_path / "ablation.json").read_text()) == ablation_json()


def test_the_file_has_one_line_a_row(tmp_path):
    write_ablation(tmp_path / "ablation.json", small_ablation())
    lines = (tmp_path / "ablation.json").read_text().splitlines()
    assert [line[:13] for line in lines if line.startswith('{"id"')] == [
        '{"id": "plain',
        '{"id": "plain',
        '{"id": "svm",',
    ]


def test_what_could_not_be_read_is_not_written(tmp_path):
    with pytest.raises(AblationError, match="data.test: expected 6"):
        write_ablation(
            tmp_path / "ablation.json",
            replace(small_ablation(), data=replace(small_ablation().data, test=7)),
        )
    assert not (tmp_path / "ablation.json").exists()


@pytest.mark.parametrize(
    "place, value, message",
    [
        (("format",), 2, "found format 2"),
        (("format",), True, "found format True"),
        (("format",), DELETE, "found format None"),
        (("machine",), DELETE, "the file: expected the key machine; found no machine"),
        (("notes",), "more", "no keys but command, .* found 'notes'"),
        (("date",), "21.11.2026", "date: expected a date"),
        (("date",), "2026-02-30", "date: expected a date of the calendar"),
        (("machine",), "", "machine: expected printable text"),
        (("machine",), "two\nlines", "machine: expected printable text"),
        (("machine",), "turned \u202e around", "machine: expected printable text"),
        (("machine",), "half a letter \ud800", "machine: expected printable text"),
        (("machine",), "x" * 401, "machine: expected printable text of 1 to 400 letters"),
        (("rows",), [], "rows: expected a list of 1 to 100 entries; found 0 entries"),
        (("rows",), {"0": 1}, "rows: expected a list"),
        (("rows", 0), None, r"rows\[0\]: expected an object with id, name"),
        (("rows", 2, "id"), "plain", r"rows\[2\].id: expected a name that no other row has; found 'plain'"),
        (("rows", 0, "twin"), "nobody", r"rows\[0\].twin: expected null or the id of another row"),
        (("rows", 0, "twin"), "plain-cbam", r"rows\[0\].twin: expected null or the id of another row"),
        (("rows", 0, "twin"), None, r"rows\[0\].versus_twin: expected null where there is no twin"),
        (("rows", 0, "latency_ms"), -1, r"rows\[0\].latency_ms: expected a number from 0; found -1"),
        (("rows", 0, "latency_ms"), "fast", r"rows\[0\].latency_ms: expected a number from 0; found 'fast'"),
        (("rows", 0, "parameters"), 1.5, r"rows\[0\].parameters: expected a whole number from 0; found 1.5"),
        (("rows", 0, "parameters"), 10**400, r"rows\[0\].parameters: expected a whole number"),
        (("rows", 0, "parameters"), True, r"rows\[0\].parameters: expected a whole number"),
        (("rows", 0, "versus_twin", "p"), 1.2, r"versus_twin.p: expected a number from 0 to 1; found 1.2"),
        (("rows", 0, "versus_twin", "metric"), "luck", "metric: expected one of accuracy, recall"),
        (("rows", 0, "summary", "auroc", "mean"), float("nan"), r"summary.auroc.mean: expected a number"),
        (("rows", 0, "summary", "auroc", "sd"), None, r"summary.auroc.sd: expected null for one seed"),
        (("rows", 0, "summary", "auroc"), DELETE, r"rows\[0\].summary: expected the key auroc"),
        (("rows", 2, "seeds", 1, "threshold"), 1.01, r"rows\[2\].seeds\[1\].threshold: expected a number"),
        (("rows", 2, "seeds", 1, "probabilities", 3), None, r"probabilities\[3\]: expected a number"),
        (("rows", 2, "seeds", 1, "probabilities"), [0.1] * 5, "expected 6 entries, one an image"),
        (("rows", 2, "seeds", 1, "confusion"), [[3, 0], [0, 2]], "sums of 3 normal and 3 abnormal"),
        (("rows", 2, "seeds", 1, "confusion"), [[3, 0]], "a list of 2 entries; found 1 entries"),
        (("images", "sha256", 0), "0" * 63, r"images.sha256\[0\]: expected 64 hex digits"),
        (("images", "abnormal", 0), 0, r"images.abnormal\[0\]: expected true or false; found 0"),
        (("images", "abnormal"), [True] * 6, "normal and abnormal images; found 6 abnormal of 6"),
        (("images", "file"), ["a.png"], "images.file: expected 6 entries"),
    ],
)  # fmt: skip
def test_a_wrong_place_is_named_with_what_was_expected_and_found(place, value, message):
    with pytest.raises(AblationError, match=message):
        ablation_of(changed(place, value))


@pytest.mark.parametrize("content", [None, 1, "text", [], {}])
def test_other_json_is_no_ablation(content):
    with pytest.raises(AblationError, match='Expected an ablation, a JSON object with "format": 1'):
        ablation_of(content)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "to be JSON; it is not"),
        (b"{'format': 1}", "to be JSON; it is not"),
        (b"\xff\xfe", "to be JSON; it is not"),
        (b"[" * 100_000, "to be JSON; it is not"),
        (b'{"format": NaN}', "NaN is no number of JSON"),
        pytest.param(
            b"9" * 5000,
            "to be JSON; it is not",
            marks=pytest.mark.skipif(
                not hasattr(sys, "get_int_max_str_digits"), reason="a number, to this version of Python"
            ),
        ),
    ],
)
def test_a_file_that_is_no_json_says_so_without_naming_folders(tmp_path, data, message):
    (tmp_path / "other.json").write_bytes(data)
    with pytest.raises(AblationError, match=message) as error:
        read_ablation(tmp_path / "other.json")
    assert "other.json" in str(error.value) and str(tmp_path) not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_missing_file_and_a_huge_one_are_refused(tmp_path, monkeypatch):
    with pytest.raises(AblationError, match=r"gone.json could not be read \(No such file"):
        read_ablation(tmp_path / "gone.json")
    (tmp_path / "huge.json").write_text(" " * 101)
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(AblationError, match="at most 100 bytes; huge.json has 101"):
        read_ablation(tmp_path / "huge.json")


def test_what_a_stranger_writes_cannot_fill_the_screen():
    with pytest.raises(AblationError) as error:
        ablation_of(changed(("rows", 0, "id"), "<b>" * 100_000))
    assert len(str(error.value)) < 300


def test_the_verdict_of_a_row_is_the_majority_of_its_seeds():
    content = ablation_json()
    one, two = content["rows"][0]["seeds"]
    third = {**two, "seed": 2, "probabilities": [0.4, 0.9, 0.9, 0.1, 0.1, 0.9]}
    one["probabilities"] = [0.6, 0.4, 0.9, 0.1, 0.9, 0.9]
    two["probabilities"] = [0.2, 0.2, 0.0, 0.1, 0.8, 0.9]
    content["rows"][0]["seeds"] = [one, two, third]
    row = ablation_of(content).rows[0]
    assert row.stopped.tolist() == [False, False, True, False, True, True]
    assert row.probabilities.tolist() == pytest.approx([0.4, 0.5, 0.6, 0.1, 0.6, 0.9])


def test_the_papers_table_is_theirs():
    assert [(row.accuracy, row.recall, row.precision) for row in PUBLISHED] == [
        (0.70, 0.72, 0.68), (0.82, 0.84, 0.79), (0.84, 0.86, 0.82), (0.96, 1.00, 0.90),
    ]  # fmt: skip
