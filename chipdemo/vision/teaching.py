"""Teach a new chip from good photographs alone: no training, no defect needed.

    backbone = starting_backbone()
    study = study_photographs(paths, backbone)           # reads them and runs the network, once
    lesson = learn(study)                                # fills the memory; each held out in turn
    lesson.outliers                                      # those to show before they are learned
    lesson = learn(study.without(lesson.outliers))       # if they are to be left out
    save_taught(folder, backbone, lesson, false_alarms=0.02, ...)

The folder is a checkpoint like any other: `python app.py --model FOLDER`.
"""

import math
import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from chipdemo import files
from chipdemo.errors import DataError, ImageError
from chipdemo.files import Found
from chipdemo.images import MAX_MEGAPIXELS, read_photograph
from chipdemo.settings import DEFAULT_MODEL
from chipdemo.teacher import FALSE_ALARMS, FEWEST, Progress
from chipdemo.vision.checkpoint import (
    CARD,
    FILES,
    HEAD,
    JUDGE_BY_MEMORY,
    METRICS,
    SPLIT,
    ModelSpec,
    read_json,
    write_json,
)
from chipdemo.vision.matching import black_places, foreground_anomaly, score_of
from chipdemo.vision.memory import Description, Memory, Scale
from chipdemo.vision.model import ChipNet
from chipdemo.vision.normals import Limits, Normals, save_normals, thumbnail, weights_sha256
from chipdemo.vision.output import replacing
from chipdemo.vision.packaged import LITE0, PACKAGED, packaged_lite0
from chipdemo.vision.places import describe, fit_scale
from chipdemo.vision.torch_engine import TorchEngine
from chipdemo.vision.transforms import pixels_of
from chipdemo.vision.weights import load_checkpoint, save_checkpoint

IMAGE_SIZE = 256  # pixels, side of the network's input
DESCRIPTION = Description()
PLACES = 20_000  # that are kept, of all photographs together ...
FEATURE_BYTES = 12_000_000  # ... and what they may take: 20 MB hold them and the small photographs
SAMPLE = 300  # photographs, about, that the statistics of the features come from
HEAT_ALARMS = 0.02  # of normal photographs may show a place at half heat
TYPICAL = 0.05  # probability of abnormal of the median normal photograph
FAR_OUT = 3.0  # interquartile ranges above the upper quartile: Tukey's "far out"
MIXED = 2.0  # times as many pixels along a side as another: the same scratch looks different
BLANK = 8  # 0-255; a photograph with less between its darkest and brightest value shows nothing


@dataclass(frozen=True)
class Backbone:
    """A network whose features are compared. starting_weights: what its weights are, in words."""

    net: ChipNet
    spec: ModelSpec
    starting_weights: str

    def engine(self) -> TorchEngine:
        return TorchEngine(self.net, self.spec)


@dataclass(frozen=True)
class Study:
    """N photographs as the network sees them; row i of everything is the same photograph.

    middle: the layers of DESCRIPTION, each (N, C, h, w) float16. black: (N, h, w) bool.
    sizes: (width, height), pixels. left_out: why others of the folder are not here, a line each.
    """

    names: tuple[str, ...]
    sha256: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    middle: tuple[Tensor, ...]
    black: np.ndarray
    thumbnails: tuple[bytes, ...]
    left_out: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what makes the photographs less alike than they should be."""
        shapes = sorted({round(width / height, 1) for width, height in self.sizes})
        sides = sorted(math.sqrt(width * height) for width, height in self.sizes)
        warnings = []
        if len(shapes) > 1:
            warnings.append(
                f"Expected sides in one proportion; found {len(shapes)}, from {shapes[0]} to {shapes[-1]} "
                "(width by height). Photograph all chips alike."
            )
        if sides[-1] >= MIXED * sides[0]:
            warnings.append(
                f"Expected photographs of one size; found sides of {sides[0]:,.0f} to {sides[-1]:,.0f} px. "
                "Take all of them at the same distance."
            )
        return tuple(warnings)

    def places(self, row: int, scale: Scale, description: Description) -> np.ndarray:
        """One photograph's, (h, w, D), as describe gives them."""
        return describe([layer[row, None] for layer in self.middle], scale, description)[0].numpy()

    def of(self, rows: Sequence[int]) -> "Study":
        """These rows alone, in this order."""
        pick = {
            name: tuple(getattr(self, name)[row] for row in rows)
            for name in ("names", "sha256", "sizes", "thumbnails")
        }
        return replace(
            self, **pick, middle=tuple(layer[rows] for layer in self.middle), black=self.black[rows]
        )

    def without(self, rows: Collection[int]) -> "Study":
        """The same but for some rows."""
        return self.of([row for row in range(len(self.names)) if row not in set(rows)])


