"""Charts as inline SVG: sharp at any width, in the colors of the theme, without scripts.

Positions are percent of the plot and letters have a fixed size in pixels, so a chart is as legible
on a phone as on a wide screen. compare.css holds colors and strokes; .s0 to .s5 are the series.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from chipdemo.ablation.format import METRICS, Row
from chipdemo.rates import Rate

SERIES = 6  # rows that can be told apart in one chart
BINS = 10  # of the reliability diagram, from 0 to 1
TENTHS = (0, 0.2, 0.4, 0.6, 0.8, 1)
FALSE_POSITIVE_RATES = np.linspace(0, 1, 201)  # at which the ROC curves of several seeds are averaged
# A narrow phone's plot in pixels, where the numbers of points must find room; wider is easier.
NARROW, HEIGHT = 270, 300
LABEL = (18, 14)  # pixels that a number takes
OFFSETS = [  # of a number from its point, pixels, the nearest first
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

    def percent(self, value: float) -> float:
        """Where a value is, 0 at the low end and 100 at the high end."""
        values = (self.low, value, self.high)
        low, here, high = map(math.log10, values) if self.log else values
        return 100 * (here - low) / (high - low)


def scatter_svg(rows: Sequence[Row], metric: str) -> str:
    """A metric of every row against the time of one image, as numbered points with intervals."""
    summaries = [row.summary[metric] for row in rows]
    x = log_axis("milliseconds an image", [row.latency_ms for row in rows])
    y = metric_axis(METRICS[metric], [value for s in summaries for value in (s.low, s.mean, s.high)])
    points = {
        row.id: (x.percent(max(row.latency_ms, x.low)), 100 - y.percent(summary.mean))
        for row, summary in zip(rows, summaries)
    }
    lines, dots = [], []
    offsets = number_offsets(list(points.values()))
    for number, (row, summary, offset) in enumerate(zip(rows, summaries, offsets), 1):
        point = points[row.id]
        ends = [100 - y.percent(value) for value in (summary.low, summary.high)]
        lines.append(_line(point[0], ends[0], point[0], ends[1], "interval"))
        if row.baseline:
            lines.append(_line(*points[row.baseline], *point, "baseline"))
        tooltip = (
            f"{number} {row.name}: {METRICS[metric]} {summary.mean:.3f} "
            f"({summary.low:.3f} to {summary.high:.3f}), {row.latency_ms:.3g} ms"
        )
        dots.append(_numbered(point, number, offset, tooltip))
    return _plot(f"{METRICS[metric]} against time", "scatter", x, y, "".join(lines + dots))


def _numbered(point: tuple[float, float], number: int, offset: tuple[float, float], tooltip: str) -> str:
    """A dot with its number beside it and a line in between. point: percent; offset: pixels."""
    x, y = offset
    return (
        f"<svg x='{point[0]:.2f}%' y='{point[1]:.2f}%' overflow='visible'><title>{escape(tooltip)}</title>"
        f"<line class='leader' x2='{x:.0f}' y2='{y:.0f}'/><circle r='4.5'/>"
        f"<text x='{x:.0f}' y='{y + 4:.0f}'>{number}</text></svg>"
    )


def number_offsets(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where each point's number goes: offsets (x, y) in pixels, clear of points and other numbers.

    points: (x, y) in percent of the plot. The first offset is taken where none is clear.
    """
    centers = [(x / 100 * NARROW, y / 100 * HEIGHT) for x, y in points]
    taken, offsets = [], []
    for x, y in centers:
        best = min(OFFSETS, key=lambda offset: _crowding(x + offset[0], y + offset[1], centers, taken))
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
    """Recall against the false positive rate, a line a row. abnormal: (N,) bool, the truth."""
    lines = [
        _path([(0, 0), *zip(FALSE_POSITIVE_RATES, mean_recall(row, abnormal))], index)
        for index, row in enumerate(rows)
    ]
    x = Axis("false positive rate: normal chips called abnormal", 0, 1, TENTHS)
    y = Axis("recall: abnormal chips detected", 0, 1, TENTHS)
    return _plot("ROC curves", "square", x, y, _diagonal() + _stretched(lines))


