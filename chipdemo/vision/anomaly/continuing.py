"""A taught model goes on learning, in seconds and without its earlier images.

Further good images, such as those of today, widen its memory bank and move its limits of normal. Known
defects set the threshold; from HEAD_IMAGES of each class on, a linear head on what the anomaly of an image
amounts to gives its score, where held-out images show that it is better.
"""

import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any
from zipfile import ZipFile

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from chipdemo.errors import DataError
from chipdemo.files import Found, Limits
from chipdemo.near_duplicates import near_duplicates
from chipdemo.teaching import MIN_IMAGES, Draft, Progress, Taught, silent, within
from chipdemo.vision.anomaly.anomaly_model import (
    AnomalyModel,
    FittedBank,
    MemoryHead,
    save_anomaly_model,
    summary_of,
)
from chipdemo.vision.anomaly.choice import standard_error, wins_of
from chipdemo.vision.anomaly.coreset import coreset
from chipdemo.vision.anomaly.drafts import outliers_shown, taught_of
from chipdemo.vision.anomaly.features import first_unusable, followed_by, usable_images
from chipdemo.vision.anomaly.fitting import (
    CANDIDATES,
    held_out_anomaly,
    limits_of,
    normal_anomaly,
    outliers_of,
    parts_of,
)
from chipdemo.vision.anomaly.fitting import independent as independent_of
from chipdemo.vision.anomaly.matching import black_patches, score_of, smoothed
from chipdemo.vision.anomaly.memory_bank import MemoryBank
from chipdemo.vision.anomaly.saving import card_of, validation_of
from chipdemo.vision.checkpoint import (
    CARD,
    FILES,
    JUDGE_BY_MEMORY,
    METRICS,
    SPLIT,
    find_checkpoint,
    read_json,
    read_metrics,
    write_json,
)
from chipdemo.vision.output import replacing
from chipdemo.vision.predictor import NetworkModel, load_model
from chipdemo.vision.runtimes.export import write_graph

ADDED = 0.25  # patches that are added to the memory bank, at most, as a share of what it holds
HEAD_IMAGES = 20  # of each class, from which on a head is tried
FOLDS = 5  # of its cross-validation


@dataclass(frozen=True, eq=False)
class SeenImages:
    """What the network makes of N images.

    patches: (h, w, D) float16 of each, from describe_patches. black, inside: (N, h, w) bool. groups: the same
    number for near-duplicates. sizes: (width, height), pixels.
    """

    names: tuple[str, ...]
    sha256: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    patches: tuple[np.ndarray, ...]
    black: np.ndarray
    inside: np.ndarray
    thumbnails: tuple[bytes, ...]
    groups: tuple[int, ...]

    def without(self, rows: Collection[int]) -> "SeenImages":
        """All but some rows."""
        left = [row for row in range(len(self.names)) if row not in set(rows)]
        pick = {
            name: tuple(getattr(self, name)[row] for row in left)
            for name in ("names", "sha256", "sizes", "patches", "thumbnails", "groups")
        }
        return replace(self, **pick, black=self.black[left], inside=self.inside[left])

    def maps(self, bank: FittedBank) -> np.ndarray:
        """(N, h, w) float32: the anomaly of each."""
        rows = zip(self.patches, self.black, self.inside)
        return np.stack([bank.anomaly_map(each.astype(np.float32), *seen) for each, *seen in rows])


@dataclass(frozen=True, eq=False)
class Widened:
    """A memory bank with patches of further good images. maps: (N, h, w) of these, each held out."""

    bank: FittedBank
    maps: np.ndarray


@dataclass(frozen=True, eq=False)
class ContinuedDraft(Draft):
    """goods, defects: what was seen of them; defects is None where none are known."""

    goods: SeenImages | None = None
    defects: SeenImages | None = None


