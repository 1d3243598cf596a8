"""A label: one annotator's judgment of one image at one moment. It is an event and is never edited."""

import re
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise

from chipdemo.errors import LabelError
from chipdemo.inspection import ABNORMAL, NORMAL

UNSURE = "unsure"
LABELS = (NORMAL, ABNORMAL, UNSURE)
MAX_NOTE, MAX_NAME = 10_000, 200  # characters of a note; of an annotator, a defect type, a model
MAX_BOXES = MAX_POLYGONS = 100
MAX_POINTS = 20_000  # of all polygons of a label
MAX_EDGE = 1_000_000  # pixels; larger than any image
MAX_MASK_BYTES = 16_000_000  # of its PNG
PNG = b"\x89PNG\r\n\x1a\n"  # its first bytes


@dataclass(frozen=True)
class Box:
    """A box around a defect, in pixels of the upright image. x, y: left and top edge.

    defect_type: "" for that of its label.
    """

    x: int
    y: int
    width: int
    height: int
    defect_type: str = ""


@dataclass(frozen=True)
class Polygon:
    """The outline of a defect, in pixels of the upright image.

    points: at least three (x, y) that enclose an area; like the edges of a box, they lie between pixels:
    (0, 0) is the top left corner of the image, (width, height) the bottom right one. defect_type: "" for
    that of its label.
    """

    points: tuple[tuple[int, int], ...]
    defect_type: str = ""

    @property
    def has_area(self) -> bool:
        (x0, y0), *others = self.points or ((0, 0),)
        sides = pairwise((x - x0, y - y0) for x, y in others)  # of the triangles that the first point makes
        return any(x1 * y2 != x2 * y1 for (x1, y1), (x2, y2) in sides)

    @property
    def box(self) -> Box:
        """The box around it."""
        (left, right), (top, bottom) = ((min(along), max(along)) for along in zip(*self.points))
        return Box(left, top, right - left, bottom - top, self.defect_type)


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
    boxes, polygons, mask (PNG of one channel, 0 or 255, of the size of the upright image; b"" for none):
    where the defect is. mask_type: the defect type of the mask; "" for that of the label. created_at: UTC.
    prediction: None where no model was asked. retracts: event_id of the annotator's own event that this one
    retracts, or "". decides: given in the review of a disputed image, and settles it.
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
    polygons: tuple[Polygon, ...] = ()
    mask_type: str = ""

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
        _check_polygons(self.polygons)
        for one in (*self.boxes, *self.polygons):
            _check_text("defect type", one.defect_type, MAX_NAME)
        _check_text("defect type", self.mask_type, MAX_NAME)
        if self.mask_type and not self.mask:
            raise LabelError(f"There is no mask of the defect type {_shown(self.mask_type)}.")
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
        numbers = box.x, box.y, box.width, box.height
        if min(box.x, box.y, box.width - 1, box.height - 1) < 0 or max(numbers) > MAX_EDGE:
            raise LabelError(f"The {box} is empty or outside the image.")


def _check_polygons(polygons: tuple[Polygon, ...]) -> None:
    if len(polygons) > MAX_POLYGONS:
        raise LabelError(f"{len(polygons)} polygons are too many; the limit is {MAX_POLYGONS}.")
    if (count := sum(len(polygon.points) for polygon in polygons)) > MAX_POINTS:
        raise LabelError(f"The polygons have {count:,} points; the limit is {MAX_POINTS:,}.")
    for polygon in polygons:
        if not all(0 <= number <= MAX_EDGE for point in polygon.points for number in point):
            raise LabelError(f"The polygon {_shown(str(polygon.points))} is outside the image.")
        if not polygon.has_area:
            raise LabelError(
                f"The polygon {_shown(str(polygon.points))} has no area. It needs three points that are not "
                "on one line."
            )


def _shown(text: str) -> str:
    return repr(text[:80])
