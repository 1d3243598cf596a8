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
            f"Expected a new folder for --out, or one of an earlier run; {folder} holds {foreign[0]}. "
            "Choose another folder."
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
            f"Expected room and permission to write {folder}; found: {error}. Make room or choose another "
            f"--out, then start again{advice}."
        ) from error
    finally:
        tidy()
