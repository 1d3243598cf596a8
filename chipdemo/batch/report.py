"""Many inspections -> CSV, Parquet and one HTML page that needs no network and reads well on paper."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import nlargest
from html import escape
from itertools import islice
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from chipdemo.inspection import ABNORMAL, CLASSES, NORMAL
from chipdemo.overlay import data_uri
from chipdemo.spreadsheet import escaped

CSV, PARQUET, HTML = "inspections.csv", "inspections.parquet", "report.html"
PARTS = "parts"  # a folder of Parquet files, which hold the results in turn
COLUMNS = {
    "file": pa.string(),
    "path": pa.string(),
    "label": pa.string(),
    "verdict": pa.string(),
    "abnormal_probability": pa.float64(),
    "threshold": pa.float64(),
    "out_of_distribution": pa.bool_(),
    "distance": pa.float64(),
    "regions": pa.string(),  # JSON, pixels of the upright image
    "sha256": pa.string(),
    "width": pa.int64(),
    "height": pa.int64(),
    "model": pa.string(),
    "revision": pa.string(),
    "notes": pa.string(),
    "error": pa.string(),
}
ROWS = 1000  # in memory at a time
BINS = 40  # of the histogram, between 0 and 1
WORST, LISTED = 24, 200  # images shown; unreadable ones named
PAGE = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))

Result = Mapping[str, Any]  # as batch.result_of makes it
PictureOf = Callable[[Result], Image.Image | None]


@dataclass
class Sums:
    """What one pass over the results leaves in memory, however many they are.

    histogram: (2, BINS) images by label (normal or none, abnormal) and probability.
    confusion: by (label, verdict). worst: the likeliest abnormal first.
    """

    images: int = 0
    verdicts: Counter = field(default_factory=Counter)
    out_of_distribution: int = 0
    unreadable: int = 0
    histogram: np.ndarray = field(default_factory=lambda: np.zeros((2, BINS), int))
    confusion: Counter = field(default_factory=Counter)
    worst: list[Result] = field(default_factory=list)
    refused: list[Result] = field(default_factory=list)


def write_tables(results: Iterable[Result], folder: Path) -> None:
    """CSV, in which no cell is taken for a formula, and Parquet, in which texts are as they are."""
    rows = map(row_of, results)
    with (
        (folder / CSV).open("w", encoding="utf-8-sig", newline="") as file,
        pq.ParquetWriter(folder / PARQUET, pa.schema(COLUMNS)) as parquet,
    ):
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        while chunk := list(islice(rows, ROWS)):
            table.writerows(
                {name: escaped(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
                for row in chunk
            )
            parquet.write_table(pa.Table.from_pylist(chunk, pa.schema(COLUMNS)))


def complete_parts(results: Iterable[Result], folder: Path) -> int:
    """Write the parts of results that are in none yet; gives the number of all results."""
    (folder / PARTS).mkdir(exist_ok=True)
    count = sum(pq.read_metadata(part).num_rows for part in (folder / PARTS).glob("*.parquet"))
    rest = islice(results, count, None)
    while chunk := list(islice(rest, ROWS)):
        write_part(chunk, count, folder)
        count += len(chunk)
    return count


def write_part(results: Iterable[Result], first: int, folder: Path) -> None:
    """A part, whole or not at all. first: how many results are in those before it."""
    path = folder / PARTS / f"{first:012}.parquet"
    pq.write_table(pa.Table.from_pylist(list(map(row_of, results)), pa.schema(COLUMNS)), f"{path}.new")
    Path(f"{path}.new").replace(path)


def row_of(result: Result) -> dict[str, Any]:
    """A result as COLUMNS; None for what an unreadable image lacks."""
    model, image = result.get("model") or {}, result.get("image") or {}
    row = {name: result.get(name) for name in COLUMNS}
    return row | {
        "regions": json.dumps(result["regions"]) if "regions" in result else None,
        "notes": " ".join(result.get("notes", ())),
        "model": model.get("name"),
        "revision": model.get("revision"),
        **{name: image.get(name) for name in ("sha256", "width", "height")},
    }


def sums_of(results: Iterable[Result]) -> Sums:
    sums = Sums()

    def counted() -> Iterator[Result]:
        for result in results:
            sums.images += 1
            if result["error"]:
                sums.unreadable += 1
                if len(sums.refused) < LISTED:
                    sums.refused.append(result)
                continue
            sums.verdicts[result["verdict"]] += 1
            sums.out_of_distribution += result["out_of_distribution"]
            place = min(int(result["abnormal_probability"] * BINS), BINS - 1)
            sums.histogram[int(result["label"] == ABNORMAL), place] += 1
            if result["label"]:
                sums.confusion[result["label"], result["verdict"]] += 1
            yield result

    sums.worst = nlargest(WORST, counted(), key=lambda result: result["abnormal_probability"])
    return sums


def write_page(sums: Sums, run: Mapping[str, Any], date: str, picture_of: PictureOf, path: Path) -> None:
    """run: of batch.Results. picture_of: an image with its heat, None where it is gone."""
    parts = {
        "title": f"{sums.images:,} images inspected",
        "made": escape(
            f"{date} · model {run['model']}, revision {run['revision']}, trained on {run['data']} · "
            f"threshold {run['threshold']:.3f}"
        ),
        "counts": _counts(sums),
        "histogram": _histogram(sums, run["threshold"]),
        "confusion": _confusion(sums),
        "worst": "".join(_figure(result, picture_of) for result in sums.worst),
        "refused": _refused(sums),
        "tables": f"Every image is in {CSV} and {PARQUET} beside this page.",
    }
    path.write_text(PAGE.substitute(parts), encoding="utf-8")


def _counts(sums: Sums) -> str:
    facts = (
        (NORMAL, sums.verdicts[NORMAL]),
        (ABNORMAL, sums.verdicts[ABNORMAL]),
        ("out of distribution", sums.out_of_distribution),
        ("unreadable", sums.unreadable),
    )
    return "".join(f"<li class='{name.split()[0]}'><b>{count:,}</b> {name}</li>" for name, count in facts)


def _histogram(sums: Sums, threshold: float) -> str:
    """Bars of images by probability as SVG; those that are labeled abnormal on top, in red."""
    width, height = 800, 180
    highest, step = max(int(sums.histogram.sum(0).max()), 1), width / BINS
    bars = []
    for place, (plain, abnormal) in enumerate(sums.histogram.T):
        low = height
        for count, kind in ((plain, "plain"), (abnormal, "abnormal")):
            tall = height * count / highest
            low -= tall
            bars.append(
                f"<rect class='{kind}' x='{place * step:.1f}' y='{low:.1f}' width='{step - 1:.1f}' "
                f"height='{tall:.1f}'/>"
            )
    line = threshold * width
    anchor = "end" if threshold > 0.8 else "start"
    ticks = "".join(
        f"<text x='{share * width:.0f}' y='{height + 18}' text-anchor='{where}'>{share:g}</text>"
        for share, where in ((0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1, "end"))
    )
    return (
        f"<svg viewBox='0 -16 {width} {height + 40}' role='img' aria-label='images by probability'>"
        f"{''.join(bars)}<line x1='{line:.1f}' x2='{line:.1f}' y1='-4' y2='{height}'/>"
        f"<text x='{line:.1f}' y='-6' text-anchor='{anchor}'>threshold {threshold:.3f}</text>{ticks}</svg>"
        f"<p class='note'>Images by their probability of being abnormal; the highest bar is {highest:,}."
        f"{' Red: labeled abnormal.' if sums.histogram[1].any() else ''}</p>"
    )


def _confusion(sums: Sums) -> str:
    if not sums.confusion:
        return ""
    rows = "".join(
        f"<tr><th>labeled {label}</th>"
        + "".join(f"<td>{sums.confusion[label, verdict]:,}</td>" for verdict in CLASSES)
        + "</tr>"
        for label in CLASSES
    )
    head = "".join(f"<th>judged {verdict}</th>" for verdict in CLASSES)
    shares = [
        f"{sums.confusion[label, ABNORMAL] / total:.1%} of {total:,} {words}"
        for label, words in ((ABNORMAL, "abnormal ones are caught"), (NORMAL, "normal ones are stopped"))
        if (total := sum(sums.confusion[label, verdict] for verdict in CLASSES))
    ]
    return (
        f"<section><h2>Against the labels</h2><table><tr><td></td>{head}</tr>{rows}</table>"
        f"<p class='note'>{'; '.join(shares)}.</p></section>"
    )


def _figure(result: Result, picture_of: PictureOf) -> str:
    picture = ""
    if image := picture_of(result):
        picture = f"<img alt='' src='{data_uri(image, 'JPEG')}'>"
    said = f"labeled {result['label']}" if result["label"] else ""
    unlike = "out of distribution" if result["out_of_distribution"] else ""
    more = "".join(f" · {text}" for text in (said, unlike) if text)
    return (
        f"<figure>{picture}<figcaption><b class='{result['verdict']}'>{result['verdict']} "
        f"{result['abnormal_probability']:.2f}</b> <bdi>{escape(result['file'])}</bdi>{more}</figcaption>"
        "</figure>"
    )


def _refused(sums: Sums) -> str:
    if not sums.unreadable:
        return ""
    lines = "".join(
        f"<li><bdi>{escape(result['file'])}</bdi>: {escape(result['error'])}</li>" for result in sums.refused
    )
    more = sums.unreadable - len(sums.refused)
    lines += f"<li>and {more:,} more, in {CSV}</li>" if more else ""
    return f"<section><h2>Not readable</h2><ul class='refused'>{lines}</ul></section>"
