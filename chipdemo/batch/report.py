"""The results of a batch -> CSV, Parquet and one HTML page that needs no network and prints well."""

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
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from chipdemo.inspection import ABNORMAL, CLASSES, NORMAL, OUT_OF_DISTRIBUTION, OUTCOMES, outcome_text
from chipdemo.overlay import data_uri
from chipdemo.rates import Rate
from chipdemo.spreadsheet import escaped

CSV, PARQUET, HTML = "inspections.csv", "inspections.parquet", "report.html"
PARTS = "parts"  # a folder of Parquet files that hold the results in their order
COLUMNS = {
    "file": pa.string(),
    "path": pa.string(),
    "label": pa.string(),
    "outcome": pa.string(),
    "verdict": pa.string(),
    "abnormal_probability": pa.float64(),
    "threshold": pa.float64(),
    "out_of_distribution": pa.bool_(),
    "distance": pa.float64(),
    "regions": pa.string(),  # JSON, pixels of the upright image
    "sha256": pa.string(),
    "sha256_of": pa.string(),
    "width": pa.int64(),
    "height": pa.int64(),
    "model": pa.string(),
    "revision": pa.string(),
    "notes": pa.string(),
    "error": pa.string(),
}
ROWS = 1000  # in memory at a time
BINS = 40  # of the histogram, between 0 and 1
WORST, LISTED = 24, 200  # images shown; unreadable ones listed
UNREADABLE = "unreadable"  # beside OUTCOMES
SERIES = ("plain", "abnormal", "unknown")  # of the histogram: normal or no label, labeled abnormal, OOD
PAGE = Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))

Result = Mapping[str, Any]  # as run.result_of makes it
PictureOf = Callable[[Result], bytes]  # a JPEG; b"" for none


@dataclass
class Sums:
    """What one pass over the results leaves in memory, however many they are.

    images: all of them. counts: of OUTCOMES and UNREADABLE; they add up to images.
    histogram: (3, BINS) images by SERIES and probability. confusion: images by (label, outcome).
    worst: by severity. refused: the first of the unreadable ones.
    """

    images: int = 0
    counts: Counter = field(default_factory=lambda: Counter(dict.fromkeys((*OUTCOMES, UNREADABLE), 0)))
    histogram: np.ndarray = field(default_factory=lambda: np.zeros((len(SERIES), BINS), int))
    confusion: Counter = field(default_factory=Counter)
    worst: list[Result] = field(default_factory=list)
    refused: list[Result] = field(default_factory=list)


def write_tables(results: Iterable[Result], folder: Path) -> None:
    """CSV, in which no cell is a formula to a spreadsheet, and Parquet, in which texts are as they are."""
    rows = map(row_of, results)
    with (
        (folder / CSV).open("w", encoding="utf-8-sig", newline="") as file,
        (folder / PARQUET).open("wb") as binary,  # pyarrow takes no path that is not UTF-8
        pq.ParquetWriter(binary, pa.schema(COLUMNS)) as parquet,
    ):
        csv.writer(file).writerow(COLUMNS)
        while chunk := list(islice(rows, ROWS)):
            write_csv_rows(file, chunk)
            parquet.write_table(pa.Table.from_pylist(chunk, pa.schema(COLUMNS)))


