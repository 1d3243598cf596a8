"""What the Label tab and its API do, as functions of values; label_tab.py and api.py wire them.

annotator is always who the server knows the caller to be, never what a request says. Nothing here
gives one annotator's label to another, but for the votes on an image that a reviewer has decided;
what else is told of others, and to whom, is in reviewing.py.
"""

import base64
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from chipdemo.errors import ChipDemoError, ImageError, LabelError
from chipdemo.files import Limits
from chipdemo.images import read_image
from chipdemo.inspection import Inspection, Inspector, ModelInfo
from chipdemo.labeling import history
from chipdemo.labeling.hub.intake import images_of
from chipdemo.labeling.intake import Intake, add_contents, add_uploads
from chipdemo.labeling.journal import Journal, JournalImage
from chipdemo.labeling.label import MAX_MASK_BYTES, Box, Label, ModelPrediction, retraction_of
from chipdemo.labeling.queue import INFORMATIVE, ORDERS, Queue
from chipdemo.settings import Settings
from chipdemo.ui.inspect import logic as inspecting

REVIEW = "review"  # beside queue.ORDERS: what reviewers are to settle
AT_ONCE = 20  # images, at most, in one answer
MINE = 10  # own last labels that a page knows when it is opened
KEPT_VERDICTS = 256
DATASET = Limits(files=1_000, total_bytes=500_000_000)  # of a dataset, at once; the command line takes all
NOTHING = Intake(0, 0, ())
FEW = 8  # images of a dataset after which it says how far it is, and may be stopped
GRAY_AT = 25  # where a PNG says how many channels it has; 0 is one, gray


class Published(Protocol):
    """How far publishing is. published_at: UTC; None for not yet. error: of the last try; "" for none."""

    published_at: datetime | None
    error: str


class Publisher(Protocol):
    """What sends labels to the shared dataset, as far as the screen tells of it."""

    status: Published


