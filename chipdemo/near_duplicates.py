"""Near-duplicates: images of the same part under other light, crop, shift, turn or compression.

In three steps, each on fewer pairs of images than the one before:

1. Candidates: images whose Fourier amplitudes are alike. These do not depend on a shift, and a turn only
   rearranges them. Compared with those of the whole dataset, so that what all parts have in common, such
   as busbars, does not count.
2. Phase correlation (Kuglin and Hines, 1975) finds the turn, scale and shift of a pair.
3. Registration by an affine transform (Evangelidis and Psarakis, PAMI 2008; OpenCV's findTransformECC).
   What then differs between the two images, relative to their contrast, must be small.

Pairs are joined into groups: A and C are in one group if both belong to B.
"""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from scipy import fft
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from chipdemo.files import in_parallel

SIDE = 192  # pixels, of the images that are registered
COARSE = 64  # pixels, of those that candidates and phase correlation are found with
FREQUENCIES = 12  # highest frequency of the candidates, cycles an image
NEAREST = 24  # candidates of each image
BLOCK = 1024  # rows of the matrix of similarities at a time
SCALES = (0.95, 0.975, 1.0)  # of one image against the other: crops of up to 5 %
REACH = 4  # pixels of COARSE, the largest shift
CONTRAST = 4.5  # pixels of SIDE, standard deviation of the neighborhood that contrast is relative to
NOISE = 4  # gray levels, of less contrast is little seen: compression changes a plain background
MARGIN = 12  # pixels of SIDE at the edge of the overlap, where that neighborhood is cut off
MIN_PEAK = 0.5  # of the phase correlation, 0-1
MAX_DIFFERENCE = 0.025  # mean squared difference of registered images / their mean squared contrast
BLUR = 0.8  # pixels of SIDE, standard deviation: noise and compression do not count
MIN_OVERLAP = 0.3  # share of the image
KEPT_PHASES = 8_000  # of images in a turn, 52 kB each


def small_gray(pixels: np.ndarray) -> np.ndarray:
    """What near_duplicates takes: (H, W, 3) uint8 RGB -> (SIDE, SIDE) uint8 gray."""
    return cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def near_duplicates(images: np.ndarray, progress: Callable = lambda it, **_: it) -> np.ndarray:
    """The group of each image, numbered from 0: (N, SIDE, SIDE) uint8 gray -> (N,) int.

    An image without near-duplicates is a group of its own. progress: such as tqdm.
    """
    if len(images) < 2:
        return np.zeros(len(images), int)
    pairs, phases = candidates(images), Phases(images)
    differences = in_parallel(lambda pair: difference(phases, *pair), pairs)
    differences = np.array(list(progress(differences, total=len(pairs), desc="near-duplicates")))
    links = np.array(pairs)[differences <= MAX_DIFFERENCE, :2].T
    graph = coo_matrix((np.ones(links.shape[1]), links), (len(images),) * 2)
    return connected_components(graph, directed=False)[1]


def turned(array: np.ndarray, turn: int) -> np.ndarray:
    """The last two axes by turn % 4 quarters; for the turns 4-7 mirrored before."""
    return np.rot90(np.flip(array, -1) if turn >= 4 else array, turn % 4, (-2, -1))


def local_contrast(image: np.ndarray, sigma: float, noise: float = 1) -> np.ndarray:
    """(S, S) gray -> float32, less the mean of its neighborhood and relative to its spread: without light.

    sigma: standard deviation of the neighborhood, pixels. noise: gray levels of spread that count for little.
    """
    gray = image.astype(np.float32)
    detail = gray - cv2.GaussianBlur(gray, (0, 0), sigma)
    return detail / (np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 2 * sigma)) + noise)


@lru_cache
def _window(side: int) -> np.ndarray:
    return np.outer(np.hanning(side + 2)[1:-1], np.hanning(side + 2)[1:-1]).astype(np.float32)


