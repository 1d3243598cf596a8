"""YOLO detection: images/, a text file of boxes for each in labels/, both divided, and data.yaml.

A class is a defect type. data.yaml gives no path of its own: ultralytics then takes the folder that it is in,
wherever it is started.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from chipdemo.images import read_image
from chipdemo.inspection import NORMAL
from chipdemo.labeling.formats.entry import Entry
from chipdemo.labeling.formats.imagefolder import write_file
from chipdemo.labeling.formats.shapes import pixels_of
from chipdemo.labeling.label import UNSURE, Box
from chipdemo.splits import TRAIN, VAL, split_by_hash

FRACTIONS = (0.8, 0.2, 0.0)  # of train, val and test
MOST_COMPARED = 10_000  # images; among more, the search for near-duplicates would take hours


def write(folder: Path, entries: Iterable[Entry]) -> dict[str, int]:
    """images/, labels/, data.yaml and metadata.jsonl, divided by content hash as training divides.

    Each defect type has its share in train and val, and near-duplicates are in one of them (they are searched
    among up to MOST_COMPARED images). If there is no image for val, data.yaml names train twice. A polygon is
    written as the box around it. A mask counts where there are neither boxes nor polygons, as a box around
    each of its parts. Left out are unsure images, and abnormal ones without any of these: an image without a
    box counts as one without a defect.
    """
    from chipdemo.near_duplicates import near_duplicates, small_gray  # here, since it takes OpenCV and SciPy

    classes, left_out = {}, Counter()
    rows, strata, small = {}, {}, []
    for entry in entries:
        boxes = () if entry.consensus.label == NORMAL else _boxes_of(entry)
        if entry.consensus.label == UNSURE or entry.consensus.label != NORMAL and not boxes:
            left_out["unsure" if entry.consensus.label == UNSURE else "abnormal without a box or mask"] += 1
            continue
        names = [entry.type_of(box.defect_type) for box in boxes]
        lines = [
            f"{classes.setdefault(name, len(classes))} {_relative(box, entry)}\n"
            for name, box in zip(names, boxes)
        ]
        sha256 = entry.image.sha256
        write_file(folder / "images" / entry.file_name, entry.content)
        write_file(folder / "labels" / f"{sha256}.txt", "".join(lines).encode())
        rows[sha256] = {"file_name": entry.file_name, **entry.fields}
        strata[sha256] = f"{entry.consensus.label}, {entry.consensus.defect_type}"
        if len(rows) <= MOST_COMPARED:
            small.append(small_gray(np.asarray(read_image(entry.content).image)))
    few = len(rows) <= MOST_COMPARED
    groups = dict(zip(rows, map(str, near_duplicates(np.array(small))))) if few else {}
    split = split_by_hash(strata, FRACTIONS, groups=groups)
    with (folder / "metadata.jsonl").open("w") as metadata:
        for name in (TRAIN, VAL):
            for kind in ("images", "labels"):
                (folder / kind / name).mkdir(parents=True)
            for sha256 in split[name]:
                row = rows[sha256]
                image, text = row["file_name"], f"{sha256}.txt"
                (folder / "images" / image).rename(folder / "images" / name / image)
                (folder / "labels" / text).rename(folder / "labels" / name / text)
                metadata.write(json.dumps(row | {"file_name": f"images/{name}/{image}"}) + "\n")
    val = VAL if split[VAL] else TRAIN
    names = ", ".join(map(_quoted, classes))
    (folder / "data.yaml").write_text(f"train: images/{TRAIN}\nval: images/{val}\nnames: [{names}]\n")
    return left_out


def _quoted(name: str) -> str:
    """As YAML, whatever the name: it has the escapes of Python."""
    return '"' + name.encode("unicode_escape").decode().replace('"', '\\"') + '"'


def _relative(box: Box, entry: Entry) -> str:
    """Center and size as fractions of the image."""
    width, height = entry.image.width, entry.image.height
    numbers = (
        (box.x + box.width / 2) / width,
        (box.y + box.height / 2) / height,
        box.width / width,
        box.height / height,
    )
    return " ".join(f"{number:.6f}" for number in numbers)


def _boxes_of(entry: Entry) -> tuple[Box, ...]:
    boxes = (*entry.boxes, *(polygon.box for polygon in entry.polygons))
    if boxes or not entry.mask:
        return boxes
    from scipy import ndimage  # here, since few images need it

    parts, _ = ndimage.label(pixels_of(entry.mask))
    return tuple(
        Box(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start, entry.mask_type)
        for rows, columns in ndimage.find_objects(parts)
    )
