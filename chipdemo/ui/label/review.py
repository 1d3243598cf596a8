"""What stands under the desk, when asked for: agreement, second looks, and the next training.

Nobody may see another's label before giving theirs. Hence:
- Numbers of images are of those that have as many labels as wanted, which the queue gives to nobody
  any more; so even the number 1 tells nothing of what anyone is still to label. Kappas and their shares
  name no image. All of that is for every annotator.
- An image is shown with its label only to those who have labeled it themselves. Reviewers that
  were named (--reviewers) are shown others too, of those that have as many labels as wanted: what they
  then say decides, and is no vote on agreement. Where all may review, nobody sees more than the others.
"""

from dataclasses import dataclass
from io import BytesIO

from chipdemo.errors import ChipDemoError
from chipdemo.inspection import ModelInfo
from chipdemo.labeling.agreement import DISPUTED
from chipdemo.labeling.statistics import (
    Agreement,
    LikelyError,
    against_the_model,
    agreement,
    consensus_counts,
    likely_errors,
)
from chipdemo.labeling.status import Status, images_seen, status_of, training_commands
from chipdemo.settings import Settings
from chipdemo.ui.inspect import html as fragments
from chipdemo.ui.label.logic import Desk

SECOND_LOOKS = 12  # images, at most, that are listed
THUMBNAIL = 112  # pixels


@dataclass(frozen=True)
class SecondLook:
    """A likely error, with a small picture as a data URI; "" where the image cannot be read."""

    error: LikelyError
    picture: str


@dataclass(frozen=True)
class Review:
    """What is shown. consensus_counts, against_model: images with as many labels as wanted.

    model: in use; against_model is at its threshold. looks: for this annotator alone. may_settle: reviews
    disagreements. decides: what this one says of looks decides. commands: to train the next model.
    """

    settings: Settings
    model: ModelInfo
    consensus_counts: dict[str, int]
    agreement: Agreement
    against_model: dict[str, dict[str, int]]
    looks: tuple[SecondLook, ...]
    may_settle: bool
    decides: bool
    status: Status
    commands: tuple[str, ...]

    @property
    def disagreements(self) -> int:
        return self.consensus_counts[DISPUTED]


def review(desk: Desk, annotator: str, reviews: bool) -> Review:
    """Counted anew from the whole journal, which takes seconds where it is large.

    reviews: whether this annotator settles disagreements. Raises JournalError.
    """
    journal, settings, model = desk.journal, desk.settings, desk.verdicts.info
    decides = reviews and bool(settings.reviewers)
    whose = {"annotators_per_image": settings.annotators_per_image} if decides else {"labeled_by": annotator}
    status = status_of(journal, images_seen(settings.model_source))
    return Review(
        settings,
        model,
        consensus_counts(journal, settings.annotators_per_image),
        agreement(journal),
        against_the_model(journal, model.threshold, settings.annotators_per_image),
        tuple(
            SecondLook(error, _picture(desk, error.image.sha256))
            for error in likely_errors(journal, SECOND_LOOKS, **whose)
        ),
        reviews,
        decides,
        status,
        tuple(training_commands(settings, status, settings.dataset)),
    )


def _picture(desk: Desk, sha256: str) -> str:
    try:
        image = desk.journal.picture(sha256, desk.settings.max_megapixels).image
    except ChipDemoError:
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL), reducing_gap=2.0)
    stream = BytesIO()
    image.save(stream, "JPEG", quality=85)
    return fragments.data_uri(stream.getvalue(), "jpeg")
