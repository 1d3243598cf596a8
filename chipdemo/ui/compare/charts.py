"""Charts as inline SVG: sharp at any width, in the colors of the theme, without scripts.

Places are percent of the plot and letters have a fixed size in pixels, so a chart is as legible
on a phone as on a wide screen. ablation.css holds colors and strokes; .s0 to .s5 are the series.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from chipdemo.ablation.curves import GRID, Bin, mean_recall, reliability
from chipdemo.ablation.format import METRICS, Row

SERIES = 6  # rows that can be told apart in one chart
TENTHS = (0, 0.2, 0.4, 0.6, 0.8, 1)
# A narrow phone's plot in pixels, where the numbers of points must find room; wider is easier.
NARROW, HEIGHT = 270, 300
LABEL = (18, 14)  # pixels that a number takes
PLACES = [  # of a number beside its point, pixels, the nearest first
    (reach * x, reach * y) for reach in (13, 22, 32)
    for x, y in ((0, -1), (1, 0), (0, 1), (-1, 0), (0.8, -0.8), (0.8, 0.8), (-0.8, -0.8), (-0.8, 0.8))
]  # fmt: skip


class Axis(NamedTuple):
    """One axis of a chart. low, high: values at its ends. ticks: values with a line."""

    title: str
    low: float
    high: float
    ticks: Sequence[float]
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value is, 0 at the low end and 1 at the high end."""
        values = (self.low, value, self.high)
        low, here, high = map(math.log10, values) if self.log else values
        return (here - low) / (high - low)


def scatter_svg(rows: Sequence[Row], metric: str) -> str:
    """A metric of every row against the time of one image, as numbered points with intervals."""
    summaries = [row.summary[metric] for row in rows]
    x = log_axis("milliseconds an image", [row.latency_ms for row in rows])
    y = metric_axis(
        METRICS[metric], [value for each in summaries for value in (each.low, each.mean, each.high)]
    )
    points = {
        row.id: (100 * x.share(max(row.latency_ms, x.low)), 100 - 100 * y.share(summary.mean))
        for row, summary in zip(rows, summaries)
    }
    lines, dots = [], []
    for row, summary in zip(rows, summaries):
        left = points[row.id][0]
        low, high = (100 - 100 * y.share(value) for value in (summary.low, summary.high))
        lines.append(_line(left, low, left, high, "interval"))
        if row.twin:
            lines.append(_line(*points[row.twin], *points[row.id], "twin"))
    for number, (row, summary, offset) in enumerate(
        zip(rows, summaries, number_places(list(points.values()))), 1
    ):
        told = (
            f"{number} {row.name}: {METRICS[metric]} {summary.mean:.3f} "
            f"({summary.low:.3f} to {summary.high:.3f}), {row.latency_ms:.3g} ms"
        )
        dots.append(_numbered(points[row.id], number, offset, told))
    return _plot(f"{METRICS[metric]} against time", "scatter", x, y, "".join(lines + dots))


def _numbered(point: tuple[float, float], number: int, offset: tuple[float, float], told: str) -> str:
    """A dot with its number beside it and a line in between. point: percent; offset: pixels."""
    x, y = offset
    return (
        f"<svg x='{point[0]:.2f}%' y='{point[1]:.2f}%' overflow='visible'><title>{escape(told)}</title>"
        f"<line class='leader' x2='{x:.0f}' y2='{y:.0f}'/><circle r='4.5'/>"
        f"<text x='{x:.0f}' y='{y + 4:.0f}'>{number}</text></svg>"
    )