class ContinuingTeacher:
    """The Teacher that lets a taught model go on learning. See chipdemo.teaching.Teacher for the contract.

    source: what loads its checkpoint, as for --model, or a zip of the folder. Raises DataError for a
    classifier, CheckpointError.
    """

    def __init__(self, source: str):
        if source.endswith(".zip"):
            self._unpacked = tempfile.TemporaryDirectory()  # is deleted with the teacher
            with ZipFile(source) as archive:
                archive.extractall(self._unpacked.name)
            source = str(next(Path(self._unpacked.name).iterdir()))
        self.folder = folder = find_checkpoint(source)
        self.model = load_model(str(folder))
        if self.model.spec.verdict_by != JUDGE_BY_MEMORY:
            raise DataError(
                f"{folder} is a classifier, which learns by python training/train.py --init {folder}."
            )

    def draft(
        self,
        goods: Sequence[Found],
        defects: Sequence[Found],
        limits: Limits,
        progress: Progress,
        together: bool = True,
    ) -> ContinuedDraft:
        """See Teacher."""
        started, unusable = perf_counter(), []
        share = len(goods) / (len(goods) + len(defects))
        good = seen_images(self.model, goods, limits, unusable, within(progress, 0, 0.6 * share))
        if (count := len(set(good.groups))) < MIN_IMAGES:
            raise DataError(
                f"{count} further good images are too few: {MIN_IMAGES} that differ are needed."
                + first_unusable(unusable)
            )
        bad = None
        if defects:
            bad = seen_images(self.model, defects, limits, unusable, within(progress, 0.6 * share, 0.6))
        if bad and (both := set(good.sha256) & set(bad.sha256)):
            name = good.names[good.sha256.index(both.pop())]
            raise DataError(f"{name} is among the good images and among the defects. Remove one of them.")
        maps = widened(self.model.anomaly_model, good, within(progress, 0.6, 1)).maps
        scores = np.array([score_of(one) for one in maps])
        return ContinuedDraft(
            images=len(good.names),
            unusable=tuple(unusable),
            alignment=read_metrics(self.folder)["teaching"]["compared"],
            warnings=(),
            outliers=outliers_shown(good.names, good.thumbnails, maps, outliers_of(scores)),
            seconds=perf_counter() - started,
            goods=good,
            defects=bad,
        )

    def save(
        self,
        folder: Path,
        draft: ContinuedDraft,
        without: Collection[int],
        false_positive_rate: float = 0.0,
        progress: Progress = silent,
    ) -> AnomalyModel:
        """Write the checkpoint of the model that has gone on learning. Raises DataError.

        folder: may be that of the model. false_positive_rate: 0 for the one that it was taught with.
        """
        before, goods, defects = self.model.anomaly_model, draft.goods.without(without), draft.defects
        if len(set(goods.groups)) < MIN_IMAGES:
            raise DataError(f"{MIN_IMAGES} further good images are needed. Keep more of the outliers.")
        metrics = read_metrics(self.folder)
        rate = false_positive_rate or metrics["teaching"]["false_positive_rate_wanted"]
        wider = widened(before, goods, progress)
        of_defects = defects.maps(wider.bank) if defects else None
        head = head_of(wider.maps, of_defects) if defects else None
        model = replace(
            before,
            **vars(wider.bank),
            head=head,
            images=before.images + goods.sha256,
            thumbnails=before.thumbnails + goods.thumbnails if before.thumbnails else (),
        )
        scores = np.array([model.score(one) for one in wider.maps])
        bad = np.array([model.score(one) for one in of_defects]) if defects else np.empty(0)
        good, highest = independent_of(scores, goods.groups), wider.maps.max((1, 2))
        model = replace(model, limits=limits_of(good, highest, rate, bad))
        learned = {
            "images": len(model.images),
            "patches": len(model.memory_bank.features),
            "false_positive_rate_wanted": rate,
            "further": _further(len(goods.names), len(bad), head is not None),
        }
        metrics["teaching"] |= learned
        metrics["validation"] = validation_of(metrics["data"], good, bad, model.limits)
        self._write(folder, model, metrics, defects.sha256 if defects else ())
        return model

    def finish(
        self,
        draft: ContinuedDraft,
        without: Collection[int],
        false_positive_rate: float,
        name: str,
        progress: Progress,
    ) -> Taught:
        """See Teacher. name: instead of the one that the model was taught with."""
        started = perf_counter()
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent, name)
            self.save(folder, draft, without, false_positive_rate, progress)
            kept = tuple(one.name for one in draft.outliers if one.row not in without)
            seconds = draft.seconds + perf_counter() - started
            return taught_of(folder, draft, without, kept, (), seconds)

    def _write(
        self, folder: Path, model: AnomalyModel, metrics: dict[str, Any], defects: Sequence[str]
    ) -> None:
        """defects: their sha256."""
        split = read_json(self.folder / SPLIT)
        split["train"] = list(model.images)
        split["val"] = [*split.get("val", ()), *defects]
        with replacing(folder, FILES) as new:
            for path in self.folder.iterdir():
                if path.name in FILES:
                    shutil.copyfile(path, new / path.name)
            save_anomaly_model(new, model)
            write_json(new / METRICS, metrics)
            write_json(new / SPLIT, split)
            (new / CARD).write_text(card_of(metrics, bool(model.thumbnails)), encoding="utf-8")
            write_graph(new)


def _further(goods: int, defects: int, head: bool) -> str:
    """A sentence for the model card."""
    known = f" and {defects:,} defects" if defects else ""
    by_head = " A linear head on the anomalies gives the score." if head else ""
    return f"It went on learning from {goods:,} further good images{known}, which set its limits.{by_head}"


