"""Pieces of "Many images at once" as HTML. Every text that comes from outside is escaped here."""

from html import escape

from chipdemo.inspection import outcome_text
from chipdemo.overlay import data_uri
from chipdemo.ui.many.logic import UNREADABLE, Many, Progress, Tile, gallery

ALL = "all"
REFUSED = 20  # lines about files that were not inspected


def progress_html(progress: Progress) -> str:
    """How far it is, how fast, and how long it will take."""
    share = progress.done / progress.images
    left = (progress.images - progress.done) / progress.rate if progress.rate else None
    rate = f", {progress.rate:.1f} per second, about {left:.0f} s left" if left is not None else ""
    return (
        f"<div class='many-progress' role='status'><span class='meter'><span style='width: {share:.1%}'>"
        f"</span></span><p>{progress.done:,} of {progress.images:,} inspected{rate}</p></div>"
    )


def many_html(many: Many) -> str:
    """Counts that are filters, and the images."""
    shown, counts = gallery(many), {ALL: len(many.tiles), **many.counts}
    filters = "".join(
        f"<label><input type='radio' name='many-filter' value='{group}'{' checked' * (group == ALL)}> "
        f"<b>{count:,}</b> {outcome_text(group)}</label>"
        for group, count in counts.items()
    )
    more = len(many.tiles) - len(shown)
    note = f"{escape(many.meaning)} Abnormal images come first, the most probable on top."
    note += f" {more:,} more are in the report." if more else ""
    lines = "".join(f"<li>{escape(line)}</li>" for line in many.passed_over[:REFUSED])
    return (
        f"<div class='many'><div class='many-filters' role='radiogroup' aria-label='Show'>{filters}</div>"
        f"<p class='many-note'>{note}</p><div class='many-tiles'>{''.join(map(_tile, shown))}</div>"
        + (f"<p>Not inspected:</p><ul>{lines}</ul>" if lines else "")
        + "</div>"
    )


def _tile(tile: Tile) -> str:
    result, words = tile.result, outcome_text(tile.group)
    if tile.group == UNREADABLE:
        shown = f"<p class='many-reason'>{escape(result['error'])}</p>"
    else:
        shown = f"<img src='{data_uri(tile.picture, 'JPEG')}' alt='' loading='lazy'>"
        words += f" {result['abnormal_probability']:.2f}"
    return (
        f"<figure class='{tile.group}'>{shown}<figcaption><strong>{words}</strong> "
        f"<bdi>{escape(result['file'])}</bdi></figcaption></figure>"
    )
