"""What the screen, the API, the reports and the labels share. No torch, no gradio."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from PIL import Image

from chipdemo.threshold import OperatingCurve

NORMAL, ABNORMAL = "normal", "abnormal"
EVIDENCE, CBAM = "evidence", "CBAM"
CLASS_WEIGHTS, INVERSE, INVERSE_EVIDENCE = (
    "class-weight matching",
    "inverse matching",
    "inverse matching × evidence",
)
# Explanations whose 0.5 is in every image what a held-out normal one hardly ever gets to
FIXED_SCALE = (EVIDENCE, CLASS_WEIGHTS, INVERSE, INVERSE_EVIDENCE)
MATCHINGS = (CLASS_WEIGHTS, INVERSE, INVERSE_EVIDENCE)  # explanations with regions of their own
UNSTRETCHED = (*FIXED_SCALE, CBAM)  # others are stretched to the own maximum of each image
Box = tuple[int, int, int, int]  # left, top, right, bottom, pixels
CLASSES = (NORMAL, ABNORMAL)  # the order of the network's two logits


@dataclass(frozen=True)
class Region:
    """A place that speaks for "abnormal", in pixels of the upright image.

    x, y: left and top edge. score: its highest heat, 0-1. area: pixels within the contour.
    """

    x: int
    y: int
    width: int
    height: int
    score: float
    area: int

    def scaled(self, scale: float) -> "Region":
        """The same in an image that is so many times as large."""
        x, y, width, height = (round(scale * side) for side in (self.x, self.y, self.width, self.height))
        return Region(x, y, max(width, 1), max(height, 1), self.score, max(round(scale**2 * self.area), 1))


@dataclass(frozen=True)
class ModelInfo:
    """What the screen says of a model. Numbers come from the checkpoint's metrics.json.

    name, revision: folder or Hub id, and a short content hash or commit.
    data, data_license: what it was trained on, e.g. "ELPV", "CC BY-NC-SA 4.0 (non-commercial)".
    threshold: the one chosen on validation, 0-1.
    validation: the curve behind the threshold slider.
    test: metrics of the test part by name (fractions), with "split" saying what it is.
    image_side: of a square as large as the median image it learned from, pixels; 0 where
        that is not known.
    runtime: what runs it here.
    """

    name: str
    revision: str
    backbone: str
    attention: str
    starting_weights: str
    image_size: int
    data: str
    data_license: str
    threshold: float
    validation: OperatingCurve
    test: Mapping[str, Any]
    image_side: int = 0
    runtime: str = "PyTorch"


@dataclass(frozen=True)
class Channel:
    """One channel that CBAM let through most. weight: its attention, 0-1.

    heat: (h, w) float32, its feature map scaled to 0-1 by its own maximum.
    """

    index: int
    weight: float
    heat: np.ndarray


@dataclass(frozen=True)
class Tiles:
    """What came of looking at a large image piece by piece too; see tiling.py.

    count: of the image's tiles. seen: how many of them were looked at, none where it was to be
    inspected as a whole. unlike: of those seen, how many are far from what the model was trained on.
    decide: the tiles speak for the image; otherwise the image as a whole does.
    ms: what they took, or where none was looked at, about what they would take; whole_ms: what the
    image as a whole took.
    whole: the image as a whole, where tiles were looked at.
    """

    count: int
    seen: int
    unlike: int
    decide: bool
    ms: float
    whole_ms: float
    whole: "Inspection | None"


@dataclass(frozen=True)
class Inspection:
    """One image, judged. Complete when built.

    abnormal_probability: calibrated, 0-1. verdict: "abnormal" when it reaches threshold.
    out_of_distribution: the image is far from what the model was trained on, so that the
        verdict should not be trusted; distance is in units of the limit (above 1 is unlike).
    heat: by name of the explanation, (h, w) float32, 0-1, on the network's own grid, which
        covers the whole upright image; overlay.py resizes it. Those of FIXED_SCALE have one. The
        first is that of the verdict and the regions: "evidence", or "inverse matching" where the
        model was taught by good images alone.
    embedding: (C,) float32, what the network makes of the whole image; like images are
        near each other. Not in to_json.
    log_odds: of abnormal against normal, before calibration; evidence sums to it.
    image_size: (width, height) in pixels of the upright image.
    timing_ms: by step, in order, what comes before the network first.
    tiles: of a large image, if it may be looked at in tiles.
    """

    verdict: str
    abnormal_probability: float
    threshold: float
    log_odds: float
    out_of_distribution: bool
    distance: float
    regions: tuple[Region, ...]
    heat: Mapping[str, np.ndarray]
    channels: tuple[Channel, ...]
    embedding: np.ndarray
    model_name: str
    model_revision: str
    image_sha256: str
    image_size: tuple[int, int]
    timing_ms: Mapping[str, float]
    tiles: Tiles | None = None

    def judged_at(self, threshold: float) -> "Inspection":
        """The same image under another threshold (0-1), without running the model."""
        return replace(self, threshold=threshold, verdict=judge(self.abnormal_probability, threshold))

    def to_json(self) -> dict[str, Any]:
        """The JSON of an inspection, the same on the screen, in the API and in reports."""
        width, height = self.image_size
        return {
            "verdict": self.verdict,
            "abnormal_probability": round(self.abnormal_probability, 6),
            "threshold": round(self.threshold, 6),
            "out_of_distribution": self.out_of_distribution,
            "distance": round(self.distance, 4),
            "regions": [
                {
                    "x": region.x,
                    "y": region.y,
                    "width": region.width,
                    "height": region.height,
                    "score": round(region.score, 4),
                    "area": region.area,
                }
                for region in self.regions
            ],
            "model": {"name": self.model_name, "revision": self.model_revision},
            "image": {"sha256": self.image_sha256, "width": width, "height": height},
            "timing_ms": {step: round(ms, 2) for step, ms in self.timing_ms.items()},
            "tiles": self.tiles
            and {
                "count": self.tiles.count,
                "seen": self.tiles.seen,
                "unlike": self.tiles.out_of_distribution,
                "decide": self.tiles.decide,
            },
        }


@dataclass(frozen=True)
class NormalPatch:
    """The part of a learned image that a region is most like.

    sha256: of that image. x, y, width, height: fractions of that image, 0-1. share: of the
    region's places that this image matches best, 0-1. image: the part, as large as the region,
    enlarged from the small copy; None where none were kept.
    """

    sha256: str
    x: float
    y: float
    width: float
    height: float
    share: float
    image: Image.Image | None


@dataclass(frozen=True)
class Prepared:
    """An image in the size of the network, with what is said of the original.

    pixels: (size, size, 3) uint8. image_size: (width, height) in pixels of the upright image.
    tiles: where each lies in the image, and the same of it, if it is to be looked at in tiles too.
    """

    pixels: np.ndarray
    image_sha256: str
    image_size: tuple[int, int]
    prepared_ms: float
    tiles: tuple[tuple[Box, "Prepared"], ...] = ()


def judge(abnormal_probability: float, threshold: float) -> str:
    """An image at the threshold is stopped."""
    return ABNORMAL if abnormal_probability >= threshold else NORMAL


class Inspector(Protocol):
    """The seam between the screen and the network."""

    info: ModelInfo
    methods: Sequence[str]  # explanations by name; the first is the default, as in Inspection.heat

    def current(self) -> "Inspector":
        """The inspector to keep to for one piece of work: itself, unless a newer model may replace it."""

    @property
    def whole(self) -> "Inspector":
        """The same, but for looking at large images in tiles."""

    def inspect(self, image: Image.Image, threshold: float | None = None) -> Inspection:
        """Judge an upright 8-bit RGB image, at the model's own threshold unless given.

        The inspection holds the heat maps that cost nothing: "evidence", where the model has attention
        "CBAM", and where it has learned normal chips "inverse matching". Safe to call from several threads.
        """

    def prepare(self, image: Image.Image) -> Prepared:
        """The first part of inspect, which needs no network: many threads may do it side by side."""

    def inspect_batch(self, images: Sequence[Prepared], threshold: float | None = None) -> list[Inspection]:
        """The rest of inspect, for several images at once; the network's time is shared among them."""

    def explain(self, image: Image.Image, method: str) -> np.ndarray:
        """One heat map by the method's name: (h, w) float32, 0-1. Raises ValueError if unknown."""

    def regions(self, image: Image.Image, method: str) -> tuple[Region, ...]:
        """What one of MATCHINGS finds, hottest first. Raises ValueError where it has not that one."""

    def nearest_normals(
        self, image: Image.Image, regions: Sequence[Region]
    ) -> tuple[tuple[NormalPatch, ...], ...]:
        """For each region, in pixels of the image, a few patches of normal chips that it was compared with.

        The one that matches most of it is the first; none where the model has no memory of normal chips.
        """
