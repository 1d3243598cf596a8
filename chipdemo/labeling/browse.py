"""All images of the journal, page by page: found by filters, with thumbnails, and deleted from the queue.

An annotator is shown their own labels alone. A reviewer that was named (`others_from`) is also shown the
consensus of images with so many labels; nobody is asked for a label of these any more.
Deleting an image is an event, like a label: the image is given to nobody any more, but its file and its
labels stay, and another event brings it back.
"""

import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from chipdemo.errors import ChipDemoError, LabelError
from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.labeling.agreement import DISPUTED
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import LABELS
from chipdemo.overlay import encode

ALL, MINE, NOT_MINE, SKIPPED, DISPUTES, AGAINST_MODEL, OOD, DELETED = SHOWS = (
    "all",
    "mine",
    "not mine",
    "skipped",
    "disputed",
    "against the model",
    "out of distribution",
    "deleted",
)
NEWEST, PROBABLE = "newest", "probability"
SORTS = {  # images without a probability come last
    NEWEST: "cards.id DESC",
    PROBABLE: "cards.abnormal_probability DESC, cards.id DESC",
}
PAGE = 60  # images
THUMBNAIL = 192  # pixels of its longer edge
NO_OWN_LABEL = "cards.id NOT IN (SELECT id FROM gallery WHERE annotator = :annotator)"
SKIPS = "SELECT id FROM skips CROSS JOIN images ON sha256 = image_sha256 WHERE annotator = :annotator"
WHICH = {  # which images each of SHOWS is, beside those that need a label
    NOT_MINE: NO_OWN_LABEL,
    SKIPPED: f"cards.id IN ({SKIPS}) AND {NO_OWN_LABEL}",
    DISPUTES: f"cards.consensus = '{DISPUTED}' AND cards.votes >= :annotators_per_image",
    OOD: "cards.out_of_distribution = 1",
}
SHOWN_LABEL = """CASE WHEN cards.votes >= :others_from THEN cards.consensus
    ELSE (SELECT label FROM gallery WHERE annotator = :annotator AND gallery.id = cards.id) END
"""  # to a named reviewer


@dataclass(frozen=True)
class Filters:
    """Which images, in which order. show: one of SHOWS. label: one of LABELS, or "" for any.

    defect_type, note, name: what these contain, in either case; "" for any. sort: one of SORTS.
    page: from 0. Raises LabelError for other values.
    """

    show: str = ALL
    label: str = ""
    defect_type: str = ""
    note: str = ""
    name: str = ""
    sort: str = NEWEST
    page: int = 0

    def __post_init__(self) -> None:
        for what, value, allowed in (
            ("show", self.show, SHOWS),
            ("label", self.label, ("", *LABELS)),
            ("sort", self.sort, tuple(SORTS)),
        ):
            if value not in allowed:
                raise LabelError(f"There is no {what} {value[:80]!r}. Choose one of {', '.join(allowed)}.")
        if not 0 <= self.page < 2**31:
            raise LabelError(f"There is no page {self.page}. Pages begin at 0.")


@dataclass(frozen=True)
class Viewer:
    """Who looks. others_from: images with so many labels are shown with their consensus; None for none.

    annotators_per_image: labels from which an image without a majority is disputed.
    """

    annotator: str
    annotators_per_image: int = 1
    others_from: int | None = None


@dataclass(frozen=True)
class Listed:
    """An image of a page. label, defect_type: the viewer's own, "" for none.

    consensus: "" where it is not shown to the viewer. abnormal_probability: 0-1, None without a score.
    flagged: it reaches the threshold of its model.
    """

    sha256: str
    name: str
    label: str
    defect_type: str
    consensus: str
    abnormal_probability: float | None
    flagged: bool
    out_of_distribution: bool
    deleted: bool


def find(
    journal: Journal, filters: Filters, viewer: Viewer, total: int | None = None
) -> tuple[list[Listed], int]:
    """The images of one page, and how many there are on all pages.

    total: the same, where it is known from another page; counting takes as long as finding.
    """
    source, values = _source(filters, viewer)
    order = SORTS[filters.sort]
    with journal.read() as database:
        if total is None:
            total = database.execute(f"SELECT COUNT(*) FROM {source}", values).fetchone()[0]
        rows = database.execute(
            f"""
            SELECT sha256, cards.name, COALESCE(own.label, ''), COALESCE(own.defect_type, ''),
            CASE WHEN cards.votes >= :others_from THEN cards.consensus ELSE '' END,
            abnormal_probability, COALESCE(flagged, 0), COALESCE(out_of_distribution, 0), cards.deleted
            FROM (SELECT cards.id FROM {source} ORDER BY {order} LIMIT {PAGE} OFFSET :skip) AS found
            CROSS JOIN cards ON cards.id = found.id CROSS JOIN images ON images.id = found.id
            LEFT JOIN gallery AS own ON own.annotator = :annotator AND own.id = found.id ORDER BY {order}
            """,
            values | {"skip": filters.page * PAGE},
        ).fetchall()
    return [Listed(*row[:6], *map(bool, row[6:])) for row in rows], total