def number_places(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where each point's number goes: offsets (x, y) in pixels, clear of points and other numbers.

    points: (x, y) in percent of the plot. The first place is taken where none is clear.
    """
    centers = [(x / 100 * NARROW, y / 100 * HEIGHT) for x, y in points]
    taken, offsets = [], []
    for x, y in centers:
        best = min(PLACES, key=lambda offset: _crowding(x + offset[0], y + offset[1], centers, taken))
        offsets.append(best)
        taken.append((x + best[0], y + best[1]))
    return offsets


def _crowding(x: float, y: float, centers, taken) -> int:
    """How many points and numbers a number at (x, y) would cover, or cross the edge of the plot."""
    width, height = LABEL
    on_points = sum(abs(x - a) < width / 2 + 4 and abs(y - b) < height / 2 + 4 for a, b in centers)
    on_numbers = sum(abs(x - a) < width and abs(y - b) < height for a, b in taken)
    outside = not (0 <= x <= NARROW and 0 <= y <= HEIGHT)
    return on_points + on_numbers + outside


def roc_svg(rows: Sequence[Row], abnormal: np.ndarray) -> str:
    """Recall against false alarms, a line a row: mean of its seeds. abnormal: (N,) bool, the truth."""
    lines = "".join(
        _path(
            [(0, 0), *zip(GRID, mean_recall([np.array(s.probabilities) for s in row.seeds], abnormal))], index
        )
        for index, row in enumerate(rows)
    )
    x, y = (
        Axis("false alarms: share of good chips stopped", 0, 1, TENTHS),
        Axis("recall: share of defects caught", 0, 1, TENTHS),
    )
    return _plot("ROC curves", "square", x, y, _line(0, 100, 100, 0, "even") + _stretched(lines))


def reliability_svg(rows: Sequence[Row], abnormal: np.ndarray) -> str:
    """Share that is abnormal against the probability given, all seeds of a row together."""
    lines, dots = [], []
    for index, row in enumerate(rows):
        given = np.concatenate([s.probabilities for s in row.seeds])
        bins = reliability(given, np.tile(abnormal, len(row.seeds)))
        lines.append(_path([(b.probability, b.share) for b in bins], index))
        dots += [_bin_dot(b, index, len(given)) for b in bins]
    x, y = Axis("probability given", 0, 1, TENTHS), Axis("share that is abnormal", 0, 1, TENTHS)
    marks = _line(0, 100, 100, 0, "even") + _stretched("".join(lines)) + "".join(dots)
    return _plot("Reliability diagram", "square", x, y, marks)


def _bin_dot(b: Bin, index: int, total: int) -> str:
    """The more images, the larger the dot."""
    told = f"given {b.probability:.2f}, abnormal {b.share:.2f}, {b.count} judgments"
    return (
        f"<circle class='s{index}' cx='{100 * b.probability:.2f}%' cy='{100 - 100 * b.share:.2f}%' "
        f"r='{2.5 + 7 * math.sqrt(b.count / total):.1f}'><title>{told}</title></circle>"
    )


def legend_line(index: int) -> str:
    """The sample of a series' line, for lists."""
    return (
        "<svg class='sample' width='30' height='10' aria-hidden='true'>"
        f"<line class='s{index}' x1='0' y1='5' x2='30' y2='5'/></svg>"
    )


def log_axis(title: str, values: Sequence[float]) -> Axis:
    """Covers the values with some room, with ticks at 1, 2 and 5 of each power of ten."""
    above_0 = [value for value in values if value > 0] or [1]
    low, high = min(above_0) / 1.3, max(above_0) * 1.3
    steps = [m * 10.0**power for power in range(-9, 16) for m in (1, 2, 5)]
    ticks = [step for step in steps if low <= step <= high]
    if len(ticks) > 6:
        ticks = [step for step in ticks if f"{step:e}".startswith("1.")]
    return Axis(title, low, high, ticks, log=True)


def metric_axis(title: str, values: Sequence[float]) -> Axis:
    """Covers fractions from the tenth below to the tenth above."""
    low, high = math.floor(10 * min(values) + 1e-9) / 10, math.ceil(10 * max(values) - 1e-9) / 10
    high = high if high > low else low + 0.1
    step = 0.1 if high - low > 0.25 else 0.05
    return Axis(title, low, high, [low + step * i for i in range(round((high - low) / step) + 1)])


def _plot(name: str, kind: str, x: Axis, y: Axis, marks: str) -> str:
    """Grid, ticks and titles around the marks."""
    grid = []
    for tick in x.ticks:
        at = 100 * x.share(tick)
        grid.append(
            _line(at, 0, at, 100, "grid")
            + f"<text class='tick x' x='{at:.2f}%' y='100%' dy='18'>{tick:g}</text>"
        )
    for tick in y.ticks:
        at = 100 - 100 * y.share(tick)
        grid.append(
            _line(0, at, 100, at, "grid")
            + f"<text class='tick y' x='0' y='{at:.2f}%' dx='-8' dy='4'>{tick:.3g}</text>"
        )
    label = f"{name}: {y.title} by {x.title}"
    return (
        f"<p class='y-title'>{y.title}</p><svg class='chart {kind}' role='img' aria-label='{label}'>"
        f"{''.join(grid)}{marks}</svg><p class='x-title'>{x.title}</p>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f"<line class='{kind}' x1='{x1:.2f}%' y1='{y1:.2f}%' x2='{x2:.2f}%' y2='{y2:.2f}%'/>"


def _path(points: Sequence[tuple[float, float]], index: int) -> str:
    """A line through points, both 0-1 with y upwards, to be put into _stretched."""
    places = " ".join(f"{100 * x:.1f},{100 - 100 * y:.1f}" for x, y in points)
    return f"<polyline class='s{index}' points='{places}'/>"


def _stretched(lines: str) -> str:
    """Lines over the whole plot: its units are percent, strokes keep their width."""
    return f"<svg viewBox='0 0 100 100' preserveAspectRatio='none' width='100%' height='100%'>{lines}</svg>"
