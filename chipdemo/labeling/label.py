"""A label: what somebody said of an image at some moment. It is an event and is never edited."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from datetime import datetime, timezone

from chipdemo.errors import LabelError
from chipdemo.inspection import ABNORMAL, NORMAL

UNSURE = "unsure"
LABELS = (NORMAL, ABNORMAL, UNSURE)
MAX_NOTE, MAX_NAME = 10_000, 200  # characters of a note; of an annotator, a defect type, a model
MAX_BOXES = 100
MAX_EDGE = 1_000_000  # pixels; no image is larger
MAX_MASK_BYTES = 16_000_000  # of its PNG


@dataclass(frozen=True)
class Box:
    """Where a defect is, in pixels of the upright image. x, y: left and top edge."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class ModelPrediction:
    """What the model said of the image when it was labeled. abnormal_probability: 0-1."""

    name: str
    revision: str
    abnormal_probability: float


@dataclass(frozen=True)
class Label:
    """One event. Valid when built; raises LabelError.

    image_sha256: images.content_sha256 of the image. label: one of LABELS; "" where the event
    only retracts. boxes, mask (PNG of one channel, 0 or 255, as large as the upright image;
    b"" for none): where the defect is. created_at: UTC. prediction: None where no model was asked.
    retracts: event_id of the annotator's own event that this one undoes, or "". decides: given in
    a review of a disagreement, and settles it.
    """

    image_sha256: str
    label: str
    annotator: str
    defect_type: str = ""
    boxes: tuple[Box, ...] = ()
    mask: bytes = b""
    note: str = ""
    prediction: ModelPrediction | None = None
    retracts: str = ""
    decides: bool = False
    event_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.image_sha256):
            raise _wrong("an image by its sha256, 64 hex digits", self.image_sha256)
        if self.label not in (LABELS if not self.retracts else ("",)):
            raise _wrong(f"one of {', '.join(LABELS)}, or a retraction without a label", self.label)
        if not _is_id(self.event_id) or not (self.retracts == "" or _is_id(self.retracts)):
            raise _wrong("event ids that are UUIDs", f"{self.event_id}, {self.retracts}")
        if not self.annotator.strip():
            raise _wrong("the name of the person who labels", self.annotator)
        names = (
            self.annotator,
            self.defect_type,
            *((self.prediction.name, self.prediction.revision) if self.prediction else ()),
        )
        for text, most in (*((name, MAX_NAME) for name in names), (self.note, MAX_NOTE)):
            _check_text(text, most)
        if self.created_at.utcoffset() is None or self.created_at.utcoffset().total_seconds():
            raise _wrong("a time in UTC", str(self.created_at))
        if self.prediction and not 0 <= self.prediction.abnormal_probability <= 1:
            raise _wrong("a probability of 0-1", str(self.prediction.abnormal_probability))
        if len(self.boxes) > MAX_BOXES or any(
            min(box.x, box.y, box.width - 1, box.height - 1) < 0 or max(astuple(box)) > MAX_EDGE
            for box in self.boxes
        ):
            raise _wrong(f"at most {MAX_BOXES} boxes of a pixel or more inside the image", self.boxes)
        if self.mask and (len(self.mask) > MAX_MASK_BYTES or not self.mask.startswith(b"\x89PNG\r\n\x1a\n")):
            raise _wrong(f"a mask as a PNG of at most {MAX_MASK_BYTES:,} bytes", f"{len(self.mask):,} bytes")


def retraction_of(event: Label, annotator: str) -> Label:
    """The event that undoes another one. A retraction can be retracted too."""
    return Label(event.image_sha256, "", annotator, retracts=event.event_id)


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _check_text(text: str, most: int) -> None:
    """Any character may stand in it, but UTF-8 must be able to carry it."""
    if len(text) > most:
        raise _wrong(f"at most {most:,} characters", f"{len(text):,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _wrong("text that UTF-8 can carry", f"half a character at {error.start}") from error


def _wrong(expected: str, found: str | Sequence) -> LabelError:
    return LabelError(f"Expected {expected}; found {str(found)[:80]!r}. The label was not kept; correct it.")
