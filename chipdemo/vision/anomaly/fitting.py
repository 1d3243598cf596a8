"""Teach a new chip from good images alone: no training, no defect needed.

    backbone = starting_backbone()
    study = study_images(paths, backbone)           # reads them and runs the network, once
    lesson = learn(study)                                # fills the memory; each held out in turn
    lesson.outliers                                      # those to show before they are learned
    lesson = learn(study.without(lesson.outliers))       # if they are to be left out
    save_taught(folder, backbone, lesson, false_alarms=0.02, ...)

The folder is a checkpoint like any other: `python app.py --model FOLDER`.
"""

import math
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression

from chipdemo.errors import DataError
from chipdemo.teaching import FALSE_ALARMS, FEWEST, Progress
from chipdemo.vision.anomaly.features import DESCRIPTION, Backbone, Study, why_left_out
from chipdemo.vision.anomaly.matching import foreground_anomaly, score_of
from chipdemo.vision.anomaly.memory_bank import Description, Memory, Scale
from chipdemo.vision.anomaly.patches import fit_scale
from chipdemo.vision.anomaly.stored import Limits, Normals, save_normals, weights_sha256
from chipdemo.vision.checkpoint import (
    CARD,
    FILES,
    METRICS,
    SPLIT,
    read_json,
    write_json,
)
from chipdemo.vision.output import replacing
from chipdemo.vision.weights import save_checkpoint

PLACES = 20_000  # that are kept, of all images together ...
FEATURE_BYTES = 12_000_000  # ... and what they may take: 20 MB hold them and the small images
SAMPLE = 300  # images, about, that the statistics of the features come from
HEAT_ALARMS = 0.02  # of normal images may show a place at half heat
TYPICAL = 0.05  # probability of abnormal of the median normal image
FAR_OUT = 3.0  # interquartile ranges above the upper quartile: Tukey's "far out"


@dataclass(frozen=True)
class Knowledge:
    """What normal chips look like: the memory and how to compare with it. background: as Normals has it."""

    description: Description
    scale: Scale
    memory: Memory
    background: np.ndarray

    def anomaly(self, study: Study, row: int, without: int = -1) -> np.ndarray:
        """(h, w) of an image: what its score and its heat are made of. without: as in Memory.search."""
        patches = study.patches(row, self.scale, self.description)
        return foreground_anomaly(self.memory.search(patches, without), study.black[row], self.background)


@dataclass(frozen=True)
class Lesson:
    """What was learned of a study's images.

    scores: (N,) of each image and highest: (N,) of its hottest place, when its own places do
    not count. outliers: rows of images that stand out, the furthest first.
    """

    study: Study
    knowledge: Knowledge
    scores: np.ndarray
    highest: np.ndarray
    outliers: tuple[int, ...]

    def anomaly(self, row: int) -> np.ndarray:
        """(h, w) of an image, when its own places do not count."""
        return self.knowledge.anomaly(self.study, row, without=row)


def learn(study: Study, patches: int = PLACES, progress: Progress = lambda done, what: None) -> Lesson:
    """Fill a memory, and see how each image does when its own places do not count.

    places: that are kept. Raises DataError for fewer than FEWEST images.
    """
    count = len(study.names)
    if count < FEWEST:
        raise DataError(
            f"Expected at least {FEWEST} good images that differ; found {count:,}. Take more of them."
            + why_left_out(study.left_out)
        )
    knowledge = fill(study, DESCRIPTION, patches, lambda done, what: progress(0.3 * done, what))
    scores, highest = [], []
    for row in range(count):
        progress(0.3 + 0.7 * row / count, "holding out each image in turn")
        anomaly = knowledge.anomaly(study, row, without=row)
        scores.append(score_of(anomaly))
        highest.append(anomaly.max())
    scores = np.array(scores)
    return Lesson(study, knowledge, scores, np.array(highest), outliers_of(scores))


