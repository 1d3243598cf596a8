"""The body of a request, within limits of bytes and time: in memory for one image, on disk for many."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.types import Message

from chipdemo.errors import BusyError, UnreadableImageError
from chipdemo.ui.http.problems import FileTooLargeError, SlowRequestError
from chipdemo.ui.uploads import LONGEST_NAME

BODY_S = 60  # for a request to arrive
MB = 1_000_000


class Budget:
    """Bytes of all requests that are held in memory at a time. Used by the event loop alone."""

    def __init__(self, most: int):
        self.most, self.held = most, 0

    def take(self, count: int) -> None:
        """Raises BusyError."""
        if self.held + count > self.most:
            raise BusyError(f"Requests of {self.held / MB:,.0f} MB wait already. Send the image again later.")
        self.held += count

    def give_back(self, count: int) -> None:
        self.held -= count


@asynccontextmanager
async def limited(request: Request, most: int, budget: Budget | None = None) -> AsyncIterator[Request]:
    """The request, of which no more than so many bytes are read, within BODY_S.

    budget: for a body that is held in memory until the end. Raises FileTooLargeError, SlowRequestError,
    BusyError.
    """
    held, deadline = 0, anyio.current_time() + BODY_S

    async def receive() -> Message:
        nonlocal held
        try:
            with anyio.fail_after(deadline - anyio.current_time()):
                message = await request.receive()
        except TimeoutError:
            raise SlowRequestError(f"The request did not arrive within {BODY_S} s. Send it again.") from None
        count = len(message.get("body", b""))
        if held + count > most:
            raise FileTooLargeError(f"The request has more than {most / MB:,.0f} MB. Save the image smaller.")
        if budget:
            budget.take(count)
        held += count
        return message

    try:
        yield Request(request.scope, receive)
    finally:
        if budget:
            budget.give_back(held)


def is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


async def one_file(request: Request) -> tuple[str, bytes]:
    """(name, content) of the only file: the body itself, without a name, or the file in a form.

    Raises UnreadableImageError where a form has none or several.
    """
    if not is_form(request):
        return "", await request.body()
    async with request.form() as form:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if len(files) != 1:
            raise UnreadableImageError(
                f"The form has {len(files)} files. Send one, or several to /v1/inspect_batch."
            )
        return (files[0].filename or "")[:LONGEST_NAME], await files[0].read()


async def files_on_disk(request: Request, folder: Path, most: int) -> list[tuple[str, Path]]:
    """(name, path) of each file: those of a form, or the body if it has any. most: files in a form."""
    if not is_form(request):
        path = folder / "0"
        async with await anyio.open_file(path, "wb") as file:
            async for chunk in request.stream():
                await file.write(chunk)
        return [("", path)] if path.stat().st_size else []
    found = []
    async with request.form(max_files=most) as form:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        for number, upload in enumerate(files):
            path = folder / str(number)
            with path.open("wb") as file:
                await run_in_threadpool(shutil.copyfileobj, upload.file, file)
            found.append(((upload.filename or path.name)[:LONGEST_NAME], path))
    return found
