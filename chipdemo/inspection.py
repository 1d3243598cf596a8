"""What the screen, the API, the reports and the labels share. No torch, no gradio."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from chipdemo.comparison import Comparison
from chipdemo.threshold import OperatingCurve, Target

if TYPE_CHECKING:
    from chipdemo.examples import ExampleSet
    from chipdemo.view import View

NORMAL, ABNORMAL, OUT_OF_DISTRIBUTION = "normal", "abnormal", "out_of_distribution"
CLASSES = (NORMAL, ABNORMAL)  # the order of the network's two logits
OUTCOMES = (NORMAL, ABNORMAL, OUT_OF_DISTRIBUTION)

# Explanations by name
CAM, CAM_OF_FLIPS, CBAM = "CAM", "CAM of 4 flips", "CBAM"
CLASS_WEIGHTS, INVERSE, INVERSE_CAM = "class-weight matching", "inverse matching", "inverse matching × CAM"
MATCHINGS = (CLASS_WEIGHTS, INVERSE, INVERSE_CAM)
# Their 0.5 is what held-out normal images hardly ever reach, the same in every image: they find regions
FIXED_SCALE = (CAM, CAM_OF_FLIPS, *MATCHINGS)
COMPARABLE = (*FIXED_SCALE, CBAM)  # others are stretched to the own maximum of each image

Box = tuple[int, int, int, int]  # left, top, right, bottom, pixels


@dataclass(frozen=True)
class Region:
    """A part of the image that speaks for "abnormal", in pixels of the upright image.

    x, y: left and top edge. score: its highest heat, 0-1. area: pixels within the contour.
    """

    x: int
    y: int
    width: int
    height: int
    score: float
    area: int

    def scaled(self, scale: float) -> "Region":
        """The same region in an image that is `scale` times as large."""
        x, y, width, height = (round(scale * side) for side in (self.x, self.y, self.width, self.height))
        return Region(x, y, max(width, 1), max(height, 1), self.score, max(round(scale**2 * self.area), 1))


@dataclass(frozen=True)
class MeasuredOverlay:
    """How well an explanation finds defects: its AUPRO (training/localization.py), 0-1, on what data."""

    method: str
    aupro: float
    data: str


@dataclass(frozen=True)
class ModelInfo:
    """What is shown of a model. Numbers come from the checkpoint's metrics.json.

    name, revision: folder or Hub id, and a short content hash or commit.
    data, data_license: what it was trained on, e.g. "ELPV", "CC BY-NC-SA 4.0 (non-commercial)".
    threshold: the one chosen on validation, 0-1. target: what it was chosen to promise, where --target-recall
        or --target-fpr asked for that.
    validation: the curve behind the threshold slider. test: the same of the test split; empty where unknown.
    image_side: of a square as large as the median training image, pixels; 0 where unknown.
    runtime: what runs the network here.
    overlays: explanations in the order in which they find defects, the best first; none where not measured.
    comparison: with the model that was in use when it was trained; None where there was none.
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
    test: OperatingCurve
    image_side: int = 0
    runtime: str = "PyTorch"
    target: Target | None = None
    overlays: tuple[MeasuredOverlay, ...] = ()
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Channel:
    """One of the channels with the highest CBAM attention. weight: its attention, 0-1.

    heatmap: (h, w) float32, its feature map scaled to 0-1 by its own maximum.
    """

    index: int
    weight: float
    heatmap: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """What a model computes for one view: a whole image or a tile of it.

    abnormal_probability: calibrated, 0-1. log_odds: of abnormal against normal, before calibration.
    distance: from the training images, in units of the model's limit (above 1 is out of distribution).
    heatmaps: by method, (h, w) float32, 0-1; the first belongs to the verdict. embedding: (C,) float32.
    """

    abnormal_probability: float
    log_odds: float
    distance: float
    heatmaps: Mapping[str, np.ndarray]
    channels: tuple[Channel, ...]
    embedding: np.ndarray

    @property
    def out_of_distribution(self) -> bool:
        return self.distance > 1


@dataclass(frozen=True)
class Tiles:
    """How a large image was inspected in tiles.

    count: tiles that cover the image. seen: how many were inspected; 0 where it was inspected as a whole.
    out_of_distribution: how many of those seen are. decide: the verdict comes from the tiles.
    ms: what the tiles took, or an estimate where none was inspected; whole_ms: what the whole took.
    whole: the inspection of the whole image, where tiles were inspected too.
    most_abnormal: the tile of the highest probability, where they decide.
    cells: the tiles are the cells of a grid, and the whole has no say where they decide.
    """

    count: int
    seen: int
    out_of_distribution: int
    decide: bool
    ms: float
    whole_ms: float
    whole: "Inspection | None"
    most_abnormal: Box | None = None
    cells: bool = False


@dataclass(frozen=True)
class OtherModel:
    """A model that knows an image less than the one that judged it. distance: as Prediction has it."""

    name: str
    revision: str
    distance: float


