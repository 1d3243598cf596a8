"""Pieces of the Label tab as HTML. Every text that comes from outside is escaped here."""

from html import escape

from chipdemo.labeling.intake import Intake

SHOWN_REFUSALS = 20
STOPPED = "<p role='status'>Stopped. What had come is in the queue.</p>"


def added_html(added: Intake) -> str:
    """What became of an upload."""
    facts = [f"<strong>{added.added:,}</strong> new in the queue"]
    if added.known:
        facts.append(f"{added.known:,} known already")
    if added.refused:
        facts.append(f"{len(added.refused):,} not taken")
    lines = "".join(f"<li>{escape(line)}</li>" for line in added.refused[:SHOWN_REFUSALS])
    more = len(added.refused) - SHOWN_REFUSALS
    lines += f"<li>and {more:,} more</li>" if more > 0 else ""
    return f"<p role='status'>{'; '.join(facts)}.</p>" + (f"<ul>{lines}</ul>" if lines else "")


def reading_html(name: str) -> str:
    """While a dataset is being read."""
    return f"<p role='status'>Reading {escape(name)} ...</p>"


def refused_html(message: str) -> str:
    """Why nothing was added."""
    return f"<p class='refused' role='alert'>{escape(message)}</p>"
