"""What the Label tab and its API do: give images, take labels. Functions of values, without gradio.

annotator is who the server knows the caller to be, never what a request says. page is the id that a page
of the browser made for itself; "" for clients without pages. An annotator is never given the label of
another, except the votes on an image that they have decided as a reviewer; for the rest see review.py and
browsing.py.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Protocol

from chipdemo.errors import ChipDemoError, LabelError
from chipdemo.inspection import OUT_OF_DISTRIBUTION, verdict_of
from chipdemo.judge import Judge
from chipdemo.labeling import history
from chipdemo.labeling.journal import Journal, JournalImage
from chipdemo.labeling.label import Label, ModelPrediction
from chipdemo.labeling.queue import INFORMATIVE, ORDERS, Queue
from chipdemo.labeling.training import Training
from chipdemo.settings import Settings
from chipdemo.ui.inspect.logic import heat_view, is_whole, preview
from chipdemo.ui.label import values
from chipdemo.ui.label.predictions import Predictions
from chipdemo.ui.label.values import event_json
from chipdemo.ui.tiles import Tiles

REVIEW = "review"  # an order beside queue.ORDERS: disputed images, for reviewers
MOST_IMAGES = 20  # in one answer
OWN_LABELS = 10  # given to a page when it is opened


class PublishStatus(Protocol):
    """published_at: UTC; None for never. error: of the last attempt; "" for none."""

    published_at: datetime | None
    error: str


class Publisher(Protocol):
    """What sends labels to the shared dataset."""

    status: PublishStatus

    def flush(self) -> int:
        """Publish all pending events now; returns their number. Raises HubError, JournalError."""


@dataclass(frozen=True)
class Desk:
    """What labeling needs while the app runs."""

    journal: Journal
    queue: Queue
    predictions: Predictions
    settings: Settings
    publisher: Publisher | None = None
    tiles: Tiles = field(default_factory=Tiles)
    training: Training | None = None

    def close(self) -> None:
        """Stop a training that runs, and end the threads of the predictions."""
        if self.training:
            self.training.jobs.close()
        self.predictions.close()


def desk_of(
    journal: Journal,
    judge: Judge,
    settings: Settings,
    publisher: Publisher | None = None,
    training: Training | None = None,
) -> Desk:
    predictions = Predictions(journal, judge, settings.max_megapixels, settings.concurrency)
    queue = Queue(journal, settings.annotators_per_image)
    return Desk(journal, queue, predictions, settings, publisher, training=training)


# Giving images


def opened(desk: Desk, annotator: str, reviews: bool) -> dict[str, Any]:
    """What a page needs when it is opened: the annotator, defect types, orders, and their last labels."""
    own = reversed(history.last_votes(desk.journal, annotator, OWN_LABELS))
    return {
        "annotator": annotator,
        "defects": [list(pair) for pair in desk.settings.defects],
        "orders": [*ORDERS, *([REVIEW] if reviews else [])],
        "own": [
            image_json(desk, desk.journal.image(vote.image_sha256)) | {"event": event_json(vote)}
            for vote in own
        ],
        "progress": progress_json(desk, annotator),
    }


def next_images(
    desk: Desk, annotator: str, count: Any = 1, order: Any = INFORMATIVE, known: Any = (), page: Any = ""
) -> dict[str, Any]:
    """The next images for this page. known: sha256 of images whose pictures are not needed.

    Raises LabelError for an unknown order.
    """
    count = min(max(values.whole_number(count, "count"), 1), MOST_IMAGES)
    known, page = set(values.texts(known, "known")), values.page_id(page)
    if order == REVIEW:
        images = history.disputed(desk.journal, desk.settings.annotators_per_image, annotator, count)
    else:
        images = desk.queue.next(annotator, count, values.text(order, "order"), page)
    for image in images:
        desk.predictions.prefetch(image.sha256)
    return {
        "annotator": annotator,
        "images": [image_json(desk, image, with_picture=image.sha256 not in known) for image in images],
        "progress": progress_json(desk, annotator),
    }


def image_json(desk: Desk, image: JournalImage, with_picture: bool = True) -> dict[str, Any]:
    """picture: a data URI, "" where not wanted or not available; error says why it is not available.

    tiles: the key of the original's tiles, "" where the picture is the original. mask_size: (width, height)
    that a mask may have instead of the image's.
    """
    picture = error = tiles = ""
    limit = desk.settings.max_megapixels
    if not is_whole((image.width, image.height)):
        tiles = desk.tiles.offer(image.sha256, lambda: desk.journal.picture(image.sha256, limit).image)
    if with_picture:
        try:
            picture = preview(desk.journal.picture(image.sha256, limit).image)
        except ChipDemoError as problem:
            error = str(problem)
    return {
        "sha256": image.sha256,
        "name": image.name,
        "reason": image.reason,
        "width": image.width,
        "height": image.height,
        "mask_size": list(values.canvas_size(image.width, image.height)),
        "picture": picture,
        "tiles": tiles,
        "error": error,
    }


def look(desk: Desk, sha256: Any) -> dict[str, Any]:
    """One image with the model's prediction and heatmap, for an annotator who asks before labeling."""
    image = desk.journal.image(values.text(sha256, "sha256"))
    inspection = desk.predictions.inspection(image.sha256)
    prediction = desk.predictions.of(image.sha256)
    verdict = verdict_of(prediction.abnormal_probability, inspection.threshold)
    outcome = OUT_OF_DISTRIBUTION if inspection.out_of_distribution else verdict
    heatmap, size = inspection.heatmaps[inspection.method], (image.width, image.height)
    return image_json(desk, image) | {
        "model": asdict(prediction) | {"outcome": outcome},
        "heat": heat_view(heatmap, inspection.method, size)["heat"],
    }


