"""Pieces of the Compare tab as HTML. Every text that comes from outside is escaped here."""

from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from chipdemo.ablation.format import (
    METRICS,
    PUBLISHED,
    PUBLISHED_SOURCE,
    SIGNIFICANCE,
    Ablation,
    Difference,
    Row,
)
from chipdemo.examples import ELPV_CREDIT
from chipdemo.inspection import ABNORMAL, NORMAL, outcome_text
from chipdemo.rates import Rate
from chipdemo.ui.compare import charts
from chipdemo.ui.compare.logic import SELECTED, Answer, disagreements, picture_of
from chipdemo.ui.html import rate_html

GALLERY = 12  # images shown on which rows disagree

EMPTY = (
    "<section class='about'><h2>No comparison yet</h2><p>A comparison is an <code>ablation.json</code>: "
    "many models, trained and measured on the same images. Run <code>python training/ablate.py</code> to "
    "make one, or load one below. Your own image can be inspected without it.</p></section>"
)


def about_html(ablation: Ablation) -> str:
    """What was measured, on what, when, where, and how to do it again."""
    data, abnormal = ablation.data, int(ablation.abnormal.sum())
    normal = len(ablation.abnormal) - abnormal
    facts = {
        "measured on": f"{escape(data.split)}: {abnormal:,} abnormal, {normal:,} normal",
        "trained on": f"{data.train:,} other images; thresholds chosen on {data.validation:,} more",
        "license": escape(data.license) or "not stated",
        "seeds": _seeds(ablation.rows),
        "date": escape(ablation.date),
        "machine": escape(ablation.machine),
        "command": f"<code>{escape(ablation.command)}</code>",
    }
    terms = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts.items())
    heading = f"{len(ablation.rows)} models on {escape(data.name)}"
    return f"<section class='about'><h2>{heading}</h2><dl>{terms}</dl></section>"


def _seeds(rows: Sequence[Row]) -> str:
    numbers = {tuple(seed.seed for seed in row.seeds) for row in rows}
    if len(numbers) == 1:
        return ", ".join(map(str, *numbers)) + " for each model"
    counts = sorted({len(each) for each in numbers})
    return f"{counts[0]} to {counts[-1]} a model" if len(counts) > 1 else f"{counts[0]} a model"


class Column(NamedTuple):
    """A column of numbers. value: what it sorts by, None last. cell: its HTML, two lines."""

    title: str
    unit: str
    value: Callable[[Row], float | None]
    cell: Callable[[Row], str]


def _metric(name: str) -> Column:
    def cell(row: Row) -> str:
        summary = row.summary[name]
        sd = f" <small>±{summary.sd:.3f}</small>" if summary.sd is not None else ""
        return _two_lines(f"{summary.mean:.3f}{sd}", f"{summary.low:.3f}–{summary.high:.3f}")

    return Column(METRICS[name], "", lambda row: row.summary[name].mean, cell)


def _two_lines(upper: str, lower: str) -> str:
    return f"{upper}<br><small>{lower}</small>"


def quantity(value: float) -> str:
    """1234567 -> "1.23 M"; 0 -> "0"."""
    for size, letter in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """9.24 -> "9.2 s", 600 -> "10 min", 9000 -> "2.5 h"."""
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


COLUMNS = (
    _metric("accuracy"),
    Column(
        "versus baseline",
        "",
        lambda row: row.versus_baseline.difference if row.versus_baseline else None,
        lambda row: difference_html(row.versus_baseline) if row.versus_baseline else "",
    ),
    _metric("auroc"),
    _metric("recall"),
    _metric("precision"),
    _metric("expected_calibration_error"),
    Column(
        "time",
        "one image",
        lambda row: row.latency_ms,
        lambda row: _two_lines(f"{row.latency_ms:.3g} ms", f"{quantity(row.throughput)}/s in batches"),
    ),
    Column(
        "parameters",
        "multiply-adds",
        lambda row: row.parameters,
        lambda row: _two_lines(quantity(row.parameters), quantity(row.macs)),
    ),
    Column(
        "training", "a seed", lambda row: row.training_seconds, lambda row: duration(row.training_seconds)
    ),
)


def difference_html(difference: Difference) -> str:
    """The difference with its interval, and in words whether it is significant."""
    p = f"p = {difference.p:.3f}" if difference.p >= 0.001 else "p &lt; 0.001"
    words = "significant" if difference.significant else "not significant"
    value, low, high = (_signed(v) for v in (difference.difference, difference.low, difference.high))
    return _two_lines(
        f"<strong>{value}</strong> {METRICS[difference.metric]} <small>{low} to {high}</small>",
        f"<span class='{words.replace(' ', '-')}'>{words}</span>, {p}",
    )


def _signed(value: float) -> str:
    """Three decimals with a sign; no sign where they are all 0."""
    text = f"{value:+.3f}".replace("-", "−")
    return text if text[1:] != "0.000" else "0.000"


