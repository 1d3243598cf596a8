"""What the Inspect tab and /inspect do, as functions of values; tab.py and ui/api wire them.

What was computed for an image is a Current. What the visitor chose (threshold, method, tiles, boxes,
opacity) stays in the components: what is shown and downloaded is made from both, whenever it is asked for.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chipdemo.errors import TargetError
from chipdemo.images import DecodedImage, read_image
from chipdemo.inspection import (
    FIXED_SCALE,
    Explanation,
    Inspection,
    Model,
    ModelInfo,
    NormalPatch,
    Region,
    default_method,
    regions_json,
)
from chipdemo.judge import Judge, explanation_of
from chipdemo.overlay import css_gradient, data_uri, encode, heatmap_png, overlay, with_legend
from chipdemo.threshold import STORED_DECIMALS, Target, typed_number
from chipdemo.ui.inspect import html

PREVIEW_SIDE = 1600  # pixels, of the image on the page
SMALL_SIDE = 96  # pixels, of the small picture in the history
LOSSLESS = 512 * 512  # pixels; previews up to here are PNG, since cracks are thin
AROUND = 0.2  # of the image's shorter side, at least, is shown of it beside normal images
HEAT_SIDE = 512  # pixels, of the overlay on the page


@dataclass(frozen=True)
class Current:
    """What was computed for the image that a visitor looks at; lives in gr.State. Complete when built.

    turn: of ui.turns.Turns, kind "image"; see tab.py. model: the one that judged the image, which also
    explains it after a hot reload. path: the upload, read again when an explanation or a download needs
    its pixels, which would be too large to keep for each visitor. date: of the inspection, with time zone.
    full: the inspection, in tiles where it was asked for in tiles. in_tiles: which view is wanted now.
    explanation: the last one asked for. photo: the image's part of what inspect.js shows.
    small: a small picture, JPEG. note: what stands above the result. is_example: that the page opens with.
    """

    turn: int
    model: Model
    path: Path
    name: str
    date: datetime
    notes: tuple[str, ...]
    full: Inspection
    in_tiles: bool
    explanation: Explanation
    photo: Mapping[str, Any]
    small: bytes
    note: str = ""
    is_example: bool = False

    @property
    def inspection(self) -> Inspection:
        """In tiles or as a whole, as wanted, at the threshold it was inspected with."""
        tiles = self.full.tiles
        if self.in_tiles or tiles is None or tiles.whole is None:
            return self.full
        tiles = replace(tiles, seen=0, out_of_distribution=0, decide=False, whole=None)
        return replace(self.full.tiles.whole, tiles=tiles)

    @property
    def regions(self) -> tuple[Region, ...]:
        """Of the explanation where it has a fixed scale, otherwise of the verdict's method."""
        shown = self.explanation
        return shown.regions if shown.method in FIXED_SCALE else self.inspection.regions

    @property
    def regions_method(self) -> str:
        shown = self.explanation.method
        return shown if shown in FIXED_SCALE else self.inspection.method

    def to_json(self, threshold: float) -> dict[str, Any]:
        """What the screen shows at a threshold."""
        inspection = self.inspection.at_threshold(threshold)
        shown = {"method": self.explanation.method, "regions": regions_json(self.regions)}
        shown["regions_method"] = self.regions_method
        return inspection_json(inspection, self.name, self.date, self.notes) | shown

    def view(self) -> dict[str, Any]:
        """What inspect.js shows. It differs for each turn, because the page waits for a change."""
        size, explanation = self.full.image_size, self.explanation
        boxes = [box_view(region, size) for region in self.regions]
        heat = heat_view(explanation.heatmap, explanation.method, size)
        return {**self.photo, **heat, "regions": boxes, "turn": self.turn}


@dataclass(frozen=True)
class Failed:
    """In place of a Current, where an image could not be inspected."""

    turn: int
    name: str
    message: str

    def view(self) -> dict[str, Any]:
        return {"state": "error", "name": self.name, "message": self.message, "turn": self.turn}


@dataclass(frozen=True)
class Choices:
    """What a visitor chose, as a handler reads it from the components when it starts.

    model: the name of the one that the page shows, to which the others belong. threshold: None for its own.
    """

    model: str
    threshold: float | None
    method: str
    in_tiles: bool


