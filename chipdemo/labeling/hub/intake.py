"""Images of a dataset of the Hugging Face Hub, on their way into the journal."""

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
    """The images of a dataset, with their content. See images_of."""
    return add_contents(journal, images_of(name, limits), progress, limits)


def images_of(name: str, limits: Limits = DEFAULT_LIMITS, anonymous: bool = False) -> Iterator[Image | str]:
    """The images of a dataset, owner/name, one after the other, and lines about what is not taken.

    They are the rows of its Parquet files, in the column `image`, or where it has no Parquet the
    images that lie in it; at most limits.files and limits.total_bytes. anonymous: without the token
    of this machine. Raises ExchangeError where the dataset cannot be read at all; where reading breaks
    off, the last line says so.
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
                    f"{name}: more than {limits.files:,} images or {limits.total_bytes / 1e9:g} GB, of "
                    f"which the rest was not taken. Add all by: python -m chipdemo labels add hf:{name}"
                )
                return
            yield one
    except Exception as error:  # noqa: BLE001 - network, storage, Hub and Parquet raise errors of many types
        yield (
            f"{name}: not read to its end: {describe_error(error)} Add it again to go on: nothing is "
            "added twice."
        )
    if not count and not data.tables:
        yield f"{name}: expected Parquet files with a column image, or images; found neither."


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
