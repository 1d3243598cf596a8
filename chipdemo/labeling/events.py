"""Label events in the tables of the journal, and the votes and the consensus that follow from them."""

import json
import sqlite3
from dataclasses import asdict, astuple
from datetime import datetime, timezone
from types import SimpleNamespace

from chipdemo.errors import LabelError
from chipdemo.labeling.agreement import consensus_of, standing
from chipdemo.labeling.label import Box, Label, ModelPrediction, Polygon


def insert_event(database: sqlite3.Connection, label: Label, page: str | None, replaces: str) -> bool:
    """Add one event and update votes and consensus; False where it is there already. See Journal.append."""
    new = database.execute(
        "INSERT INTO events (event_id, image_sha256, label, annotator, defect_type, boxes, polygons, mask, "
        "mask_type, note, prediction, retracts, decides, created_at, page) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            label.event_id,
            label.image_sha256,
            label.label,
            label.annotator,
            label.defect_type,
            json.dumps([astuple(box) for box in label.boxes]),
            json.dumps([astuple(polygon) for polygon in label.polygons]),
            label.mask,
            label.mask_type,
            label.note,
            json.dumps(list(asdict(label.prediction).values())) if label.prediction else "",
            label.retracts,
            label.decides,
            microseconds(label.created_at),
            page or "",
        ),
    ).rowcount
    if not new:
        return False
    if label.retracts:
        _check_retraction(database, label)
    elif page is not None:
        _check_page(database, label, page, replaces)
    _update_votes(database, label.image_sha256, label.annotator)
    database.execute(
        "DELETE FROM leases WHERE image_sha256 = ? AND annotator = ?", (label.image_sha256, label.annotator)
    )
    return True


def label_of(row: sqlite3.Row) -> Label:
    """A row of events."""
    return Label(
        image_sha256=row["image_sha256"],
        label=row["label"],
        annotator=row["annotator"],
        defect_type=row["defect_type"],
        boxes=tuple(Box(*box) for box in json.loads(row["boxes"])),
        polygons=tuple(
            Polygon(tuple(map(tuple, points)), defect_type)
            for points, defect_type in json.loads(row["polygons"])
        ),
        mask=row["mask"],
        mask_type=row["mask_type"],
        note=row["note"],
        prediction=ModelPrediction(*json.loads(row["prediction"])) if row["prediction"] else None,
        retracts=row["retracts"],
        decides=bool(row["decides"]),
        event_id=row["event_id"],
        created_at=datetime.fromtimestamp(row["created_at"] // 1_000_000, timezone.utc).replace(
            microsecond=row["created_at"] % 1_000_000
        ),
    )


def microseconds(time: datetime) -> int:
    """Since 1970, exactly: a float would round."""
    return int(time.timestamp()) * 1_000_000 + time.microsecond


def _check_retraction(database: sqlite3.Connection, label: Label) -> None:
    own = database.execute(
        "SELECT 1 FROM events WHERE event_id = ? AND image_sha256 = ? AND annotator = ?",
        (label.retracts, label.image_sha256, label.annotator),
    ).fetchone()
    if own is None:
        raise LabelError(
            f"Event {label.retracts} is not a label of {label.annotator!r} on this image, so it cannot be "
            "retracted. Nothing was changed."
        )


def _check_page(database: sqlite3.Connection, label: Label, page: str, replaces: str) -> None:
    """Raises LabelError where the annotator's standing label came from another page, unless `replaces` names
    it. A decision on a disputed image may follow the annotator's own plain label from anywhere."""
    vote = database.execute(
        "SELECT event_id, page, events.label, events.decides FROM votes JOIN events USING (seq) "
        "WHERE votes.image_sha256 = ? AND votes.annotator = ?",
        (label.image_sha256, label.annotator),
    ).fetchone()
    if vote is None or vote["page"] == page or vote["event_id"] == replaces:
        return
    if not (label.decides and not vote["decides"]):
        raise LabelError(
            f"You labeled this image {vote['label']} in another tab. That label stands. Change it there."
        )


def _update_votes(database: sqlite3.Connection, sha256: str, annotator: str) -> None:
    """Derive the vote of this annotator on this image from their events, then the image's consensus."""
    columns = "seq, event_id, image_sha256, label, annotator, created_at, defect_type, retracts, decides"
    own = database.execute(
        f"SELECT {columns}, prediction FROM events WHERE image_sha256 = ? AND annotator = ? ORDER BY seq",
        (sha256, annotator),
    )
    latest = max(
        (event for event in standing(map(_event_of, own)) if not event.retracts),
        key=lambda event: (event.created_at, event.event_id),
        default=None,
    )
    database.execute("DELETE FROM votes WHERE image_sha256 = ? AND annotator = ?", (sha256, annotator))
    if latest:
        probability = json.loads(latest.prediction)[2] if latest.prediction else None
        database.execute(
            "INSERT INTO votes VALUES (?, ?, ?, ?, ?, ?)",
            (sha256, annotator, latest.seq, latest.label, latest.decides, probability),
        )
    standing_ones = "SELECT seq FROM votes WHERE image_sha256 = ?"
    of_everyone = database.execute(f"SELECT {columns} FROM events WHERE seq IN ({standing_ones})", (sha256,))
    votes = [_event_of(row) for row in of_everyone]
    consensus = consensus_of(votes)[sha256].label if votes else ""
    panel = json.dumps(sorted(vote.annotator for vote in votes))
    database.execute(
        "INSERT INTO panels (annotators, votes) VALUES (?, ?) ON CONFLICT DO NOTHING", (panel, len(votes))
    )
    database.execute(
        "UPDATE images SET votes = ?, consensus = ?, panel = (SELECT id FROM panels WHERE annotators = ?) "
        "WHERE sha256 = ?",
        (len(votes), consensus, panel, sha256),
    )


def _event_of(row: sqlite3.Row) -> SimpleNamespace:
    """An agreement.LabelEvent; its time in microseconds."""
    return SimpleNamespace(**dict(row))
