"""COCO: images/ and annotations.json with boxes, polygons, and masks as run lengths; a category a type."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from chipdemo.errors import ExchangeError, LabelError
from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.labeling.formats.entry import Entry
from chipdemo.labeling.formats.imagefolder import write_file
from chipdemo.labeling.formats.reading import Row, inside, rows_of
from chipdemo.labeling.formats.shapes import (
    checked_size,
    filled,
    merged_masks,
    most_frequent,
    own_type,
    pixels_of,
)
from chipdemo.labeling.label import Box

ANNOTATIONS = "annotations.json"
SHAPE, BOX = "shape", "box"  # a field of our own: COCO does not tell the outline of a box from a polygon


def write(folder: Path, entries: Iterable[Entry]) -> dict[str, int]:
    """images/ and annotations.json. Nothing is left out: each image has the fields that COCO lacks."""
    categories, images, annotations = {}, 0, 0
    with (folder / ANNOTATIONS).open("wb") as file, TemporaryFile() as later:
        file.write(b'{"images": [')
        for images, entry in enumerate(entries, 1):
            write_file(folder / "images" / entry.file_name, entry.content)
            image = {"id": images, "file_name": f"images/{entry.file_name}", **entry.fields}
            file.write((",\n" if images > 1 else "\n").encode() + json.dumps(image).encode())
            for defect_type, annotation in _annotations(entry):
                annotations += 1
                category = entry.type_of(defect_type)
                annotation |= {
                    "id": annotations,
                    "image_id": images,
                    "category_id": categories.setdefault(category, len(categories) + 1),
                    "iscrowd": 0,
                }
                later.write((",\n" if annotations > 1 else "\n").encode() + json.dumps(annotation).encode())
        later.seek(0)
        file.write(b'],\n"annotations": [')
        copyfileobj(later, file)
        named = [{"id": number, "name": name} for name, number in categories.items()]
        file.write(b'],\n"categories": ' + json.dumps(named).encode() + b"}\n")
    return {}


def _annotations(entry: Entry) -> Iterator[tuple[str, dict[str, Any]]]:
    """One of each box, with its outline, of each polygon, and of the mask, with run lengths.

    With the defect type of each.
    """
    for box in entry.boxes:
        annotation = _annotation(box, box.width * box.height, [_outline(box)])
        yield box.defect_type, annotation | {SHAPE: BOX}
    for polygon in entry.polygons:
        pixels = filled(polygon.points, (entry.image.width, entry.image.height))
        yield polygon.defect_type, _annotation(polygon.box, int(pixels.sum()), [sum(polygon.points, ())])
    pixels = pixels_of(entry.mask) if entry.mask else np.zeros((0, 0), bool)
    if pixels.any():
        rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
        left, top = int(columns[0]), int(rows[0])
        box = Box(left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top)
        runs = {"size": list(pixels.shape), "counts": runs_of(pixels)}
        yield entry.mask_type, _annotation(box, int(pixels.sum()), runs)


def _outline(box: Box) -> list[int]:
    """As a polygon: pycocotools draws no annotation without a segmentation."""
    right, bottom = box.x + box.width, box.y + box.height
    return [box.x, box.y, right, box.y, right, bottom, box.x, bottom]


def _annotation(box: Box, area: int, segmentation: Any) -> dict[str, Any]:
    return {"bbox": [box.x, box.y, box.width, box.height], "area": area, "segmentation": segmentation}


def runs_of(pixels: np.ndarray) -> list[int]:
    """(h, w) bool -> run lengths of 0, 1, 0, ... column by column, as in COCO."""
    flat = np.concatenate([[False], pixels.flatten("F"), [not pixels[-1, -1]]])
    return np.diff(np.flatnonzero(np.diff(flat)), prepend=0).tolist()


def read(path: Path) -> Iterator[Row | str]:
    """path: a COCO JSON, or the folder of annotations.json.

    An image without a `label` is abnormal if it has annotations, else normal; its defect type is
    the most frequent category. Polygons become polygons, run lengths are drawn into the mask, and an
    annotation without segmentation, or that an export of ours calls one, becomes a box.
    """
    file = path / ANNOTATIONS if path.is_dir() else path
    try:
        content = json.loads(file.read_bytes())
        names = {category["id"]: category["name"] for category in content.get("categories", ())}
        of_image = defaultdict(list)
        for annotation in content["annotations"]:
            of_image[annotation["image_id"]].append(annotation)
        images = [(str(image.get("file_name")), image) for image in content["images"]]
    except OSError as error:
        raise ExchangeError(f"{file} cannot be read: {error.strerror}. Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise ExchangeError(f"{file} is not valid JSON. Export it again as COCO.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ExchangeError(
            f"{file} is not COCO: it needs lists of images, categories and annotations with their ids. "
            "Export it again as COCO."
        ) from error

    def row_of(image: dict[str, Any]) -> Row:
        own = [(names[one["category_id"]], one) for one in of_image[image["id"]]]
        label_type = image.get("defect_type", most_frequent([name for name, _ in own]))
        marks = [(own_type(name, label_type), one, _drawn(one)) for name, one in own]
        runs = [(name, drawn) for name, _, drawn in marks if isinstance(drawn, dict)]
        is_drawn = any(drawn for _, _, drawn in marks)
        size = checked_size(image["width"], image["height"]) if is_drawn else None
        mask, mask_type, left_out = _mask_of(runs, *size) if runs else (b"", "", ())
        return Row(
            str(image.get("name") or image["file_name"]),
            _beside(file, image["file_name"]),
            str(image.get("label") or "") or (ABNORMAL if own else NORMAL),
            label_type,
            tuple((*one["bbox"], name) for name, one, drawn in marks if not drawn),
            mask,
            image.get("note") or "",
            tuple(
                (tuple(zip(part[::2], part[1::2], strict=True)), name)
                for name, _, drawn in marks
                for part in (drawn if isinstance(drawn, list) else ())
            ),
            mask_type,
            size,
            left_out,
        )

    yield from rows_of(file.name, images, row_of)


def _drawn(annotation: dict[str, Any]) -> Any:
    """The segmentation of an annotation; None for a box."""
    return None if annotation.get(SHAPE) == BOX else annotation.get("segmentation")


def _beside(file: Path, name: str) -> Path:
    """The file of an image: some programs write names relative to the JSON, others to images/ beside it."""
    path = inside(file.parent, name)
    return path if path.exists() else inside(file.parent / "images", name)


def _mask_of(drawn: list[tuple[str, dict]], width: int, height: int) -> tuple[bytes, str, tuple[str, ...]]:
    """All run lengths, with their defect types, as one mask. Raises LabelError. See merged_masks."""
    if any(not isinstance(segmentation["counts"], list) for _, segmentation in drawn):
        raise LabelError("Compressed run lengths cannot be read. Export polygons instead.")
    return merged_masks(
        [(name, _pixels_of(segmentation["counts"], width, height)) for name, segmentation in drawn]
    )


def _pixels_of(runs: list[int], width: int, height: int) -> np.ndarray:
    """Run lengths column by column -> (h, w) bool. Raises ValueError if they do not add up."""
    if sum(runs) != width * height:
        raise ValueError(f"the runs add up to {sum(runs):,} pixels of {width * height:,}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape((height, width), order="F")
