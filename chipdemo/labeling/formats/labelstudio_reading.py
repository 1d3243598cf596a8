"""Reads exports of Label Studio in its JSON format: boxes, polygons, brush masks, choices and text."""

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from chipdemo.errors import ExchangeError, LabelError
from chipdemo.inspection import ABNORMAL, NORMAL
from chipdemo.labeling.folders import label_of
from chipdemo.labeling.formats.brush import unpack
from chipdemo.labeling.formats.labelstudio import DEFECT_TYPE, IMAGE, TASKS
from chipdemo.labeling.formats.reading import Row, inside, rows_of
from chipdemo.labeling.formats.shapes import (
    NO_TYPE,
    Size,
    checked_size,
    merged_masks,
    most_frequent,
    own_type,
)

UPLOADED = re.compile("[0-9a-f]{8}-")  # before the name of a file that was uploaded to Label Studio
EMBEDDED = "data:image/"
IMAGE_NAME = re.compile(r"\.(png|jpe?g|tiff?|bmp|webp|gif|avif|jp2|p[gp]m)\b", re.IGNORECASE)
TYPES = ("rectanglelabels", "polygonlabels", "brushlabels", "labels")  # lists of defect types in a value


def is_list(path: Path) -> bool:
    """Whether a JSON file is a list, as those of Label Studio are; COCO is an object."""
    try:
        with path.open("rb") as file:
            return file.read(1_000).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except OSError:
        return False


