"""Two ways of finding where a chip is abnormal by matching features.

Ullah et al., *Industrial defective chips detection using deep CNN with inverse feature matching
mechanism* (JCDE 2024), localize by "inverse feature matching" and masking. The text of the paper was
not available to us, so there are two methods here:
    class-weight matching   what the paper's public code does, for any network with a pooled linear
                            head: the weights of the class "abnormal" are matched back onto the
                            last convolutional features; peaks of that map are the defects.
    inverse matching        our interpretation of the name: each place is matched with a memory of
                            normal features, and the best similarity is inverted, so that what
                            no normal chip shows at that place is hot.
Both keep to a fixed scale of heat, on which normal images hardly ever reach 0.5.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image
from scipy import ndimage

from chipdemo.inspection import ABNORMAL, Region
from chipdemo.regions import HALF, regions_of
from chipdemo.vision.anomaly.stored import Normals
from chipdemo.vision.cam import fixed_heat
from chipdemo.vision.runtimes.engine import EngineOutput

MOST = 5  # regions, or peaks
BLACK = 16  # 0-255; where no channel of any pixel is as bright, a place is background
PEAK_SHARE, PEAK_DISTANCE, PEAK_GRID = 0.5, 10, 224  # of the highest peak; pixels, of a square so large
SMALLEST = 2  # places of the grid that a region has
HOTTEST = 0.01  # of all places: they are the score of an image
BLUR = 1.0  # standard deviation of the smoothing, places


@dataclass(frozen=True)
class Match:
    """heat: (h, w) float32, 0-1, over the whole image. regions: at most five, hottest first."""

    heat: np.ndarray
    regions: tuple[Region, ...]


class Matching(Protocol):
    """Finds defects in what an engine gave for one image."""

    def match(self, output: EngineOutput, pixels: np.ndarray, verdict: str, size: tuple[int, int]) -> Match:
        """output: of one image. pixels: (H, W, 3) uint8, that the engine got. size: (width, height) of
        the upright image, pixels."""


def black_places(pixels: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Where an image is black throughout: (H, W, 3) uint8 -> (h, w) bool."""
    lit = Image.fromarray((pixels.max(2) >= BLACK).astype(np.float32))
    return np.asarray(lit.resize(grid[::-1], Image.Resampling.BOX)) == 0


class ClassWeightMatching:
    """heat_scale: ModelSpec's, of the difference of both classes.

    Trained by cross entropy, the weights of the two classes move by the same amount in opposite directions,
    so that the map of one class is half as high as that of their difference.
    """

    def __init__(self, heat_scale: float):
        self.heat_scale = heat_scale

    def match(self, output: EngineOutput, pixels: np.ndarray, verdict: str, size: tuple[int, int]) -> Match:
        """An image that is judged normal has no heat; black places have none either."""
        heat = fixed_heat(output.abnormal_map[0], self.heat_scale / 2)
        heat = np.where(black_places(pixels, heat.shape) | (verdict != ABNORMAL), np.float32(0), heat)
        return Match(heat, peaks_of(heat, size))


def peaks_of(heat: np.ndarray, size: tuple[int, int]) -> tuple[Region, ...]:
    """At most five peaks of (h, w) heat, as squares around them in pixels of the image."""
    from skimage.feature import peak_local_max  # here, since importing it takes most of a second

    fine = np.asarray(Image.fromarray(heat).resize((PEAK_GRID, PEAK_GRID), Image.Resampling.BILINEAR))
    if not fine.any():
        return ()
    peaks = peak_local_max(
        fine, min_distance=PEAK_DISTANCE, threshold_rel=PEAK_SHARE, num_peaks=MOST, exclude_border=False
    )
    across, down = size[0] / PEAK_GRID, size[1] / PEAK_GRID
    regions = []
    for y, x in peaks:
        top, left = max(y - PEAK_DISTANCE, 0), max(x - PEAK_DISTANCE, 0)
        around = fine[top : y + PEAK_DISTANCE + 1, left : x + PEAK_DISTANCE + 1]
        height, width = around.shape
        regions.append(
            Region(
                x=round(left * across),
                y=round(top * down),
                width=max(round(width * across), 1),
                height=max(round(height * down), 1),
                score=float(fine[y, x]),
                area=max(round((around >= PEAK_SHARE * fine.max()).sum() * across * down), 1),
            )
        )
    return tuple(sorted(regions, key=lambda region: region.score, reverse=True))


class InverseFeatureMatching:
    """normals: what was learned of normal chips. evidence_scale: ModelSpec's heat_scale, where the heat is to
    be multiplied by the class evidence, as a geometric mean, which keeps 0.5 what it is."""

    def __init__(self, normals: Normals, evidence_scale: float | None = None):
        self.normals, self.evidence_scale = normals, evidence_scale

    def anomaly(self, output: EngineOutput, pixels: np.ndarray) -> np.ndarray:
        """(h, w), 0-1, of one image: what its score and its heat are made of."""
        black = black_places(pixels, output.anomaly.shape[1:])
        return foreground_anomaly(output.anomaly[0], black, self.normals.background)

    def match(self, output: EngineOutput, pixels: np.ndarray, verdict: str, size: tuple[int, int]) -> Match:
        """The verdict is not asked: a place is hot because no normal chip looks so there."""
        heat = fixed_heat(self.anomaly(output, pixels), self.normals.limits.heat)
        if self.evidence_scale is not None:
            evidence = fixed_heat(output.evidence[0], self.evidence_scale)
            heat = np.sqrt(heat * _enlarged(evidence, heat.shape))
        heat = without_small(heat)
        return Match(heat, regions_of(heat, size)[:MOST])


def foreground_anomaly(anomaly: np.ndarray, black: np.ndarray, background: np.ndarray) -> np.ndarray:
    """(h, w) anomaly -> smoothed, since the neighbors of a defect see it too; 0 in the background.

    That is where this image and normal ones are black: a black crack in a bright chip is none.
    """
    return np.where(black & background, 0, ndimage.gaussian_filter(anomaly, BLUR)).astype(np.float32)


def score_of(anomaly: np.ndarray) -> float:
    """How abnormal an image is: the mean over its hottest places, which one odd place cannot move."""
    count = max(round(HOTTEST * anomaly.size), 1)
    return float(np.sort(anomaly, axis=None)[-count:].mean())


def without_small(heat: np.ndarray) -> np.ndarray:
    """(h, w) heat in which what would be a region of too few places stays just below half heat."""
    labels, _ = ndimage.label(heat >= HALF, np.ones((3, 3)))
    small = np.bincount(labels.ravel()) < SMALLEST
    small[0] = False
    return np.where(small[labels], np.minimum(heat, np.float32(HALF - 1e-3)), heat)


def _enlarged(values: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize(grid[::-1], Image.Resampling.BILINEAR))
