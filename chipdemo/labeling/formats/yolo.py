"""YOLO: images/, a text file of boxes for each in labels/, and data.yaml; a class a defect type."""

import json
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from chipdemo.inspection import NORMAL
from chipdemo.labeling.formats.entry import Entry
from chipdemo.labeling.formats.imagefolder import write_file
from chipdemo.labeling.label import UNSURE, Box

NO_TYPE = "defect"  # the class of a defect without a type


def write(folder: Path, entries: Iterable[Entry]) -> dict[str, int]:
    """images/, labels/, data.yaml and metadata.jsonl.

    Left out are unsure images, and abnormal ones with neither boxes nor a mask: an image without a box
    counts as one without a defect.
    """
    classes, left_out = {}, Counter()
    with (folder / "metadata.jsonl").open("w") as metadata:
        for entry in entries:
            boxes = () if entry.consensus.label == NORMAL else entry.boxes or _boxes_of(entry.mask)
            if entry.consensus.label == UNSURE or entry.consensus.label != NORMAL and not boxes:
                left_out["unsure" if entry.consensus.label == UNSURE else "defect without box or mask"] += 1
                continue
            lines = []
            if boxes:
                number = classes.setdefault(entry.consensus.defect_type or NO_TYPE, len(classes))
                lines = [f"{number} {_relative(box, entry)}\n" for box in boxes]
            write_file(folder / "images" / entry.file_name, entry.content)
            write_file(folder / "labels" / f"{entry.image.sha256}.txt", "".join(lines).encode())
            metadata.write(json.dumps({"file_name": f"images/{entry.file_name}", **entry.fields}) + "\n")
    names = json.dumps({number: name for name, number in classes.items()})  # JSON is YAML, whatever the names
    (folder / "data.yaml").write_text(f"path: .\ntrain: images\nval: images\nnames: {names}\n")
    return left_out


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


def _boxes_of(mask: bytes) -> tuple[Box, ...]:
    """A box around each connected component of a mask."""
    if not mask:
        return ()
    from scipy import ndimage  # here, since few images need it

    components, _ = ndimage.label(np.asarray(Image.open(BytesIO(mask)).convert("L")) > 0)
    return tuple(
        Box(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        for rows, columns in ndimage.find_objects(components)
    )
