"""What reviewing.py gives, as HTML. Every text that comes from outside is escaped here."""

import math
from html import escape

from chipdemo.labeling.label import LABELS
from chipdemo.labeling.statistics import Kappa
from chipdemo.settings import Settings
from chipdemo.ui.label.review import Review, SecondLook

PAIRS = 20  # lines, at most


def review_html(review: Review) -> str:
    """The whole section."""
    parts = (_truths(review), _agreement(review), _against_the_model(review), _looks(review), _next(review))
    return f"<div class='review'>{''.join(parts)}</div>"


def _truths(review: Review) -> str:
    people, settled = review.settings.annotators_per_image, sum(review.consensus_counts.values())
    wanted = f"{people} labels or more" if people > 1 else "a label"
    if not settled:
        text = f"No image has {wanted.removesuffix(' or more')} yet. Label some, then look here again."
        return f"<section><h2>What holds</h2><p>{text}</p></section>"
    numbers = "".join(
        f"<li><strong>{count:,}</strong> {word}</li>"
        for word, count in review.consensus_counts.items()
        if count
    )
    return (
        f"<section><h2>What holds <small>of the {settled:,} images with {wanted}</small></h2>"
        f"<ul class='numbers'>{numbers}</ul>{_settle(review)}</section>"
    )


def _settle(review: Review) -> str:
    if not review.disagreements:
        return ""
    if not review.may_settle:
        return "<p>Reviewers settle the disagreements.</p>"
    one = review.disagreements == 1
    return (
        "<button type='button' data-order='review'>Settle "
        f"{'the disagreement' if one else f'the {review.disagreements:,} disagreements'}</button>"
    )


def _agreement(review: Review) -> str:
    title = "<section class='kappas'><h2>Agreement"
    found = review.agreement
    if not found.overall.images:
        return f"{title}</h2><p>{_how_to_agree(review.settings)}</p></section>"
    rows = [_kappa("all classes (Fleiss)", found.overall)]
    rows += [_kappa(f"{label} (Fleiss)", found.by_class[label]) for label in LABELS]
    rows += [
        _kappa(f"{' and '.join(map(_name, pair))} (Cohen)", kappa)
        for pair, kappa in sorted(found.pairs.items(), key=lambda item: -item[1].images)[:PAIRS]
    ]
    more = len(found.pairs) - PAIRS
    left_out = f" The {PAIRS} pairs with the most images; {more:,} more." if more > 0 else ""
    return (
        f"{title} <small>kappa: 1 is complete, 0 what chance gives</small></h2>"
        "<table><thead><tr><td></td><th scope='col'>kappa</th><th scope='col'>95&nbsp;% interval</th>"
        "<th scope='col'>same label</th><th scope='col'>photo&shy;graphs</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
        f"<p class='note'>Images with two labels or more. Intervals by bootstrap over images. "
        f"Labels that decided a review do not count.{left_out}</p></section>"
    )


def _how_to_agree(settings: Settings) -> str:
    if settings.annotators_per_image > 1:
        return "No image has two labels yet. Another person has to sign in and label too."
    return (
        "Two people have to label the same images: start the app with <code>--annotators-per-image 2</code>, "
        "and each image goes to two."
    )


def _kappa(what: str, kappa: Kappa) -> str:
    share = "" if math.isnan(kappa.agreement) else f"{100 * kappa.agreement:.0f}&nbsp;%"
    if math.isnan(kappa.value):
        figures = "<td colspan='2' class='none'>none: only one class was said</td>"
    else:
        figures = f"<td>{_figure(kappa.value)}</td><td>{_figure(kappa.low)} to {_figure(kappa.high)}</td>"
    return f"<tr><th scope='row'>{what}</th>{figures}<td>{share}</td><td>{kappa.images:,}</td></tr>"


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def _name(annotator: str) -> str:
    return f"<bdi>{escape(annotator)}</bdi>"


def _against_the_model(review: Review) -> str:
    model, table = review.model, review.against_model
    title = "<section><h2>People and the model"
    if not sum(sum(row.values()) for row in table.values()):
        return f"{title}</h2><p>No image with labels enough was judged by a model before.</p></section>"
    rows = "".join(
        f"<tr><th scope='row'>{label}</th>{''.join(f'<td>{count:,}</td>' for count in row.values())}</tr>"
        for label, row in table.items()
        if label in LABELS or row != dict.fromkeys(row, 0)
    )
    heads = "".join(f"<th scope='col'>model: {label}</th>" for label in next(iter(table.values())))
    return (
        f"{title} <small>images</small></h2><table><thead><tr><td>people</td>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table><p class='note'>What the model of that time said before the first "
        f"label, at the threshold {model.threshold:.2f} of the one in use now, {escape(model.name)} "
        f"<code>{escape(model.revision)}</code>.</p></section>"
    )


def _looks(review: Review) -> str:
    whose = "" if review.decides else " among those that you labeled"
    title = f"<section class='looks'><h2>Likely label errors{whose}"
    if not review.looks:
        return (
            f"{title}</h2><p>None now. Images are listed here when there are normal and abnormal ones "
            "and the model is sure of the other class.</p></section>"
        )
    says = "What you say decides." if review.decides else "A new label replaces yours."
    cards = "".join(_look(look, review.decides) for look in review.looks)
    return (
        f"{title} <small>the model is sure of the other class. {says}</small></h2>"
        f"<ul class='cards'>{cards}</ul></section>"
    )


def _look(look: SecondLook, decides: bool) -> str:
    error, name = look.error, escape(look.error.image.name)
    picture = f"<img src='{look.picture}' alt=''>" if look.picture else ""
    return (
        f"<li>{picture}<p class='name' title='{name}'><bdi>{name}</bdi></p>"
        f"<p>labeled <strong>{error.label}</strong></p>"
        f"<p>model: {error.probability:.2f} abnormal</p>"
        f"<button type='button' data-again='{error.image.sha256}' data-decides='{int(decides)}' "
        f"aria-label='Look again at {name}'>Look again</button></li>"
    )


def _next(review: Review) -> str:
    status, model = review.status, escape(review.settings.model_source)
    if status.new is None:
        new = "How many of them the model in use has not seen is not known: it has no split.json here."
    else:
        new = f"The model in use has not seen <strong>{status.new:,}</strong> of them."
    agreed = sum(status.agreed[label] for label in LABELS[:2])
    title = "<section class='next'><h2>The next model</h2>"
    if not agreed:
        return f"{title}<p>Nothing to train from yet: label normal and abnormal images.</p></section>"
    pending = ""
    if review.settings.dataset and status.pending:
        pending = f" {status.pending:,} events wait to be published first."
    return (
        f"{title}<p>{agreed:,} images are agreed to be normal or abnormal. {new}{pending} To train from "
        "them:</p><div class='commands'><pre><code>"
        f"{escape(chr(10).join(review.commands))}</code></pre>"
        "<button type='button' data-copy>Copy</button></div>"
        f"<p>{_going_over(review.settings, model)}</p></section>"
    )


def _going_over(settings: Settings, model: str) -> str:
    if settings.watch and settings.model:
        return (
            f"This app looks every {settings.watch} s whether {model} is newer, and goes over to it without "
            "a restart."
        )
    return (
        "Then start the app with <code>--model FOLDER --watch 60</code>, with the folder that training names "
        "at its end: it goes over by itself to each newer model that is trained there."
    )
