"""Adds the images of a Hugging Face dataset to the journal."""

from collections.abc import Iterator

from chipdemo.errors import ImageError
from chipdemo.files import DEFAULT_LIMITS, Limits, in_parallel, shown, too_large
from chipdemo.hub import describe_error
from chipdemo.labeling.hub.read import HubData, no_images, open_data, row_name
from chipdemo.labeling.intake import Intake, Progress, add_contents
from chipdemo.labeling.journal import Journal

Image = tuple[str, bytes]  # its name, and the content of its file


def add_dataset(
    journal: Journal, name: str, progress: Progress = lambda done: None, limits: Limits = DEFAULT_LIMITS
) -> Intake:
    """Add the images of a dataset, with their content. See images_of."""
    return add_contents(journal, images_of(name, limits), progress, limits)


def images_of(name: str, limits: Limits = DEFAULT_LIMITS, anonymous: bool = False) -> Iterator[Image | str]:
    """The images of a dataset, owner/name, one by one, and a line about each one that cannot be read.

    They come from the column `image` of its Parquet files, or from its image files where it has no Parquet;
    at most limits.files and limits.total_bytes. anonymous: without the token of this machine. Raises
    ExchangeError where the dataset cannot be opened; a later failure is the last line.
    """
    data = open_data(name, anonymous)
    found = _in_tables(data) if data.tables else _in_files(data, limits)
    count = total = 0
    try:
        for one in found:
            if not isinstance(one, str):
                count, total = count + 1, total + len(one[1])
            if count > limits.files or total > limits.total_bytes:
                yield (
                    f"{name} has more than {limits.files:,} images or {limits.total_bytes / 1e9:g} GB. The "
                    f"rest was not added. Add all by: python -m chipdemo labels add hf:{name}"
                )
                return
            yield one
    except Exception as error:  # noqa: BLE001 - network, storage, Hub and Parquet raise errors of many types
        yield (
            f"{name} was not read completely: {describe_error(error)} Add it again to continue; no image is "
            "added twice."
        )
    if not count and not data.tables:
        yield f"{name} has neither image files nor Parquet files with a column image."


def _in_tables(data: HubData) -> Iterator[Image | str]:
    for path in data.tables:
        table = data.files.table(path)
        if not table.has_images:
            yield no_images(path)
            continue
        for row in range(len(table)):
            try:
                name, content, _ = table.image(row)
                yield name, content
            except ImageError as error:
                yield f"{shown(row_name(path, row))}: {error}"


def _in_files(data: HubData, limits: Limits) -> Iterator[Image | str]:
    def read(path: str) -> Image | str:
        if data.sizes[path] > limits.file_bytes:
            return f"{shown(path)}: {too_large(data.sizes[path], limits)}"
        return path, data.files.image(path)

    return in_parallel(read, data.images)
