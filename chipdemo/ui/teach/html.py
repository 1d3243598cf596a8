"""Pieces of the Teach tab as HTML. Every text that comes from outside is escaped here."""

import shlex
from collections.abc import Sequence
from html import escape

from chipdemo.overlay import data_uri
from chipdemo.teaching import MIN_IMAGES, Draft, Kind, Outlier, Taught
from chipdemo.threshold import CONFIDENCE, FPR, Target, images_needed, promised
from chipdemo.ui.html import rate_html
from chipdemo.ui.teach.logic import Step

ESTIMATED = 0.02  # of the work done, before the time that is left is shown

INTRO = (
    "<section class='teach-card'><h2>How to teach a new chip</h2><ol>"
    f"<li>Drop {MIN_IMAGES} or more images of <b>good</b> chips: same side, same distance, same light. "
    "30 are better, and 100 are enough.</li>"
    "<li>Press Teach. There is no training: patches of the good images are stored in a memory bank.</li>"
    "<li>If some images are unlike the others, you see them and choose which to leave out.</li>"
    "<li>Inspect with the new model at once, and download it to keep it.</li></ol>"
    "<p>You need no defects. If you have some, they show how many the model detects, and they may raise the "
    "threshold. Only this page can use what you teach here.</p></section>"
)
STOPPED = "Stopped. No model was made. Your images are still listed."


def progress_html(step: Step) -> str:
    """What is being done, how far it is, and how long it will take."""
    left = step.seconds * (1 - step.done) / step.done if step.done >= ESTIMATED else None
    rest = f", about {max(left, 1):.0f} s left" if left is not None else ""
    return (
        "<section class='teach-card many-progress' role='status'><span class='meter'><span style='width: "
        f"{step.done:.1%}'></span></span><p>{escape(step.name).capitalize()}: {step.done:.0%}{rest}</p>"
        "</section>"
    )


def review_html(draft: Draft) -> str:
    """The outliers, each to be left out or kept; or the kinds, of which one is to be chosen."""
    if draft.kinds:
        return _kinds(draft)
    count = len(draft.outliers)
    outliers = "outlier" if count == 1 else "outliers"
    figures = "".join(map(_outlier, draft.outliers))
    return (
        "<section class='teach-card' role='status'>"
        f"<h2>{count:,} {outliers} among {draft.images:,} good images</h2>"
        "<p>Red marks what no other good image has. The model does not flag what is in the images that you "
        "keep. Leave out images that are defective, turned, or of something else. Keep those that are good "
        f"but rare.</p><div class='many-tiles outliers'>{figures}</div></section>"
        f"{_remarks(draft.warnings, draft.unusable)}"
    )


def _kinds(draft: Draft) -> str:
    choices = "".join(
        f"<label><input type='radio' name='kind' data-row='{row}'{' checked' if row == 0 else ''}> "
        f"<span>Teach {escape(kind.text)}</span></label><div class='many-tiles'>{_pictures(kind)}</div>"
        for row, kind in enumerate(draft.kinds)
    )
    return (
        "<section class='teach-card' role='status'>"
        f"<h2>{len(draft.kinds):,} kinds of images among {draft.images:,} good ones</h2>"
        "<p>A model of one kind finds more. Teach each kind on its own, or take the others out.</p>"
        f"<div class='kinds'>{choices}<label><input type='radio' name='kind' data-row='-1'> "
        f"<span>Teach all of them together</span></label></div></section>{_remarks((), draft.unusable)}"
    )


def _pictures(kind: Kind) -> str:
    return "".join(f"<img src='{data_uri(one, 'JPEG')}' alt=''>" for one in kind.pictures)


def _outlier(one: Outlier) -> str:
    return (
        f"<figure><div><img src='{data_uri(one.image, 'JPEG')}' alt=''>"
        f"<img src='{data_uri(one.overlay, 'JPEG')}' alt='the same, with heat'></div>"
        f"<figcaption><bdi>{escape(one.name)}</bdi>"
        f"<span>Anomaly score {one.times_median:.1f} times the median</span></figcaption>"
        f"<label><input type='checkbox' data-row='{one.row}' checked> leave out</label></figure>"
    )


def _remarks(warnings: Sequence[str], unusable: Sequence[str]) -> str:
    sentences = "".join(f"<p class='many-refused'>{escape(line)}</p>" for line in warnings)
    lines = _lines("Unusable files", unusable)
    return sentences + (f"<section class='teach-card'>{lines}</section>" if lines else "")


def _lines(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h3>{title}: {len(lines):,}</h3><ul>{items}</ul>"


def summary_html(draft: Draft, taught: Taught) -> str:
    """What the model was made from, how good it is by what was measured, and how to keep it."""
    name = escape(taught.model.info.name)
    rows = {
        "good images": f"<b>{taught.images:,}</b>",
        "memory bank": f"<b>{taught.patches:,}</b> patches, {taught.memory_bytes / 1e6:.1f} MB",
        "alignment": escape(draft.alignment),
        "false positives": _false_positives(taught),
        "new good images": _promise(taught),
        "known defects": _recall(taught),
        "time": f"{taught.seconds:.0f} s",
    }
    table = "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in rows.items())
    folder, repository = (shlex.quote(part + taught.model.info.name) for part in ("", "owner/"))
    remarks = _lines("Outliers left out", taught.dropped) + _lines("Outliers kept", taught.kept)
    return (
        f"<section class='teach-card teach-done' role='status'><h2>The model “{name}” is ready</h2>"
        f"<dl>{table}</dl>{remarks}</section>{_remarks(taught.warnings, draft.unusable)}"
        "<section class='teach-card'><h2>Keep it</h2><p>The model is deleted when you leave this page, so "
        "download it. The zip holds small copies of the good images, for “Compare with normal images”. "
        "Unpack it beside Chip Inspector and run:</p>"
        f"<pre>python app.py --model {escape(folder)}\npython training/push.py {escape(folder)} "
        f"{escape(repository)}</pre><p>The second line uploads it to the Hugging Face Hub as a private model."
        "</p></section>"
        "<section class='teach-card'><h2>When light, camera or lot change</h2><p>Drop about 20 good images "
        f"of that day and press “Recalibrate {name}”. It takes seconds: the memory bank widens, and the "
        "threshold moves.</p></section>"
    )


def _false_positives(taught: Taught) -> str:
    flagged = taught.point.false_positive_rate
    text = f"{rate_html(flagged, 'good images')} would be flagged, each held out."
    if flagged.total * taught.false_positive_rate_wanted < 1:
        text += " So few images cannot measure the rate: the threshold is estimated from their spread."
    return text


def _promise(taught: Taught) -> str:
    """What holds for new images, and what it takes to promise the rate that was chosen."""
    most, wanted = promised(taught.point.false_positive_rate), Target(FPR, taught.false_positive_rate_wanted)
    text = f"at most <b>{100 * most:.1f}\u00a0%</b> are flagged, with {100 * CONFIDENCE:g} % confidence."
    if most <= wanted.share:
        return text
    if (needed := images_needed(wanted)) > taught.point.false_positive_rate.total:
        return f"{text} To promise {wanted.percent}, teach {needed:,} good images or more."
    return f"{text} “Flag at most {wanted.percent}” in the Inspect tab sets a threshold that promises that."


def _recall(taught: Taught) -> str:
    recall = taught.point.recall
    if not recall.total:
        return "none given, so recall is not known"
    return f"{rate_html(recall, 'known defects')} are detected"
