"""What the Inspect tab and the API do, as functions of values; inspect_tab.py wires them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from chipdemo.images import DecodedImage, read_image
from chipdemo.inspection import FIXED_SCALE, Explanation, Inspection, Model, NormalPatch, Region
from chipdemo.judge import Judge, explanation_of
from chipdemo.overlay import ATTENTION, EVIDENCE, blend, css_gradient, overlay_png, png_bytes
from chipdemo.ui.inspect import html as fragments

PREVIEW_SIDE = 1600  # pixels, of the image on the page
LOSSLESS = 512 * 512  # pixels; previews up to here are PNG, since cracks are thin
AROUND = 0.2  # of the image's shorter side, at least, is shown of it beside normal chips
HEAT_SIDE = 512  # pixels, of the overlay on the page


@dataclass(frozen=True)
class Current:
    """What was computed for the image that one visitor looks at; lives in gr.State. Complete when built.

    model: the one that judged it, which goes on explaining it after a hot reload.
    path: the upload, read again when an explanation or a download needs its pixels, which
    would be too large to keep for each visitor. view: what the stage shows, page.js.
    tiled: the inspection in tiles, if there was one, while inspection is that of the whole.
    explanation: the one on the screen; regions: those on the screen.
    """

    judge: Judge
    model: Model
    path: Path
    name: str
    notes: tuple[str, ...]
    inspection: Inspection
    view: Mapping[str, Any]
    explanation: Explanation | None = None
    tiled: Inspection | None = None

    @property
    def in_tiles(self) -> bool:
        tiles = self.inspection.tiles
        return bool(tiles and tiles.decide)

    @property
    def regions(self) -> tuple[Region, ...]:
        if self.explanation and self.explanation.method in FIXED_SCALE:
            return self.explanation.regions
        return self.inspection.regions

    def to_json(self) -> dict[str, Any]:
        return inspection_json(self.inspection, self.notes)


def inspect_image(
    judge: Judge,
    path: Path,
    threshold: float,
    method: str,
    max_megapixels: float,
    in_tiles: bool = True,
    model: Model | None = None,
) -> Current:
    """Read, judge and draw one image; a large one in tiles too, if so wanted. Raises ImageError."""
    model = model or judge.models.in_use
    decoded = read_image(path, max_megapixels)
    inspection = judge.inspect(decoded, threshold=threshold, tiles=in_tiles, model=model, methods=[method])
    view = stage_view(decoded, path.name, inspection)
    current = Current(judge, model, path, path.name, decoded.notes, inspection, view)
    return explained(current, decoded, method)


def explain_current(current: Current, method: str, max_megapixels: float) -> Current:
    """The same image under another explanation. Raises ImageError."""
    at_hand = method in current.inspection.heatmaps
    return explained(current, None if at_hand else read_image(current.path, max_megapixels), method)


def explained(current: Current, decoded: DecodedImage | None, method: str) -> Current:
    """With the heatmap and the regions of an explanation. decoded: None where all is at hand."""
    inspection = current.inspection
    if method in inspection.heatmaps:
        explanation = explanation_of(inspection, method)
    else:
        explanation = current.judge.explain(decoded, method, tiles=current.in_tiles, model=current.model)
    current = replace(current, explanation=explanation)
    drawn = boxes_view(current.regions, inspection.image_size)
    drawn |= heat_view(explanation.heatmap, method, inspection.image_size)
    return replace(current, view={**current.view, **drawn})


def rejudge(current: Current, threshold: float) -> Current:
    """The same image at another threshold, without running the model."""
    return replace(current, inspection=current.inspection.at_threshold(threshold))


def looked_at(current: Current, in_tiles: bool, method: str, max_megapixels: float) -> Current:
    """A large image in tiles, or as a whole; what was inspected so before is not run again."""
    threshold, tiles = current.inspection.threshold, current.inspection.tiles
    if tiles is None or in_tiles == bool(tiles.seen):
        return current
    tiled = current.tiled or (current.inspection if tiles.whole else None)
    if in_tiles and not tiled:
        return inspect_image(
            current.judge, current.path, threshold, method, max_megapixels, model=current.model
        )
    inspection = tiled
    if not in_tiles:
        tiles = replace(tiled.tiles, seen=0, out_of_distribution=0, decide=False, whole=None)
        inspection = replace(tiled.tiles.whole, tiles=tiles)
    current = replace(
        current, inspection=inspection.at_threshold(threshold), tiled=None if in_tiles else tiled
    )
    view = {**current.view, "alt": alternative_text(current.name, current.inspection)}
    return explain_current(replace(current, view=view), method, max_megapixels)


def compared_with_normals(
    current: Current, max_megapixels: float
) -> list[tuple[Image.Image, tuple[NormalPatch, ...]]]:
    """Each region, with some of what is around it, and what normal chips show there. Raises ImageError."""
    decoded = read_image(current.path, max_megapixels)
    image = decoded.image
    wider = [_wider(region, image.size) for region in current.regions]
    patches = current.judge.nearest_normals(decoded, wider, tiles=current.in_tiles, model=current.model)
    return [
        (image.crop((r.x, r.y, r.x + r.width, r.y + r.height)), found) for r, found in zip(wider, patches)
    ]


def _wider(region: Region, size: tuple[int, int]) -> Region:
    """A region with half of its side more at each edge, and of a size that can be looked at."""
    across, down = (
        max(side // 2, (round(AROUND * min(size)) - side) // 2) for side in (region.width, region.height)
    )
    left, top = max(region.x - across, 0), max(region.y - down, 0)
    right = min(region.x + region.width + across, size[0])
    bottom = min(region.y + region.height + down, size[1])
    return replace(region, x=left, y=top, width=right - left, height=bottom - top)


def palette_of(method: str) -> str:
    """Red is for maps of a fixed scale: only there does it mean the same in every image."""
    return EVIDENCE if method in FIXED_SCALE else ATTENTION


def stage_view(decoded: DecodedImage, name: str, inspection: Inspection) -> dict[str, Any]:
    """The image's part of what page.js shows."""
    width, height = decoded.image.size
    about = " · ".join((f"{width:,} × {height:,} px {decoded.format}".strip(), *decoded.notes))
    return {
        "state": "result",
        "name": name,
        "about": about,
        "width": width,
        "height": height,
        "photo": preview(decoded.image),
        "alt": alternative_text(name, inspection),
    }