def mean_recall(row: Row, abnormal: np.ndarray) -> np.ndarray:
    """Recall at each of FALSE_POSITIVE_RATES, mean over the seeds: (201,)."""
    from sklearn.metrics import roc_curve  # takes a second

    curves = (roc_curve(abnormal, seed.probabilities)[:2] for seed in row.seeds)
    return np.mean([np.interp(FALSE_POSITIVE_RATES, *curve) for curve in curves], axis=0)


def reliability_svg(rows: Sequence[Row], abnormal: np.ndarray) -> str:
    """Share that is abnormal against the predicted probability, all seeds of a row together.

    The more images, the larger a dot. abnormal: (N,) bool, the truth.
    """
    from sklearn.calibration import calibration_curve  # takes a second

    lines, dots = [], []
    edges = np.linspace(0, 1, BINS + 1)
    for index, row in enumerate(rows):
        predicted = np.concatenate([seed.probabilities for seed in row.seeds])
        shares, means = calibration_curve(np.tile(abnormal, len(row.seeds)), predicted, n_bins=BINS)
        counts = np.bincount(np.searchsorted(edges[1:-1], predicted))  # as calibration_curve divides them
        lines.append(_path(list(zip(means, shares)), index))
        for mean, share, count in zip(means, shares, counts[counts > 0], strict=True):
            radius, images = 2.5 + 7 * math.sqrt(count / len(predicted)), count / len(row.seeds)
            rate = Rate(share * images, images)  # the seeds saw the same images
            ends = (100 - 100 * end for end in rate.interval)
            dots.append(
                f"<line class='s{index} whisker' x1='{100 * mean:.2f}%' x2='{100 * mean:.2f}%' "
                "y1='{:.2f}%' y2='{:.2f}%'/>".format(*ends)
            )
            dots.append(
                f"<circle class='s{index}' cx='{100 * mean:.2f}%' cy='{100 - 100 * share:.2f}%' "
                f"r='{radius:.1f}'><title>predicted {mean:.2f}, abnormal {rate.of('images')}</title></circle>"
            )
    x, y = Axis("predicted probability", 0, 1, TENTHS), Axis("share that is abnormal", 0, 1, TENTHS)
    return _plot("Reliability diagram", "square", x, y, _diagonal() + _stretched(lines) + "".join(dots))


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
    ticks = [m * 10.0**power for power in range(-9, 16) for m in (1, 2, 5) if low <= m * 10.0**power <= high]
    if len(ticks) > 6:
        ticks = [tick for tick in ticks if f"{tick:e}".startswith("1.")]
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
        at = x.percent(tick)
        grid.append(_line(at, 0, at, 100, "grid"))
        grid.append(f"<text class='tick x' x='{at:.2f}%' y='100%' dy='18'>{tick:g}</text>")
    for tick in y.ticks:
        at = 100 - y.percent(tick)
        grid.append(_line(0, at, 100, at, "grid"))
        grid.append(f"<text class='tick y' x='0' y='{at:.2f}%' dx='-8' dy='4'>{tick:.3g}</text>")
    return (
        f"<p class='y-title'>{y.title}</p><svg class='chart {kind}' role='img' "
        f"aria-label='{name}: {y.title} by {x.title}'>{''.join(grid)}{marks}</svg>"
        f"<p class='x-title'>{x.title}</p>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f"<line class='{kind}' x1='{x1:.2f}%' y1='{y1:.2f}%' x2='{x2:.2f}%' y2='{y2:.2f}%'/>"


def _diagonal() -> str:
    """From the lower left to the upper right: what chance gives, or a perfect calibration."""
    return _line(0, 100, 100, 0, "diagonal")


def _path(points: Sequence[tuple[float, float]], index: int) -> str:
    """A line through points, both 0-1 with y upwards, to be put into _stretched."""
    places = " ".join(f"{100 * x:.1f},{100 - 100 * y:.1f}" for x, y in points)
    return f"<polyline class='s{index}' points='{places}'/>"


def _stretched(lines: Sequence[str]) -> str:
    """Lines over the whole plot: its units are percent, strokes keep their width."""
    return (
        "<svg viewBox='0 0 100 100' preserveAspectRatio='none' width='100%' height='100%'>"
        f"{''.join(lines)}</svg>"
    )
