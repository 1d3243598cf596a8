"""POST /v1/inspect and its siblings: the same judging as everywhere, by plain HTTP."""

import asyncio
import base64
import json
import shutil
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import anyio
import numpy as np
from fastapi import Depends, FastAPI, Query, Request
from fastapi.security import HTTPBearer
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from chipdemo import __version__
from chipdemo.batch.run import Task, inspect_stream, result_of
from chipdemo.batch.service import STOPPING, WAIT, Answer, InspectionService, Order
from chipdemo.batch.sources import BatchImage
from chipdemo.errors import BusyError, SettingsError, StoppingError
from chipdemo.files import Limits
from chipdemo.images import FORMATS
from chipdemo.inspection import Inspection, Model
from chipdemo.models import Models
from chipdemo.overlay import encode
from chipdemo.ui.http import schema
from chipdemo.ui.http.access import Access
from chipdemo.ui.http.bodies import MB, Budget, files_on_disk, limited, one_file
from chipdemo.ui.http.problems import MEDIA_TYPE, add_problems, problem_of
from chipdemo.ui.http.requests import Listener, Recorded, log_request
from chipdemo.ui.inspect.logic import inspection_json
from chipdemo.ui.many.logic import MOST, listed

HELD_MB = 1_000  # of bodies in memory at a time; one of the largest size is taken in any case
BATCH_TIMES = 10  # as many bytes as one file may have, a batch may have
BATCH_WAIT_S = 1  # seconds, for the end of the batch before
JSON_LINES = "application/jsonl"
ABOUT_LINES = (
    "A line of JSON for each image, in their order, sent as soon as it is known: the keys of an inspection "
    "with `file`, `label` and `error`, why there is no inspection. Where the lines end early, the "
    "last one has only the key `problem`."
)

ABOUT = f"""Judge images of chips. Send the bytes of a {FORMATS} file; get the verdict as JSON.

A verdict is no proof: report `abnormal_probability` with it, and treat `out_of_distribution` as no verdict.
Errors are problem details (RFC 9457). Every answer has the header `X-Request-ID`, which the log of the app
names too; a request may bring its own.
"""

