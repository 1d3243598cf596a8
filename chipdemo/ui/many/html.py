"""Pieces of "Many images at once" as HTML. Every text that comes from outside is escaped here."""

from html import escape

from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.ui.inspect.html import data_uri
from chipdemo.ui.many.logic import Many, Progress, Tile, worst_first

FILTERS = ("all", ABNORMAL, NORMAL, "unlike", "unreadable")
REFUSED = 20  # lines about files that were not looked at


def progress_html(progress: Progress) -> str:
    """How far it is, how fast, and how long it will take."""
    share = progress.done / progress.images
    left = (progress.images - progress.done) / progress.rate if progress.rate else None
    rate = f", {progress.rate:.1f} a second, about {left:.0f} s left" if left is not None else ""
    return (
        f"<div class='many-progress' role='status'><span class='meter'><span style='width: {share:.1%}'>"
        f"</span></span><p>{progress.done:,} of {progress.images:,} judged{rate}</p></div>"
    )


def many_html(many: Many) -> str:
    """Counts that are filters, and the images."""
    shown = worst_first(many)
    kinds = [_kinds(tile) for tile in many.tiles]
    counts = {name: len(kinds) if name == "all" else sum(name in kind for kind in kinds) for name in FILTERS}
    filters = "".join(
        f"<label><input type='radio' name='many-filter' value='{name}'{' checked' * (name == 'all')}> "
        f"<b>{counts[name]:,}</b> {name}</label>"
        for name in FILTERS
    )
    threshold, more = many.run["threshold"], len(many.tiles) - len(shown)
    note = f"Judged at {threshold:.3f}, the likeliest to be abnormal first."
    note += f" {more:,} more are in the report." if more else ""
    lines = "".join(f"<li>{escape(line)}</li>" for line in many.passed_over[:REFUSED])
    return (
        f"<div class='many'><div class='many-filters' role='radiogroup' aria-label='Show'>{filters}</div>"
        f"<p class='many-note'>{note}</p><div class='many-tiles'>{''.join(map(_tile, shown))}</div>"
        + (f"<p>Not looked at:</p><ul>{lines}</ul>" if lines else "")
        + "</div>"
    )


def refused_html(message: str) -> str:
    return f"<p class='many-refused' role='alert'>{escape(message)}</p>"


def _kinds(tile: Tile) -> tuple[str, ...]:
    result = tile.result
    if result["error"]:
        return ("unreadable",)
    return (result["verdict"], "unlike") if result["out_of_distribution"] else (result["verdict"],)


def _tile(tile: Tile) -> str:
    result, kinds = tile.result, _kinds(tile)
    if result["error"]:
        said = f"<p class='many-reason'>{escape(result['error'])}</p>"
    else:
        said = f"<img src='{data_uri(tile.picture, 'jpeg')}' alt='' loading='lazy'>"
    verdict = "unreadable" if result["error"] else f"{kinds[0]} {result['abnormal_probability']:.2f}"
    unlike = " <span>out of distribution</span>" if "unlike" in kinds else ""
    return (
        f"<figure class='{' '.join(kinds)}'>{said}<figcaption><strong>{verdict}</strong>{unlike} "
        f"<bdi>{escape(result['file'])}</bdi></figcaption></figure>"
    )