def alternative_text(name: str, inspection: Inspection) -> str:
    return f"{name}, judged {fragments.verdict_word(inspection)}"


def boxes_view(regions: Sequence[Region], size: tuple[int, int]) -> dict[str, Any]:
    """The boxes' part of what page.js shows. size: (width, height) of the image."""
    width, height = size
    return {
        "regions": [
            {
                "left": 100 * region.x / width,
                "top": 100 * region.y / height,
                "width": 100 * region.width / width,
                "height": 100 * region.height / height,
            }
            for region in regions
        ],
    }


def heat_view(heat: np.ndarray, method: str, size: tuple[int, int]) -> dict[str, Any]:
    """The overlay's part of what page.js shows. size: (width, height) of the image."""
    palette = palette_of(method)
    scale = HEAT_SIDE / max(size)
    small = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    return {
        "heat": fragments.data_uri(overlay_png(heat, small, palette), "png"),
        "gradient": css_gradient(palette),
        "explanation": fragments.explanation_text(method),
        "method": method,
    }


def preview(image: Image.Image) -> str:
    """The decoded image as a data URI: browsers show neither TIFF nor 16 bits."""
    if image.width * image.height <= LOSSLESS:
        return fragments.data_uri(png_bytes(image), "png")
    small = image.copy()
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), reducing_gap=2.0)
    stream = BytesIO()
    small.save(stream, "JPEG", quality=90)
    return fragments.data_uri(stream.getvalue(), "jpeg")


def inspection_json(inspection: Inspection, notes: Sequence[str]) -> dict[str, Any]:
    """notes: what was done to read the image."""
    return {**inspection.to_json(), "notes": list(notes)}


def overlay_file(current: Current, method: str, opacity: float, max_megapixels: float) -> bytes:
    """The image with overlay, boxes and color bar, in its own size: a PNG file."""
    decoded = read_image(current.path, max_megapixels)
    current = explained(current, decoded, method)
    return laid_over(decoded.image, current.explanation.heatmap, method, current.regions, opacity)


def laid_over(
    image: Image.Image, heat: np.ndarray, method: str, regions: Sequence[Region], opacity: float = 1.0
) -> bytes:
    """An image with heat, boxes and color bar: a PNG file."""
    return png_bytes(blend(image, heat, opacity, regions, palette_of(method)))


def file_stem(name: str) -> str:
    """A harmless start for the name of a download."""
    return re.sub(r"[^\w.-]", "_", Path(name).stem)[:60].strip(".") or "image"
