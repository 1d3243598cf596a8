"""The gallery of the Label tab: pages of images, thumbnails, deletion. Functions of values, without gradio.

annotator is who the server knows the caller to be. Who sees what is as in review.py: everybody their own
labels; reviewers that were named (--reviewers) also the consensus of images with as many labels as wanted.
What the model says is left out of images without the annotator's label, unless they ask for it by a filter or
by the order. reviews: whether this annotator may review; only these delete images and list disputed ones.
"""

from collections.abc import Callable, Collection
from typing import Any

from chipdemo.errors import LabelError
from chipdemo.labeling import browse
from chipdemo.labeling.browse import (
    AGAINST_MODEL,
    DELETED,
    DISPUTES,
    OOD,
    PAGE,
    PROBABLE,
    Filters,
    Listed,
    Viewer,
)
from chipdemo.labeling.journal import Journal
from chipdemo.overlay import data_uri
from chipdemo.ui.label import values
from chipdemo.ui.label.logic import Desk, progress_json

FOR_REVIEWERS = (DISPUTES, DELETED)
MOST_DELETED = 1_000  # in one call


def found(desk: Desk, annotator: str, reviews: bool, asked: Any, total: Any = None) -> dict[str, Any]:
    """One page of the gallery. asked: the fields of browse.Filters. total: of images, as another page of the
    same filters had it; None to count them. Raises LabelError."""
    filters, settings = _filters(asked), desk.settings
    if filters.show in FOR_REVIEWERS and not reviews:
        raise LabelError("Only reviewers may list these images. Choose other images.")
    others_from = settings.annotators_per_image if reviews and settings.reviewers else None
    viewer = Viewer(annotator, settings.annotators_per_image, others_from)
    known = None if total is None else values.whole_number(total, "total")
    images, total = browse.find(desk.journal, filters, viewer, known)
    return {
        "images": [_image_json(image, filters, reviews) for image in images],
        "total": total,
        "pages": -(-total // PAGE),
        "shows": [show for show in browse.SHOWS if reviews or show not in FOR_REVIEWERS],
        "may_delete": reviews,
        "sees_consensus": others_from is not None,
        "defects": [name for _, name in settings.defects],
    }


def thumbnails(desk: Desk, sha256s: Any) -> dict[str, Any]:
    """Data URIs by sha256, of at most a page of images; without those that cannot be read."""
    wanted = values.texts(sha256s, "sha256s")[:PAGE]
    found = browse.thumbnails(desk.journal, wanted, desk.settings.max_megapixels)
    return {"thumbnails": {sha256: data_uri(jpeg, "JPEG") for sha256, jpeg in found.items()}}


def delete(desk: Desk, annotator: str, sha256s: Any) -> dict[str, Any]:
    """Take images out of the queue. changed: those that were in it."""
    return _change(desk, annotator, sha256s, browse.delete)


def bring_back(desk: Desk, annotator: str, sha256s: Any) -> dict[str, Any]:
    """Put deleted images into the queue again. changed: those that were deleted."""
    return _change(desk, annotator, sha256s, browse.bring_back)


def _change(
    desk: Desk, annotator: str, sha256s: Any, action: Callable[[Journal, Collection[str], str], list[str]]
) -> dict[str, Any]:
    wanted = values.texts(sha256s, "sha256s")
    if len(wanted) > MOST_DELETED:
        raise LabelError(f"{len(wanted):,} images are too many at once; {MOST_DELETED:,} are the most.")
    changed = action(desk.journal, wanted, annotator)
    return {"changed": changed, "progress": progress_json(desk, annotator)}


def _filters(asked: Any) -> Filters:
    if not isinstance(asked, dict) or not set(asked) <= set(Filters.__dataclass_fields__):
        raise LabelError(f"filters has the fields {', '.join(Filters.__dataclass_fields__)}, and no others.")
    page = values.whole_number(asked.get("page", 0), "page")
    texts = {name: values.text(value, name).strip() for name, value in asked.items() if name != "page"}
    return Filters(**texts, page=page)


def _image_json(image: Listed, filters: Filters, reviews: bool) -> dict[str, Any]:
    """decides: a label given now settles the image. model: None where it is not to be shown."""
    asked = filters.sort == PROBABLE or filters.show in (AGAINST_MODEL, OOD)
    model = None
    if image.abnormal_probability is not None and (asked or image.label):
        model = {
            "abnormal_probability": image.abnormal_probability,
            "flagged": image.flagged,
            "out_of_distribution": image.out_of_distribution,
        }
    return {
        "sha256": image.sha256,
        "name": image.name,
        "label": image.label,
        "defect_type": image.defect_type,
        "consensus": image.consensus,
        "model": model,
        "deleted": image.deleted,
        "decides": reviews and bool(image.consensus or filters.show == DISPUTES),
    }