def table_html(ablation: Ablation, rows: Sequence[Row]) -> str:
    """Every row, to be sorted by compare.js, and the paper's. rows: in the order to start with."""
    headings = (("model", "check to plot"), *((column.title, column.unit) for column in COLUMNS))
    titles = "".join(
        f"<th scope='col' aria-sort='none'><button type='button'>"
        f"<span>{title.replace(' ', '<br>', 1)}</span><small>{unit}</small></button></th>"
        for title, unit in headings
    )
    body = "".join(_row(number, row) for number, row in enumerate(rows, 1))
    return (
        "<section class='ablation'><div class='scroll' role='region' aria-label='Models' tabindex='0'><table>"
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div><div class='below'>"
        f"<p class='note'>Measured on {escape(ablation.data.split)}: mean over a model's seeds ± standard "
        "deviation; below it, the 95 % bootstrap interval over the images. Time: one image, and images a "
        f"second in batches of 32, on the machine above.{_tests(rows)}</p>{published_html()}</div></section>"
    )


def _tests(rows: Sequence[Row]) -> str:
    """How rows were compared with their baselines, as a sentence."""
    tests = sorted({row.versus_baseline.test for row in rows if row.versus_baseline})
    if not tests:
        return ""
    return (
        " The baseline is the same model without what the row adds. A difference is significant where p is "
        f"below {SIGNIFICANCE} ({escape('; '.join(tests))})."
    )


def _row(number: int, row: Row) -> str:
    checked = " checked" if number <= SELECTED else ""
    kind = " class='has-baseline'" if row.baseline else ""
    seeds = f"{len(row.seeds)} seed" + "s" * (len(row.seeds) > 1)
    more = " · ".join(filter(None, (row.precision, seeds, row.source)))
    cells = "".join(
        f"<td data-value='{_sort_value(column.value(row))}'>{column.cell(row)}</td>" for column in COLUMNS
    )
    return (
        f"<tr data-number='{number}'{kind}><th scope='row' data-value='{escape(row.name.lower())}'><label>"
        f"<input type='checkbox' value='{escape(row.id)}'{checked}><span class='name'>"
        f"<span class='number'>{number}</span> {escape(row.name)}</span></label><small>weights: "
        f"{escape(row.starting_weights)}<span class='more'> · {escape(more)}</span></small></th>{cells}</tr>"
    )


