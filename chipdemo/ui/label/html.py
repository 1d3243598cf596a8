"""What became of images that were added, as HTML. Every text that comes from outside is escaped here."""

from html import escape

from chipdemo.labeling.intake import Intake

MOST_REFUSALS = 20  # listed
STOPPED = "<p role='status'>Stopped. The images read so far are in the queue.</p>"


def added_html(added: Intake) -> str:
    """How many images an upload or a dataset added, and why some were refused."""
    facts = [f"<strong>{added.added:,}</strong> added to the queue"]
    if added.known:
        facts.append(f"{added.known:,} known already")
    if added.refused:
        facts.append(f"{len(added.refused):,} refused")
    lines = "".join(f"<li>{escape(line)}</li>" for line in added.refused[:MOST_REFUSALS])
    more = len(added.refused) - MOST_REFUSALS
    lines += f"<li>and {more:,} more</li>" if more > 0 else ""
    return f"<p role='status'>{'; '.join(facts)}.</p>" + (f"<ul>{lines}</ul>" if lines else "")


def reading_html(name: str) -> str:
    """While a dataset is being read."""
    return f"<p role='status'>Reading {escape(name)} ...</p>"


def sending_html(images: int) -> str:
    """While images of the gallery are being added."""
    return f"<p role='status'>Adding {images:,} to the queue ...</p>"


def refused_html(message: str) -> str:
    """Why nothing was added."""
    return f"<p class='refused' role='alert'>{escape(message)}</p>"
