"""Label Studio: tasks.json (its JSON format), images/, and label_config.xml for a project that shows them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from chipdemo.labeling.formats.brush import pack
from chipdemo.labeling.formats.entry import Entry
from chipdemo.labeling.formats.imagefolder import write_file
from chipdemo.labeling.formats.shapes import pixels_of
from chipdemo.labeling.label import LABELS

TASKS, CONFIG = "tasks.json", "label_config.xml"
SERVED = "/data/local-files/?d="  # where Label Studio serves files of its machine
IMAGE, VERDICT, DEFECT_TYPE, NOTE = "image", "verdict", "defect_type", "note"  # names in the configuration
SHAPES = {"boxes": "RectangleLabels", "polygons": "PolygonLabels", "mask": "BrushLabels"}


def write(folder: Path, entries: Iterable[Entry]) -> dict[str, int]:
    """A task for each image, with one annotation: the consensus. Nothing is left out."""
    types, label_types = set(), set()
    with (folder / TASKS).open("w") as file:
        for number, entry in enumerate(entries):
            write_file(folder / "images" / entry.file_name, entry.content)
            results = _results(entry)
            types |= {one["value"][one["type"]][0] for one in results if one["from_name"] in SHAPES}
            label_types |= {entry.consensus.defect_type} - {""}
            task = {
                "data": {IMAGE: f"{SERVED}images/{entry.file_name}", **entry.fields},
                "annotations": [{"result": results, "was_cancelled": False}],
            }
            file.write(("[" if number == 0 else ",") + "\n" + json.dumps(task))
        file.write("\n]\n")
    _config(sorted(types), sorted(label_types)).write(folder / CONFIG, encoding="utf-8")
    return {}


def _results(entry: Entry) -> list[dict[str, Any]]:
    width, height = entry.image.width, entry.image.height
    results = []

    def add(from_name: str, kind: str, value: dict[str, Any], **more: Any) -> None:
        identity = {
            "id": f"{entry.image.sha256[:8]}-{len(results)}",
            "from_name": from_name,
            "to_name": IMAGE,
        }
        results.append({**identity, "type": kind, "value": value, **more})

    def add_shape(from_name: str, defect_type: str, value: dict[str, Any]) -> None:
        kind = SHAPES[from_name].lower()
        size = {"original_width": width, "original_height": height, "image_rotation": 0}
        add(from_name, kind, {**value, kind: [entry.type_of(defect_type)]}, **size)

    add(VERDICT, "choices", {"choices": [entry.consensus.label]})
    if entry.consensus.defect_type:
        add(DEFECT_TYPE, "choices", {"choices": [entry.consensus.defect_type]})
    if entry.note:
        add(NOTE, "textarea", {"text": [entry.note]})
    for box in entry.boxes:
        x, right = (100 * at / width for at in (box.x, box.x + box.width))
        y, bottom = (100 * at / height for at in (box.y, box.y + box.height))
        value = {"x": x, "y": y, "width": right - x, "height": bottom - y, "rotation": 0}
        add_shape("boxes", box.defect_type, value)
    for polygon in entry.polygons:
        points = [[100 * x / width, 100 * y / height] for x, y in polygon.points]
        add_shape("polygons", polygon.defect_type, {"points": points, "closed": True})
    if entry.mask:
        value = {"format": "rle", "rle": pack(pixels_of(entry.mask))}
        add_shape("mask", entry.mask_type, value)
    return results


def _config(types: list[str], label_types: list[str]) -> ElementTree.ElementTree:
    """The labeling configuration. types: of boxes, polygons and masks. label_types: of whole images."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=IMAGE, value=f"${IMAGE}", zoom="true", zoomControl="true")

    def add(tag: str, name: str, child: str, values: Iterable[str], **more: str) -> None:
        control = ElementTree.SubElement(view, tag, name=name, toName=IMAGE, **more)
        for value in values:
            ElementTree.SubElement(control, child, value=_xml_text(value))

    add("Choices", VERDICT, "Choice", LABELS, choice="single", required="true")
    add("Choices", DEFECT_TYPE, "Choice", label_types, choice="single")
    for name, tag in SHAPES.items():
        add(tag, name, "Label", types)
    add("TextArea", NOTE, "", ())
    ElementTree.indent(view)
    return ElementTree.ElementTree(view)


def _xml_text(text: str) -> str:
    """XML 1.0 holds no control characters."""
    return "".join(
        one if one >= " " and one not in "\ufffe\uffff" else "\N{REPLACEMENT CHARACTER}" for one in text
    )
