"""Adds images to the queue: from uploads, and from datasets of the Hub."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from chipdemo.files import Limits
from chipdemo.labeling.hub.intake import images_of
from chipdemo.labeling.intake import Intake, add_contents, add_uploads
from chipdemo.labeling.journal import Journal
from chipdemo.settings import Settings
from chipdemo.ui.many.logic import Many, contents_of

DATASET_FILES, DATASET_BYTES = 1_000, 500_000_000  # of one dataset; the command line has no such limit
STEP = 8  # images between two reports


def add_files(journal: Journal, uploads: Sequence[tuple[str, Path]], limits: Limits) -> Intake:
    """Add images with their content. uploads: (name, path) of images and of zips of images."""
    return add_uploads(journal, uploads, limits=limits)


def add_selected(journal: Journal, many: Many, rows: Sequence[int], limits: Limits) -> Intake:
    """Add some images of a gallery with their content. rows: theirs. Raises BatchError."""
    return add_contents(journal, contents_of(many, rows, limits), limits=limits)


def add_dataset(journal: Journal, name: str, anonymous: bool, settings: Settings) -> Iterator[Intake]:
    """Add the images of a dataset, owner/name; gives what was added so far, after every STEP images.

    anonymous: without the token of this machine. Raises ExchangeError.
    """
    limits = replace(settings.limits, files=DATASET_FILES, total_bytes=DATASET_BYTES)
    images, total = images_of(name, limits, anonymous), Intake(0, 0, ())
    while some := list(islice(images, STEP)):
        now = add_contents(journal, some, limits=limits)
        total = Intake(total.added + now.added, total.known + now.known, total.refused + now.refused)
        yield total
