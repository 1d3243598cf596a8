import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from chipdemo.ablation import format as module
from chipdemo.ablation.format import PUBLISHED, ablation_of, read_ablation, write_ablation
from chipdemo.errors import AblationError
from tests.ablations import ablation_json, small_ablation

DELETE = object()
SHIPPED = Path(module.__file__).with_name("elpv.json")


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


def test_an_ablation_that_could_not_be_read_cannot_be_made():
    with pytest.raises(ValidationError):
        replace(small_ablation(), data=replace(small_ablation().data, test=7))


def test_the_shipped_ablation_is_written_as_the_code_writes_it(tmp_path):
    ablation = read_ablation(SHIPPED)
    write_ablation(tmp_path / "elpv.json", ablation)
    assert (tmp_path / "elpv.json").read_bytes() == SHIPPED.read_bytes()
    assert (len(ablation.rows), ablation.data.split) == (16, "ELPV, test split, 656 images")


def test_a_file_of_format_1_is_read_with_the_keys_and_words_of_today():
    old = ablation_json(format=1)
    old["photographs"] = old.pop("images")
    old["data"]["licence"] = old["data"].pop("license")
    old["data"].pop("split")
    old["data"]["part"] = "drawn chips, test, 6 photographs"
    for row in old["rows"]:
        row["twin"], row["versus_twin"] = row.pop("baseline"), row.pop("versus_baseline")
    old["rows"][0]["versus_twin"]["test"] = "paired bootstrap over photographs"
    old["rows"][1]["starting_weights"] = "distilled on the training part"
    ablation = ablation_of(old)
    assert ablation.data.split == "drawn chips, test split, 6 images"
    assert ablation.data.license == "CC0"
    assert ablation.images == small_ablation().images
    assert [row.baseline for row in ablation.rows] == ["plain", None, None]
    assert ablation.rows[0].versus_baseline.test == "paired bootstrap over images"
    assert ablation.rows[1].starting_weights == "distilled on the training split"
    assert ablation.to_json()["format"] == 2


@pytest.mark.parametrize(
    "place, value, where, found",
    [
        (("machine",), DELETE, "machine", ""),
        (("notes",), "more", "notes", ""),
        (("date",), "21.11.2026", "date", "'21.11.2026'"),
        (("date",), "2026-02-30", "date", "'2026-02-30'"),
        (("machine",), "", "machine", "''"),
        (("machine",), "two\nlines", "machine", r"'two\nlines'"),
        (("machine",), "turned \u202e around", "machine", r"'turned \u202e around'"),
        (("machine",), "x" * 401, "machine", "xxxx"),
        (("rows",), [], "rows", "[]"),
        (("rows",), {"0": 1}, "rows", "{'0': 1}"),
        (("rows", 0), None, "rows[0]", "None"),
        (("rows", 2, "id"), "plain", "rows[2].id", "'plain'"),
        (("rows", 0, "baseline"), "nobody", "rows[0].baseline", "'nobody'"),
        (("rows", 0, "baseline"), "plain-cbam", "rows[0].baseline", "'plain-cbam'"),
        (("rows", 0, "baseline"), None, "rows[0].versus_baseline", "0.333"),
        (("rows", 0, "latency_ms"), -1, "rows[0].latency_ms", "-1"),
        (("rows", 0, "latency_ms"), "fast", "rows[0].latency_ms", "'fast'"),
        (("rows", 0, "parameters"), 1.5, "rows[0].parameters", "1.5"),
        (("rows", 0, "parameters"), 10**400, "rows[0].parameters", "1000"),
        (("rows", 0, "parameters"), True, "rows[0].parameters", "True"),
        (("rows", 0, "versus_baseline", "p"), 1.2, "rows[0].versus_baseline.p", "1.2"),
        (("rows", 0, "versus_baseline", "metric"), "luck", "rows[0].versus_baseline.metric", "'luck'"),
        (("rows", 0, "summary", "auroc", "mean"), float("nan"), "rows[0].summary.auroc.mean", "nan"),
        (("rows", 0, "summary", "auroc", "sd"), None, "rows[0].summary.auroc.sd", "None"),
        (("rows", 0, "summary", "auroc"), DELETE, "rows[0].summary", "auroc"),
        (("rows", 0, "summary", "luck"), 1, "rows[0].summary.luck", "'luck'"),
        (("rows", 2, "seeds", 1, "threshold"), 1.01, "rows[2].seeds[1].threshold", "1.01"),
        (("rows", 2, "seeds", 1, "probabilities", 3), None, "rows[2].seeds[1].probabilities[3]", "None"),
        (("rows", 2, "seeds", 1, "probabilities"), [0.1] * 5, "rows[2].seeds[1].probabilities", "5"),
        (("rows", 2, "seeds", 1, "confusion"), [[3, 0], [0, 2]], "rows[2].seeds[1].confusion", "2"),
        (("rows", 2, "seeds", 1, "confusion"), [[3, 0]], "rows[2].seeds[1].confusion[1]", ""),
        (("images", "sha256", 0), "0" * 63, "images.sha256[0]", "000"),
        (("images", "abnormal", 0), 0, "images.abnormal[0]", "0"),
        (("images", "abnormal"), [True] * 6, "images.abnormal", "6"),
        (("images", "file"), ["a.png"], "images.file", "1"),
        (("data", "test"), 7, "data.test", "7"),
    ],
)  # fmt: skip
def test_the_first_wrong_value_is_named_with_its_place(place, value, where, found):
    with pytest.raises(AblationError, match=f"^{re.escape(where)} .*{re.escape(found)}"):
        ablation_of(changed(place, value))


