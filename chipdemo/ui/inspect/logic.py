"""What the Inspect tab and the API do, as functions of values; inspect_tab.py wires them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from chipdemo.images import DecodedImage, read_image
from chipdemo.inspection import FIXED_SCALE, MATCHINGS, Inspection, Inspector, NormalPatch, Region
from chipdemo.overlay import ATTENTION, EVIDENCE, blend, css_gradient, overlay_png, png_bytes
from chipdemo.ui.inspect import html as fragments

PREVIEW_SIDE = 1600  # pixels, of the image on the page
LOSSLESS = 512 * 512  # pixels; previews up to here are PNG, since cracks are thin
AROUND = 0.2  # of the image's shorter side, at least, is shown of it beside normal chips
HEAT_SIDE = 512  # pixels, of the overlay on the page


@dataclass(frozen=True)
class Current:
    """What one visitor is looking at; lives in gr.State. Complete when built.

    inspector: the one that judged it, which goes on explaining it when a newer model takes over.
    path: the upload, read again when an explanation or a download needs its pixels, which
    would be too large to keep for each visitor. view: what the stage shows, page.js.
    tiled: the inspection in tiles, if there was one, while inspection is that of the whole.
    regions: those on the screen, of the verdict or of a matching.
    """

    inspector: Inspector
    path: Path
    name: str
    notes: tuple[str, ...]
    inspection: Inspection
    view: Mapping[str, Any]
    regions: tuple[Region, ...] = ()
    tiled: Inspection | None = None

    @property
    def explainer(self) -> Inspector:
        """It explains what decided: the tiles or the image as a whole."""
        tiles = self.inspection.tiles
        return self.inspector if tiles and tiles.decide else self.inspector.whole

    def to_json(self) -> dict[str, Any]:
        return inspection_json(self.inspection, self.notes)


def inspect_image(
    inspector: Inspector,
    path: Path,
    threshold: float,
    method: str,
    max_megapixels: float,
    in_tiles: bool = True,
) -> Current:
    """Read, judge and draw one image; a large one in tiles too, if so wanted. Raises ImageError."""
    inspector = inspector.current()
    decoded, inspection = judged(inspector, path, threshold, max_megapixels, in_tiles)
    view = stage_view(decoded, path.name, inspection)
    current = Current(inspector, path, path.name, decoded.notes, inspection, view)
    return explained(current, decoded.image, method)


def judged(
    inspector: Inspector, path: Path, threshold: float, max_megapixels: float, in_tiles: bool = True
) -> tuple[DecodedImage, Inspection]:
    """Read and judge one image; a large one in tiles too, if so wanted. Raises ImageError."""
    started = perf_counter()
    decoded = read_image(path, max_megapixels)
    read_ms = (perf_counter() - started) * 1000
    inspection = (inspector if in_tiles else inspector.whole).inspect(decoded.image, threshold)
    return decoded, replace(inspection, timing_ms={"read the file": read_ms, **inspection.timing_ms})


def heat_of(inspector: Inspector, image: Image.Image, inspection: Inspection, method: str) -> np.ndarray:
    """The heat of an explanation: at hand, or asked of the inspector. (h, w) float32, 0-1."""
    if method in inspection.heat:
        return inspection.heat[method]
    return inspector.explain(image, method)


def explain_current(current: Current, method: str, max_megapixels: float) -> Current:
    """The same image under another explanation. Raises ImageError."""
    at_hand = method in current.inspection.heat and not has_regions(current.inspection, method)
    image = None if at_hand else read_image(current.path, max_megapixels).image
    return explained(current, image, method)


def explained(current: Current, image: Image.Image | None, method: str) -> Current:
    """With the heat and the regions of an explanation. image: None where all is at hand."""
    inspection, explainer = current.inspection, current.explainer
    heat = heat_of(explainer, image, inspection, method)
    regions = explainer.regions(image, method) if has_regions(inspection, method) else inspection.regions
    drawn = boxes_view(regions, inspection.image_size) | heat_view(heat, method, inspection.image_size)
    return replace(current, regions=regions, view={**current.view, **drawn})


def has_regions(inspection: Inspection, method: str) -> bool:
    """An explanation that finds regions itself, other than those of the verdict."""
    return method in MATCHINGS and method != next(iter(inspection.heat))


def rejudge(current: Current, threshold: float) -> Current:
    """The same image under another threshold, without running the model."""
    return replace(current, inspection=current.inspection.judged_at(threshold))


def looked_at(current: Current, in_tiles: bool, method: str, max_megapixels: float) -> Current:
    """A large image in tiles, or as a whole; what was inspected so before is not run again."""
    threshold, tiles = current.inspection.threshold, current.inspection.tiles
    if tiles is None or in_tiles == bool(tiles.seen):
        return current
    tiled = current.tiled or (current.inspection if tiles.whole else None)
    if in_tiles and not tiled:
        return inspect_image(current.inspector, current.path, threshold, method, max_megapixels)
    inspection = tiled
    if not in_tiles:
        tiles = replace(tiled.tiles, seen=0, unlike=0, decide=False, whole=None)
        inspection = replace(tiled.tiles.whole, tiles=tiles)
    current = replace(current, inspection=inspection.judged_at(threshold), tiled=None if in_tiles else tiled)
    view = {**current.view, "alt": alternative_text(current.name, current.inspection)}
    return explain_current(replace(current, view=view), method, max_megapixels)


def compared_with_normals(
    current: Current, max_megapixels: float
) -> list[tuple[Image.Image, tuple[NormalPatch, ...]]]:
    """Each region, with some of what is around it, and what normal chips show there. Raises ImageError."""
    image = read_image(current.path, max_megapixels).image
    wider = [_wider(region, image.size) for region in current.regions]
    patches = current.explainer.nearest_normals(image, wider)
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
    image = read_image(current.path, max_megapixels).image
    heat = heat_of(current.explainer, image, current.inspection, method)
    return laid_over(image, heat, method, current.regions, opacity)


def laid_over(
    image: Image.Image, heat: np.ndarray, method: str, regions: Sequence[Region], opacity: float = 1.0
) -> bytes:
    """An image with heat, boxes and color bar: a PNG file."""
    return png_bytes(blend(image, heat, opacity, regions, palette_of(method)))


def file_stem(name: str) -> str:
    """A harmless start for the name of a download."""
    return re.sub(r"[^\w.-]", "_", Path(name).stem)[:60].strip(".") or "image"