def seen_images(
    model: NetworkModel, images: Sequence[Found], limits: Limits, unusable: list[str], progress: Progress
) -> SeenImages:
    """Read images and run the network over them. Raises DataError where none can be used.

    One that cannot be read, shows nothing, or that the model knows is left out and named in `unusable`.
    """
    known = model.anomaly_model.images
    usable = usable_images(
        images, model.spec, model.alignment, within(progress, 0, 0.8), limits, unusable, known
    )
    seen, grid = [], model.anomaly_model.memory_bank.grid
    for one in usable:
        shown = black_patches(one.view.pixels, grid), one.view.inside(grid)
        patches = model.patches(one.view).astype(np.float16)
        seen.append((one.name, one.sha256, one.view.image_size, patches, *shown, one.thumbnail, one.gray))
    if not seen:
        raise DataError(f"None of the files can be used.{first_unusable(unusable)}")
    names, sha256, sizes, patches, black, inside, thumbnails, gray = zip(*seen)
    groups = near_duplicates(np.stack(gray), followed_by(within(progress, 0.8, 1)))
    return SeenImages(
        names,
        sha256,
        sizes,
        patches,
        np.stack(black),
        np.stack(inside),
        thumbnails,
        tuple(groups.tolist()),
    )


def widened(before: AnomalyModel, goods: SeenImages, progress: Progress = silent) -> Widened:
    """The memory bank with patches of further good images; these are held out in parts to see what is normal.

    The number of patches that are added is bounded, and they are as different as possible.
    """
    bank, grid = before.memory_bank, before.memory_bank.grid
    count = goods.inside.size
    drawn = np.sort(np.random.default_rng(0).permutation(count)[:CANDIDATES])
    drawn = drawn[goods.inside.reshape(-1)[drawn]]
    image, position = np.divmod(drawn, grid[0] * grid[1])
    vectors = np.concatenate(
        [
            patches.reshape(-1, patches.shape[2])[position[image == row]]
            for row, patches in enumerate(goods.patches)
        ]
    ).astype(np.float32)

    def of(rows: np.ndarray) -> MemoryBank:
        """The earlier bank and patches of some candidates."""
        chosen = rows[coreset(vectors[rows], round(ADDED * len(bank.features)))]
        return MemoryBank(
            np.concatenate((bank.features, vectors[chosen])),
            np.concatenate((bank.position, position[chosen])),
            np.concatenate((bank.image, len(before.images) + image[chosen])),
            grid,
            bank.reach,
        )

    parts = parts_of(goods.groups)
    banks = [of(np.flatnonzero(parts[image] != part)) for part in range(parts.max() + 1)]
    anomaly = []
    for row, patches in enumerate(goods.patches):
        progress(row / len(goods.patches), "holding out each image")
        anomaly.append(smoothed(banks[parts[row]].search(patches.astype(np.float32))))
    anomaly = np.stack(anomaly)
    normal = normal_anomaly(anomaly, goods.inside, before.normal)
    wider = FittedBank(
        before.descriptor,
        before.statistics,
        of(np.arange(len(image))),
        before.background,
        normal,
        before.alignment,
    )
    held_out = held_out_anomaly(anomaly, goods.inside, parts, before.normal)
    shown = goods.inside & ~(goods.black & before.background)
    return Widened(wider, np.where(shown, held_out, np.float32(0)))


def head_of(goods: np.ndarray, defects: np.ndarray) -> MemoryHead | None:
    """A linear head, where there are HEAD_IMAGES of each class and it is better than score_of.

    goods, defects: (N, h, w) and (K, h, w), anomaly of held-out images. Better: in cross-validation, its area
    under the ROC curve is larger by more than one standard error.
    """
    if min(len(goods), len(defects)) < HEAD_IMAGES:
        return None
    summaries = np.array([summary_of(one) for one in (*goods, *defects)])
    abnormal = np.arange(len(summaries)) >= len(goods)
    linear = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    by_head = cross_val_predict(linear, summaries, abnormal, cv=folds, method="decision_function")
    by_score = np.array([score_of(one) for one in (*goods, *defects)])
    gained = wins_of(by_head[~abnormal], by_head[abnormal]) - wins_of(by_score[~abnormal], by_score[abnormal])
    if gained.mean() <= standard_error(gained):
        return None
    scaler, logistic = linear.fit(summaries, abnormal)
    weights = logistic.coef_[0] / scaler.scale_
    return MemoryHead(tuple(map(float, weights)), float(logistic.intercept_[0] - weights @ scaler.mean_))
