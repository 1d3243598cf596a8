"""Pieces of the Teach tab as HTML. Every text that comes from outside is escaped here."""

import shlex
from collections.abc import Sequence
from html import escape

from chipdemo.overlay import data_uri
from chipdemo.teaching import FEWEST, Draft, Standout, Taught
from chipdemo.ui.teach.logic import Told

SURE = 0.02  # of the work done, before the time that is left is told

INTRO = (
    "<section class='teach-card'><h2>How a new chip is taught</h2><ol>"
    f"<li>Drop {FEWEST} or more images of <b>good</b> chips: same side, same distance, same light. "
    "30 are better, 100 are plenty.</li>"
    "<li>Press Teach. Nothing is trained: the images are remembered, place by place.</li>"
    "<li>Those that stand out are shown to you before they are learned.</li>"
    "<li>Inspect with it at once, and download it to keep it.</li></ol>"
    "<p>No defect is needed. If you have some, they show how many are caught, and may raise the threshold. "
    "What is taught here is seen on this page alone.</p></section>"
)
STOPPED = "Stopped. Nothing was learned; your images are still listed."


def progress_html(told: Told) -> str:
    """What is being done, how far it is, and how long it will take."""
    left = told.seconds * (1 - told.done) / told.done if told.done >= SURE else None
    rest = f", about {left:.0f} s left" if left is not None else ""
    return (
        "<section class='teach-card many-progress' role='status'><span class='meter'><span style='width: "
        f"{told.done:.1%}'></span></span><p>{escape(told.what).capitalize()}: {told.done:.0%}{rest}</p>"
        "</section>"
    )


def refused_html(message: str) -> str:
    return f"<p class='many-refused teach-refused' role='alert'>{escape(message)}</p>"


def review_html(draft: Draft) -> str:
    """The images that stand out, each to be left out or kept."""
    count = len(draft.standouts)
    stand, they = ("stands", "It looks") if count == 1 else ("stand", "They look")
    figures = "".join(map(_standout, draft.standouts))
    return (
        "<section class='teach-card' role='status'>"
        f"<h2>{count:,} of {draft.images:,} good images {stand} out</h2>"
        f"<p>{they} unlike the others; red marks what none of the others shows. Whatever is learned as good "
        "is never found again: leave out what is defective, turned or something else, and keep what is "
        f"merely rare.</p><div class='many-tiles standouts'>{figures}</div></section>"
        f"{_remarks(draft.warnings, draft.left_out)}"
    )


def _standout(one: Standout) -> str:
    return (
        f"<figure><div><img src='{data_uri(one.picture, 'jpeg')}' alt=''>"
        f"<img src='{data_uri(one.marked, 'jpeg')}' alt='the same, marked'></div>"
        f"<figcaption><bdi>{escape(one.name)}</bdi>"
        f"<span>{one.times:.1f} times as far from the others as is usual</span></figcaption>"
        f"<label><input type='checkbox' data-row='{one.row}' checked> leave out</label></figure>"
    )


def _remarks(warnings: Sequence[str], left_out: Sequence[str]) -> str:
    """Warnings, and what cannot be learned."""
    sentences = "".join(f"<p class='many-refused'>{escape(line)}</p>" for line in warnings)
    lines = _lines("Not usable", left_out)
    return sentences + (f"<section class='teach-card'>{lines}</section>" if lines else "")


def _lines(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h3>{title}: {len(lines):,}</h3><ul>{items}</ul>"


def summary_html(draft: Draft, taught: Taught) -> str:
    """What was learned, how good it is by what was measured, and how to go on."""
    name = escape(taught.model.info.name)
    rows = {
        "learned": f"<b>{taught.images:,}</b> good images",
        "memory": f"<b>{taught.memory_bytes / 1e6:.1f} MB</b>, {taught.places:,} places of them",
        "false alarms": _false_alarms(taught),
        "known defects": _recall(taught),
        "time": f"{taught.seconds:.0f} s",
    }
    table = "".join(f"<dt>{term}</dt><dd>{text}</dd>" for term, text in rows.items())
    folder, repository = (shlex.quote(part + taught.model.info.name) for part in ("", "owner/"))
    remarks = _lines("Left out by you", taught.left_out) + _lines(
        "Learned, though they stand out", taught.kept
    )
    return (
        f"<section class='teach-card' role='status'><p class='word'>“{name}” is learned</p><dl>{table}</dl>"
        f"{remarks}</section>{_remarks(taught.warnings, draft.left_out)}"
        "<section class='teach-card'><h2>Keep it</h2><p>It is gone with this page: download it. The zip "
        "holds small copies of the good images, for “Compare with normal chips”. Unpacked, beside "
        "Chip Inspector:</p>"
        f"<pre>python app.py --model {escape(folder)}\npython training/push.py {escape(folder)} "
        f"{escape(repository)}</pre><p>The second line puts it on the Hugging Face Hub, private.</p>"
        "</section>"
    )


def _false_alarms(taught: Taught) -> str:
    stopped = round(taught.false_positive_rate * taught.images)
    text = (
        f"<b>{stopped:,} of {taught.images:,}</b> would be stopped, each judged by the others; "
        f"at most {100 * taught.false_alarms:g} % was asked for"
    )
    if taught.images * taught.false_alarms < 1:
        text += ". So few images cannot measure that: the limit is estimated from their spread."
    return text


def _recall(taught: Taught) -> str:
    if not taught.defects:
        return "none given, so how many are caught is not known"
    return f"<b>{round(taught.recall * taught.defects):,} of {taught.defects:,}</b> are caught"
