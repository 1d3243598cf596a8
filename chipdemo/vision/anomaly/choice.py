"""Which alignment suits the images of a part, found out with good images and defects drawn into them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from chipdemo.teaching import Progress, silent
from chipdemo.view import View
from chipdemo.vision.anomaly.alignment import (
    POSITION_BOUND,
    POSITION_FREE,
    REGISTERED,
    Alignment,
    alignment_of,
)
from chipdemo.vision.anomaly.drawn_defects import KINDS, draw_defect
from chipdemo.vision.anomaly.features import BATCH, DESCRIPTOR, Backbone, ImageFeatures, intermediates_of
from chipdemo.vision.anomaly.fitting import candidates_of, normal_anomaly
from chipdemo.vision.anomaly.matching import black_patches, score_of, smoothed
from chipdemo.vision.checkpoint import HEAD

IMAGES = 60  # that are judged, at most
PATCHES = 2_000  # of the memory bank of half of them
RESAMPLES = 200  # of the bootstrap
TEXTS = {
    POSITION_BOUND: "The parts are compared position-bound: they lie alike, and each patch is compared with "
    "those near its position.",
    REGISTERED: "The parts are compared registered: each image is turned and shifted onto a reference image "
    "first, and each patch is then compared with those near its position.",
    POSITION_FREE: "The parts are compared position-free: each patch is compared with all patches, wherever "
    "they are.",
}
# The first that is not worse than the best: it also holds for parts that lie in another way one day
PREFERENCE = (REGISTERED, POSITION_BOUND, POSITION_FREE)


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen. auroc: of each kind that was tried, good images against drawn defects, 0-1."""

    alignment: Alignment
    auroc: Mapping[str, float]

    @property
    def text(self) -> str:
        """What was chosen and why, in sentences."""
        kind = self.alignment.kind
        if not self.auroc:
            return f"{TEXTS[kind]} This was asked for."
        others = ", ".join(f"{value:.3f} {one}" for one, value in self.auroc.items() if one != kind)
        return (
            f"{TEXTS[kind]} This way, drawn defects are told from good images with an AUROC of "
            f"{self.auroc[kind]:.3f} ({others})."
        )


def choose_alignment(views: Sequence[View], backbone: Backbone, progress: Progress = silent) -> Choice:
    """views: of some good images as they are, at least 4 that differ, letterboxed or squeezed.

    Each half of them is judged by a memory bank of the other half, as it is and with a defect drawn into it.
    Of the alignments whose area under the ROC curve is within one standard error of the best, the preferred.
    """
    rows = np.random.default_rng(0).permutation(len(views))[:IMAGES]
    goods = [views[row] for row in rows]
    drawn = [_with_defect(view, number) for number, view in enumerate(goods)]
    kinds = [POSITION_BOUND, POSITION_FREE]
    if backbone.spec.verdict_by != HEAD:  # a classifier takes images as they are
        kinds.append(REGISTERED)
    scores, alignments, as_they_are = {}, {}, None
    for number, kind in enumerate(kinds):
        progress(number / len(kinds), f"trying {kind} matching")
        alignments[kind] = alignment = alignment_of(kind, goods)
        if kind == REGISTERED:
            features = [
                _features([alignment.registered(view) for view in views], alignment, backbone)
                for views in (goods, drawn)
            ]
        else:
            as_they_are = as_they_are or [_features(views, alignment, backbone) for views in (goods, drawn)]
            features = [replace(each, alignment=alignment) for each in as_they_are]
        scores[kind] = _scores(*features)
    auroc = {kind: _auroc(*scores[kind]) for kind in kinds}
    best = max(auroc, key=auroc.get)
    for kind in (kind for kind in PREFERENCE if kind in auroc):
        if auroc[best] - auroc[kind] <= _standard_error(scores[best], scores[kind]):
            return Choice(alignments[kind], auroc)
    raise AssertionError("the best is within its own standard error")


def _with_defect(view: View, number: int) -> View:
    image, _ = draw_defect(Image.fromarray(view.pixels), KINDS[number % len(KINDS)], seed=number)
    return replace(view, pixels=np.asarray(image))


def _scores(good: ImageFeatures, bad: ImageFeatures) -> tuple[np.ndarray, np.ndarray]:
    """(N,) and (N,) scores of good images and of the same with defects, by a bank of the other half each."""
    half = np.arange(len(good.names)) % 2
    candidates = candidates_of(good)
    banks = [candidates.of(half[candidates.image] != part).bank(PATCHES) for part in (0, 1)]
    maps = [
        smoothed(
            np.stack([banks[half[row]].search(candidates.patches(each, row)) for row in range(len(half))])
        )
        for each in (good, bad)
    ]
    normal = normal_anomaly(maps[0], good.inside)
    return tuple(
        np.array([score_of(one) for one in np.where(features.inside, normal.standardized(each), 0)])
        for features, each in zip((good, bad), maps)
    )


def _features(views: Sequence[View], alignment: Alignment, backbone: Backbone) -> ImageFeatures:
    """The features of views of which nothing else is known."""
    layers = []
    for start in range(0, len(views), BATCH):
        pixels = np.stack([view.pixels for view in views[start : start + BATCH]])
        layers.append(intermediates_of(backbone.net, backbone.spec, pixels, DESCRIPTOR.strides))
    layers = tuple(torch.from_numpy(np.concatenate(layer)) for layer in zip(*layers))
    grid = layers[0].shape[2:]
    return ImageFeatures(
        names=("",) * len(views),
        sha256=("",) * len(views),
        sizes=tuple(view.image_size for view in views),
        intermediates=layers,
        black=np.stack([black_patches(view.pixels, grid) for view in views]),
        inside=np.stack([view.inside(grid) for view in views]),
        thumbnails=(),
        groups=tuple(range(len(views))),
        alignment=alignment,
        strides=DESCRIPTOR.strides,
        unusable=(),
    )


def _auroc(good: np.ndarray, bad: np.ndarray) -> float:
    return float(roc_auc_score(np.repeat((0, 1), (len(good), len(bad))), np.concatenate((good, bad))))


def _standard_error(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """Of the difference of two areas, on the same images: a bootstrap over the images."""
    generator, count = np.random.default_rng(0), len(one[0])
    differences = []
    for _ in range(RESAMPLES):
        rows = generator.integers(0, count, count)
        differences.append(_auroc(*(each[rows] for each in one)) - _auroc(*(each[rows] for each in other)))
    return float(np.std(differences))
