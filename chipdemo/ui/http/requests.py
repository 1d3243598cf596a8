"""What is known of a request while it is answered: its id, and a line in the log."""

import json
import logging
import re
import uuid
from collections.abc import Callable
from time import perf_counter
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chipdemo.ui.http.problems import answer, problem_of

ID_HEADER = b"x-request-id"
ID = re.compile(rb"[\w.-]{1,64}", re.ASCII)  # of a client's own id that is kept

STATUS = ("/v1/health", "/v1/ready")

log = logging.getLogger("chipdemo.requests")

Listener = Callable[[dict[str, Any]], None]  # called once with what the log gets of a request


class Record:
    """What the log gets of a request. id: the client's own where it sent one, else a new one."""

    def __init__(self, scope: Scope):
        sent = next((value for name, value in scope["headers"] if name == ID_HEADER), b"")
        self.id = sent.decode() if ID.fullmatch(sent) else uuid.uuid4().hex
        self.fields: dict[str, Any] = {"request": self.id, "method": scope["method"]}
        self._started = perf_counter()

    def add(self, **fields: Any) -> None:
        self.fields |= fields

    def ended(self, path: str, status: int) -> dict[str, Any]:
        """path: of the endpoint. status: of the answer; 499 where the client did not wait for it."""
        ms = round(1000 * (perf_counter() - self._started), 2)
        return self.fields | {"path": path, "status": status, "ms": ms}


class Recorded:
    """Middleware: gives each request an id that its answer carries, and tells the listeners when it ended."""

    def __init__(self, app: ASGIApp, listeners: tuple[Listener, ...] = ()):
        self.app, self.listeners = app, listeners

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record, status = Record(scope), 499
        scope.setdefault("state", {})["record"] = record

        async def with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = message | {"headers": [*message["headers"], (ID_HEADER, record.id.encode())]}
            await send(message)

        try:
            await self.app(scope, receive, with_id)
        except Exception as error:  # noqa: BLE001 - an error of the program has an id in the log too
            await answer(Request(scope), problem_of(error))(scope, receive, with_id)
        finally:
            route = scope.get("route")  # none for addresses that anybody may make up: they count as one
            fields = record.ended(f"/v1{route.path if route else ''}", status)
            for listener in self.listeners:
                listener(fields)


def log_request(fields: dict[str, Any]) -> None:
    """A line of JSON: nothing of the image but its hash. Load balancers that find all well leave none."""
    if fields["path"] not in STATUS or fields["status"] != 200:
        log.info(json.dumps(fields))
