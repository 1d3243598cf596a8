import csv

import pyarrow.parquet as pq
import pytest
from PIL import Image

from chipdemo.batch.report import BINS, LISTED, WORST, sums_of, write_page, write_tables

RUN = {"model": "<b>m</b>", "revision": "0123", "threshold": 0.5, "data": "drawn chips"}


def judged(number, probability, label="", file="", **more):
    return {
        "file": file or f"{number}.png",
        "path": f"/chips/{number}.png",
        "label": label,
        "verdict": "abnormal" if probability >= 0.5 else "normal",
        "abnormal_probability": probability,
        "threshold": 0.5,
        "out_of_distribution": False,
        "distance": 0.4,
        "regions": [{"x": 1, "y": 2, "width": 3, "height": 4, "score": 0.9, "area": 12}],
        "model": {"name": "m", "revision": "0123"},
        "image": {"sha256": "0" * 64, "width": 120, "height": 90},
        "notes": ["First of 2 frames"],
        "error": "",
    } | more


def unreadable(number):
    return {"file": f"{number}.png", "path": f"/{number}.png", "label": "", "error": "Expected an image."}


def test_sums_count_and_keep_the_worst_and_no_more():
    results = [judged(n, n / 100, "abnormal" if n >= 60 else "normal") for n in range(100)]
    sums = sums_of(
        [*results, *(unreadable(n) for n in range(LISTED + 5)), judged(7, 1.0, out_of_distribution=True)]
    )
    assert (sums.images, sums.unreadable, sums.out_of_distribution) == (106 + LISTED, LISTED + 5, 1)
    assert sums.verdicts == {"normal": 50, "abnormal": 51}
    assert sums.confusion == {
        ("normal", "normal"): 50,
        ("normal", "abnormal"): 10,
        ("abnormal", "abnormal"): 40,
    }
    assert [result["abnormal_probability"] for result in sums.worst[:3]] == [1.0, 0.99, 0.98]
    assert len(sums.worst) == WORST and len(sums.refused) == LISTED
    assert sums.histogram.sum() == 101 and sums.histogram[0, BINS - 1] == 1


def test_tables_hold_every_image_and_no_cell_is_a_formula(tmp_path):
    write_tables(iter([judged(1, 0.25, file="=1+1"), unreadable(2)]), tmp_path)
    with (tmp_path / "inspections.csv").open(encoding="utf-8-sig", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["file"], first["abnormal_probability"], first["width"]) == ("'=1+1", "0.25", "120")
    assert (second["error"], second["verdict"]) == ("Expected an image.", "")
    rows = pq.read_table(tmp_path / "inspections.parquet").to_pylist()
    assert (rows[0]["file"], rows[0]["notes"], rows[1]["width"]) == ("=1+1", "First of 2 frames", None)


def test_the_page_shows_counts_pictures_and_text_of_strangers_as_text(tmp_path):
    sums = sums_of([judged(1, 0.9, "abnormal", file="<script>alert(1)</script>"), judged(2, 0.1, "normal")])
    write_page(sums, RUN, "2026-01-02", lambda result: Image.new("RGB", (8, 8)), tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2 and "<script" not in page and "<b>m</b>" not in page
    assert "100.0% of 1 abnormal ones are caught; 0.0% of 1 normal ones are stopped." in page
    assert "abnormal 0.90" in page and "threshold 0.500" in page


@pytest.mark.parametrize("label", ["", "normal"])
def test_without_labels_nothing_is_said_against_them(tmp_path, label):
    write_page(sums_of([judged(1, 0.9, label)]), RUN, "today", lambda result: None, tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert ("Against the labels" in page) == bool(label) and "Not readable" not in page
    assert "<img" not in page