def again(desk: Desk, annotator: str, sha256: Any) -> dict[str, Any]:
    """One image for a second look, with this annotator's own label of it as event, or None."""
    image = desk.journal.image(values.text(sha256, "sha256"))
    vote = desk.journal.vote(image.sha256, annotator)
    return image_json(desk, image) | {"event": event_json(vote) if vote else None}


def progress_json(desk: Desk, annotator: str) -> dict[str, Any]:
    """How much everybody has labeled, how much this annotator has, and what is published."""
    status = desk.publisher.status if desk.publisher else None
    published_at = status.published_at if status else None
    return {
        **asdict(desk.queue.progress(annotator)),
        "skipped": len(history.skipped(desk.journal, annotator)),
        "published_at": published_at.isoformat() if published_at else None,
        "publish_error": status.error if status else "",
        "publishes": status is not None,
    }


# Taking labels


@dataclass(frozen=True)
class Answer:
    """A label as it comes from outside, not yet checked; see the API's /label for the fields."""

    sha256: Any
    label: Any
    defect_type: Any = ""
    boxes: Any = ()
    mask: Any = ""
    note: Any = ""
    event_id: Any = ""
    decides: Any = False
    page: Any = ""
    replaces: Any = ""
    polygons: Any = ()
    mask_type: Any = ""


def save(desk: Desk, annotator: str, answer: Answer) -> dict[str, Any]:
    """Save a label; it is on the disk when this returns. The same event_id again is the same label.

    Raises LabelError, also where the annotator's label of this image was given on another page and
    answer.replaces does not name it.
    """
    image = desk.journal.image(values.text(answer.sha256, "sha256"))
    event_id = values.text(answer.event_id, "event_id")
    saved = _saved_before(desk, annotator, event_id, image.sha256)
    if saved is None:
        mask, mask_type = values.mask_of(answer.mask, image), values.text(answer.mask_type, "mask_type")
        saved = Label(
            image_sha256=image.sha256,
            label=values.text(answer.label, "label"),
            annotator=annotator,
            defect_type=values.text(answer.defect_type, "defect_type").strip(),
            boxes=values.boxes_of(answer.boxes, image),
            polygons=values.polygons_of(answer.polygons, image),
            mask=mask,
            mask_type=mask_type.strip() if mask else "",
            note=values.text(answer.note, "note"),
            prediction=_prediction(desk, image.sha256),
            decides=bool(answer.decides),
            **({"event_id": event_id} if event_id else {}),
        )
        page, replaces = values.page_id(answer.page), values.text(answer.replaces, "replaces")
        desk.journal.append(saved, page=page, replaces=replaces)
    result = {"event": event_json(saved), "progress": progress_json(desk, annotator)}
    if saved.decides:
        result["votes"] = Counter(history.votes_on(desk.journal, image.sha256).values())
    return result


