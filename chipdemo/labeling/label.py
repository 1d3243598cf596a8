"""A label: one annotator's judgment of one image at one moment. It is an event and is never edited."""

import re
import uuid
from dataclasses import astuple, dataclass, field
from datetime import datetime, timezone

from chipdemo.errors import LabelError
from chipdemo.inspection import ABNORMAL, NORMAL

UNSURE = "unsure"
LABELS = (NORMAL, ABNORMAL, UNSURE)
MAX_NOTE, MAX_NAME = 10_000, 200  # characters of a note; of an annotator, a defect type, a model
MAX_BOXES = 100
MAX_EDGE = 1_000_000  # pixels; larger than any image
MAX_MASK_BYTES = 16_000_000  # of its PNG
PNG = b"\x89PNG\r\n\x1a\n"  # its first bytes


@dataclass(frozen=True)
class Box:
    """A box around a defect, in pixels of the upright image. x, y: left and top edge."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class ModelPrediction:
    """The model's prediction for an image when it was labeled. abnormal_probability: 0-1."""

    name: str
    revision: str
    abnormal_probability: float


@dataclass(frozen=True)
class Label:
    """One event. Valid when built; raises LabelError.

    image_sha256: images.content_sha256 of the image. label: one of LABELS; "" for a retraction.
    boxes, mask (PNG of one channel, 0 or 255, of the size of the upright image; b"" for none): where the
    defect is. created_at: UTC. prediction: None where no model was asked. retracts: event_id of the
    annotator's own event that this one retracts, or "". decides: given in the review of a disputed image,
    and settles it.
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
            raise LabelError(f"{_shown(self.image_sha256)} is not a sha256 of 64 hex digits.")
        if self.label not in (LABELS if not self.retracts else ("",)):
            allowed = "empty in a retraction" if self.retracts else f"one of {', '.join(LABELS)}"
            raise LabelError(f"The label {_shown(self.label)} is not valid; it must be {allowed}.")
        if not _is_id(self.event_id) or not (self.retracts == "" or _is_id(self.retracts)):
            raise LabelError(f"Event ids must be UUIDs: {_shown(self.event_id)}, {_shown(self.retracts)}.")
        if not self.annotator.strip():
            raise LabelError("The name of the annotator is empty.")
        _check_text("name of the annotator", self.annotator, MAX_NAME)
        _check_text("defect type", self.defect_type, MAX_NAME)
        if self.prediction:
            _check_text("name of the model", self.prediction.name, MAX_NAME)
            _check_text("revision of the model", self.prediction.revision, MAX_NAME)
        _check_text("note", self.note, MAX_NOTE)
        if self.created_at.utcoffset() is None or self.created_at.utcoffset().total_seconds():
            raise LabelError(f"The time {self.created_at} is not in UTC.")
        if self.prediction and not 0 <= self.prediction.abnormal_probability <= 1:
            raise LabelError(f"Probability {self.prediction.abnormal_probability} is not between 0 and 1.")
        _check_boxes(self.boxes)
        if self.mask and not self.mask.startswith(PNG):
            raise LabelError("The mask is not a PNG.")
        if len(self.mask) > MAX_MASK_BYTES:
            raise LabelError(f"The mask has {len(self.mask):,} bytes; the limit is {MAX_MASK_BYTES:,}.")


def retraction_of(event: Label, annotator: str) -> Label:
    """An event that retracts another one, which may be a retraction itself."""
    return Label(event.image_sha256, "", annotator, retracts=event.event_id)


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _check_text(what: str, text: str, most: int) -> None:
    """Any character is allowed that UTF-8 can encode."""
    if len(text) > most:
        raise LabelError(f"The {what} {_shown(text)} has {len(text):,} characters; the limit is {most:,}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        whole = re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text[:80])
        raise LabelError(
            f"The {what} {whole!r} is not valid UTF-8 text. Correct the damaged characters."
        ) from error


def _check_boxes(boxes: tuple[Box, ...]) -> None:
    if len(boxes) > MAX_BOXES:
        raise LabelError(f"{len(boxes)} boxes are too many; the limit is {MAX_BOXES}.")
    for box in boxes:
        if min(box.x, box.y, box.width - 1, box.height - 1) < 0 or max(astuple(box)) > MAX_EDGE:
            raise LabelError(f"The {box} is empty or outside the image.")


def _shown(text: str) -> str:
    return repr(text[:80])