def inspect_image(
    judge: Judge,
    models: Sequence[Model],
    file: tuple[str, Path],
    choices: Choices,
    max_megapixels: float,
    turn: int = 0,
) -> Current:
    """Read and judge one image, and explain it by the chosen method. file: (name, path).

    models: to choose from. A method that the one chosen lacks is replaced by its default. Raises ImageError.
    """
    name, path = file
    decoded = read_image(path, max_megapixels)
    wanted = {_method(choices, model) for model in models}
    threshold = choices.threshold if {model.info.name for model in models} == {choices.model} else None
    prepared = judge.prepare(
        decoded, threshold=threshold, tiles=choices.in_tiles, models=models, methods=sorted(wanted)
    )
    (inspection,) = judge.inspect_batch([prepared])
    model = prepared.judged_by(inspection).model
    method = _method(choices, model)
    current = Current(
        turn=turn,
        model=model,
        path=path,
        name=name,
        date=datetime.now().astimezone(),
        notes=decoded.notes,
        full=inspection,
        in_tiles=choices.in_tiles,
        explanation=explanation_of(inspection, inspection.method),
        photo=photo_view(decoded, name),
        small=small_picture(decoded.image),
    )
    return current if method == inspection.method else explained(judge, current, decoded, method)


def _method(choices: Choices, model: Model) -> str:
    """The chosen explanation, where it was chosen for this model and it has it; else its default."""
    chosen = choices.model == model.info.name and choices.method in model.methods
    return choices.method if chosen else default_method(model)


def computed_for(judge: Judge, current: Current, choices: Choices, max_megapixels: float) -> Current:
    """The same image under the chosen method and view. What is at hand is not computed again.

    Raises ImageError.
    """
    tiles = current.full.tiles
    if choices.in_tiles and tiles and tiles.whole is None:
        file = current.name, current.path
        again = inspect_image(judge, [current.model], file, choices, max_megapixels, current.turn)
        return replace(again, date=current.date, note=current.note, is_example=current.is_example)
    current = replace(current, in_tiles=choices.in_tiles)
    at_hand = choices.method in current.inspection.heatmaps
    return explained(
        judge, current, None if at_hand else read_image(current.path, max_megapixels), choices.method
    )


def explained(judge: Judge, current: Current, decoded: DecodedImage | None, method: str) -> Current:
    """With another explanation. decoded: None where the inspection holds the heatmap."""
    inspection = current.inspection
    if method in inspection.heatmaps:
        return replace(current, explanation=explanation_of(inspection, method))
    tiles = bool(inspection.tiles and inspection.tiles.decide)
    explanation = judge.explain(decoded, method, current.model, tiles=tiles)
    return replace(current, explanation=explanation)


def beside_normal_patches(
    judge: Judge, current: Current, max_megapixels: float
) -> list[tuple[Image.Image, tuple[NormalPatch, ...]]]:
    """Each region that is shown, with some of what is around it, and its best matches. Raises ImageError."""
    decoded = read_image(current.path, max_megapixels)
    image, tiles = decoded.image, current.inspection.tiles
    wider = [_wider(region, image.size) for region in current.regions]
    in_tiles = bool(tiles and tiles.decide)
    patches = judge.nearest_normal_patches(decoded, wider, current.model, tiles=in_tiles)
    return [
        (image.crop((r.x, r.y, r.x + r.width, r.y + r.height)), found) for r, found in zip(wider, patches)
    ]