def read(path: Path) -> Iterator[Row | str]:
    """path: a JSON file of Label Studio, or the folder of tasks.json.

    The images are beside the file or in images/ there, under the names that the tasks give, or embedded in
    the tasks. Of several annotations of an image the ground truth counts, else the latest. Its label is the
    choice that says normal, abnormal or unsure; else it is abnormal if anything is marked, and normal if not.
    What a label cannot hold is named in Row.left_out.
    """
    file = path / TASKS if path.is_dir() else path
    try:
        tasks = json.loads(file.read_bytes())
    except OSError as error:
        raise ExchangeError(f"{file} cannot be read: {error.strerror}. Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise ExchangeError(f"{file} is not valid JSON. Export it again as JSON.") from error
    if not isinstance(tasks, list) or not any(_annotations(task) is not None for task in tasks):
        raise ExchangeError(
            f"{file} has no tasks with annotations of Label Studio. Export the project as JSON, not JSON-MIN."
        )
    numbered = ((f"task {_number(task, index)}", task) for index, task in enumerate(tasks, 1))
    yield from rows_of(file.name, numbered, lambda task: _row(file, task))


def _annotations(task: Any) -> list[dict[str, Any]] | None:
    """completions: the name in versions before 1.0."""
    return task.get("annotations", task.get("completions")) if isinstance(task, dict) else None


def _number(task: Any, index: int) -> str:
    return str(task["id"] if isinstance(task, dict) and isinstance(task.get("id"), int) else index)


def _row(file: Path, task: dict[str, Any]) -> Row:
    annotations = _annotations(task)
    if not annotations:
        raise LabelError("It has no annotation. Label it, or leave it out.")
    kept = [one for one in annotations if not one.get("was_cancelled")]
    if not kept:
        raise LabelError("It was skipped in Label Studio. Label it, or leave it out.")
    chosen = max(kept, key=lambda one: (bool(one.get("ground_truth")), _time(one)))
    marks = _marks(chosen["result"])
    if len(annotations) > 1:
        marks.left_out[f"{len(annotations) - 1} more annotations of this image"] += 1
    named = [shape[-1] for shape in (*marks.boxes, *marks.polygons)] + [name for name, _ in marks.masks]
    label_type = marks.defect_type or most_frequent(named)
    masks = [(own_type(name, label_type), mask) for name, mask in marks.masks]
    mask, mask_type, lost = merged_masks(masks) if masks else (b"", "", ())
    name, source = _image(file, task)
    return Row(
        name,
        source,
        _label(marks),
        label_type,
        tuple((*box, own_type(name, label_type)) for *box, name in marks.boxes),
        mask,
        "\n".join(marks.text),
        tuple((points, own_type(name, label_type)) for points, name in marks.polygons),
        mask_type,
        marks.size,
        (*(part if count == 1 else f"{count} x {part}" for part, count in marks.left_out.items()), *lost),
    )


def _time(annotation: dict[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


# What is marked


@dataclass
class _Marks:
    """The results of an annotation; shapes in pixels, each with the defect type at its end."""

    verdicts: dict[str, str] = field(default_factory=dict)  # label by choice
    defect_type: str = ""
    text: list[str] = field(default_factory=list)
    boxes: list[tuple] = field(default_factory=list)
    polygons: list[tuple] = field(default_factory=list)
    masks: list[tuple[str, np.ndarray]] = field(default_factory=list)
    size: Size | None = None
    other_choices: list[str] = field(default_factory=list)
    other_regions: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def _marks(results: list[dict[str, Any]]) -> _Marks:
    marks, types = _Marks(), {}
    for result in results:  # a region without labels of its own has them in another result of its id
        for kind in TYPES:
            types.setdefault(result.get("id"), []).extend(result.get("value", {}).get(kind, ()))
    drawn = set()  # ids of regions
    for result in results:
        kind, value = result.get("type"), result.get("value", {})
        if kind == "choices":
            _add_choices(marks, result["from_name"], value["choices"])
        elif kind == "textarea":
            marks.text += [value["text"]] if isinstance(value["text"], str) else value["text"]
        elif "original_width" not in result:
            marks.left_out[f"a result of the type {kind}"] += 1
        elif (identity := result.get("id")) is None or identity not in drawn:
            drawn.add(identity)
            _add_region(marks, result, types[identity] if identity is not None else _own_types(value))
    return marks


def _own_types(value: dict[str, Any]) -> list[str]:
    return [one for kind in TYPES for one in value.get(kind, ())]


def _add_choices(marks: _Marks, control: str, choices: list[str]) -> None:
    for choice in choices:
        if control == DEFECT_TYPE:
            marks.defect_type = choice
        elif label := label_of(choice):
            marks.verdicts[choice] = label
        else:
            marks.other_choices.append(choice)
            marks.left_out[f"the choice {choice} of {control}"] += 1


def _add_region(marks: _Marks, result: dict[str, Any], types: list[str]) -> None:
    value, types = result["value"], list(dict.fromkeys(types))
    width, height = marks.size = checked_size(result["original_width"], result["original_height"])
    defect_type = types[0] if types else NO_TYPE
    if len(types) > 1:
        marks.left_out[f"further defect types of a region: {', '.join(types[1:])}"] += 1
    if value.get("format") == "rle":
        marks.masks.append((defect_type, unpack(value["rle"], (height, width))))
    elif "points" in value:
        points = tuple((x * width / 100, y * height / 100) for x, y in value["points"])
        marks.polygons.append((points, defect_type))
    elif value.get("rotation") and "width" in value:
        marks.polygons.append((_rotated(value, width, height), defect_type))
    elif "width" in value and "height" in value:
        sides = value["x"] * width, value["y"] * height, value["width"] * width, value["height"] * height
        marks.boxes.append((*(side / 100 for side in sides), defect_type))
    else:
        marks.other_regions += 1
        marks.left_out[f"a region of the type {result.get('type')}"] += 1


def _rotated(value: dict[str, Any], width: int, height: int) -> tuple[tuple[float, float], ...]:
    """The corners of a box that is turned about its top left one, clockwise by degrees."""
    x, y = value["x"] * width / 100, value["y"] * height / 100
    across, down = value["width"] * width / 100, value["height"] * height / 100
    cos, sin = math.cos(math.radians(value["rotation"])), math.sin(math.radians(value["rotation"]))
    corners = (0, 0), (across, 0), (across, down), (0, down)
    return tuple((x + a * cos - b * sin, y + a * sin + b * cos) for a, b in corners)


def _label(marks: _Marks) -> str:
    labels = set(marks.verdicts.values())
    if len(labels) > 1:
        raise LabelError(f"The choices {' and '.join(marks.verdicts)} contradict each other. Keep one.")
    if labels:
        return labels.pop()
    if marks.boxes or marks.polygons or marks.masks or marks.other_regions:
        return ABNORMAL
    if marks.other_choices:
        choices = ", ".join(marks.other_choices)
        raise LabelError(f"The choice {choices} is not normal, abnormal or unsure. Rename it.")
    return NORMAL


# The image


def _image(file: Path, task: dict[str, Any]) -> tuple[str, Path | bytes]:
    """The name of an image, and its file or content."""
    data = task["data"]
    address = data.get(IMAGE) or next(filter(_is_image, data.values()), None) or task.get("file_upload")
    if not isinstance(address, str) or not address:
        raise ExchangeError("Its data names no image.")
    named = data.get("name") or task.get("file_upload")
    if address.startswith(EMBEDDED):
        content = base64.b64decode(address.partition("base64,")[2], validate=True)
        return str(named or f"task {_number(task, 0)}"), content
    parts = urlsplit(address)
    path = parse_qs(parts.query).get("d", [unquote(parts.path)])[0].replace("\\", "/")
    source = _beside(file, PurePosixPath(path))
    return str(data.get("name") or UPLOADED.sub("", source.name, count=1)), source


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and bool(value.startswith(EMBEDDED) or IMAGE_NAME.search(value))


def _beside(file: Path, path: PurePosixPath) -> Path:
    """The file of an image below the folder of the JSON, by as much of its path as there is.

    Nothing is fetched from other machines. Raises ExchangeError if it is not there.
    """
    parts = [part for part in path.parts if part != "/"]
    for start in range(len(parts)):
        tail = "/".join(parts[start:])
        for name in (tail, UPLOADED.sub("", tail, count=1)):
            for root in (file.parent, file.parent / "images"):
                if (found := inside(root, name)).is_file():
                    return found
    raise ExchangeError(f"The image {path.name} is not beside {file.name}. Put it there, or into images/.")
