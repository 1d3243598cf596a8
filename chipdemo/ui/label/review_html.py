"""The review section as HTML. Every text that comes from outside is escaped here."""

import math
from html import escape

from chipdemo.labeling.journal import JournalImage
from chipdemo.labeling.label import LABELS, Label
from chipdemo.labeling.settled import Settled
from chipdemo.labeling.statistics import Kappa, LikelyError
from chipdemo.settings import Settings
from chipdemo.ui.label.review import Review

MOST_PAIRS = 20  # lines of the table


def review_html(review: Review) -> str:
    """The whole section."""
    parts = (
        _consensus(review),
        _agreement(review),
        _against_the_model(review),
        _looks(review),
        _settled(review),
        _next(review),
    )
    return f"<div class='review'>{''.join(parts)}</div>"


def _consensus(review: Review) -> str:
    wanted, images = review.settings.annotators_per_image, sum(review.consensus_counts.values())
    labels = f"{wanted} labels or more" if wanted > 1 else "a label"
    if not images:
        text = f"No image has {labels.removesuffix(' or more')} yet."
        return f"<section class='consensus'><h2>Consensus</h2><p>{text}</p></section>"
    numbers = "".join(
        f"<li data-consensus='{word}'><strong>{count:,}</strong> {word}</li>"
        for word, count in review.consensus_counts.items()
        if count
    )
    return (
        f"<section class='consensus'><h2>Consensus <small>of {images:,} images with {labels}</small></h2>"
        f"<ul class='numbers'>{numbers}</ul>{_settle(review)}</section>"
    )


def _settle(review: Review) -> str:
    if not review.disputed:
        return ""
    if not review.may_settle:
        return "<p>Reviewers decide the disputed images.</p>"
    images = "image" if review.disputed == 1 else "images"
    return f"<button type='button' data-order='review'>Review {review.disputed:,} disputed {images}</button>"


def _agreement(review: Review) -> str:
    title = "<section class='kappas'><h2>Agreement"
    found = review.agreement
    if not found.overall.images:
        return f"{title}</h2><p>{_how_to_agree(review.settings)}</p></section>"
    rows = [_kappa("all classes (Fleiss)", found.overall)]
    rows += [_kappa(f"{label} (Fleiss)", found.by_class[label]) for label in LABELS]
    rows += [
        _kappa(f"{' and '.join(map(_name, pair))} (Cohen)", kappa)
        for pair, kappa in sorted(found.pairs.items(), key=lambda item: -item[1].images)[:MOST_PAIRS]
    ]
    more = len(found.pairs) - MOST_PAIRS
    left_out = f" {more:,} pairs with fewer common images are not listed." if more > 0 else ""
    return (
        f"{title} <small>kappa: 1 is complete agreement, 0 is chance</small></h2>"
        "<table><thead><tr><td></td><th scope='col'>kappa</th><th scope='col'>95&nbsp;% interval</th>"
        "<th scope='col'>same label</th><th scope='col'>images</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
        "<p class='note'>Measured on images with at least two labels. Intervals of kappa: bootstrap over "
        f"images. Labels that decided a disputed image do not count.{left_out}</p></section>"
    )


def _how_to_agree(settings: Settings) -> str:
    if settings.annotators_per_image > 1:
        return "No image has two labels yet. A second annotator has to sign in and label."
    return (
        "Agreement needs two labels an image. Start the app with <code>--annotators-per-image 2</code>; "
        "each image then goes to two annotators."
    )


def _kappa(what: str, kappa: Kappa) -> str:
    share = "" if math.isnan(kappa.agreement) else kappa.agreeing.uncertainty
    if math.isnan(kappa.value):
        figures = "<td colspan='2' class='none'>undefined: all labels are the same</td>"
    else:
        figures = f"<td>{_figure(kappa.value)}</td><td>{_figure(kappa.low)} to {_figure(kappa.high)}</td>"
    return f"<tr><th scope='row'>{what}</th>{figures}<td>{share}</td><td>{kappa.images:,}</td></tr>"


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def _name(annotator: str) -> str:
    return f"<bdi>{escape(annotator)}</bdi>"


def _against_the_model(review: Review) -> str:
    model, table = review.model, review.against_model
    title = "<section class='against'><h2>Annotators and the model"
    if not sum(sum(row.values()) for row in table.values()):
        return f"{title}</h2><p>No image with enough labels has a prediction of a model yet.</p></section>"
    rows = "".join(
        f"<tr data-consensus='{label}'><th scope='row'>{label}</th>"
        f"{''.join(f'<td>{count:,}</td>' for count in row.values())}</tr>"
        for label, row in table.items()
        if label in LABELS or row != dict.fromkeys(row, 0)
    )
    heads = "".join(f"<th scope='col'>model: {label}</th>" for label in next(iter(table.values())))
    return (
        f"{title} <small>images</small></h2><table><thead><tr><td>consensus</td>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table><p class='note'>The prediction stored with the first label of each "
        f"image, at the threshold of the model that scored it; at {model.threshold:.2f}, that of "
        f"{escape(model.name)} <code>{escape(model.revision)}</code>, where none did.</p></section>"
    )