def _wider(region: Region, size: tuple[int, int]) -> Region:
    """A region with half of its side more at each edge, and large enough to be looked at."""
    across, down = (
        max(side // 2, (round(AROUND * min(size)) - side) // 2) for side in (region.width, region.height)
    )
    left, top = max(region.x - across, 0), max(region.y - down, 0)
    right = min(region.x + region.width + across, size[0])
    bottom = min(region.y + region.height + down, size[1])
    return replace(region, x=left, y=top, width=right - left, height=bottom - top)


def chosen_threshold(shown: ModelInfo, threshold: float) -> float | None:
    """The threshold that a visitor chose; None where it is the shown model's own."""
    return None if threshold == own_threshold(shown) else threshold


def own_threshold(info: ModelInfo) -> float:
    """The model's threshold as the slider shows it, 0-1."""
    return round(info.threshold, STORED_DECIMALS)


def typed_target(metric: str, percent: Any) -> Target:
    """A target as somebody typed it, "95" or "97,2" percent. Raises TargetError."""
    number = typed_number(percent)
    if not 0 < number < 100:
        raise TargetError("Type a percentage above 0 and below 100.")
    return Target(metric, number / 100)


def carried_over(shown: ModelInfo, model: Model, threshold: float, method: str) -> tuple[float, str]:
    """A visitor's threshold and method under another model than the page has shown so far.

    They stay for a newer revision of the same, but for a threshold that was its own; not for another model.
    """
    if shown.name != model.info.name:
        return own_threshold(model.info), default_method(model)
    own = threshold == own_threshold(shown)
    return (
        own_threshold(model.info) if own else threshold,
        method if method in model.methods else default_method(model),
    )


def photo_view(decoded: DecodedImage, name: str) -> dict[str, Any]:
    """The image's part of what inspect.js shows."""
    width, height = decoded.image.size
    return {
        "state": "result",
        "name": name,
        "about": " · ".join((f"{width:,} × {height:,} px {decoded.format}".strip(), *decoded.notes)),
        "width": width,
        "height": height,
        "photo": preview(decoded.image),
    }


def box_view(region: Region, size: tuple[int, int]) -> dict[str, float]:
    """A region in percent of the image. size: (width, height) of the image."""
    width, height = size
    return {
        "left": 100 * region.x / width,
        "top": 100 * region.y / height,
        "width": 100 * region.width / width,
        "height": 100 * region.height / height,
    }


def heat_view(heatmap: np.ndarray, method: str, size: tuple[int, int]) -> dict[str, Any]:
    """The overlay's part of what inspect.js shows. size: (width, height) of the image."""
    scale = HEAT_SIDE / max(size)
    small = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    return {
        "heat": data_uri(heatmap_png(heatmap, small, method)),
        "gradient": css_gradient(method),
        "explanation": html.explanation_text(method),
        "method": method,
    }


def is_whole(size: tuple[int, int]) -> bool:
    """Whether the preview of an image of (width, height) pixels is the image itself."""
    return size[0] * size[1] <= LOSSLESS


def preview(image: Image.Image) -> str:
    """The decoded image as a data URI: browsers show neither TIFF nor 16 bits."""
    if is_whole(image.size):
        return data_uri(image)
    small = image.copy()
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), reducing_gap=2.0)
    return data_uri(small, "JPEG")


def small_picture(image: Image.Image) -> bytes:
    """For the history, as JPEG. Of a large image only some pixels are looked at, so it takes no time."""
    scale = SMALL_SIDE / max(image.size)
    width, height = (max(1, round(scale * side)) for side in image.size)
    some = image.resize((4 * width, 4 * height), Image.Resampling.NEAREST) if scale < 1 / 8 else image
    return encode(some.resize((width, height), Image.Resampling.BOX), "JPEG")


def inspection_json(
    inspection: Inspection, name: str, date: datetime, notes: Sequence[str]
) -> dict[str, Any]:
    """The JSON of the page and of the API. name: of the file. date: with time zone. notes: of its reading."""
    file = {"file": name, "date": date.isoformat(timespec="seconds")}
    regions_method = {"regions_method": inspection.method}
    return file | inspection.to_json() | regions_method | {"notes": list(notes)}


def overlay_file(
    current: Current, threshold: float, opacity: float, boxes: bool, max_megapixels: float
) -> bytes:
    """The image with the overlay as the screen shows it, the legend and a caption: a PNG file."""
    image = read_image(current.path, max_megapixels).image
    regions = current.regions if boxes else ()
    inspection = current.inspection.at_threshold(threshold)
    return captioned_overlay(image, inspection, current.explanation, regions, opacity)


def captioned_overlay(
    image: Image.Image,
    inspection: Inspection,
    explanation: Explanation,
    regions: Sequence[Region],
    opacity: float = 1.0,
) -> bytes:
    """An image with heatmap, boxes, color bar and the facts of its inspection: a PNG file."""
    method = explanation.method
    picture = overlay(image, explanation.heatmap, method, opacity=opacity, regions=regions)
    return encode(with_legend(picture, method, html.caption_of(inspection, method)))


def file_stem(name: str) -> str:
    """A harmless start for the name of a download."""
    return re.sub(r"[^\w.-]", "_", Path(name).stem)[:60].strip(".") or "image"