@dataclass(frozen=True)
class Knowledge:
    """What normal chips look like: the memory and how to compare with it. background: as Normals has it."""

    description: Description
    scale: Scale
    memory: Memory
    background: np.ndarray

    def anomaly(self, study: Study, row: int, without: int = -1) -> np.ndarray:
        """(h, w) of a photograph: what its score and its heat are made of. without: as in Memory.search."""
        places = study.places(row, self.scale, self.description)
        return foreground_anomaly(self.memory.search(places, without), study.black[row], self.background)


@dataclass(frozen=True)
class Lesson:
    """What was learned of a study's photographs.

    scores: (N,) of each photograph and highest: (N,) of its hottest place, when its own places do
    not count. outliers: rows of photographs that stand out, the furthest first.
    """

    study: Study
    knowledge: Knowledge
    scores: np.ndarray
    highest: np.ndarray
    outliers: tuple[int, ...]

    def anomaly(self, row: int) -> np.ndarray:
        """(h, w) of a photograph, when its own places do not count."""
        return self.knowledge.anomaly(self.study, row, without=row)


def starting_backbone() -> Backbone:
    """EfficientNet-Lite0 with ImageNet weights from its package; else the shipped model's backbone."""
    tensors = packaged_lite0()
    if tensors is None:
        net, spec, info = load_checkpoint(DEFAULT_MODEL)
        return backbone_of(spec.backbone, net.backbone.state_dict(), f"backbone of {info.name}")
    return backbone_of(LITE0, tensors, PACKAGED)


def backbone_of(name: str, tensors: dict[str, Tensor], starting_weights: str) -> Backbone:
    """A backbone of timm with these tensors, rounded as a checkpoint stores them; its head knows nothing.

    Raises DataError.
    """
    spec = ModelSpec(name, "none", image_size=IMAGE_SIZE, verdict_by=JUDGE_BY_MEMORY)
    net = spec.build().eval()
    own = net.backbone.state_dict()
    if missing := [key for key in own if key not in tensors and not key.endswith("num_batches_tracked")]:
        raise DataError(
            f"Expected weights of {name}; {len(missing)} tensors are missing, such as {missing[0]}."
        )
    net.backbone.load_state_dict({key: tensors[key] for key in own if key in tensors}, strict=False)
    with torch.no_grad():
        for tensor in (*net.head.parameters(), *net.backbone.state_dict().values()):
            if tensor.is_floating_point() and tensor.ndim > 1:
                tensor.copy_(tensor.half())
        for parameter in net.head.parameters():
            parameter.zero_()
    look = net.backbone.pretrained_cfg
    return Backbone(
        net,
        replace(spec, mean=tuple(look["mean"]), std=tuple(look["std"]), interpolation=look["interpolation"]),
        starting_weights,
    )


def study_photographs(
    paths: Sequence[Path],
    backbone: Backbone,
    progress: Progress = lambda done, what: None,
    max_megapixels: float = MAX_MEGAPIXELS,
    strides: Sequence[int] = DESCRIPTION.strides,
) -> Study:
    """study_files of what lies on this machine."""
    limits = files.Limits(megapixels=max_megapixels)
    return study_files([Found(path.name, path) for path in paths], backbone, progress, limits, strides)


def study_files(
    photographs: Sequence[Found],
    backbone: Backbone,
    progress: Progress = lambda done, what: None,
    limits: files.Limits = files.DEFAULT_LIMITS,
    strides: Sequence[int] = DESCRIPTION.strides,
) -> Study:
    """Read photographs and run the network over them, once. Raises DataError where none can be used.

    One that cannot be read, shows nothing, or is there twice is left out and named.
    """
    engine = backbone.engine()
    rows: dict[str, tuple] = {}
    left_out = []
    for done, file in enumerate(photographs):
        progress(done / len(photographs), "looking at photographs")
        try:
            photograph = read_photograph(files.content_of(file, limits), limits.megapixels)
        except ImageError as error:
            left_out.append(f"{file.name}: {error}")
            continue
        pixels = pixels_of(photograph.image, backbone.spec.image_size, backbone.spec.interpolation)
        if int(pixels.max()) - int(pixels.min()) < BLANK:
            left_out.append(f"{file.name}: one tone throughout, there is nothing to learn from it")
        elif photograph.sha256 in rows:
            left_out.append(f"{file.name}: the same photograph as {rows[photograph.sha256][0]}")
        else:
            middle = engine.forward(pixels[None], strides).middle
            rows[photograph.sha256] = (
                file.name,
                photograph.image.size,
                tuple(layer.half().cpu() for layer in middle),
                black_places(pixels, tuple(middle[0].shape[2:])),
                thumbnail(photograph.image, len(photographs)),
            )
    if not rows:
        raise DataError(f"Expected photographs that can be used; found none.{_why(left_out)}")
    names, sizes, middle, black, thumbnails = zip(*rows.values())
    return Study(
        names,
        tuple(rows),
        sizes,
        tuple(torch.cat(layer) for layer in zip(*middle)),
        np.stack(black),
        thumbnails,
        tuple(left_out),
    )


