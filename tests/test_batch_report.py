import csv
import os
import re
from io import BytesIO

import pyarrow.parquet as pq
import pytest
from PIL import Image

from chipdemo.batch.report import (
    BINS,
    LISTED,
    PARTS,
    WORST,
    complete_parts,
    images_text,
    severity,
    sums_of,
    write_page,
    write_tables,
)

RUN = {"model": "<b>m</b>", "revision": "0123", "threshold": 0.5, "data": "drawn chips"}


def inspected(number, probability, label="", file="", unknown=False):
    verdict = "abnormal" if probability >= 0.5 else "normal"
    return {
        "file": file or f"{number}.png",
        "path": f"/chips/{number}.png",
        "label": label,
        "outcome": "out_of_distribution" if unknown else verdict,
        "verdict": verdict,
        "abnormal_probability": probability,
        "threshold": 0.5,
        "out_of_distribution": unknown,
        "distance": 2.5 if unknown else 0.4,
        "regions": [{"x": 1, "y": 2, "width": 3, "height": 4, "score": 0.9, "area": 12}],
        "model": {"name": "m", "revision": "0123"},
        "image": {"sha256": "0" * 64, "width": 120, "height": 90},
        "notes": ["First of 2 frames"],
        "error": "",
    }


def unreadable(number):
    return {"file": f"{number}.png", "path": f"/{number}.png", "label": "", "error": "The file is empty."}


def test_counts_add_up_and_an_image_out_of_distribution_is_no_defect():
    results = [
        *(inspected(n, n / 100, "abnormal" if n >= 60 else "normal") for n in range(100)),
        *(unreadable(n) for n in range(LISTED + 5)),
        inspected(100, 1.0, "abnormal", unknown=True),
        inspected(101, 0.2, unknown=True),
    ]
    sums = sums_of(results)
    assert sums.counts == {"normal": 50, "abnormal": 50, "out_of_distribution": 2, "unreadable": LISTED + 5}
    assert sums.images == sum(sums.counts.values()) == len(results)
    assert sums.confusion == {
        ("normal", "normal"): 50,
        ("normal", "abnormal"): 10,
        ("abnormal", "abnormal"): 40,
        ("abnormal", "out_of_distribution"): 1,
    }
    assert sums.histogram.sum(1).tolist() == [60, 40, 2]  # normal or no label, labeled abnormal, unknown
    assert sums.histogram[2, BINS - 1] == 1
    assert len(sums.refused) == LISTED


def test_the_worst_are_abnormal_ones_then_those_out_of_distribution():
    known = [inspected(n, p) for n, p in enumerate((0.1, 0.6, 0.9))]
    sums = sums_of([inspected(3, 1.0, unknown=True), *known, unreadable(4), inspected(5, 0.3, unknown=True)])
    assert [result["abnormal_probability"] for result in sums.worst] == [0.9, 0.6, 1.0, 0.3, 0.1]
    assert len(sums_of(inspected(n, 0.5) for n in range(100)).worst) == WORST
    assert severity(unreadable(1)) < severity(inspected(1, 0.0))


def test_tables_hold_every_image_and_no_cell_is_a_formula(tmp_path):
    write_tables(iter([inspected(1, 0.25, file="=1+1"), unreadable(2)]), tmp_path)
    with (tmp_path / "inspections.csv").open(encoding="utf-8-sig", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["file"], first["abnormal_probability"], first["width"]) == ("'=1+1", "0.25", "120")
    assert (first["outcome"], second["outcome"], second["error"]) == ("normal", "", "The file is empty.")
    rows = pq.read_table(tmp_path / "inspections.parquet").to_pylist()
    assert (rows[0]["file"], rows[0]["notes"], rows[1]["width"]) == ("=1+1", "First of 2 frames", None)


def test_tables_and_parts_lie_in_a_folder_whose_name_is_no_text(tmp_path):
    folder = tmp_path / os.fsdecode(b"o\xe9")
    folder.mkdir()
    results = [inspected(1, 0.25), unreadable(2)]
    write_tables(results, folder)
    assert complete_parts(results[:1], folder) == 1
    assert complete_parts(results, folder) == 2 == len(list((folder / PARTS).glob("*.parquet")))


@pytest.mark.parametrize(("count", "text"), [(0, "0 images"), (1, "1 image"), (1234, "1,234 images")])
def test_one_image_is_singular(count, text):
    assert images_text(count) == text


def jpeg(result):
    Image.new("RGB", (8, 8)).save(stream := BytesIO(), "JPEG")
    return stream.getvalue()


def page_of(path, results, picture_of=jpeg):
    write_page(sums_of(results), RUN, "Threshold 0.5. <b>", "2026-01-02", picture_of, path)
    return path.read_text(encoding="utf-8")


def cells(page):
    """The numbers of the confusion matrix, row by row."""
    return [re.findall(r"<td>([\d,]+)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)[1:]]


def test_the_page_shows_counts_and_pictures_and_no_name_as_html(tmp_path):
    hostile = inspected(1, 0.9, "abnormal", file="<script>alert(1)</script>")
    page = page_of(tmp_path / "p.html", [hostile, inspected(2, 0.1), inspected(3, 0.8, unknown=True)])
    assert page.count("data:image/jpeg") == 3 and "<script" not in page and "<b>m</b>" not in page
    assert "Threshold 0.5. &lt;b&gt;" in page
    counts = re.findall(r"<li class='(\w+)'><b>(\d+)</b>", page)
    assert counts == [("normal", "1"), ("abnormal", "1"), ("out_of_distribution", "1"), ("unreadable", "0")]
    captions = re.findall(r"<figcaption><b class='(\w+)'>[a-z ]+ ([\d.]+)</b>", page)
    assert captions == [("abnormal", "0.90"), ("out_of_distribution", "0.80"), ("normal", "0.10")]
    assert len(re.findall(r"<rect class='unknown'[^>]* height='180.0'/>", page)) == 1


def test_labels_are_compared_with_three_outcomes(tmp_path):
    results = [
        *(inspected(n, 0.9, "abnormal") for n in range(6)),
        inspected(6, 0.2, "abnormal"),
        inspected(7, 0.9, "abnormal", unknown=True),
        *(inspected(n, 0.1, "normal") for n in range(8, 12)),
        inspected(12, 0.7, "normal"),
    ]
    page = page_of(tmp_path / "p.html", results)
    assert cells(page) == [["4", "1", "0"], ["1", "6", "1"]]
    note = page.partition("</table>")[2]
    assert "Detected 6 of 8 images labeled abnormal (75 %, 95 % interval 35–97 %)." in note
    assert "Flagged 1 of 5 images labeled normal (20 %, 95 % interval 1–72 %)." in note


@pytest.mark.parametrize(("label", "rows"), [("", []), ("normal", [["0", "1", "0"], ["0", "0", "0"]])])
def test_without_labels_there_is_no_table_of_them(tmp_path, label, rows):
    page = page_of(tmp_path / "p.html", [inspected(1, 0.9, label)], lambda result: b"")
    assert cells(page) == rows
    assert "<img" not in page