def fill(
    study: Study,
    description: Description = DESCRIPTION,
    patches: int = PLACES,
    progress: Progress = lambda done, what: None,
) -> Knowledge:
    """A memory of so many places, drawn at random from all images, the same every time."""
    count = len(study.names)
    scale = fit_scale([layer[:: max(count // SAMPLE, 1)] for layer in study.intermediates])
    height, width, dimensions = study.patches(0, scale, description).shape
    most = min(patches, FEATURE_BYTES // (2 * dimensions))
    chosen = np.sort(np.random.default_rng(0).permutation(count * height * width)[:most])
    image, position = chosen // (height * width), chosen % (height * width)
    features = []
    for row in range(count):
        progress(row / count, "filling the memory")
        all_places = study.patches(row, scale, description).reshape(-1, dimensions)
        features.append(all_places[position[image == row]].astype(np.float16))  # rounded as it is stored
    rounded = np.concatenate(features).astype(np.float32)
    memory = Memory(rounded, position, image, (height, width), description.reach)
    return Knowledge(description, scale, memory, study.black.mean(0) > 0.5)


def outliers_of(scores: np.ndarray) -> tuple[int, ...]:
    """Images that stand out among the good ones, the furthest first.

    Looked for again without those that were found, until there are none: the worst hide the others.
    """
    order = np.argsort(-scores)
    found = 0
    while True:
        low, high = np.quantile(scores[order[found:]], (0.25, 0.75))
        further = int((scores[order[found:]] > high + FAR_OUT * (high - low)).sum())
        if not further:
            return tuple(int(row) for row in order[:found])
        found += further


def upper_limit(values: np.ndarray, rate: float) -> float:
    """What a further value exceeds at this rate, 0-1, by (N,) values of held-out normal images.

    Their quantile; where they are too few to have one (N times the rate below 1), the upper bound of
    prediction under Student's distribution, or the highest of them if that is more.
    """
    if len(values) * rate >= 1:
        return float(np.quantile(values, 1 - rate))
    width = values.std(ddof=1) * math.sqrt(1 + 1 / len(values))
    bound = values.mean() + stats.t.ppf(1 - rate, len(values) - 1) * width
    return float(max(bound, values.max()))


def limits_of(lesson: Lesson, false_alarms: float, defects: np.ndarray) -> Limits:
    """Where normal ends. defects: (D,) scores of known defects, or none.

    The chosen rate of false alarms among held-out images sets the limit. Known defects can raise
    it, to where a logistic fit to both is undecided, never lower it: the rate stays a promise.
    """
    good = lesson.scores
    limit, typical = upper_limit(good, false_alarms), float(np.median(good))
    if len(defects):
        unit = max(limit - typical, 1e-6)
        scores = (np.concatenate((good, defects)) - typical) / unit
        fit = LogisticRegression(C=100.0, class_weight="balanced").fit(
            scores[:, None], np.arange(len(scores)) >= len(good)
        )
        if fit.coef_[0, 0] > 0:
            crossing = typical + unit * float(-fit.intercept_[0] / fit.coef_[0, 0])
            limit = max(limit, crossing)
    spread = max(limit - typical, 1e-6) / math.log((1 - TYPICAL) / TYPICAL)
    return Limits(max(upper_limit(lesson.highest, HEAT_ALARMS), 1e-6), limit, spread)


def scores_of(study: Study, lesson: Lesson) -> np.ndarray:
    """(N,) scores of further images against what was learned."""
    return np.array([score_of(lesson.knowledge.anomaly(study, row)) for row in range(len(study.names))])


def save_taught(
    folder: Path,
    backbone: Backbone,
    lesson: Lesson,
    name: str,
    false_alarms: float = FALSE_ALARMS,
    defects: Study | None = None,
    keep_images: bool = True,
) -> dict:
    """Write the checkpoint folder and give its metrics.json. Raises DataError; then nothing was written.

    name: of the chip. defects: known ones, if any. keep_images: small copies of the good ones, for
    "nearest normal"; whoever gets the folder can see them.
    """
    found = scores_of(defects, lesson) if defects else np.empty(0)
    limits = limits_of(lesson, false_alarms, found)
    spec = replace(backbone.spec, threshold=0.5)
    metrics = _metrics(name, backbone, lesson, limits, false_alarms, found)
    split = {"train": list(lesson.study.sha256), "val": list(defects.sha256) if defects else [], "test": []}
    with replacing(folder, FILES) as new:
        save_checkpoint(new, backbone.net, spec)
        normals = normals_of(lesson, limits, weights_sha256(new), keep_images)
        save_normals(new, normals)
        write_json(new / METRICS, metrics)
        write_json(new / SPLIT, split)
        (new / CARD).write_text(_card(metrics, keep_images), encoding="utf-8")
    return metrics


def normals_of(lesson: Lesson, limits: Limits, weights: str, keep_images: bool = True) -> Normals:
    """What memory.safetensors keeps. weights: sha256 of the model.safetensors that the features are of."""
    known = lesson.knowledge
    return Normals(
        known.description,
        known.scale,
        known.memory,
        known.background,
        limits,
        lesson.study.sha256,
        lesson.study.thumbnails if keep_images else (),
        weights,
    )


def save_with_memory(out: Path, folder: Path, lesson: Lesson, keep_images: bool = True) -> None:
    """Write a copy of a trained classifier with a memory: inverse matching joins its explanations.

    Its verdict, threshold and figures stay its own. folder: its checkpoint, not changed. lesson: of a
    study with trained_backbone(folder). Raises DataError; then nothing was written.
    """
    copied = [path for path in folder.iterdir() if path.name in FILES or path.suffix == ".png"]  # the card's
    split, card = read_json(folder / SPLIT), folder / CARD
    card = card.read_text(encoding="utf-8") if card.exists() else ""
    known = {sha256 for part in split.values() for sha256 in part}
    learned = [sha256 for sha256 in lesson.study.sha256 if sha256 not in known]
    split["train"] = [*split.get("train", ()), *learned]
    limits = limits_of(lesson, FALSE_ALARMS, np.empty(0))
    with replacing(out, [*FILES, *(path.name for path in copied)]) as new:
        for path in copied:
            shutil.copyfile(path, new / path.name)
        save_normals(new, normals_of(lesson, limits, weights_sha256(new), keep_images))
        write_json(new / SPLIT, split)
        about = MEMORY_TEXT.format(images=len(lesson.study.names), copies=_copies(keep_images))
        (new / CARD).write_text(card.partition(MEMORY_TITLE)[0] + about, encoding="utf-8")


def _metrics(
    name: str, backbone: Backbone, lesson: Lesson, limits: Limits, false_alarms: float, defects: np.ndarray
) -> dict:
    scores = np.concatenate((lesson.scores, defects))
    probabilities = 1 / (1 + np.exp(-(scores - limits.score) / limits.spread))
    goods = len(lesson.scores)
    part = f"{name}, {goods:,} good images, each held out"
    part += f", {len(defects):,} known defects" if len(defects) else ""
    stopped = probabilities >= 0.5
    return {
        "data": name,
        "data_license": "license not stated",
        "starting_weights": backbone.starting_weights,
        "image_side": round(float(np.median([math.sqrt(w * h) for w, h in lesson.study.sizes]))),
        "test": {"split": f"{name}, no test images"},
        "validation": {
            "split": part,
            "false_positive_rate": float(stopped[:goods].mean()),
            **({"recall": float(stopped[goods:].mean())} if len(defects) else {}),
            "probabilities": [round(float(p), 5) for p in probabilities],
            "abnormal": [False] * goods + [True] * len(defects),
        },
        "teaching": {
            "images": goods,
            "places": len(lesson.knowledge.memory.features),
            "false_alarms_chosen": false_alarms,
            "left_out": len(lesson.study.left_out),
            "backbone": backbone.spec.backbone,
            "description": {k: v for k, v in asdict(DESCRIPTION).items() if v != math.inf},
        },
    }


CARD_TEXT = """---
license: other
library_name: chipdemo
pipeline_tag: image-classification
tags: [image-classification, chip-inspection, anomaly-detection]
---

# {data}, from {images:,} good images

Tells normal from abnormal images and shows where, for Chip Inspector:
`python app.py --model FOLDER_OR_HUB_ID`. It was taught by good images alone: each place of a
image is matched with {places:,} places of theirs, and what none of them shows is abnormal.

- Threshold: {false_alarms_chosen:.1%} false alarms were asked for; of the good images, each judged
  by the others, {false_positive_rate:.1%} would be stopped.{recall}
- The probability is a scale of that score: 0.5 is the threshold, {typical:g} a usual good image.
- Features: middle layers of {backbone}; weights: {starting_weights}
- {copies}
"""


MEMORY_TITLE = "\n## Memory of normal chips\n"
MEMORY_TEXT = (
    MEMORY_TITLE
    + """
{images:,} good images were learned beside it: "inverse matching" shows what none of them shows.
The verdict is still that of the classifier. {copies}
"""
)


def _card(metrics: dict, keep_images: bool) -> str:
    validation = metrics["validation"]
    recall = validation.get("recall")
    return CARD_TEXT.format(
        data=metrics["data"],
        starting_weights=metrics["starting_weights"],
        **metrics["teaching"],
        false_positive_rate=validation["false_positive_rate"],
        recall="" if recall is None else f" Of the known defects, {recall:.1%} are caught.",
        typical=TYPICAL,
        copies=_copies(keep_images),
    )


def _copies(kept: bool) -> str:
    return "`memory.safetensors` holds small copies of the good images." if kept else "No images are in here."