def _coarse(gray: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """The middle of an image, a share of its side, windowed for a Fourier transform: (COARSE, COARSE)."""
    cut = round(len(gray) * (1 - scale) / 2)
    middle = gray[cut : len(gray) - cut, cut : len(gray) - cut]
    small = cv2.resize(middle, (COARSE, COARSE), interpolation=cv2.INTER_AREA)
    return local_contrast(small, 2) * _window(COARSE)


# -- Candidates ------------------------------------------------------------------------------------------


def candidates(images: np.ndarray) -> list[tuple[int, int, int]]:
    """Pairs of images whose Fourier amplitudes are alike: (one, other, the turn of one that is like other).

    The turn is 0, 1, 4 or 5: amplitudes are the same after half a turn.
    """
    turns = (0, 1, 4, 5)
    vectors = _amplitudes(images, turns)  # (4, N, D)
    found = {}
    for start in range(0, len(images), BLOCK):
        similar = np.stack([of_turn[start : start + BLOCK] @ vectors[0].T for of_turn in vectors])
        turn, similar = similar.argmax(0), similar.max(0)  # (n, N)
        rows = np.arange(len(similar))
        similar[rows, start + rows] = -np.inf
        count = min(NEAREST, len(images) - 1)
        nearest = np.argpartition(-similar, count - 1, axis=1)[:, :count]
        for row, others in zip(rows, nearest):
            for other in others.tolist():
                one = int(start + row)
                if (other, one) not in found:
                    found[one, other] = turns[turn[row, other]]
    return [(*pair, turn) for pair, turn in found.items()]


def _amplitudes(images: np.ndarray, turns: tuple[int, ...]) -> np.ndarray:
    """(turns, N, D) float32 unit vectors: log-amplitudes, whitened over the images in all turns."""
    middle = np.arange(-FREQUENCIES, FREQUENCIES + 1)
    y, x = np.meshgrid(middle, middle, indexing="ij")
    half = ((y > 0) | ((y == 0) & (x > 0))) & (y**2 + x**2 <= FREQUENCIES**2) & (y**2 + x**2 >= 2)
    spectra = np.stack([np.abs(fft.fft2(_coarse(one)))[middle][:, middle] for one in images])
    spectra = np.log(spectra + 0.02 * spectra.mean((1, 2), keepdims=True) + 1e-3).astype(np.float32)
    vectors = np.stack([turned(spectra, turn)[:, half] for turn in turns])  # (turns, N, D)
    every = vectors.reshape(-1, vectors.shape[-1])
    every = (every - every.mean(0)) / (every.std(0) + 1e-6)
    values, basis = np.linalg.eigh(np.cov(every.T))
    every = every @ (basis / np.sqrt(values.clip(0) + 0.1 * values.mean())).astype(np.float32)
    every /= np.linalg.norm(every, axis=1, keepdims=True) + 1e-9
    return every.reshape(vectors.shape)


# -- Registration ----------------------------------------------------------------------------------------


_SHIFTS = np.r_[0 : REACH + 1, -REACH:0]
_SCALE_PAIRS = [(a, b) for a, one in enumerate(SCALES) for b, other in enumerate(SCALES) if 1 in (one, other)]
_FIRST, _SECOND = map(list, zip(*_SCALE_PAIRS))  # rows of SCALES
_FREQUENCY = np.hypot(fft.fftfreq(COARSE, 1 / COARSE)[:, None], fft.rfftfreq(COARSE, 1 / COARSE))
_BAND = (_FREQUENCY >= 2) & (_FREQUENCY < COARSE / 2)
_BAND_SIZE = 2 * _BAND.sum() - _BAND[:, 0].sum()  # of the whole spectrum, of which rfft2 gives half
# The inverse transform at _SHIFTS alone; all but the first column of the half spectrum counts twice
_ROTATION = 2j * np.pi / COARSE
_DOWN = np.exp(_ROTATION * np.outer(_SHIFTS, np.arange(COARSE))).astype(np.complex64) / COARSE
_ACROSS = np.exp(_ROTATION * np.outer(np.arange(COARSE // 2 + 1), _SHIFTS)).astype(np.complex64) / COARSE
_ACROSS[1:] *= 2


class Phases:
    """The phases of images in every turn and scale, for phase correlation. Kept once computed.

    images: (N, SIDE, SIDE) uint8.
    """

    def __init__(self, images: np.ndarray):
        self.images = images
        self._of = lru_cache(KEPT_PHASES)(self._compute)

    def _compute(self, image: int, turn: int) -> np.ndarray:
        """(scales, COARSE, COARSE / 2 + 1): transforms, of unit amplitude in a band of frequencies."""
        gray = turned(self.images[image], turn)
        spectra = fft.rfft2(np.stack([_coarse(gray, scale) for scale in SCALES]))
        return np.where(_BAND, spectra / (np.abs(spectra) + 1e-6), 0) * (COARSE**2 / _BAND_SIZE)

    def correlated(self, one: int, other: int, turn: int) -> tuple[float, int, np.ndarray]:
        """At the best scale: the peak of the phase correlation, 0-1, the turn of one, and the transform.

        The transform, (2, 3) float32, takes pixels of other to those of one after the turn.
        """
        first, second = self._of(one, turn), self._of(other, 0)
        product = first[_FIRST] * second[_SECOND].conj()  # (pairs of scales, COARSE, COARSE / 2 + 1)
        near = (_DOWN @ product @ _ACROSS).real  # (pairs of scales, shifts, shifts)
        at, y, x = np.unravel_index(near.argmax(), near.shape)
        scale, center = SCALES[_FIRST[at]], (SIDE - 1) / 2
        ratio = scale / SCALES[_SECOND[at]]
        dy, dx = (scale * _SHIFTS[shift] * SIDE / COARSE for shift in (y, x))
        move = [[ratio, 0, center - ratio * center + dx], [0, ratio, center - ratio * center + dy]]
        return float(near[at, y, x]), turn, np.array(move, np.float32)


def difference(phases: Phases, one: int, other: int, turn: int) -> float:
    """How much two images differ once one is turned and registered to the other; inf if it cannot be.

    one, other: rows of phases.images. turn: 0, 1, 4 or 5, or half a turn more. Returns the mean squared
    difference of their local contrast / its mean square: 0 for equal images, 2 for unrelated ones.
    """
    peak, turn, move = max(
        (phases.correlated(one, other, turn + half) for half in (0, 2)), key=lambda found: found[0]
    )
    if peak < MIN_PEAK:
        return np.inf
    one, other = np.ascontiguousarray(turned(phases.images[one], turn)), phases.images[other]
    try:
        _, move = cv2.findTransformECC(
            local_contrast(other, 2 * CONTRAST, NOISE),
            local_contrast(one, 2 * CONTRAST, NOISE),
            move,
            cv2.MOTION_AFFINE,
            (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 30, 1e-4),
            None,
            5,
        )
    except cv2.error:  # it did not converge
        return np.inf

    def moved(image: np.ndarray) -> np.ndarray:
        return cv2.warpAffine(image, move, (SIDE, SIDE), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)

    def within(mask: np.ndarray, margin: int) -> np.ndarray:
        kernel = np.ones((2 * margin + 1,) * 2)
        return cv2.erode(mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0

    exposed = [(image > 3) & (image < 252) for image in (moved(one), other)]
    inside = moved(np.ones((SIDE, SIDE), np.float32)) > 0.99
    overlap = within(inside, MARGIN) & within(exposed[0] & exposed[1], 2)
    if not np.isfinite(move).all() or overlap.mean() < MIN_OVERLAP:
        return np.inf
    a, b = (
        cv2.GaussianBlur(image, (0, 0), BLUR)[overlap]
        for image in (moved(local_contrast(one, CONTRAST, NOISE)), local_contrast(other, CONTRAST, NOISE))
    )
    return float(np.mean((a - b) ** 2) / max(np.mean(a**2 + b**2) / 2, 1e-9))