def write_csv_rows(file: TextIO, rows: Iterable[Mapping[str, Any]]) -> None:
    """rows: as row_of makes them. Texts that a spreadsheet would read as formulas are escaped."""
    csv.DictWriter(file, COLUMNS).writerows(
        {name: escaped(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in rows
    )


def complete_parts(results: Iterable[Result], folder: Path) -> int:
    """Write the results that are in no part yet; gives the number of all results."""
    (folder / PARTS).mkdir(exist_ok=True)
    count = sum(map(_rows_in, (folder / PARTS).glob("*.parquet")))
    rest = islice(results, count, None)
    while chunk := list(islice(rest, ROWS)):
        write_part(chunk, count, folder)
        count += len(chunk)
    return count


def write_part(results: Iterable[Result], first: int, folder: Path) -> None:
    """Write a part, whole or not at all. first: how many results are in the parts before it."""
    path = folder / PARTS / f"{first:012}.parquet"
    new = Path(f"{path}.new")
    with new.open("wb") as file:
        pq.write_table(pa.Table.from_pylist(list(map(row_of, results)), pa.schema(COLUMNS)), file)
    new.replace(path)


def _rows_in(part: Path) -> int:
    with part.open("rb") as file:
        return pq.read_metadata(file).num_rows


def row_of(result: Result) -> dict[str, Any]:
    """A result as COLUMNS; None for what an unreadable image lacks."""
    model, image = result.get("model") or {}, result.get("image") or {}
    row = {name: result.get(name) for name in COLUMNS}
    return row | {
        "regions": json.dumps(result["regions"]) if "regions" in result else None,
        "notes": " ".join(result.get("notes", ())),
        "model": model.get("name"),
        "revision": model.get("revision"),
        **{name: image.get(name) for name in ("sha256", "sha256_of", "width", "height")},
    }


def images_text(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def sums_of(results: Iterable[Result]) -> Sums:
    sums = Sums()

    def readable() -> Iterator[Result]:
        for result in results:
            sums.images += 1
            if result["error"]:
                sums.counts[UNREADABLE] += 1
                if len(sums.refused) < LISTED:
                    sums.refused.append(result)
                continue
            outcome, label = result["outcome"], result["label"]
            sums.counts[outcome] += 1
            series = 2 if outcome == OUT_OF_DISTRIBUTION else int(label == ABNORMAL)
            sums.histogram[series, min(int(result["abnormal_probability"] * BINS), BINS - 1)] += 1
            if label:
                sums.confusion[label, outcome] += 1
            yield result

    sums.worst = nlargest(WORST, readable(), key=severity)
    return sums


def severity(result: Result) -> tuple[int, float]:
    """How high a result is listed: abnormal, out of distribution, normal, unreadable; then by probability."""
    order = (UNREADABLE, NORMAL, OUT_OF_DISTRIBUTION, ABNORMAL)
    return order.index(result.get("outcome", UNREADABLE)), result.get("abnormal_probability", 0.0)


def write_page(
    sums: Sums, run: Mapping[str, Any], meaning: str, date: str, picture_of: PictureOf, path: Path
) -> None:
    """run: of run.Results. meaning: of the threshold. picture_of: an image with its heatmap."""
    parts = {
        "title": f"{images_text(sums.images)} inspected",
        "made": escape(
            f"{date} · model {run['model']}, revision {run['revision']}, trained on {run['data']}"
        ),
        "meaning": escape(meaning),
        "counts": "".join(
            f"<li class='{name}'><b>{sums.counts[name]:,}</b> {outcome_text(name)}</li>"
            for name in (*OUTCOMES, UNREADABLE)
        ),
        "histogram": _histogram(sums, run["threshold"]),
        "confusion": _confusion(sums),
        "worst": "".join(_figure(result, picture_of) for result in sums.worst),
        "refused": _refused(sums),
        "tables": f"Every image is in {CSV} and {PARQUET} beside this page.",
    }
    path.write_text(PAGE.substitute(parts), encoding="utf-8")


def _histogram(sums: Sums, threshold: float | None) -> str:
    """Bars of images by probability, as SVG, with a legend of what the bars are made of.

    threshold: None where each model has its own.
    """
    width, height = 800, 180
    highest, step = max(int(sums.histogram.sum(0).max()), 1), width / BINS
    bars = []
    for column, counts in enumerate(sums.histogram.T):
        top = height
        for series, count in zip(SERIES, counts):
            tall = height * count / highest
            top -= tall
            bars.append(
                f"<rect class='{series}' x='{column * step:.1f}' y='{top:.1f}' width='{step - 1:.1f}' "
                f"height='{tall:.1f}'/>"
            )
    ticks = "".join(
        f"<text x='{share * width:.0f}' y='{height + 6}' class='tick' text-anchor='{where}'>{share:g}</text>"
        for share, where in ((0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1, "end"))
    )
    return (
        f"<svg viewBox='0 -16 {width} {height + 40}' role='img' aria-label='images by probability'>"
        f"{''.join(bars)}{_threshold_line(threshold, width, height)}{ticks}</svg>"
        f"<p class='note'>Images by probability of being abnormal; the highest bar is {highest:,}."
        f"{_legend(sums)}</p>"
    )


def _threshold_line(threshold: float | None, width: int, height: int) -> str:
    if threshold is None:
        return ""
    x, anchor = threshold * width, "end" if threshold > 0.8 else "start"
    return (
        f"<line x1='{x:.1f}' x2='{x:.1f}' y1='-4' y2='{height}'/>"
        f"<text x='{x:.1f}' y='-6' text-anchor='{anchor}'>decision threshold {threshold:.3f}</text>"
    )


def _legend(sums: Sums) -> str:
    plain, abnormal, unknown = sums.histogram.any(axis=1)
    shown = ((abnormal, "Red: labeled abnormal."), (unknown, "Gray: out of distribution."))
    return "".join(f" {text}" for is_there, text in shown if is_there)


def _confusion(sums: Sums) -> str:
    """The labels against the outcomes, with the rates."""
    if not sums.confusion:
        return ""
    head = "".join(f"<th>{outcome_text(outcome)}</th>" for outcome in OUTCOMES)
    rows = "".join(
        f"<tr><th>labeled {label}</th>"
        + "".join(f"<td>{sums.confusion[label, outcome]:,}</td>" for outcome in OUTCOMES)
        + "</tr>"
        for label in CLASSES
    )
    return (
        f"<section><h2>Labels and outcomes</h2><table><tr><td></td>{head}</tr>{rows}</table>"
        f"<p class='note'>{' '.join(rates_of(sums))}</p></section>"
    )


def rates_of(sums: Sums) -> list[str]:
    """How many of the labeled images were called abnormal, a sentence for each label; none without labels."""
    rates = [
        f"{verb} {rate.of(f'images labeled {label}')}."
        for label, verb in ((ABNORMAL, "Detected"), (NORMAL, "Flagged"))
        if (rate := _called_abnormal(sums, label)).total
    ]
    unknown = any(sums.confusion[label, OUT_OF_DISTRIBUTION] for label in CLASSES)
    return rates + (["An image out of distribution does not count as abnormal here."] if unknown else [])


def _called_abnormal(sums: Sums, label: str) -> Rate:
    return Rate(sums.confusion[label, ABNORMAL], sum(sums.confusion[label, outcome] for outcome in OUTCOMES))


def _figure(result: Result, picture_of: PictureOf) -> str:
    outcome, jpeg = result["outcome"], picture_of(result)
    picture = f"<img alt='' src='{data_uri(jpeg, 'JPEG')}'>" if jpeg else ""
    label = f" · labeled {result['label']}" if result["label"] else ""
    return (
        f"<figure>{picture}<figcaption><b class='{outcome}'>{outcome_text(outcome)} "
        f"{result['abnormal_probability']:.2f}</b> <bdi>{escape(result['file'])}</bdi>{label}</figcaption>"
        "</figure>"
    )


def _refused(sums: Sums) -> str:
    if not sums.refused:
        return ""
    lines = "".join(
        f"<li><bdi>{escape(result['file'])}</bdi>: {escape(result['error'])}</li>" for result in sums.refused
    )
    more = sums.counts[UNREADABLE] - len(sums.refused)
    lines += f"<li>and {more:,} more, in {CSV}</li>" if more else ""
    return f"<section><h2>Unreadable</h2><ul class='refused'>{lines}</ul></section>"
