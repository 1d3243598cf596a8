"""What a browser or an API client sent -> the path of a file that it really uploaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr
import httpx
import safehttpx
from gradio.utils import get_upload_folder

from chipdemo.errors import UnreadableImageError

UPLOADS_AT = "/gradio_api/file="
LONGEST_NAME = 255  # characters


def uploaded_path(payload: Mapping[str, Any] | str | None) -> Path:
    """The uploaded file behind a gradio payload or path. Raises UnreadableImageError.

    Gradio checks this too, but for gr.Image only where the payload carries gradio's own mark
    (`meta`); without the mark, a client could name any picture of this machine.
    """
    path = payload.get("path") if isinstance(payload, Mapping) else payload
    if not path:
        raise UnreadableImageError("There is no image. Drop, paste or choose a file and try again.")
    resolved = Path(path).resolve()
    if not resolved.is_relative_to(Path(get_upload_folder()).resolve()):
        raise UnreadableImageError(
            "Only uploaded files are read, and this path was not uploaded. Upload the file itself."
        )
    return resolved


def uploaded_file(payload: Mapping[str, Any] | str | None) -> tuple[str, Path]:
    """The name that a visitor knows the upload by, with its path. Raises UnreadableImageError."""
    path = uploaded_path(payload)
    name = payload.get("orig_name") if isinstance(payload, Mapping) else None
    return str(name or path.name)[:LONGEST_NAME], path


def uploaded_files(payload: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None) -> list[tuple[str, Path]]:
    """The same of several. Raises UnreadableImageError."""
    files = payload if isinstance(payload, list) else [payload] if payload else []
    return [uploaded_file(file) for file in files]


async def _own_upload(url: str, **_: Any) -> httpx.Response:
    """The file behind the address of an upload to this app, read without fetching it. Raises gr.Error."""
    _, _, path = url.partition(UPLOADS_AT)
    try:
        return httpx.Response(200, content=uploaded_path(unquote(path)).read_bytes())
    except (UnreadableImageError, OSError) as error:
        raise gr.Error("Addresses are not fetched. Upload the file itself.", print_exception=False) from error


async def _refuse(*_: Any, **__: Any) -> None:
    raise gr.Error("Addresses are not fetched. Upload the file itself.", print_exception=False)


def fetch_no_addresses() -> None:
    """Keep gradio from fetching addresses for visitors, which it does wherever a file may be named.

    It refuses private ones by itself, but neither counts the bytes nor asks who wants them. All of its
    fetching goes through these two functions of safehttpx. Language models name an upload by its address.
    """
    safehttpx.get, safehttpx.async_validate_url = _own_upload, _refuse
