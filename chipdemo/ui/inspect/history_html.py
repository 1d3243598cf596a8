"""The strip of earlier inspections as HTML. Every text that comes from outside is escaped here."""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from chipdemo.inspection import ABNORMAL, NORMAL, OUT_OF_DISTRIBUTION, OUTCOMES, outcome_text
from chipdemo.labeling.inspections import LISTED, Entry, Listed

WORDS = {NORMAL: "NORMAL", ABNORMAL: "ABNORMAL", OUT_OF_DISTRIBUTION: "OOD"}
MOST = 1_000  # entries in a list


@dataclass(frozen=True)
class Listing:
    """Which entries are listed. outcome, model: only such; "" for all. count: how many at most."""

    outcome: str = ""
    model: str = ""
    count: int = LISTED


def listing_of(asked: Mapping[str, Any]) -> Listing:
    """The listing that a page asks for; what it asks wrongly is left out."""
    outcome, model, count = (asked.get(name) for name in ("outcome", "model", "count"))
    return Listing(
        outcome if outcome in OUTCOMES else "",
        model if isinstance(model, str) else "",
        min(max(count, LISTED), MOST) if isinstance(count, int) else LISTED,
    )


def time_of(entry: Entry) -> datetime:
    """When it was inspected, in the time zone of the server."""
    return datetime.fromtimestamp(entry.inspected_at / 1e6).astimezone()


def history_html(found: Listed, listing: Listing, where: str, new: Entry | None = None) -> str:
    """The strip with its filters; "" before there is an entry. where: how long it is kept.

    new: the entry that the page shows from now on; history.js puts it into the address.
    """
    if not found.counts:
        return ""
    shown = f" data-shown='{escape(new.sha256)}' data-at='{new.inspected_at}'" if new else ""
    tiles = "".join(map(_tile, found.entries)) or "<li class='none'>There is no such inspection.</li>"
    total = sum(found.counts.values())
    images = "1 image" if total == 1 else f"{total:,} images"
    return (
        f"<section class='history'{shown} data-count='{listing.count}'><h2>History <small>{images} · "
        f"{escape(where)}</small></h2>{_tools(found, listing)}<ul class='strip'>{tiles}</ul></section>"
    )


def _tile(entry: Entry) -> str:
    name, word = escape(entry.name), WORDS[entry.outcome]
    date = f"{time_of(entry):%Y-%m-%d %H:%M}"
    picture = b64encode(entry.small).decode()
    return (
        f"<li><a href='#inspect/{escape(entry.sha256)}' title='{name}&#10;{date}'>"
        f"<img src='data:image/jpeg;base64,{picture}' alt='{name}' loading='lazy'>"
        f"<span class='outcome {escape(entry.outcome)}'>{word}</span></a>"
        f"<button type='button' data-delete='{escape(entry.sha256)}' title='Delete from the history' "
        f"aria-label='Delete {name} from the history'>×</button></li>"
    )


def _tools(found: Listed, listing: Listing) -> str:
    """Filters, more, and delete all."""
    models = sorted({model for model, _ in found.counts} | ({listing.model} - {""}))
    outcomes = [(outcome, outcome_text(outcome)) for outcome in OUTCOMES]
    tools = _select("outcome", "Verdict", outcomes, listing.outcome)
    if len(models) > 1:
        tools += _select("model", "Model", [(name, name) for name in models], listing.model)
    matching = sum(
        count
        for (model, outcome), count in found.counts.items()
        if listing.model in ("", model) and listing.outcome in ("", outcome)
    )
    if matching > len(found.entries) and len(found.entries) < MOST:
        tools += f"<button type='button' data-more='{LISTED}'>Show {LISTED} more</button>"
    return (
        f"<div class='history-tools'>{tools}<button type='button' data-delete='all'>Delete all</button></div>"
    )


def _select(name: str, label: str, options: Iterable[tuple[str, str]], chosen: str) -> str:
    marked = "".join(
        f"<option value='{escape(value)}'{' selected' if value == chosen else ''}>{escape(text)}</option>"
        for value, text in [("", "all"), *options]
    )
    return f"<label>{label} <select name='{name}'>{marked}</select></label>"