@pytest.mark.parametrize("content", [None, 1, "text", [], {}])
def test_other_json_is_no_ablation(content):
    with pytest.raises(AblationError):
        ablation_of(content)


@pytest.mark.parametrize("found", [3, True, "2", None, DELETE])
def test_another_format_is_refused(found):
    with pytest.raises(AblationError, match="None" if found is DELETE else repr(found)):
        ablation_of(changed(("format",), found))


def test_text_that_is_no_unicode_is_refused():
    with pytest.raises(AblationError):
        ablation_of(changed(("machine",), "half a letter \ud800"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{'format': 2}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"format": NaN}',
        pytest.param(
            b"9" * 5000,
            marks=pytest.mark.skipif(
                not hasattr(sys, "get_int_max_str_digits"), reason="a number, to this version of Python"
            ),
        ),
    ],
)
def test_a_file_that_is_no_json_is_refused_without_naming_folders(tmp_path, data):
    (tmp_path / "other.json").write_bytes(data)
    with pytest.raises(AblationError) as error:
        read_ablation(tmp_path / "other.json")
    assert str(tmp_path) not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_missing_file_and_a_huge_one_are_refused(tmp_path, monkeypatch):
    with pytest.raises(AblationError, match="gone.json"):
        read_ablation(tmp_path / "gone.json")
    (tmp_path / "huge.json").write_text(" " * 101)
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    with pytest.raises(AblationError, match="huge.json has 101"):
        read_ablation(tmp_path / "huge.json")


@pytest.mark.parametrize("place", [("rows", 0, "id"), ("<b>" * 100_000,), ("rows", 0, "<b>" * 100_000)])
def test_what_a_stranger_writes_cannot_fill_the_screen(place):
    with pytest.raises(AblationError) as error:
        ablation_of(changed(place, "<b>" * 100_000))
    assert len(str(error.value)) < 400


def test_the_verdict_of_a_row_is_the_majority_of_its_seeds():
    content = ablation_json()
    one, two = content["rows"][0]["seeds"]
    third = {**two, "seed": 2, "probabilities": [0.4, 0.9, 0.9, 0.1, 0.1, 0.9]}
    one["probabilities"] = [0.6, 0.4, 0.9, 0.1, 0.9, 0.9]
    two["probabilities"] = [0.2, 0.2, 0.0, 0.1, 0.8, 0.9]
    content["rows"][0]["seeds"] = [one, two, third]
    row = ablation_of(content).rows[0]
    assert row.flagged.tolist() == [False, False, True, False, True, True]
    assert row.probabilities.tolist() == pytest.approx([0.4, 0.5, 0.6, 0.1, 0.6, 0.9])


def test_the_papers_table_is_theirs():
    assert [(row.accuracy, row.recall, row.precision) for row in PUBLISHED] == [
        (0.70, 0.72, 0.68), (0.82, 0.84, 0.79), (0.84, 0.86, 0.82), (0.96, 1.00, 0.90),
    ]  # fmt: skip
