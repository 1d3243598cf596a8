"""What "Many images at once" shows. HTML where every text from outside is escaped; values for many.js."""

from html import escape
from typing import Any

from chipdemo.files import as_text
from chipdemo.inspection import ModelInfo, outcome_text
from chipdemo.ui.inspect.html import meaning, promise_html
from chipdemo.ui.inspect.logic import own_threshold
from chipdemo.ui.many.logic import GROUPS, UNREADABLE, Many, Progress

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


def meaning_html(info: ModelInfo, threshold: float) -> str:
    """What a threshold promises, and what it does to held-out images."""
    target = info.target if threshold == own_threshold(info) else None
    text = promise_html(info, target, threshold) + meaning(info, threshold)
    return text or "<p>There are no held-out images to say what this threshold does.</p>"


def passed_over_html(many: Many) -> str:
    """What was not inspected."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in many.passed_over[:REFUSED])
    return f"<div class='many-notes'><p>Not inspected:</p><ul>{lines}</ul></div>" if lines else ""


def gallery_view(many: Many, labels: bool) -> dict[str, Any]:
    """What many.js shows of the images, whatever the threshold. labels: there is a Label tab.

    It reaches the page as text, and so does judged_view: the page copies what is no text at every event.
    """
    tiles = []
    for tile in many.tiles:
        image, inspection = tile.inspected.image, tile.inspected.inspection
        tiles.append(
            {
                "name": as_text(image.file.name),
                "error": tile.inspected.error,
                "probability": f"{tile.probability:.2f}" if inspection else "",
                "model": tile.model[0] if len(many.judges) > 1 else "",
                "size": inspection and inspection.image_size,
                "picture": str(tile.picture or ""),
            }
        )
    groups = [{"name": name, "text": outcome_text(name)} for name in GROUPS]
    return {"tiles": tiles, "groups": groups, "unreadable": UNREADABLE, "labels": labels}


def judged_view(many: Many) -> dict[str, Any]:
    """What many.js shows of the threshold: the group of each image, and the images' rows in their order."""
    return {"groups": [tile.group for tile in many.tiles], "order": many.order, "counts": many.counts}