def _source(filters: Filters, viewer: Viewer) -> tuple[str, dict]:
    """What follows FROM, and its values. The viewer's own labels are read in the order of the images."""
    by_label = filters.label or filters.defect_type or filters.note or filters.show == AGAINST_MODEL
    own = filters.show == MINE or (by_label and viewer.others_from is None)
    label = "gallery.label" if own else SHOWN_LABEL
    clauses = [f"cards.deleted = {int(filters.show == DELETED)}"]
    clauses += ["gallery.annotator = :annotator"] if own else []
    clauses += [WHICH[filters.show]] if filters.show in WHICH else []
    if filters.show == AGAINST_MODEL:
        clauses.append(f"{label} = CASE cards.flagged WHEN 1 THEN '{NORMAL}' WHEN 0 THEN '{ABNORMAL}' END")
    clauses += [f"{label} = :label"] if filters.label else []
    clauses += [r"cards.name LIKE :name ESCAPE '\'"] if filters.name else []
    for column in ("defect_type", "note"):
        if getattr(filters, column):
            has = rf"{column} != '' AND {column} LIKE :{column} ESCAPE '\'"
            clauses.append(has if own else _of_others(has))
    source = "gallery CROSS JOIN cards ON cards.id = gallery.id" if own else "cards"
    values = {column: _pattern(getattr(filters, column)) for column in ("defect_type", "note", "name")}
    values |= {"label": filters.label, "annotator": viewer.annotator, "others_from": viewer.others_from}
    values["annotators_per_image"] = viewer.annotators_per_image
    return f"{source} WHERE {' AND '.join(clauses)}", values


def _of_others(has: str) -> str:
    """A label with this, of anybody where all are shown, else of the viewer."""
    return (
        f"cards.id IN (SELECT id FROM gallery WHERE {has}) AND (cards.votes >= :others_from OR "
        f"EXISTS (SELECT 1 FROM gallery WHERE annotator = :annotator AND gallery.id = cards.id AND {has}))"
    )


def _pattern(text: str) -> str:
    for special in "\\%_":
        text = text.replace(special, f"\\{special}")
    return f"%{text}%"


def thumbnails(journal: Journal, sha256s: Sequence[str], max_megapixels: float) -> dict[str, bytes]:
    """JPEGs by sha256, without those of images that cannot be read. Made once, and kept in the journal."""
    with journal.read() as database:
        marks = ", ".join("?" * len(sha256s))
        rows = database.execute(f"SELECT sha256, jpeg FROM thumbnails WHERE sha256 IN ({marks})", sha256s)
        found = {row["sha256"]: row["jpeg"] for row in rows}
    made = {}
    for sha256 in dict.fromkeys(sha256s):
        if sha256 not in found:
            try:
                image = journal.picture(sha256, max_megapixels).image
            except ChipDemoError:
                continue
            image.thumbnail((THUMBNAIL, THUMBNAIL), reducing_gap=2.0)
            made[sha256] = encode(image, "JPEG")
    if made:
        with journal.write() as database:
            database.executemany("INSERT OR IGNORE INTO thumbnails VALUES (?, ?)", made.items())
    return found | made


def delete(journal: Journal, sha256s: Collection[str], annotator: str) -> list[str]:
    """Take images out of the queue; gives those that were in it. On the disk when it returns."""
    return _set_deleted(journal, sha256s, annotator, True)


def bring_back(journal: Journal, sha256s: Collection[str], annotator: str) -> list[str]:
    """Put deleted images into the queue again; gives those that were deleted."""
    return _set_deleted(journal, sha256s, annotator, False)


def _set_deleted(journal: Journal, sha256s: Collection[str], annotator: str, deleted: bool) -> list[str]:
    with journal.write() as database:
        return [sha256 for sha256 in dict.fromkeys(sha256s) if _change(database, sha256, annotator, deleted)]


def _change(database: sqlite3.Connection, sha256: str, annotator: str, deleted: bool) -> bool:
    changed = database.execute(
        "UPDATE images SET deleted = ?1 WHERE sha256 = ?2 AND deleted != ?1", (deleted, sha256)
    ).rowcount
    if changed:
        database.execute(
            "INSERT INTO deletions (image_sha256, annotator, deletes, created_at) VALUES (?, ?, ?, ?)",
            (sha256, annotator, deleted, time.time_ns() // 1000),
        )
        database.execute("DELETE FROM leases WHERE image_sha256 = ?", (sha256,))
    return bool(changed)