@dataclass(frozen=True)
class Inspection:
    """The verdict on one image. Complete when built.

    verdict: "abnormal" when abnormal_probability (calibrated, 0-1) reaches threshold, else "normal".
    out_of_distribution: too far from the training images to trust the verdict; distance is in units of
        the model's limit.
    regions: found in the first heatmap, hottest first.
    heatmaps: by method, (h, w) float32, 0-1, covering the whole upright image. The first one belongs to
        the verdict: "CAM", or "inverse matching" for a model that judges by its memory bank.
    embedding: (C,) float32, the pooled features. Not in to_json.
    log_odds: of abnormal against normal, before calibration; the mean of the CAM plus the bias.
    image_sha256: of the upright image's pixels or of the file, as image_sha256_of says.
    image_size: (width, height) in pixels of the upright image.
    timing_ms: by step, in order.
    tiles: of a large image. other_models: that it was not judged by, where there were several.
    """

    verdict: str
    abnormal_probability: float
    threshold: float
    log_odds: float
    out_of_distribution: bool
    distance: float
    regions: tuple[Region, ...]
    heatmaps: Mapping[str, np.ndarray]
    channels: tuple[Channel, ...]
    embedding: np.ndarray
    model_name: str
    model_revision: str
    image_sha256: str
    image_sha256_of: str
    image_size: tuple[int, int]
    timing_ms: Mapping[str, float]
    tiles: Tiles | None = None
    other_models: tuple[OtherModel, ...] = ()

    @property
    def outcome(self) -> str:
        """One of OUTCOMES: what is shown, counted and listed."""
        return OUT_OF_DISTRIBUTION if self.out_of_distribution else self.verdict

    @property
    def method(self) -> str:
        """The explanation that belongs to the verdict."""
        return next(iter(self.heatmaps))

    def at_threshold(self, threshold: float) -> "Inspection":
        """The same image at another threshold (0-1), without running the model."""
        return replace(self, threshold=threshold, verdict=verdict_of(self.abnormal_probability, threshold))

    def to_json(self) -> dict[str, Any]:
        """The JSON of an inspection, the same on the screen, in the API and in reports."""
        width, height = self.image_size
        return {
            "outcome": self.outcome,
            "verdict": self.verdict,
            "abnormal_probability": round(self.abnormal_probability, 6),
            "threshold": round(self.threshold, 6),
            "out_of_distribution": self.out_of_distribution,
            "distance": round(self.distance, 4),
            "method": self.method,
            "regions": regions_json(self.regions),
            "model": {"name": self.model_name, "revision": self.model_revision},
            "other_models": [
                {"name": one.name, "revision": one.revision, "distance": round(one.distance, 4)}
                for one in self.other_models
            ],
            "image": {
                "sha256": self.image_sha256,
                "sha256_of": self.image_sha256_of,
                "width": width,
                "height": height,
            },
            "timing_ms": {step: round(ms, 2) for step, ms in self.timing_ms.items()},
            "tiles": self.tiles
            and {
                "count": self.tiles.count,
                "seen": self.tiles.seen,
                "out_of_distribution": self.tiles.out_of_distribution,
                "decide": self.tiles.decide,
            },
        }


@dataclass(frozen=True)
class Explanation:
    """Where one method looks. heatmap: (h, w) float32, 0-1, covering the whole upright image.

    regions: what is found in it, hottest first; none for methods without a fixed scale.
    """

    method: str
    heatmap: np.ndarray
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class NormalPatch:
    """The part of a training image that a region was matched with.

    sha256: of that image. x, y, width, height: fractions of it, 0-1. share: of the region's patches
    that this image matches best, 0-1. image: that part, as large as the region; None where no copy is kept.
    """

    sha256: str
    x: float
    y: float
    width: float
    height: float
    share: float
    image: Image.Image | None


class Model(Protocol):
    """What a checkpoint becomes. Safe to call from several threads.

    methods: the explanations it offers; the first is the verdict's. copies: small ones of the normal images
    in its memory bank, JPEG; empty where none are kept. examples: images to try, where it brings some.
    scaled_to: pixels of the side to which prepare scales an image.
    """

    info: ModelInfo
    methods: Sequence[str]
    copies: Sequence[bytes]
    scaled_to: int
    examples: "ExampleSet | None"

    def prepare(self, image: Image.Image) -> "View":
        """An upright RGB image -> the network's input."""

    def predict(self, views: "Sequence[View]", methods: Sequence[str] = ()) -> list[Prediction]:
        """N predictions by one forward pass.

        methods: explanations of COMPARABLE that are wanted beside those that cost nothing.
        """

    def explain(self, view: "View", method: str) -> np.ndarray:
        """One heatmap by a gradient method: (h, w) float32, 0-1.

        Raises ValueError for a method that this model does not offer.
        """

    def nearest_normal_patches(
        self, image: Image.Image, regions: Sequence[Region]
    ) -> tuple[tuple[NormalPatch, ...], ...]:
        """For each region, in pixels of the image, the patches of normal images that match it best.

        Empty where the model has no memory bank.
        """


def is_taught(model: Model) -> bool:
    """It judges by its memory bank: it has no other explanation."""
    return tuple(model.methods) == (INVERSE,)


def default_method(model: Model) -> str:
    """The explanation that is shown first: the best of those that were measured, else the verdict's own."""
    measured = (one.method for one in model.info.overlays if one.method in model.methods)
    return next(measured, model.methods[0])


def verdict_of(abnormal_probability: float, threshold: float) -> str:
    """An image at the threshold is abnormal."""
    return ABNORMAL if abnormal_probability >= threshold else NORMAL


def outcome_text(outcome: str) -> str:
    """One of OUTCOMES in words."""
    return outcome.replace("_", " ")


def regions_json(regions: Sequence[Region]) -> list[dict[str, Any]]:
    return [
        {
            "x": region.x,
            "y": region.y,
            "width": region.width,
            "height": region.height,
            "score": round(region.score, 4),
            "area": region.area,
        }
        for region in regions
    ]
