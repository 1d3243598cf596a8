"""COCO: images/ and annotations.json with boxes and masks as run lengths; a category a defect type."""

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
NO_TYPE = "defect"  # the category of a defect without a type


def write(folder: Path, entries: Iterable[Entry]) -> dict[str, int]:
    """images/ and annotations.json. Nothing is left out: each image has the fields that COCO lacks."""
    categories, images, annotations = {}, 0, 0
    with (folder / ANNOTATIONS).open("wb") as file, TemporaryFile() as later:
        file.write(b'{"images": [')
        for images, entry in enumerate(entries, 1):
            write_file(folder / "images" / entry.file_name, entry.content)
            image = {"id": images, "file_name": f"images/{entry.file_name}", **entry.fields}
            file.write((",\n" if images > 1 else "\n").encode() + json.dumps(image).encode())
            category = entry.consensus.defect_type or NO_TYPE
            for annotation in _annotations(entry):
                annotations += 1
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


def _annotations(entry: Entry) -> Iterator[dict[str, Any]]:
    """One of each box, without segmentation, and one of the mask, with run lengths."""
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
    """(h, w) bool -> run lengths of 0, 1, 0, ... column by column, as in COCO."""
    flat = np.concatenate([[False], pixels.flatten("F"), [not pixels[-1, -1]]])
    return np.diff(np.flatnonzero(np.diff(flat)), prepend=0).tolist()


def read(path: Path) -> Iterator[Row | str]:
    """path: a COCO JSON, or the folder of annotations.json.

    An image without a `label` is abnormal if it has annotations, else normal; its defect type is
    the most frequent category. An annotation with a segmentation is drawn into the mask, one without
    becomes a box.
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
        own = of_image[image["id"]]
        drawn = [one["segmentation"] for one in own if one.get("segmentation")]
        return Row(
            str(image.get("name") or image["file_name"]),
            _beside(file, image["file_name"]),
            str(image.get("label") or "") or (ABNORMAL if own else NORMAL),
            image["defect_type"] if "defect_type" in image else _most_frequent(own, names),
            tuple(tuple(one["bbox"]) for one in own if not one.get("segmentation")),
            _mask_of(drawn, image["width"], image["height"]) if drawn else b"",
            image.get("note") or "",
        )

    yield from rows_of(file.name, images, row_of)


def _beside(file: Path, name: str) -> Path:
    """The file of an image: some programs write names relative to the JSON, others to images/ beside it."""
    path = inside(file.parent, name)
    return path if path.exists() else inside(file.parent / "images", name)


def _most_frequent(annotations: list[dict[str, Any]], names: dict[int, str]) -> str:
    found = [names[annotation["category_id"]] for annotation in annotations]
    most = max(sorted(found), key=found.count, default="")
    return "" if most == NO_TYPE else most


def _mask_of(segmentations: list[Any], width: int, height: int) -> bytes:
    """All polygons and run lengths drawn into one mask, as PNG. Raises LabelError."""
    if not 0 < width * height <= MAX_MEGAPIXELS * 1e6:
        raise LabelError(
            f"An image of {width} x {height} pixels is too large; the limit is {MAX_MEGAPIXELS:g} megapixels."
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
            raise LabelError("Compressed run lengths cannot be read. Export polygons instead.")
    return png_of(mask)


def _pixels_of(runs: list[int], width: int, height: int) -> np.ndarray:
    """Run lengths column by column -> (h, w) uint8, 0 or 255. Raises ValueError if they do not add up."""
    if sum(runs) != width * height:
        raise ValueError(f"the runs add up to {sum(runs):,} pixels of {width * height:,}")
    values = np.arange(len(runs)) % 2 * 255
    return np.repeat(values.astype(np.uint8), runs).reshape((height, width), order="F")