def _looks(review: Review) -> str:
    whose = "" if review.decides else " among your labels"
    title = f"<section class='looks'><h2>Likely label errors{whose}"
    if not review.looks:
        return (
            f"{title}</h2><p>None. An image is listed here when the model is confident of the other class; "
            "this needs both normal and abnormal images.</p></section>"
        )
    effect = "Your label decides." if review.decides else "A new label replaces yours."
    cards = "".join(_look(review, look) for look in review.looks)
    return (
        f"{title} <small>the model is confident of the other class. {effect}</small></h2>"
        f"<ul class='cards'>{cards}</ul></section>"
    )


def _look(review: Review, error: LikelyError) -> str:
    return (
        f"<li>{_picture(review, error.image)}<p>labeled <strong>{error.label}</strong></p>"
        f"<p>model: {error.probability:.2f} abnormal</p>{_again(error.image, review.decides)}</li>"
    )


def _picture(review: Review, image: JournalImage) -> str:
    name, source = escape(image.name), review.thumbnails.get(image.sha256)
    picture = f"<img src='{source}' alt=''>" if source else ""
    return f"{picture}<p class='name' title='{name}'><bdi>{name}</bdi></p>"


def _again(image: JournalImage, decides: bool) -> str:
    return (
        f"<button type='button' data-again='{image.sha256}' data-decides='{int(decides)}' "
        f"aria-label='Look again at {escape(image.name)}'>Look again</button>"
    )


def _settled(review: Review) -> str:
    """Nothing where there is none: most projects have one label an image."""
    if not review.settled:
        return ""
    cards = "".join(_decision(review, one) for one in review.settled)
    whose = "the latest decisions" if review.decides else "your latest decisions"
    return (
        f"<section class='settled'><h2>Settled <small>{whose}, with the labels before them</small></h2>"
        f"<ul>{cards}</ul></section>"
    )


def _decision(review: Review, one: Settled) -> str:
    votes = "".join(f"<li>{_name(vote.annotator)}: {_given(vote)}</li>" for vote in one.votes)
    return (
        f"<li data-settled='{one.image.sha256}'><div class='picture'>{_picture(review, one.image)}</div>"
        f"<div><p>decided: {_given(one.decision)}</p><p class='by'>by {_name(one.decision.annotator)}, "
        f"{one.decision.created_at:%Y-%m-%d %H:%M} UTC</p>"
        f"<ul class='votes'>{votes or '<li>no label before it</li>'}</ul>{_again(one.image, True)}</div></li>"
    )


def _given(label: Label) -> str:
    """Label, type and note."""
    kind = f", <bdi>{escape(label.defect_type)}</bdi>" if label.defect_type else ""
    note = f" <q><bdi>{escape(label.note)}</bdi></q>" if label.note else ""
    return f"<strong class='{label.label}'>{label.label}{kind}</strong>{note}"


def _next(review: Review) -> str:
    status, model = review.status, escape(review.settings.model_source)
    labeled = sum(status.agreed[label] for label in LABELS[:2])
    title = "<section class='next'><h2>Train the next model</h2>"
    if not labeled:
        return f"{title}<p>Label some images normal and some abnormal first.</p></section>"
    if status.new is None:
        new = "The model in use has no split.json here, so it is unknown how many of them it was trained on."
    else:
        new = f"<strong data-new>{status.new:,}</strong> of them are new to the model in use."
    pending = ""
    if review.settings.dataset and status.pending:
        pending = f" <strong data-pending>{status.pending:,}</strong> events are not published yet."
    return (
        f"{title}<p>Images with the consensus normal or abnormal: <strong data-labeled>{labeled:,}</strong>. "
        f"{new}{pending} To train on them, run:</p><div class='commands'><pre><code>"
        f"{escape(chr(10).join(review.commands))}</code></pre>"
        "<button type='button' data-copy>Copy</button></div>"
        f"<p class='reload'>{_hot_reload(review.settings, model)}</p></section>"
    )


def _hot_reload(settings: Settings, model: str) -> str:
    if settings.hot_reload and settings.model:
        return (
            f"This app looks for a newer {model} every {settings.hot_reload} s and loads it without a "
            "restart."
        )
    return (
        "Then start the app with <code>--model FOLDER --hot-reload 60</code>, where FOLDER is the folder "
        "that training prints at its end. The app then loads each newer model of that folder without a "
        "restart."
    )