def _why(left_out: Sequence[str]) -> str:
    return f" Left out: {'; '.join(left_out[:3])}{' ...' if len(left_out) > 3 else ''}" if left_out else ""


def learn(study: Study, places: int = PLACES, progress: Progress = lambda done, what: None) -> Lesson:
    """Fill a memory, and see how each photograph does when its own places do not count.

    places: that are kept. Raises DataError for fewer than FEWEST photographs.
    """
    count = len(study.names)
    if count < FEWEST:
        raise DataError(
            f"Expected at least {FEWEST} good photographs that differ; found {count:,}. Take more of them."
            + _why(study.left_out)
        )
    knowledge = fill(study, DESCRIPTION, places, lambda done, what: progress(0.3 * done, what))
    scores, highest = [], []
    for row in range(count):
        progress(0.3 + 0.7 * row / count, "holding out each photograph in turn")
        anomaly = knowledge.anomaly(study, row, without=row)
        scores.append(score_of(anomaly))
        highest.append(anomaly.max())
    scores = np.array(scores)
    return Lesson(study, knowledge, scores, np.array(highest), outliers_of(scores))


def fill(
    study: Study,
    description: Description = DESCRIPTION,
    places: int = PLACES,
    progress: Progress = lambda done, what: None,
) -> Knowledge:
    """A memory of so many places, drawn at random from all photographs, the same every time."""
    count = len(study.names)
    scale = fit_scale([layer[:: max(count // SAMPLE, 1)] for layer in study.middle])
    height, width, dimensions = study.places(0, scale, description).shape
    most = min(places, FEATURE_BYTES // (2 * dimensions))
    chosen = np.sort(np.random.default_rng(0).permutation(count * height * width)[:most])
    photograph, place = chosen // (height * width), chosen % (height * width)
    features = []
    for row in range(count):
        progress(row / count, "filling the memory")
        all_places = study.places(row, scale, description).reshape(-1, dimensions)
        features.append(all_places[place[photograph == row]].astype(np.float16))  # rounded as it is stored
    rounded = np.concatenate(features).astype(np.float32)
    memory = Memory(rounded, place, photograph, (height, width), description.reach)
    return Knowledge(description, scale, memory, study.black.mean(0) > 0.5)


def outliers_of(scores: np.ndarray) -> tuple[int, ...]:
    """Photographs that stand out among the good ones, the furthest first.

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
    """What a further value exceeds at this rate, 0-1, by (N,) values of held-out normal photographs.

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

    The chosen rate of false alarms among held-out photographs sets the limit. Known defects can raise
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
    """(N,) scores of further photographs against what was learned."""
    return np.array([score_of(lesson.knowledge.anomaly(study, row)) for row in range(len(study.names))])


def save_taught(
    folder: Path,
    backbone: Backbone,
    lesson: Lesson,
    name: str,
    false_alarms: float = FALSE_ALARMS,
    defects: Study | None = None,
    keep_photographs: bool = True,
) -> dict:
    """Write the checkpoint folder and give its metrics.json. Raises DataError; then nothing was written.

    name: of the chip. defects: known ones, if any. keep_photographs: small copies of the good ones, for
    "nearest normal"; whoever gets the folder can see them.
    """
    found = scores_of(defects, lesson) if defects else np.empty(0)
    limits = limits_of(lesson, false_alarms, found)
    spec = replace(backbone.spec, threshold=0.5)
    metrics = _metrics(name, backbone, lesson, limits, false_alarms, found)
    split = {"train": list(lesson.study.sha256), "val": list(defects.sha256) if defects else [], "test": []}
    with replacing(folder, FILES) as new:
        save_checkpoint(new, backbone.net, spec)
        normals = normals_of(lesson, limits, weights_sha256(new), keep_photographs)
        save_normals(new, normals)
        write_json(new / METRICS, metrics)
        write_json(new / SPLIT, split)
        (new / CARD).write_text(_card(metrics, keep_photographs), encoding="utf-8")
    return metrics


def normals_of(lesson: Lesson, limits: Limits, weights: str, keep_photographs: bool = True) -> Normals:
    """What memory.safetensors keeps. weights: sha256 of the model.safetensors that the features are of."""
    known = lesson.knowledge
    return Normals(
        known.description,
        known.scale,
        known.memory,
        known.background,
        limits,
        lesson.study.sha256,
        lesson.study.thumbnails if keep_photographs else (),
        weights,
    )


def trained_backbone(folder: Path) -> Backbone:
    """The network of a trained classifier, whole, to give it a memory. Raises DataError, CheckpointError."""
    net, spec, info = load_checkpoint(folder)
    if spec.verdict_by != HEAD:
        raise DataError(
            f"Expected a trained classifier in {folder}; it judges by its memory already. Teach it anew, "
            "without --memory-for."
        )
    try:
        net.stages_of(DESCRIPTION.strides)
    except ValueError as error:
        raise DataError(
            f"Expected a backbone whose middle features can be matched; {error}. Train another one."
        ) from error
    return Backbone(net, spec, info.starting_weights)


def save_with_memory(out: Path, folder: Path, lesson: Lesson, keep_photographs: bool = True) -> None:
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
        save_normals(new, normals_of(lesson, limits, weights_sha256(new), keep_photographs))
        write_json(new / SPLIT, split)
        about = MEMORY_TEXT.format(photographs=len(lesson.study.names), copies=_copies(keep_photographs))
        (new / CARD).write_text(card.partition(MEMORY_TITLE)[0] + about, encoding="utf-8")


def _metrics(
    name: str, backbone: Backbone, lesson: Lesson, limits: Limits, false_alarms: float, defects: np.ndarray
) -> dict:
    scores = np.concatenate((lesson.scores, defects))
    probabilities = 1 / (1 + np.exp(-(scores - limits.score) / limits.spread))
    goods = len(lesson.scores)
    part = f"{name}, {goods:,} good photographs, each held out"
    part += f", {len(defects):,} known defects" if len(defects) else ""
    stopped = probabilities >= 0.5
    return {
        "data": name,
        "data_licence": "licence not stated",
        "starting_weights": backbone.starting_weights,
        "photograph_side": round(float(np.median([math.sqrt(w * h) for w, h in lesson.study.sizes]))),
        "test": {"part": f"{name}, no test photographs"},
        "validation": {
            "part": part,
            "false_alarm_rate": float(stopped[:goods].mean()),
            **({"recall": float(stopped[goods:].mean())} if len(defects) else {}),
            "probabilities": [round(float(p), 5) for p in probabilities],
            "abnormal": [False] * goods + [True] * len(defects),
        },
        "teaching": {
            "photographs": goods,
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

# {data}, from {photographs:,} good photographs

Tells normal from abnormal photographs and shows where, for Chip Inspector:
`python app.py --model FOLDER_OR_HUB_ID`. It was taught by good photographs alone: each place of a
photograph is matched with {places:,} places of theirs, and what none of them shows is abnormal.

- Threshold: {false_alarms_chosen:.1%} false alarms were asked for; of the good photographs, each judged
  by the others, {false_alarm_rate:.1%} would be stopped.{recall}
- The probability is a scale of that score: 0.5 is the threshold, {typical:g} a usual good photograph.
- Features: middle layers of {backbone}; weights: {starting_weights}
- {copies}
"""


MEMORY_TITLE = "\n## Memory of normal chips\n"
MEMORY_TEXT = (
    MEMORY_TITLE
    + """
{photographs:,} good photographs were learned beside it: "inverse matching" shows what none of them shows.
The verdict is still that of the classifier. {copies}
"""
)


def _card(metrics: dict, keep_photographs: bool) -> str:
    validation = metrics["validation"]
    recall = validation.get("recall")
    return CARD_TEXT.format(
        data=metrics["data"],
        starting_weights=metrics["starting_weights"],
        **metrics["teaching"],
        false_alarm_rate=validation["false_alarm_rate"],
        recall="" if recall is None else f" Of the known defects, {recall:.1%} are caught.",
        typical=TYPICAL,
        copies=_copies(keep_photographs),
    )


def _copies(kept: bool) -> str:
    return (
        "`memory.safetensors` holds small copies of the good photographs."
        if kept
        else "No photographs are in here."
    )
