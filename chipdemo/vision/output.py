"""A folder of results that is either whole or not there."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from chipdemo.errors import DataError


@contextmanager
def replacing(folder: Path, files: Collection[str], advice: str = "") -> Iterator[Path]:
    """A new, empty folder beside `folder`, which takes its place when the block ends well.

    files: what an earlier run may have left in `folder`; it is gone then. Raises DataError if
    anything else is in it, before the block runs, and for an OSError in the block, such as no
    space on the disk; what was in `folder` is then still there. advice: ends that message.
    """
    folder = folder.resolve()
    if foreign := sorted({path.name for path in folder.glob("*")} - set(files)):
        raise DataError(
            f"{folder} holds {foreign[0]}, which no earlier run wrote. Choose another folder for --out."
        )
    part, old = (folder.with_name(f".{folder.name}.{ending}") for ending in ("part", "replaced"))

    def tidy() -> None:
        if old.exists() and not folder.exists():  # killed between the two renames below
            old.rename(folder)
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)

    try:
        tidy()
        part.mkdir(parents=True)
        yield part
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"{folder} cannot be written: {error}. Make room or choose another --out, then start "
            f"again{advice}."
        ) from error
    finally:
        tidy()
