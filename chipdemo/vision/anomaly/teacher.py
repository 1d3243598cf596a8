"""Teaching from start to end: files -> features -> a fit without outliers -> a checkpoint."""

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter

from chipdemo.errors import DataError
from chipdemo.files import Found, Limits
from chipdemo.teaching import (
    FALSE_POSITIVE_RATE,
    MIN_IMAGES,
    Draft,
    Progress,
    Taught,
    silent,
    within,
)
from chipdemo.vision.anomaly.alignment import FINER, Alignment, alignment_of
from chipdemo.vision.anomaly.choice import IMAGES as SAMPLE
from chipdemo.vision.anomaly.choice import Choice, choose_alignment
from chipdemo.vision.anomaly.drafts import outliers_shown, taught_of
from chipdemo.vision.anomaly.features import (
    Backbone,
    ImageFeatures,
    extract_features,
    some_views,
    starting_backbone,
    trained_backbone,
)
from chipdemo.vision.anomaly.fitting import Fit, fit
from chipdemo.vision.anomaly.kinds import kinds_of
from chipdemo.vision.anomaly.saving import NOT_STATED, save_taught, save_with_memory_bank
from chipdemo.vision.anomaly.scale import IMAGES as AT_SCALES
from chipdemo.vision.anomaly.scale import LARGE, Scale, choose_scale, largest_side, sides_of

CHOSEN, EXTRACTED, FITTED = 0.3, 0.6, 0.95  # share of the time that has passed by then


@dataclass(frozen=True, eq=False)
class NetworkDraft(Draft):
    """What was fitted; nothing where there are several kinds."""

    fitted: Fit | None = None
    defects: ImageFeatures | None = None
    choice: Choice | None = None
    scale: Scale | None = None


class NetworkTeacher:
    """The Teacher of a backbone. See chipdemo.teaching.Teacher for the contract.

    classifier: checkpoint of a trained one that gets a memory bank; without it, a new model is made.
    alignment: one of ALIGNMENTS; size: of the views, pixels, one of sides_of the backbone. Without them, what
    suits the images is found out. backbone, weights: as starting_backbone takes them. license: of the images.
    """

    def __init__(
        self,
        classifier: Path | None = None,
        alignment: str = "",
        backbone: str = "",
        weights: Path | None = None,
        size: int = 0,
        license: str = NOT_STATED,
    ):
        self.classifier, self.alignment, self.size = classifier, alignment, size
        self.license = license
        self._start = backbone, weights

    @cached_property
    def backbone(self) -> Backbone:
        return trained_backbone(self.classifier) if self.classifier else starting_backbone(*self._start)

    def draft(
        self,
        goods: Sequence[Found],
        defects: Sequence[Found],
        limits: Limits,
        progress: Progress,
        together: bool = False,
    ) -> NetworkDraft:
        """See Teacher."""
        started = perf_counter()
        progress(0, "preparing the network")
        choice, scale = self._choice(goods, limits, within(progress, 0, CHOSEN))
        between = CHOSEN + (EXTRACTED - CHOSEN) * len(goods) / (len(goods) + len(defects))
        good = extract_features(
            goods, self.backbone, within(progress, CHOSEN, between), limits, alignment=choice.alignment
        )
        kinds = () if together or self.classifier else kinds_of(good)
        if len(kinds) > 1:
            seconds = perf_counter() - started
            return NetworkDraft(len(good.names), good.unusable, "", (), (), seconds, kinds)
        known = self._known(defects, good, limits, within(progress, between, EXTRACTED)) if defects else None
        fitted = fit(good, progress=within(progress, EXTRACTED, FITTED))
        return NetworkDraft(
            images=len(good.names),
            unusable=good.unusable + (known.unusable if known else ()),
            alignment=choice.text + (f" {scale.text}" if scale else ""),
            warnings=good.warnings,
            outliers=outliers_shown(good.names, good.thumbnails, fitted.maps, fitted.outliers),
            seconds=perf_counter() - started,
            fitted=fitted,
            defects=known,
            choice=choice,
            scale=scale,
        )

    def _choice(
        self, goods: Sequence[Found], limits: Limits, progress: Progress
    ) -> tuple[Choice, Scale | None]:
        """The alignment that was asked for, or the one that suits the images; and the size of the views."""
        if self.size and self.size not in (sides := sides_of(self.backbone)):
            sizes = ", ".join(map(str, sides))
            raise DataError(f"Images cannot be compared at {self.size} px. Choose one of {sizes}.")
        views = some_views(goods, self.backbone, SAMPLE, limits)
        if len(views) < MIN_IMAGES:  # too few to teach from, which the fit says
            return Choice(Alignment(), {}), None
        if self.alignment:
            choice = Choice(alignment_of(self.alignment, views), {})
        else:
            choice = choose_alignment(views, self.backbone, within(progress, 0, 0.6))
        sizes = [view.image_size for view in views]
        smallest, largest = min(sides_of(self.backbone)), self.size or largest_side(self.backbone, sizes)
        if largest == smallest or self.classifier:
            return choice, None
        count, side = AT_SCALES // 2 if max(map(max, sizes)) > LARGE else AT_SCALES, FINER * largest
        views = some_views(goods, self.backbone, count, limits, side)
        progress = within(progress, 0.6, 1)
        alignment, scale = choose_scale(views, choice.alignment, self.backbone, progress, self.size)
        return replace(choice, alignment=alignment), scale

    def _known(
        self, defects: Sequence[Found], good: ImageFeatures, limits: Limits, progress: Progress
    ) -> ImageFeatures:
        try:
            known = extract_features(defects, self.backbone, progress, limits, alignment=good.alignment)
        except DataError as error:
            raise DataError(f"Known defects: {error}") from error
        if both := [name for name, sha256 in zip(known.names, known.sha256) if sha256 in good.sha256]:
            raise DataError(f"{both[0]} is among the good images and among the defects. Remove one of them.")
        return known

    def save(
        self,
        folder: Path,
        draft: NetworkDraft,
        without: Collection[int],
        name: str,
        false_positive_rate: float = FALSE_POSITIVE_RATE,
        keep_images: bool = True,
        progress: Progress = silent,
    ) -> Fit:
        """Write the checkpoint of a draft without some rows; gives what was fitted. Raises DataError.

        name, false_positive_rate: of a new model; a classifier keeps its own name and threshold.
        """
        fitted = draft.fitted.without(without, within(progress, 0, FITTED))
        progress(FITTED, "saving the model")
        if self.classifier:
            save_with_memory_bank(folder, self.classifier, fitted, keep_images)
        else:
            save_taught(
                folder,
                self.backbone,
                fitted,
                name,
                false_positive_rate,
                draft.defects,
                keep_images,
                draft.alignment,
                self.license,
            )
        return fitted

    def finish(
        self,
        draft: NetworkDraft,
        without: Collection[int],
        false_positive_rate: float,
        name: str,
        progress: Progress,
    ) -> Taught:
        """See Teacher."""
        started = perf_counter()
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent, name)
            fitted = self.save(folder, draft, without, name, false_positive_rate, progress=progress)
            kept = tuple(fitted.features.names[row] for row in fitted.outliers)
            warnings, seconds = fitted.features.warnings, draft.seconds + perf_counter() - started
            return taught_of(folder, draft, without, kept, warnings, seconds)
