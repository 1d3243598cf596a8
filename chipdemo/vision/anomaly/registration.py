"""The pose of a part in an image: by which turn and shift a reference image lies over it.

A coarse search correlates edge images over all turns and shifts (by Fourier transform); OpenCV's ECC
(Evangelidis and Psarakis, IEEE TPAMI 2008) refines the best two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy import fft

from chipdemo.view import compose

COARSE, FINE = 64, 160  # pixels, sides of the edge images
TURN = 5  # degrees between two turns that are tried
APART = 15  # degrees, least difference between the turns of two candidates
FARTHEST = 1 / 3  # of the side, the largest shift
PADDED = 96  # pixels, side of the coarse images in the Fourier transform: COARSE and the largest shift fit in
CANDIDATES = 2  # poses that are refined
CONVINCING = 0.9  # correlation from which no further candidate is refined
DRIFT = 0.1  # of the side; ECC that moves further than this has lost its way
USUAL = 0.9  # share of good images whose poses are usual ...
ANYHOW = 90  # degrees; parts that are turned by more lie at any angle
TURN_MARGIN, SHIFT_MARGIN = 12, 0.08  # ... and so much more: degrees, sides of the image
CORNERS = np.array([[0, 1, 0, 1], [0, 0, 1, 1], [1, 1, 1, 1]])  # of the unit square
ITERATIONS, PRECISION, SMOOTHING = 20, 1e-3, 7  # of ECC


@dataclass(frozen=True, eq=False)
class Pose:
    """Where the reference lies in an image.

    matrix: (2, 3), from the unit square of the reference to that of the image. correlation: of the edges
    there, -1 to 1.
    """

    matrix: np.ndarray
    correlation: float

    @property
    def turn(self) -> float:
        """Degrees, -180 to 180."""
        return float(np.degrees(np.arctan2(self.matrix[1, 0], self.matrix[0, 0])))

    @property
    def shift(self) -> np.ndarray:
        """(2,) of the middle, sides of the image."""
        return self.matrix @ (0.5, 0.5, 1) - 0.5


@dataclass(frozen=True)
class PoseRange:
    """The usual poses: so many degrees around a turn, and so much around a shift, in sides of the image."""

    turn: float
    most_turned: float
    shift: tuple[float, float]
    most_shifted: float

    def holds(self, pose: Pose) -> bool:
        """Whether a pose is one of them."""
        turned = _apart(pose.turn, self.turn)
        shifted = np.abs(pose.shift - self.shift).max()
        return bool(turned <= self.most_turned and shifted <= self.most_shifted)


def typical_pose(matrices: Sequence[np.ndarray]) -> int:
    """(2, 3) matrices -> the index of the one whose corners lie nearest to those of all others."""
    corners = np.stack([matrix @ CORNERS for matrix in matrices])
    return int(np.linalg.norm(corners[:, None] - corners, axis=2).max(2).sum(1).argmin())


def typical_turn(turns: Sequence[float]) -> int:
    """(N,) degrees -> the index of the turn that is nearest to all others."""
    turns = np.array(turns)
    return int(_apart(turns[:, None], turns).sum(1).argmin())


def usual_poses(poses: Sequence[Pose]) -> PoseRange:
    """Those of nine in ten good images, and a little more; every turn where these lie anyhow."""
    turns, shifts = np.array([pose.turn for pose in poses]), np.stack([pose.shift for pose in poses])
    turn, shift = float(turns[typical_turn(turns)]), np.median(shifts, 0)
    most_turned = float(np.quantile(_apart(turns, turn), USUAL, method="lower")) + TURN_MARGIN
    return PoseRange(
        turn,
        most_turned if most_turned < ANYHOW else 180.0,
        (float(shift[0]), float(shift[1])),
        float(np.quantile(np.abs(shifts - shift).max(1), USUAL, method="lower")) + SHIFT_MARGIN,
    )


def _apart(turns: np.ndarray, turn: np.ndarray | float) -> np.ndarray:
    """Degrees between turns, 0-180."""
    return np.abs((turns - turn + 180) % 360 - 180)


class Reference:
    """What images are registered to. edges: (FINE, FINE) float32, of edges_of a reference image."""

    def __init__(self, edges: np.ndarray):
        self.edges, coarse = edges, _centered(edges)
        self._turns = np.arange(0, 360, TURN)
        turned = [_centered(cv2.warpAffine(coarse, _turn(angle), (COARSE, COARSE))) for angle in self._turns]
        self._spectra = np.conj(fft.rfft2(np.stack(turned), (PADDED, PADDED)))

    def pose(self, edges: np.ndarray) -> Pose:
        """The pose of the same part in another image, whose edges_of these are."""
        best = None
        for coarse in self._coarse(edges):
            found = self._refined(edges, coarse)
            if best is None or found.correlation > best.correlation:
                best = found
            if best.correlation >= CONVINCING:
                break
        return best

    def likeness(self, edges: np.ndarray) -> float:
        """The correlation of the best coarse pose, at most 1: enough to compare references."""
        return float(self._correlation(edges).max())

    def coarse_pose(self, edges: np.ndarray) -> np.ndarray:
        """The (2, 3) matrix of the best coarse pose: enough to see how most parts lie."""
        return self._coarse(edges)[0]

    def _correlation(self, edges: np.ndarray) -> np.ndarray:
        """(turns, rows, columns), of the shifts within FARTHEST; negative ones last, as Fourier has them."""
        product = self._spectra * fft.rfft2(_centered(edges), (PADDED, PADDED))
        most = round(FARTHEST * COARSE)
        near = np.r_[0:most, -most:0]
        rows = fft.ifft(product, axis=1)[:, near]
        return fft.irfft(rows, PADDED, axis=2)[:, :, near]

    def _coarse(self, edges: np.ndarray) -> Sequence[np.ndarray]:
        """(2, 3) matrices of unit squares, the best first."""
        correlation = self._correlation(edges)
        most = correlation.shape[1] // 2
        by_turn = correlation.reshape(len(self._turns), -1)
        best, found = by_turn.argmax(1), []
        for index in np.argsort(-by_turn.max(1)):
            angle = self._turns[index]
            if all(abs((angle - other + 180) % 360 - 180) >= APART for other, _ in found):
                y, x = ((value + most) % (2 * most) - most for value in divmod(int(best[index]), 2 * most))
                found.append((angle, _turn(angle, 1) + [[0, 0, x / COARSE], [0, 0, y / COARSE]]))
            if len(found) == CANDIDATES:
                break
        return [matrix for _, matrix in found]

    def _refined(self, edges: np.ndarray, coarse: np.ndarray) -> Pose:
        """ECC from a coarse pose on. Its turns end at 90 degrees, so the image is turned before."""
        upright = cv2.warpAffine(
            edges,
            _in_pixels(coarse),
            (FINE, FINE),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ITERATIONS, PRECISION)
        try:
            correlation, moved = cv2.findTransformECC(
                self.edges,
                upright,
                np.eye(2, 3, dtype=np.float32),
                cv2.MOTION_EUCLIDEAN,
                stop,
                None,
                SMOOTHING,
            )
        except cv2.error:  # it does not converge: the images have too little in common there
            return Pose(coarse, -1.0)
        step = moved.astype(float)
        corners = np.array([[0, FINE, 0, FINE], [0, 0, FINE, FINE], [1, 1, 1, 1]])
        if np.abs(step @ corners - corners[:2]).max() > DRIFT * FINE * 2:
            return Pose(coarse, -1.0)
        return Pose(compose(coarse, _in_units(step)), float(correlation))


def edges_of(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (FINE, FINE) float32: roots of gradients, which the light changes little."""
    small = cv2.resize(pixels, (FINE, FINE), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    across, down = cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)
    return cv2.GaussianBlur(np.sqrt(np.hypot(across, down)), (0, 0), 1)


def _centered(edges: np.ndarray) -> np.ndarray:
    """(COARSE, COARSE), of mean 0 and length 1; the background is near 0, and stays so when it is turned."""
    small = cv2.resize(edges, (COARSE, COARSE), interpolation=cv2.INTER_AREA)
    small = small - np.median(small)
    small = small - small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)


def _turn(degrees: float, side: int = COARSE) -> np.ndarray:
    """(2, 3): a turn about the middle of a square; of the unit square for side 1."""
    middle = 0.5 if side == 1 else (side - 1) / 2
    return cv2.getRotationMatrix2D((middle, middle), float(degrees), 1)


def _in_pixels(matrix: np.ndarray) -> np.ndarray:
    """A matrix of unit squares -> of the pixels of the fine edge images."""
    return compose(compose(_PIXELS, matrix), _UNITS)


def _in_units(matrix: np.ndarray) -> np.ndarray:
    return compose(compose(_UNITS, matrix), _PIXELS)


_PIXELS = np.array([[FINE, 0, -0.5], [0, FINE, -0.5]])  # of a point of the unit square, from their centers
_UNITS = np.array([[1 / FINE, 0, 0.5 / FINE], [0, 1 / FINE, 0.5 / FINE]])