class Verdicts:
    """What the model in use says of the journal's images; each is judged once, the last are kept."""

    def __init__(self, inspector: Inspector, journal: Journal, settings: Settings):
        self._inspector, self._journal, self._settings = inspector, journal, settings
        self._pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="verdicts")
        self._kept: OrderedDict[tuple[str, str], Future[Inspection]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def info(self) -> ModelInfo:
        """Of the model in use."""
        return self._inspector.current().info

    def ask(self, sha256: str) -> None:
        """Begin to judge it, before anyone waits for that; not where it was scored for the queue."""
        if history.scored(self._journal, sha256, self.info.revision) is None:
            self._asked(sha256)

    def prediction(self, sha256: str) -> ModelPrediction | None:
        """What is kept with a label; None where the model cannot judge what a person can."""
        info = self.info
        probability = history.scored(self._journal, sha256, info.revision)
        if probability is not None:
            return ModelPrediction(info.name, info.revision, probability)
        try:
            return prediction_of(self.of(sha256))
        except ChipDemoError:
            return None

    def of(self, sha256: str) -> Inspection:
        """Raises ChipDemoError where the image cannot be read; asked again, it is tried again."""
        key, asked = self._asked(sha256)
        try:
            if asked.cancel():  # it waits behind what nobody waits for yet
                return self._inspect(self._inspector.current(), sha256)
            return asked.result()
        except CancelledError:
            return self._inspect(self._inspector.current(), sha256)
        finally:
            if asked.cancelled() or asked.exception():
                with self._lock:
                    self._kept.pop(key, None)

    def _asked(self, sha256: str) -> tuple[tuple[str, str], Future[Inspection]]:
        inspector = self._inspector.current()
        key = (sha256, inspector.info.revision)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._pool.submit(self._inspect, inspector, sha256)
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT_VERDICTS:
                self._kept.popitem(last=False)
            return key, self._kept[key]

    def _inspect(self, inspector: Inspector, sha256: str) -> Inspection:
        return inspector.inspect(self._journal.picture(sha256, self._settings.max_megapixels).image)


@dataclass(frozen=True)
class Desk:
    """What labeling needs, for as long as the app runs."""

    journal: Journal
    queue: Queue
    verdicts: Verdicts
    settings: Settings
    publisher: Publisher | None = None


def desk_of(
    journal: Journal, inspector: Inspector, settings: Settings, publisher: Publisher | None = None
) -> Desk:
    verdicts = Verdicts(inspector, journal, settings)
    return Desk(journal, Queue(journal, settings.annotators_per_image), verdicts, settings, publisher)


# Giving images


def opened(desk: Desk, annotator: str, reviews: bool) -> dict[str, Any]:
    """What a page is told when the tab is opened: who labels, by which types, and the own last labels."""
    mine = reversed(history.last_votes(desk.journal, annotator, MINE))
    return {
        "annotator": annotator,
        "defects": [list(pair) for pair in desk.settings.defects],
        "orders": [*ORDERS, *([REVIEW] if reviews else [])],
        "mine": [
            image_json(desk, desk.journal.image(vote.image_sha256)) | {"event": event_json(vote)}
            for vote in mine
        ],
        "progress": progress_json(desk, annotator),
    }


def next_images(
    desk: Desk, annotator: str, count: Any = 1, order: Any = INFORMATIVE, known: Any = ()
) -> dict[str, Any]:
    """The next images for this annotator. known: sha256 of those whose pictures need not come.

    Raises LabelError for an unknown order.
    """
    count = min(max(_whole(count, "count"), 1), AT_ONCE)
    known = {_text(sha256, "known") for sha256 in _list(known, "known")}
    if order == REVIEW:
        found = history.disputed(desk.journal, desk.settings.annotators_per_image, annotator, count)
    else:
        found = desk.queue.next(annotator, count, _text(order, "order"))
    for stored in found:
        desk.verdicts.ask(stored.sha256)
    return {
        "annotator": annotator,
        "images": [image_json(desk, stored, with_picture=stored.sha256 not in known) for stored in found],
        "progress": progress_json(desk, annotator),
    }


def image_json(desk: Desk, stored: JournalImage, with_picture: bool = True) -> dict[str, Any]:
    """picture: a data URI, "" where not wanted or not there; error says why it is not there."""
    picture = error = ""
    if with_picture:
        try:
            decoded = desk.journal.picture(stored.sha256, desk.settings.max_megapixels)
            picture = inspecting.preview(decoded.image)
        except ChipDemoError as problem:
            error = str(problem)
    return {
        "sha256": stored.sha256,
        "name": stored.name,
        "reason": stored.reason,
        "width": stored.width,
        "height": stored.height,
        "picture": picture,
        "error": error,
    }


def look(desk: Desk, sha256: Any) -> dict[str, Any]:
    """One image with what the model says of it and its heat, for whoever asks before labeling."""
    stored = desk.journal.image(_text(sha256, "sha256"))
    inspection = desk.verdicts.of(stored.sha256)
    method = next(iter(inspection.heat))
    size = (stored.width, stored.height)
    return image_json(desk, stored) | {
        "model": asdict(prediction_of(inspection)) | {"verdict": inspection.verdict},
        "heat": inspecting.heat_view(inspection.heat[method], method, size)["heat"],
    }


def again(desk: Desk, annotator: str, sha256: Any) -> dict[str, Any]:
    """One image for another look, with this annotator's own label of it as event, or None."""
    stored = desk.journal.image(_text(sha256, "sha256"))
    vote = desk.journal.vote(stored.sha256, annotator)
    return image_json(desk, stored) | {"event": event_json(vote) if vote else None}


def progress_json(desk: Desk, annotator: str) -> dict[str, Any]:
    """How far everybody is, how fast this annotator is, and what is published."""
    status = desk.publisher.status if desk.publisher else None
    published = status.published_at if status else None
    return {
        **asdict(desk.queue.progress(annotator)),
        "skipped": len(history.skipped(desk.journal, annotator)),
        "published_at": published.isoformat() if published else None,
        "publish_error": status.error if status else "",
        "publishes": status is not None,
    }


# Taking labels


def keep(desk: Desk, annotator: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Keep a label; it is on the disk when this returns.

    given: sha256, label, defect_type, boxes [{x, y, width, height}, ...], mask (base64 of a PNG), note,
    event_id and decides, as they came from outside. The same event_id again is the same label again.
    Raises LabelError.
    """
    sha256, event_id = _text(given["sha256"], "sha256"), _text(given["event_id"], "event_id")
    stored = desk.journal.image(sha256)
    kept = _kept_before(desk, annotator, event_id, sha256)
    if kept is None:
        kept = Label(
            image_sha256=sha256,
            label=_text(given["label"], "label"),
            annotator=annotator,
            defect_type=_text(given["defect_type"], "defect_type").strip(),
            boxes=_boxes(given["boxes"], stored),
            mask=_mask(given["mask"], stored),
            note=_text(given["note"], "note"),
            prediction=desk.verdicts.prediction(sha256),
            decides=bool(given["decides"]),
            **({"event_id": event_id} if event_id else {}),
        )
        desk.journal.append(kept)
    answer = {"event": event_json(kept), "progress": progress_json(desk, annotator)}
    if kept.decides:
        answer["votes"] = Counter(history.votes_on(desk.journal, sha256).values())
    return answer


def undo(desk: Desk, annotator: str, event_id: Any = "") -> dict[str, Any]:
    """Take back this annotator's last standing label; again, the one before it. Raises LabelError.

    event_id: of the retraction; the same again takes back nothing more.
    """
    event_id = _text(event_id, "event_id")
    retraction = _kept_before(desk, annotator, event_id)
    if retraction is not None:
        undone = desk.journal.event(retraction.retracts) or retraction
    else:
        undone = next(iter(history.last_votes(desk.journal, annotator, 1)), None)
        if undone is None:
            raise LabelError("Expected a label of yours to undo; found none. Label an image first.")
        retraction = retraction_of(undone, annotator)
        if event_id:
            retraction = Label(
                undone.image_sha256, "", annotator, retracts=undone.event_id, event_id=event_id
            )
        desk.journal.append(retraction)
    return {
        "event": event_json(retraction),
        "undone": event_json(undone),
        "image": image_json(desk, desk.journal.image(undone.image_sha256)),
        "progress": progress_json(desk, annotator),
    }


def skip(desk: Desk, annotator: str, sha256: Any) -> dict[str, Any]:
    """Do not give it to this annotator again, until it is brought back."""
    desk.queue.skip(desk.journal.image(_text(sha256, "sha256")).sha256, annotator)
    return {"progress": progress_json(desk, annotator)}


def bring_back(desk: Desk, annotator: str, sha256s: Any) -> dict[str, Any]:
    """Give skipped images again; all of them where none is named."""
    for sha256 in _list(sha256s, "sha256s") or history.skipped(desk.journal, annotator):
        desk.queue.unskip(_text(sha256, "sha256s"), annotator)
    return {"progress": progress_json(desk, annotator)}


def give_back(desk: Desk, annotator: str, sha256s: Any) -> dict[str, Any]:
    """Others may have these now, before this annotator's lease on them has run out."""
    desk.queue.release([_text(sha256, "sha256s") for sha256 in _list(sha256s, "sha256s")], annotator)
    return {"progress": progress_json(desk, annotator)}


def _kept_before(desk: Desk, annotator: str, event_id: str, sha256: str = "") -> Label | None:
    """The event that was kept under this id. Raises LabelError where it is another one's."""
    kept = desk.journal.event(event_id) if event_id else None
    if kept and (kept.annotator != annotator or (sha256 and kept.image_sha256 != sha256)):
        raise LabelError("Expected a new event id; found one that is in use. Make a new one (UUID 4).")
    return kept


def prediction_of(inspection: Inspection) -> ModelPrediction:
    return ModelPrediction(inspection.model_name, inspection.model_revision, inspection.abnormal_probability)


# Adding images


def add_files(desk: Desk, uploads: Sequence[tuple[str, Path]]) -> Intake:
    """Make images known, with their content. uploads: (name, path), of images and zips of them."""
    limits = Limits(megapixels=desk.settings.max_megapixels)
    return add_uploads(desk.journal, uploads, limits=limits)


def add_dataset(desk: Desk, name: str, anonymous: bool) -> Iterator[Intake]:
    """The images of a dataset of the Hub, owner/name; what became of them so far, after every few.

    No more than DATASET. anonymous: without the token of this machine. Raises ExchangeError.
    """
    settings = desk.settings
    limits = replace(
        DATASET, file_bytes=settings.max_upload_mb * 1_000_000, megapixels=settings.max_megapixels
    )
    images = images_of(name, limits, anonymous)
    so_far = NOTHING
    while some := list(islice(images, FEW)):
        now = add_contents(desk.journal, some, limits=limits)
        so_far = Intake(so_far.added + now.added, so_far.known + now.known, so_far.refused + now.refused)
        yield so_far


# Values from and for outside


def event_json(label: Label) -> dict[str, Any]:
    """An event, the same everywhere; model: what it said, or None. mask: base64 of a PNG, "" for none."""
    return {
        "event_id": label.event_id,
        "sha256": label.image_sha256,
        "label": label.label,
        "defect_type": label.defect_type,
        "boxes": [asdict(box) for box in label.boxes],
        "mask": base64.b64encode(label.mask).decode(),
        "note": label.note,
        "annotator": label.annotator,
        "created_at": label.created_at.isoformat(),
        "retracts": label.retracts,
        "decides": label.decides,
        "model": asdict(label.prediction) if label.prediction else None,
    }


def _boxes(values: Any, stored: JournalImage) -> tuple[Box, ...]:
    boxes = []
    for value in _list(values, "boxes"):
        if not isinstance(value, Mapping) or set(value) != {"x", "y", "width", "height"}:
            raise LabelError(
                f"boxes: expected x, y, width and height of each; found {str(value)[:80]!r}. Correct them."
            )
        box = Box(**{name: _whole(number, name) for name, number in value.items()})
        if box.x + box.width > stored.width or box.y + box.height > stored.height:
            raise LabelError(
                f"boxes: expected boxes inside the image of {stored.width} x {stored.height} pixels; "
                f"found {asdict(box)}. Correct it."
            )
        boxes.append(box)
    return tuple(boxes)


def _mask(value: Any, stored: JournalImage) -> bytes:
    """The PNG as it came, once it is known to be a mask of this image. Raises LabelError."""
    text = _text(value, "mask")
    if len(text) > MAX_MASK_BYTES * 4 / 3 + 4:
        raise LabelError(f"mask: expected at most {MAX_MASK_BYTES:,} bytes; found more. Draw a simpler one.")
    try:
        mask = base64.b64decode(text, validate=True)
        found = _fault_of_mask(mask, (stored.width, stored.height)) if mask else ""
    except (ValueError, ImageError) as error:
        found = str(error)
    if found:
        raise LabelError(
            f"mask: expected a PNG in base64 of one channel, 0 or 255, of {stored.width} x {stored.height} "
            f"pixels like the image; found: {found}"
        )
    return mask


def _fault_of_mask(mask: bytes, size: tuple[int, int]) -> str:
    """ "" for none. Raises ImageError where it cannot be read; no more pixels than size are unpacked."""
    read = read_image(mask, size[0] * size[1] / 1e6)
    if read.format != "PNG" or mask[GRAY_AT] != 0 or read.notes:
        return "a picture of another kind. Save it as gray PNG of 8 bits, without transparency."
    if read.image.size != size:
        return f"{read.image.width} x {read.image.height} pixels. Draw it over the image."
    if any(read.image.getchannel(0).histogram()[1:255]):
        return "values between 0 and 255. Make it black and white."
    return ""


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise LabelError(f"{name}: expected a whole number; found {str(value)[:80]!r}. Correct it.")
    return int(value)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not _is_whole(value):
        raise LabelError(f"{name}: expected text; found {str(value)[:80]!r}. Correct it.")
    return value


def _list(value: Any, name: str) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise LabelError(f"{name}: expected a list; found {str(value)[:80]!r}. Correct it.")
    return value


def _is_whole(text: str) -> bool:
    """Whether UTF-8 can carry it: JSON can hold half a character, a journal cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