FILE = {"schema": {"type": "string", "format": "binary"}}
FORM = {"schema": {"type": "object", "properties": {"image": FILE["schema"]}}}
LINE = schema.InspectedFile.model_json_schema()
FORMS = {"schema": {"type": "object", "properties": {"images": {"type": "array", "items": FILE["schema"]}}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that an endpoint answers, for the documentation."""
    content = {MEDIA_TYPE: {"schema": schema.Problem.model_json_schema()}}
    about = {
        400: "A parameter cannot be used.",
        401: "Not signed in.",
        408: "The request did not arrive in time.",
        413: "The file or the image is too large.",
        422: "The image cannot be read.",
        503: "Too many requests wait, or the app is being stopped; see Retry-After.",
    }
    return {status: {"description": about[status], "content": content} for status in statuses}


@dataclass(frozen=True)
class Api:
    """What the endpoints need. limits: of one file; batches: at a time."""

    service: InspectionService
    access: Access
    limits: Limits
    budget: Budget
    batches: asyncio.Semaphore

    @property
    def models(self) -> Models:
        return self.service.judge.models

    def chosen(self, name: str) -> tuple[Model, ...]:
        """The models to choose from: all, or the one of this name. Raises SettingsError."""
        models = self.models.every
        if not name:
            return models
        chosen = tuple(model for model in models if model.info.name == name)
        if not chosen:
            names = ", ".join(model.info.name for model in models)
            raise SettingsError(f"There is no model {name!r} here. Choose one of: {names}.")
        return chosen


def http_api(
    service: InspectionService,
    access: Access,
    limits: Limits,
    listeners: Sequence[Listener] = (),
) -> FastAPI:
    """The app to be mounted at /v1. service: started. listeners: called once with each request."""
    app = FastAPI(
        title="Chip Inspector",
        description=ABOUT,
        version=__version__,
        docs_url=None,
        redoc_url=None,
    )
    budget = Budget(max(HELD_MB * MB, limits.file_bytes))
    api = Api(service, access, limits, budget, asyncio.Semaphore(1))
    app.state.challenge = access.challenge
    add_problems(app)
    add_inspect(app, api)
    add_inspect_batch(app, api)
    add_status(app, api)
    app.add_middleware(Recorded, listeners=(log_request, *listeners))
    return app


def known_caller(api: Api) -> list[Any]:
    """Dependencies of the endpoints that not everybody may ask. Raises AccessError."""

    async def caller(request: Request) -> None:
        request.state.record.add(caller=api.access.caller(request))

    described = [Depends(HTTPBearer(auto_error=False, description="An API key."))] if api.access.keys else []
    return [Depends(caller), *described]


def add_inspect(app: FastAPI, api: Api) -> None:
    @app.post(
        "/inspect",
        tags=["Inspect"],
        summary="Inspect one image",
        response_model=schema.Inspection,
        responses=problems(400, 401, 408, 413, 422, 503),
        openapi_extra={"requestBody": {"content": {"image/*": FILE, "multipart/form-data": FORM}}},
        dependencies=known_caller(api),
    )
    async def inspect(request: Request, asked: Annotated[schema.ParametersOfOne, Query()]) -> Response:
        """The body is the file itself, or a form with one file."""
        async with limited(request, api.limits.file_bytes, api.budget) as body:
            sent_name, content = await one_file(body)
            order = Order(lambda: api.chosen(asked.model), asked.threshold, asked.tiles)
            answer = await asyncio.wrap_future(api.service.submit(content, order))
        request.state.record.add(bytes=len(content), **logged(answer.inspection))
        fields = answer_json(answer, asked.name or sent_name, asked.heatmap == "png")
        return Response(
            json.dumps(fields | {"request_id": request.state.record.id}), media_type="application/json"
        )


def answer_json(answer: Answer, name: str, with_heatmap: bool) -> dict[str, Any]:
    inspection = answer.inspection
    fields = inspection_json(inspection, name, datetime.now().astimezone(), answer.notes)
    if with_heatmap:
        gray = Image.fromarray(np.rint(255 * inspection.heatmaps[inspection.method]).astype(np.uint8))
        png = base64.b64encode(encode(gray, "PNG")).decode()
        fields["heatmap"] = {"method": inspection.method, "png": png}
    return fields


def logged(inspection: Inspection) -> dict[str, Any]:
    """What the log gets of an inspection."""
    return {
        "sha256": inspection.image_sha256[:16],
        "outcome": inspection.outcome,
        "probability": round(inspection.abnormal_probability, 4),
        "model": inspection.model_name,
        "revision": inspection.model_revision,
        "wait_ms": round(inspection.timing_ms[WAIT], 2),
        "judge_ms": round(sum(inspection.timing_ms.values()) - inspection.timing_ms[WAIT], 2),
    }


class BatchResponse(StreamingResponse):
    """Lines that are made while they are sent. done: called in the end, whether they were sent or not."""

    def __init__(self, lines: Generator[bytes, None, None], done: Callable[[], None]):
        super().__init__(lines, media_type=JSON_LINES)
        self._lines, self._done = lines, done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._lines.close)  # ends the threads that read ahead
            self._done()


def add_inspect_batch(app: FastAPI, api: Api) -> None:
    content = {"multipart/form-data": FORMS, "application/zip": FILE}

    @app.post(
        "/inspect_batch",
        tags=["Inspect"],
        summary="Inspect many images",
        response_class=Response,
        responses={
            200: {"description": ABOUT_LINES, "content": {JSON_LINES: {"schema": LINE}}},
            **problems(400, 401, 408, 413, 503),
        },
        openapi_extra={"requestBody": {"content": content}},
        dependencies=known_caller(api),
    )
    async def inspect_batch(request: Request, asked: Annotated[schema.Parameters, Query()]) -> Response:
        """The body is a zip, or a form with images and zips."""
        models = api.chosen(asked.model)
        if api.service.stopping:
            raise StoppingError(STOPPING)
        try:  # a client that has just read its last batch to the end may be faster than its end here
            await asyncio.wait_for(api.batches.acquire(), BATCH_WAIT_S)
        except asyncio.TimeoutError:
            raise BusyError("Another batch is being inspected. Send this one again later.") from None
        folder = Path(tempfile.mkdtemp(prefix="chipdemo-batch-"))

        def done() -> None:
            api.batches.release()
            shutil.rmtree(folder, ignore_errors=True)

        try:
            async with limited(request, BATCH_TIMES * api.limits.file_bytes) as body:
                uploads = await files_on_disk(body, folder, MOST)
            images, _ = await run_in_threadpool(listed, uploads, api.limits)
        except BaseException:
            done()
            raise
        request.state.record.add(images=len(images))
        task = Task(api.service.judge, models, asked.threshold, asked.tiles, api.limits)
        return BatchResponse(json_lines(task, images, lambda: api.service.stopping), done)


def json_lines(
    task: Task, images: Sequence[BatchImage], stopping: Callable[[], bool]
) -> Generator[bytes, None, None]:
    """A line for each image, in their order, and one with a problem where they end early."""
    try:
        with closing(inspect_stream(task, images)) as batches:
            for batch in batches:
                results = [
                    {name: value for name, value in result_of(one).items() if name != "path"} for one in batch
                ]
                yield b"".join(json.dumps(result).encode() + b"\n" for result in results)
                if stopping():
                    raise StoppingError(STOPPING)
    except Exception as error:  # noqa: BLE001 - the status was sent long ago
        yield json.dumps({"problem": problem_of(error)}).encode() + b"\n"


def add_status(app: FastAPI, api: Api) -> None:
    @app.get(
        "/models",
        tags=["Status"],
        summary="The models of this app",
        response_model=schema.Models,
        responses=problems(401),
        dependencies=known_caller(api),
    )
    async def models() -> dict[str, Any]:
        return {"models": [model_json(model) for model in api.models.every]}

    @app.get("/health", tags=["Status"], summary="Whether the app runs", response_model=schema.Status)
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/ready",
        tags=["Status"],
        summary="Whether images are accepted now, for a load balancer",
        response_model=schema.Status,
        responses=problems(503),
    )
    async def ready() -> dict[str, str]:
        api.service.check()
        return {"status": "ready"}


def model_json(model: Model) -> dict[str, Any]:
    names = [name for name in schema.Model.model_fields if name != "methods"]
    return {name: getattr(model.info, name) for name in names} | {"methods": list(model.methods)}
