"""Which alignment suits the images of a part, found out with good images and defects drawn into them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from PIL import Image

from chipdemo.teaching import Progress, silent
from chipdemo.view import View, reduced
from chipdemo.vision.anomaly.alignment import (
    POSITION_BOUND,
    POSITION_FREE,
    REGISTERED,
    Alignment,
    alignment_of,
)
from chipdemo.vision.anomaly.drawn_defects import KINDS, draw_defect, misplaced
from chipdemo.vision.anomaly.features import BATCH, Backbone, ImageFeatures, layers_of
from chipdemo.vision.anomaly.fitting import candidates_of, normal_anomaly, patches_for
from chipdemo.vision.anomaly.matching import black_patches, score_of, smoothed
from chipdemo.vision.checkpoint import HEAD

IMAGES = 40  # that are judged, at most
PATCHES = 4_000  # of the memory bank of half of them, as in the one that is taught
ALIKE = 60  # degrees, most that parts which lie alike are turned ...
BEYOND = 15  # ... and by how much more one is turned that is drawn as misplaced
SURE = 2  # standard errors by which one is clearly worse
RESAMPLES = 200  # of the bootstrap
TEXTS = {
    POSITION_BOUND: "The parts are compared position-bound: they lie alike, and each patch is compared with "
    "those near its position.",
    REGISTERED: "The parts are compared registered: each image is turned and shifted onto a reference image "
    "first, and each patch is then compared with those near its position.",
    POSITION_FREE: "The parts are compared position-free: each patch is compared with all patches, wherever "
    "they are.",
}
# The first that is not clearly worse than the best: it finds misplaced parts, and registered also holds for
# parts that lie a little otherwise one day
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
    """views: of some good images as they are, at least 4 that differ, FINER times as large as the input.

    Each half of them is judged by a memory bank of the other half, as it is and with a defect drawn into it.
    Of the alignments whose area under the ROC curve is not clearly smaller than the largest, the preferred.
    """
    rows = np.random.default_rng(0).permutation(len(views))[:IMAGES]
    goods = [views[row] for row in rows]
    progress(0, "finding out how the parts lie")
    registered = alignment_of(REGISTERED, goods)
    drawn = _with_defects(goods, registered)
    alignments = {kind: alignment_of(kind, ()) for kind in (POSITION_BOUND, POSITION_FREE)}
    progress(0.3, "trying position-bound and position-free matching")
    side = backbone.spec.image_size
    small = [[reduced(view, side) for view in each] for each in (goods, drawn)]
    as_they_are = [_features(each, Alignment(), backbone) for each in small]
    scores = {
        kind: _scores(*(replace(each, alignment=alignment) for each in as_they_are))
        for kind, alignment in alignments.items()
    }
    if backbone.spec.verdict_by != HEAD:  # a classifier takes images as they are
        progress(0.6, "trying registered matching")
        laid = [[registered.registered(view, side) for view in each] for each in (goods, drawn)]
        scores[REGISTERED] = judged_halves(*laid, registered, backbone)
        alignments[REGISTERED] = registered
    wins = {kind: wins_of(*each) for kind, each in scores.items()}
    auroc = {kind: auroc_of(each) for kind, each in wins.items()}
    best = max(auroc, key=auroc.get)
    for kind in (kind for kind in PREFERENCE if kind in auroc):
        if auroc[best] - auroc[kind] <= SURE * standard_error(wins[best] - wins[kind]):
            return Choice(alignments[kind], auroc)
    raise AssertionError("the best is within its own standard error")


def _with_defects(views: Sequence[View], registered: Alignment) -> list[View]:
    """The same with a defect in each; where the parts lie alike, one that lies otherwise is a defect too."""
    kinds = list(KINDS)
    if registered.poses.most_turned <= ALIKE:
        kinds.append(partial(misplaced, least=registered.poses.most_turned + BEYOND))
    drawn = []
    for number, view in enumerate(views):
        image, _ = draw_defect(Image.fromarray(view.pixels), kinds[number % len(kinds)], seed=number)
        drawn.append(replace(view, pixels=np.asarray(image)))
    return drawn


def judged_halves(
    goods: Sequence[View], drawn: Sequence[View], alignment: Alignment, backbone: Backbone
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) and (N,) scores of good images and of the same with defects, by a bank of the other half each."""
    return _scores(*(_features(views, alignment, backbone) for views in (goods, drawn)))


def _scores(good: ImageFeatures, bad: ImageFeatures) -> tuple[np.ndarray, np.ndarray]:
    """(N,) and (N,) scores of good images and of the same with defects, by a bank of the other half each."""
    half = np.arange(len(good.names)) % 2
    candidates = candidates_of(good)
    banks = [
        candidates.of(half[candidates.image] != part).bank(patches_for(good.alignment, PATCHES))
        for part in (0, 1)
    ]
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
    parts = [layers_of(backbone, views[i : i + BATCH], alignment) for i in range(0, len(views), BATCH)]
    layers = tuple(map(torch.cat, zip(*parts)))
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
        stages=backbone.stages,
        unusable=(),
    )


def wins_of(good: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """(N,), (K,) scores -> (N, K): 1 where a bad image scores higher, 0.5 where as high. Its mean: AUROC."""
    return (bad > good[:, None]) + 0.5 * (bad == good[:, None])


def auroc_of(wins: np.ndarray) -> float:
    """0-1."""
    return float(wins.mean())


def standard_error(difference: np.ndarray) -> float:
    """Of the difference of two areas on the same images: a bootstrap over the images of each class.

    difference: (N, K), of what wins_of gives for N good and K defective ones.
    """
    generator, (goods, bads) = np.random.default_rng(0), difference.shape
    rows, columns = (generator.integers(0, count, (RESAMPLES, count)) for count in (goods, bads))
    return float(np.std([difference[np.ix_(*each)].mean() for each in zip(rows, columns)]))
