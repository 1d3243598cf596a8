"""Labels as JSON, and the checks of values that come from outside. Each check raises LabelError."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from typing import Any

from PIL import Image

from chipdemo.errors import ImageError, LabelError
from chipdemo.images import read_image
from chipdemo.labeling.journal import JournalImage
from chipdemo.labeling.label import MAX_MASK_BYTES, MAX_NAME, Box, Label, Polygon

CANVAS_PIXELS = 1_500_000  # of the canvas on which the page paints a mask


def event_json(label: Label) -> dict[str, Any]:
    """An event, the same in every answer. mask: base64 of a PNG, "" for none. model: its prediction, or
    None."""
    return {
        "event_id": label.event_id,
        "sha256": label.image_sha256,
        "label": label.label,
        "defect_type": label.defect_type,
        "boxes": [asdict(box) for box in label.boxes],
        "polygons": [asdict(polygon) for polygon in label.polygons],
        "mask": base64.b64encode(label.mask).decode(),
        "mask_type": label.mask_type,
        "note": label.note,
        "annotator": label.annotator,
        "created_at": label.created_at.isoformat(),
        "retracts": label.retracts,
        "decides": label.decides,
        "model": asdict(label.prediction) if label.prediction else None,
    }


def whole_number(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise LabelError(f"{name} is {_short(value)}. Use a whole number.")
    return int(value)


def text(value: Any, name: str) -> str:
    """JSON can hold half a character (a lone surrogate), which no file can."""
    if not isinstance(value, str):
        raise LabelError(f"{name} must be text, not {_short(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise LabelError(
            f"{name} has an incomplete character at position {error.start}. Remove it."
        ) from error
    return value


def texts(values: Any, name: str) -> list[str]:
    return [text(value, name) for value in _items(values, name)]


def page_id(value: Any) -> str:
    page = text(value, "page")
    if len(page) > MAX_NAME:
        raise LabelError(f"The page id has {len(page):,} characters; {MAX_NAME} are the most.")
    return page


def boxes_of(values: Any, image: JournalImage) -> tuple[Box, ...]:
    """Boxes inside the image, as {x, y, width, height} with or without defect_type."""
    boxes = []
    for value in _items(values, "boxes"):
        names = set(value) if isinstance(value, Mapping) else set()
        if names - {"defect_type"} != {"x", "y", "width", "height"}:
            raise LabelError(
                f"A box has x, y, width, height and, if you like, defect_type, but this is {_short(value)}."
            )
        numbers = {name: whole_number(value[name], name) for name in ("x", "y", "width", "height")}
        box = Box(**numbers, defect_type=defect_type(value))
        if box.x + box.width > image.width or box.y + box.height > image.height:
            raise LabelError(
                f"A box ends at {box.x + box.width}, {box.y + box.height}, outside the image of "
                f"{image.width} x {image.height} pixels. Draw it inside."
            )
        boxes.append(box)
    return tuple(boxes)


def polygons_of(values: Any, image: JournalImage) -> tuple[Polygon, ...]:
    """Polygons inside the image, as {points: [[x, y], ...]} with or without defect_type."""
    polygons = []
    for value in _items(values, "polygons"):
        names = set(value) if isinstance(value, Mapping) else set()
        if names - {"defect_type"} != {"points"}:
            raise LabelError(
                f"A polygon has points and, if you like, defect_type, but this is {_short(value)}."
            )
        points = tuple(_point(point, image) for point in _items(value["points"], "points"))
        polygons.append(Polygon(points, defect_type(value)))
    return tuple(polygons)


def defect_type(value: Mapping[str, Any]) -> str:
    return text(value.get("defect_type", ""), "defect_type").strip()


def _point(value: Any, image: JournalImage) -> tuple[int, int]:
    if len(_items(value, "A point")) != 2:
        raise LabelError(f"A point has x and y, but this is {_short(value)}.")
    x, y = whole_number(value[0], "x"), whole_number(value[1], "y")
    if not (0 <= x <= image.width and 0 <= y <= image.height):
        raise LabelError(
            f"A polygon has the point {x}, {y}, outside the image of {image.width} x {image.height} pixels. "
            "Draw it inside."
        )
    return x, y


def canvas_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) of the canvas on which a mask of such an image is painted."""
    scale = min(1, math.sqrt(CANVAS_PIXELS / (width * height)))
    return max(1, round(scale * width)), max(1, round(scale * height))


def mask_of(value: Any, image: JournalImage) -> bytes:
    """A one-channel PNG of 0 and 255 as large as the image; b"" for none.

    value: base64 of a black and white PNG of any mode, as large as the image or as canvas_size.
    """
    encoded = text(value, "mask")
    if len(encoded) > MAX_MASK_BYTES * 4 / 3 + 4:
        raise LabelError(f"The mask has more than {MAX_MASK_BYTES:,} bytes. Paint a simpler one.")
    if not encoded:
        return b""
    try:
        content = base64.b64decode(encoded, validate=True)
        found = read_image(content, image.width * image.height / 1e6)  # no more pixels are decoded
    except (ValueError, ImageError) as error:
        raise LabelError(f"The mask is not a PNG in base64 that can be read. {error}") from error
    if found.format != "PNG" or found.notes:
        kind = ", ".join([found.format, *found.notes])
        raise LabelError(f"The mask is of the wrong kind ({kind}). Save it as an opaque 8-bit PNG.")
    size = (image.width, image.height)
    if found.image.size not in (size, canvas_size(*size)):
        raise LabelError(
            f"The mask has {found.image.width} x {found.image.height} pixels, but the image has "
            f"{image.width} x {image.height}. Paint it over the image."
        )
    mask = found.image.convert("L")
    if any(mask.histogram()[1:255]):
        raise LabelError("The mask has gray or colored pixels. Make it black and white.")
    file = BytesIO()
    mask.resize(size, Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def _items(values: Any, name: str) -> Sequence[Any]:
    if not isinstance(values, (list, tuple)):
        raise LabelError(f"{name} must be a list, not {_short(values)}.")
    return values


def _short(value: Any) -> str:
    return repr(str(value)[:80])
