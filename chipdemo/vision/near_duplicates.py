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

from collections.abc import Callable, Iterator
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
NEAREST = 12  # candidates of each image
BLOCK = 1024  # rows of the matrix of similarities at a time
SCALES = (0.95, 0.975, 1.0)  # of one image against the other: crops of up to 5 %
REACH = 4  # pixels of COARSE, the largest shift
CONTRAST = 4.5  # pixels of SIDE, standard deviation of the neighborhood that contrast is relative to
MARGIN = 12  # pixels of SIDE at the edge of the overlap, where that neighborhood is cut off
MIN_PEAK = 0.35  # of the phase correlation, 0-1
MAX_DIFFERENCE = 0.03  # mean squared difference of registered images / their mean squared contrast
BLUR = 0.8  # pixels of SIDE, standard deviation: noise and compression do not count
MIN_OVERLAP = 0.3  # share of the image


def small_gray(pixels: np.ndarray) -> np.ndarray:
    """What near_duplicates takes: (H, W, 3) uint8 RGB -> (SIDE, SIDE) uint8 gray."""
    return cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def near_duplicates(images: np.ndarray, progress: Callable = lambda it, **_: it) -> np.ndarray:
    """The group of each image, numbered from 0: (N, SIDE, SIDE) uint8 gray -> (N,) int.

    An image without near-duplicates is a group of its own. progress: such as tqdm.
    """
    if len(images) < 2:
        return np.zeros(len(images), int)
    pairs = candidates(images)
    differences = in_parallel(lambda pair: difference(images[pair[0]], images[pair[1]], pair[2]), pairs)
    differences = np.array(list(progress(differences, total=len(pairs), desc="near-duplicates")))
    links = np.array(pairs)[differences <= MAX_DIFFERENCE, :2].T
    graph = coo_matrix((np.ones(links.shape[1]), links), (len(images),) * 2)
    return connected_components(graph, directed=False)[1]


def turned(array: np.ndarray, turn: int) -> np.ndarray:
    """The last two axes by turn % 4 quarters; for the turns 4-7 mirrored before."""
    return np.rot90(np.flip(array, -1) if turn >= 4 else array, turn % 4, (-2, -1))


def local_contrast(images: np.ndarray, sigma: float) -> np.ndarray:
    """(S, S) gray -> float32, less the mean of its neighborhood and relative to its spread: without light."""
    gray = images.astype(np.float32)
    detail = gray - cv2.GaussianBlur(gray, (0, 0), sigma)
    return detail / (np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 2 * sigma)) + 1)


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


def difference(one: np.ndarray, other: np.ndarray, turn: int) -> float:
    """How much two images differ once one is turned and registered to the other; inf if it cannot be.

    one, other: (SIDE, SIDE) uint8. turn: 0, 1, 4 or 5, or half a turn more. Returns the mean squared
    difference of their local contrast / its mean square: 0 for equal images, 2 for unrelated ones.
    """
    peak, turn, move = max(_phase_correlations(one, other, turn), key=lambda found: found[0])
    if peak < MIN_PEAK:
        return np.inf
    one = np.ascontiguousarray(turned(one, turn))
    try:
        _, move = cv2.findTransformECC(
            local_contrast(other, 2 * CONTRAST),
            local_contrast(one, 2 * CONTRAST),
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
        for image in (moved(local_contrast(one, CONTRAST)), local_contrast(other, CONTRAST))
    )
    return float(np.mean((a - b) ** 2) / max(np.mean(a**2 + b**2) / 2, 1e-9))


def _phase_correlations(
    one: np.ndarray, other: np.ndarray, turn: int
) -> Iterator[tuple[float, int, np.ndarray]]:
    """For this turn and half a turn more, and each scale: the peak, 0-1, the turn and the transform.

    The transform, (2, 3) float32, takes pixels of other to those of one after the turn.
    """
    shifts = np.r_[0 : REACH + 1, -REACH:0]
    center = (SIDE - 1) / 2
    for half in (0, 2):
        of_turn = turned(one, turn + half)
        for scale in SCALES:
            for first, second in {(scale, 1.0), (1.0, scale)}:
                phases = _phases(of_turn, first) * _phases(other, second).conj()
                near = fft.irfft2(phases, (COARSE, COARSE))[shifts][:, shifts]  # 0-1
                y, x = np.unravel_index(near.argmax(), near.shape)
                ratio = first / second
                dy, dx = (first * shifts[at] * SIDE / COARSE for at in (y, x))
                move = [[ratio, 0, center - ratio * center + dx], [0, ratio, center - ratio * center + dy]]
                yield float(near[y, x]), turn + half, np.array(move, np.float32)


def _phases(gray: np.ndarray, scale: float) -> np.ndarray:
    """The Fourier transform of unit amplitude, without the lowest and highest frequencies; of sum 1."""
    spectrum = fft.rfft2(_coarse(gray, scale))
    return np.where(_BAND, spectrum / (np.abs(spectrum) + 1e-6), 0) * (COARSE**2 / _BAND_SIZE)


_FREQUENCY = np.hypot(fft.fftfreq(COARSE, 1 / COARSE)[:, None], fft.rfftfreq(COARSE, 1 / COARSE))
_BAND = (_FREQUENCY >= 2) & (_FREQUENCY < COARSE / 2)
_BAND_SIZE = 2 * _BAND.sum() - _BAND[:, 0].sum()  # of the whole spectrum, of which rfft2 gives half
