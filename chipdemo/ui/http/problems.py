"""Errors of the HTTP API as problem details (RFC 9457)."""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from chipdemo.errors import (
    AccessError,
    BatchError,
    BusyError,
    ChipDemoError,
    ImageError,
    ImageTooLargeError,
    SettingsError,
    StoppingError,
)

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:chip-inspector:problem:"
RETRY_AFTER_S = 1
DETAILS = {
    404: "There is nothing at this address. /docs lists those there are.",
    405: "This address takes another method: see the header Allow, or /docs.",
}
CLOSED = 499  # for the log: the client did not wait for the answer

log = logging.getLogger(__name__)


class FileTooLargeError(ImageError):
    """A request has more bytes than are accepted."""


class SlowRequestError(ChipDemoError):
    """A request did not arrive in time."""


# error, status, kind, title; the first that fits
PROBLEMS = (
    (FileTooLargeError, 413, "file-too-large", "The file is too large"),
    (ImageTooLargeError, 413, "image-too-large", "The image has too many pixels"),
    (ImageError, 422, "unreadable-image", "The image cannot be read"),
    (AccessError, 401, "not-signed-in", "Not signed in"),
    (SlowRequestError, 408, "slow-request", "The request did not arrive in time"),
    (StoppingError, 503, "stopping", "The app is being stopped"),
    (BusyError, 503, "busy", "Too many requests"),
    (BatchError, 400, "empty-batch", "There is nothing to inspect"),
    (SettingsError, 400, "invalid-parameter", "A parameter cannot be used"),
    (ChipDemoError, 500, "failed", "The image could not be inspected"),
)


def problem_of(error: Exception) -> dict[str, Any]:
    """type, title, status and detail of an error; of one that was not raised on purpose, nothing is told."""
    for kind, status, name, title in PROBLEMS:
        if isinstance(error, kind):
            return {"type": TYPE + name, "title": title, "status": status, "detail": str(error)}
    log.error("an error of the program", exc_info=error)
    detail = "The log of the app has more under the id of this request."
    return {"type": TYPE + "failed", "title": "An error of the program", "status": 500, "detail": detail}


def answer(
    request: Request, problem: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    """The problem as a response, with the id of the request."""
    status, headers = problem["status"], dict(headers or {})
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if status == 401:
        headers["WWW-Authenticate"] = request.app.state.challenge
    kind = problem["type"]
    known = kind.startswith(TYPE)
    request.state.record.add(problem=kind.removeprefix(TYPE) if known else f"http-{status}")
    body = json.dumps({**problem, "request_id": request.state.record.id})
    return Response(body, status, headers, MEDIA_TYPE)


def add_problems(app: FastAPI) -> None:
    """Let the app answer errors that were raised on purpose; Recorded answers others."""

    async def on_error(request: Request, error: Exception) -> Response:
        return answer(request, problem_of(error))

    async def on_disconnect(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLOSED)

    async def on_parameter(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name, given = first["loc"][-1], first.get("input")
        if first["type"] == "extra_forbidden":
            detail = f"There is no parameter {name!r}. /docs lists those there are."
        else:
            detail = f"{name} is {given!r}: {first['msg'][0].lower()}{first['msg'][1:]}."
        return answer(request, problem_of(SettingsError(detail)))

    async def on_http(request: Request, error: HTTPException) -> Response:
        status = error.status_code
        detail = DETAILS.get(status, str(error.detail))
        problem = {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
        }
        return answer(request, problem, error.headers)

    app.add_exception_handler(ChipDemoError, on_error)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    app.add_exception_handler(RequestValidationError, on_parameter)
    app.add_exception_handler(HTTPException, on_http)