def undo(
    desk: Desk, annotator: str, event_id: Any = "", page: Any = "", label_id: Any = ""
) -> dict[str, Any]:
    """Take back the last label that stands of this page; the next call takes back the one before it.

    label_id: the event_id of the label to take back instead. event_id: of the retraction; the same again
    takes back nothing more. Raises LabelError.
    """
    event_id, page = values.text(event_id, "event_id"), values.page_id(page)
    retraction = _saved_before(desk, annotator, event_id)
    if retraction is not None:
        undone = desk.journal.event(retraction.retracts) or retraction
    else:
        undone = _to_undo(desk, annotator, page, values.text(label_id, "label_id"))
        retraction = Label(
            undone.image_sha256,
            "",
            annotator,
            retracts=undone.event_id,
            **({"event_id": event_id} if event_id else {}),
        )
        desk.journal.append(retraction, page=page)
    return {
        "event": event_json(retraction),
        "undone": event_json(undone),
        "image": again(desk, annotator, undone.image_sha256),
        "progress": progress_json(desk, annotator),
    }


def skip(desk: Desk, annotator: str, sha256: Any) -> dict[str, Any]:
    """Do not give this image to this annotator again until it is brought back."""
    desk.queue.skip(desk.journal.image(values.text(sha256, "sha256")).sha256, annotator)
    return {"progress": progress_json(desk, annotator)}


def bring_back(desk: Desk, annotator: str, sha256s: Any) -> dict[str, Any]:
    """Give these skipped images again; an empty list is all of them."""
    for sha256 in values.texts(sha256s, "sha256s") or history.skipped(desk.journal, annotator):
        desk.queue.unskip(sha256, annotator)
    return {"progress": progress_json(desk, annotator)}


def give_back(desk: Desk, annotator: str, sha256s: Any, page: Any) -> dict[str, Any]:
    """End this page's leases on these images, so that others may have them at once."""
    desk.queue.release(values.texts(sha256s, "sha256s"), annotator, values.page_id(page))
    return {"progress": progress_json(desk, annotator)}


def _to_undo(desk: Desk, annotator: str, page: str, label_id: str) -> Label:
    if not label_id:
        votes = history.last_votes(desk.journal, annotator, 1, page)
        if not votes:
            raise LabelError("There is no label to undo on this page.")
        return votes[0]
    label = desk.journal.event(label_id)
    if label is None or desk.journal.vote(label.image_sha256, annotator) != label:
        raise LabelError(f"Your label {label_id[:80]!r} does not stand any more, so nothing was undone.")
    return label


def _saved_before(desk: Desk, annotator: str, event_id: str, sha256: str = "") -> Label | None:
    """The event with this id. Raises LabelError where it is another annotator's or of another image."""
    saved = desk.journal.event(event_id) if event_id else None
    if saved and (saved.annotator != annotator or (sha256 and saved.image_sha256 != sha256)):
        raise LabelError(f"The event id {event_id} is in use. Make a new one (UUID 4).")
    return saved


def _prediction(desk: Desk, sha256: str) -> ModelPrediction | None:
    """None where the model cannot inspect the image: a person may label it all the same."""
    try:
        return desk.predictions.of(sha256)
    except ChipDemoError:
        return None