def _sort_value(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def published_html() -> str:
    """The paper's own table, marked as theirs. It gives no counts, so there are no intervals."""
    rows = "".join(
        f"<tr><th scope='row'>{escape(row.name)}</th><td>{row.accuracy:.2f}</td><td>{row.recall:.2f}</td>"
        f"<td>{row.precision:.2f}</td></tr>"
        for row in PUBLISHED
    )
    return (
        f"<section class='published'><h2>Published results</h2><p>{escape(PUBLISHED_SOURCE)}, without "
        "intervals. Do not compare them with the table above: the images differ.</p><table><thead><tr>"
        "<th scope='col'>model</th><th scope='col'>accuracy</th><th scope='col'>recall</th>"
        f"<th scope='col'>precision</th></tr></thead><tbody>{rows}</tbody></table></section>"
    )


def scatter_html(rows: Sequence[Row], metric: str) -> str:
    """A metric against time, with the names behind the numbers."""
    names = "".join(f"<li>{escape(row.name)}</li>" for row in rows)
    return (
        f"<figure class='scatter'><div>{charts.scatter_svg(rows, metric)}</div><figcaption><ol>{names}</ol>"
        "<p>Numbers as in the table. Vertical lines: 95 % intervals. Dashed lines connect a model with its "
        "baseline. Time: one image, on the machine above.</p></figcaption></figure>"
    )


def plots_html(rows: Sequence[Row], abnormal: np.ndarray, split: str) -> str:
    """ROC, reliability and confusion of the selected rows. abnormal: (N,) bool, the truth."""
    if not rows:
        return "<p class='note'>Check models in the table to plot them here.</p>"
    legend = "".join(_legend_item(row, index) for index, row in enumerate(rows))
    confusions = "".join(_confusion(row, index) for index, row in enumerate(rows))
    panels = (
        _panel("ROC curves", charts.roc_svg(rows, abnormal), "Mean over a model's seeds. Gray line: chance."),
        _panel(
            "Reliability",
            charts.reliability_svg(rows, abnormal),
            "Gray line: perfect calibration. All seeds together; a larger dot stands for more images, a "
            "vertical line is its 95 % interval.",
        ),
        _panel(
            "Confusion",
            f"<div class='confusions'>{confusions}</div>",
            "Images, mean over a model's seeds, each at the threshold chosen on validation.",
        ),
    )
    return (
        f"<section class='plots'><h2>Selected models <small>{escape(split)}; at most {charts.SERIES} are "
        f"plotted</small></h2><ul class='legend-list'>{legend}</ul>"
        f"<div class='panels'>{''.join(panels)}</div></section>"
    )


def _panel(title: str, body: str, caption: str) -> str:
    return f"<figure><h3>{title}</h3>{body}<figcaption>{caption}</figcaption></figure>"


def _legend_item(row: Row, index: int) -> str:
    auroc, error = (row.summary[name] for name in ("auroc", "expected_calibration_error"))
    return (
        f"<li>{charts.legend_line(index)}{escape(row.name)} <small>AUROC {auroc.mean:.3f} "
        f"({auroc.low:.3f}–{auroc.high:.3f}), calibration error {error.mean:.3f}</small></li>"
    )


def _confusion(row: Row, index: int) -> str:
    counts = row.confusion  # (2, 2), truth by verdict
    shares = counts / counts.sum(axis=1, keepdims=True)
    lines, flagged = [], []
    for line, truth in enumerate((NORMAL, ABNORMAL)):
        cells = "".join(
            f"<td style='--share:{100 * share:.0f}%'>{count:.0f}</td>"
            for count, share in zip(counts[line], shares[line])
        )
        lines.append(f"<tr><th scope='row'>{truth}</th>{cells}</tr>")
        flagged.append(Rate(counts[line][1], counts[line].sum()))
    return (
        f"<div><table><caption>{charts.legend_line(index)}{escape(row.name)}</caption><thead><tr><td>label</td>"
        f"<th scope='col'>predicted {NORMAL}</th><th scope='col'>predicted {ABNORMAL}</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table><p>Detects {rate_html(flagged[1], 'abnormal images')}</p>"
        f"<p>Flags {rate_html(flagged[0], 'normal images')}</p></div>"
    )


def disagreements_html(ablation: Ablation, rows: Sequence[Row]) -> str:
    """Test images to which the selected rows give different verdicts."""
    if len(rows) < 2:
        return "<p class='note'>Check two models or more to see where they disagree.</p>"
    images, indices = ablation.images, disagreements(rows)
    pictures = [picture_of(images.file[i], images.sha256[i]) for i in indices[:GALLERY]]
    cards = "".join(_disagreement(ablation, rows, i, picture) for i, picture in zip(indices, pictures))
    widest = f", the {GALLERY} with the widest gap" if len(indices) > GALLERY else ""
    credit = f" · images: {escape(ELPV_CREDIT)}" if any(pictures) else ""
    return (
        f"<section class='disagreements'><h2>Where the selected models disagree <small>{len(indices):,} of "
        f"{len(ablation.abnormal):,} test images{widest}{credit}</small></h2><div class='cards'>{cards}"
        "</div></section>"
    )


def _disagreement(ablation: Ablation, rows: Sequence[Row], index: int, picture: str) -> str:
    name, truth = escape(ablation.images.file[index]), ablation.images.abnormal[index]
    lines = []
    for row in rows:
        flagged = row.flagged[index]
        wrong = "" if flagged == truth else ", <strong>wrong</strong>"
        lines.append(
            f"<tr><th scope='row'>{escape(row.name)}</th><td>{row.probabilities[index]:.2f}</td>"
            f"<td>{_word(flagged)}{wrong}</td></tr>"
        )
    image = f"<img src='{picture}' alt='Test image {name}'>" if picture else ""
    return (
        f"<article>{image}<div><h3>{name} <small>labeled {_word(truth)}</small></h3>"
        f"<table><tbody>{''.join(lines)}</tbody></table></div></article>"
    )


def _word(abnormal: bool) -> str:
    return ABNORMAL if abnormal else NORMAL


def answer_html(answer: Answer, picture: str) -> str:
    """One model's answer on the visitor's image. picture: a data URI."""
    name, inspection = escape(answer.model.name), answer.inspection
    heading = f"<h3>{name}{' <small>in use</small>' if answer.model.folder is None else ''}</h3>"
    if inspection is None:
        return (
            f"<article class='answer failed'>{heading}<p class='word'>No verdict</p>"
            f"<p>{escape(answer.error)}</p></article>"
        )
    outcome, ms = inspection.outcome, sum(inspection.timing_ms.values())
    word = outcome_text(outcome).capitalize()
    return (
        f"<article class='answer {outcome}'><img src='{picture}' alt='Heatmap of {name}: {word}'>{heading}"
        f"<p class='word'>{word}</p><p>probability <strong>{inspection.abnormal_probability:.2f}</strong>, "
        f"threshold {inspection.threshold:.2f}</p><p>{ms:.0f} ms</p></article>"
    )


def answers_html(name: str, cards: Sequence[str], total: int) -> str:
    """The answers so far. name: of the image. total: models that are asked."""
    models = f"{total} model" + "s" * (total > 1)
    progress = models if len(cards) == total else f"{len(cards)} of {models} so far"
    return (
        f"<section class='answers' aria-live='polite'><h2>{escape(name)} <small>{progress}; heatmaps on each "
        "model's own scale, where red is rare on normal chips; time on this server, without loading the model"
        f"</small></h2><div class='cards'>{''.join(cards)}</div></section>"
    )


def message_html(text: str) -> str:
    """Why something could not be done."""
    return f"<p class='message' role='alert'>{escape(text)}</p>"
