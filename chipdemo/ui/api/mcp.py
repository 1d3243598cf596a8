"""Pictures that language models send along with a call of a tool: kept apart, and deleted.

gradio's server of tools writes them into its temporary folder before it uploads them, and leaves them there.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio.mcp

CLEAR_EVERY_S = 600


@asynccontextmanager
async def own_folder(_: Any) -> AsyncIterator[None]:
    """A lifespan of the server: a folder of its own for what is sent along, which ends with it."""
    with TemporaryDirectory() as folder:
        gradio.mcp.DEFAULT_TEMP_DIR = folder
        clearing = asyncio.create_task(_clear(Path(folder)))
        try:
            yield
        finally:
            clearing.cancel()


async def _clear(folder: Path) -> None:
    while True:
        await asyncio.sleep(CLEAR_EVERY_S)
        oldest = time.time() - CLEAR_EVERY_S
        for path in folder.rglob("*"):
            if path.is_file() and path.stat().st_mtime < oldest:
                path.unlink()
