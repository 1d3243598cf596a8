"""COCO: images/ and annotations.json with boxes, and masks run by run; a category a defect type."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from chipdemo.errors import ExchangeError, LabelError
from chipdemo.images import MAX_MEGAPIXELS
from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.labeling.formats.entry import Entry
from chipdemo.labeling.formats.imagefolder import write_file
from chipdemo.labeling.formats.reading import Row, inside, png_of, rows_of

ANNOTATIONS = "annotations.json"
NO_TYPE = "defect"  # the category of what has no defect type


def write(folder: Path, entries: Iterable[Entry]) -> dict[str, int]:
    """All can be held: what COCO has no word for stands beside its words in each image."""
    categories, images, annotations = {}, 0, 0
    with (folder / ANNOTATIONS).open("wb") as file, TemporaryFile() as later:
        file.write(b'{"images": [')
        for images, entry in enumerate(entries, 1):
            write_file(folder / "images" / entry.file_name, entry.content)
            image = {"id": images, "file_name": f"images/{entry.file_name}", **entry.said}
            file.write((",\n" if images > 1 else "\n").encode() + json.dumps(image).encode())
            category = entry.consensus.defect_type or NO_TYPE
            for place in _places(entry):
                annotations += 1
                place |= {
                    "id": annotations,
                    "image_id": images,
                    "category_id": categories.setdefault(category, len(categories) + 1),
                    "iscrowd": 0,
                }
                later.write((",\n" if annotations > 1 else "\n").encode() + json.dumps(place).encode())
        later.seek(0)
        file.write(b'],\n"annotations": [')
        copyfileobj(later, file)
        named = [{"id": number, "name": name} for name, number in categories.items()]
        file.write(b'],\n"categories": ' + json.dumps(named).encode() + b"}\n")
    return {}


def _places(entry: Entry) -> Iterator[dict[str, Any]]:
    """Its boxes, each an annotation without segmentation, and its mask as one of runs."""
    for box in entry.boxes:
        yield {
            "bbox": [box.x, box.y, box.width, box.height],
            "area": box.width * box.height,
            "segmentation": [],
        }
    if entry.mask and (box := (mask := Image.open(BytesIO(entry.mask)).convert("L")).getbbox()):
        pixels = np.asarray(mask) > 0  # (h, w)
        yield {
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "area": int(pixels.sum()),
            "segmentation": {"size": list(pixels.shape), "counts": runs_of(pixels)},
        }


def runs_of(pixels: np.ndarray) -> list[int]:
    """(h, w) bool -> lengths of runs of 0, 1, 0, ... column by column, as COCO has them."""
    flat = np.concatenate([[False], pixels.flatten("F"), [not pixels[-1, -1]]])
    return np.diff(np.flatnonzero(np.diff(flat)), prepend=0).tolist()


def read(path: Path) -> Iterator[Row | str]:
    """path: a COCO JSON, or the folder of annotations.json.

    An image without a `label` is abnormal if it has annotations, else normal; its defect type is
    the category that it has most of. An annotation with a segmentation becomes a part of the mask,
    one without a box.
    """
    file = path / ANNOTATIONS if path.is_dir() else path
    try:
        content = json.loads(file.read_bytes())
        names = {category["id"]: category["name"] for category in content.get("categories", ())}
        of_image = defaultdict(list)
        for annotation in content["annotations"]:
            of_image[annotation["image_id"]].append(annotation)
        images = [(str(image.get("file_name")), image) for image in content["images"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ExchangeError(
            f"Expected a COCO JSON with images and annotations; {file} cannot be read: {error!r:.200}."
        ) from error

    def row_of(image: dict[str, Any]) -> Row:
        places = of_image[image["id"]]
        drawn = [place["segmentation"] for place in places if place.get("segmentation")]
        return Row(
            str(image.get("name") or image["file_name"]),
            _beside(file, image["file_name"]),
            str(image.get("label") or "") or (ABNORMAL if places else NORMAL),
            image["defect_type"] if "defect_type" in image else _most(places, names),
            tuple(tuple(place["bbox"]) for place in places if not place.get("segmentation")),
            _mask_of(drawn, image["width"], image["height"]) if drawn else b"",
            image.get("note") or "",
        )

    yield from rows_of(file.name, images, row_of)


def _beside(file: Path, name: str) -> Path:
    """Programs write names relative to the JSON or to an images/ beside it."""
    path = inside(file.parent, name)
    return path if path.exists() else inside(file.parent / "images", name)


def _most(places: list[dict[str, Any]], names: dict[int, str]) -> str:
    found = [names[place["category_id"]] for place in places]
    most = max(sorted(found), key=found.count, default="")
    return "" if most == NO_TYPE else most


def _mask_of(segmentations: list[Any], width: int, height: int) -> bytes:
    """Polygons and runs, all drawn into one mask. Raises LabelError."""
    if not 0 < width * height <= MAX_MEGAPIXELS * 1e6:
        raise LabelError(
            f"Expected an image of at most {MAX_MEGAPIXELS:g} megapixels; found {width}x{height}."
        )
    mask = Image.new("L", (width, height))
    for segmentation in segmentations:
        if isinstance(segmentation, list):
            for polygon in segmentation:
                ImageDraw.Draw(mask).polygon(polygon, fill=255)
        elif isinstance(segmentation["counts"], list):
            runs = Image.fromarray(_pixels_of(segmentation["counts"], width, height))
            mask.paste(runs, mask=runs)
        else:
            raise LabelError("Expected polygons or runs as numbers; found compressed runs. Export polygons.")
    return png_of(mask)


def _pixels_of(runs: list[int], width: int, height: int) -> np.ndarray:
    """Runs column by column -> (h, w) uint8, 0 or 255. Raises ValueError unless they fill the image."""
    if sum(runs) != width * height:
        raise ValueError(f"Expected runs of {width * height:,} pixels; found {sum(runs):,}.")
    values = np.arange(len(runs)) % 2 * 255
    return np.repeat(values.astype(np.uint8), runs).reshape((height, width), order="F")
