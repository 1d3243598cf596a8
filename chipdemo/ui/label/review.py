"""The review section of the Label tab: consensus, agreement, likely label errors, settled disagreements, and
the next training.

Nobody may see another's label before giving their own. Hence:
- Only images with as many labels as wanted are counted. The queue gives these to nobody any more, so even
  the number 1 tells nothing about an image that somebody still has to label. Kappas and their shares name
  no image. All annotators may see these numbers.
- An image is shown with its label only to those who have labeled it themselves. Reviewers that
  were named (--reviewers) see others too, of those that have as many labels as wanted: their label then
  decides, and is no vote on agreement. Where everyone may review, nobody sees more than the others.
- A settled disagreement is shown with its votes to named reviewers, and to whoever decided it.
"""

from dataclasses import dataclass

from chipdemo.inspection import ModelInfo
from chipdemo.labeling.agreement import DISPUTED
from chipdemo.labeling.browse import thumbnails
from chipdemo.labeling.settled import Settled, settled
from chipdemo.labeling.statistics import (
    Agreement,
    LikelyError,
    against_the_model,
    agreement,
    consensus_counts,
    likely_errors,
)
from chipdemo.labeling.status import Status, images_seen, status_of, training_commands
from chipdemo.overlay import data_uri
from chipdemo.settings import Settings
from chipdemo.ui.label.logic import Desk

SECOND_LOOKS = 12  # images, at most, that are listed
SETTLED = 12  # the same of settled disagreements


@dataclass(frozen=True)
class Review:
    """What is shown to one annotator. consensus_counts, against_model: images with as many labels as wanted.

    model: in use; against_model is at its threshold where no model has scored the image. looks, settled: for
    this annotator alone. thumbnails: data URIs of their images by sha256, of those that can be read.
    may_settle: may review disputed images. decides: this annotator's label of one of looks decides.
    commands: to train the next model.
    """

    settings: Settings
    model: ModelInfo
    consensus_counts: dict[str, int]
    agreement: Agreement
    against_model: dict[str, dict[str, int]]
    looks: tuple[LikelyError, ...]
    settled: tuple[Settled, ...]
    thumbnails: dict[str, str]
    may_settle: bool
    decides: bool
    status: Status
    commands: tuple[str, ...]

    @property
    def disputed(self) -> int:
        return self.consensus_counts[DISPUTED]


def review(desk: Desk, annotator: str, reviews: bool) -> Review:
    """Counted from the whole journal, which takes seconds for a large one.

    reviews: whether this annotator may settle disputed images. Raises JournalError.
    """
    journal, settings, model = desk.journal, desk.settings, desk.predictions.model
    decides = reviews and bool(settings.reviewers)
    whose = {"annotators_per_image": settings.annotators_per_image} if decides else {"labeled_by": annotator}
    looks = likely_errors(journal, SECOND_LOOKS, **whose)
    decisions = settled(journal, SETTLED, "" if decides else annotator) if reviews else []
    shown = [one.image.sha256 for one in (*looks, *decisions)]
    pictures = thumbnails(journal, shown, settings.max_megapixels)
    in_use = desk.predictions.model_source or settings.model_source
    status = status_of(journal, images_seen(in_use))
    return Review(
        settings,
        model,
        consensus_counts(journal, settings.annotators_per_image),
        agreement(journal),
        against_the_model(journal, model.threshold, settings.annotators_per_image),
        tuple(looks),
        tuple(decisions),
        {sha256: data_uri(jpeg, "JPEG") for sha256, jpeg in pictures.items()},
        reviews,
        decides,
        status,
        tuple(training_commands(settings, in_use, settings.dataset)),
    )
