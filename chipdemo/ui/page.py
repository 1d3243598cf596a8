"""The page: header, tabs, API."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from chipdemo.batch.service import InspectionService
from chipdemo.examples import ExampleSet
from chipdemo.inspection import Model, is_taught
from chipdemo.judge import Judge
from chipdemo.keys import ApiKeys
from chipdemo.metrics import Metrics
from chipdemo.monitoring import Recent
from chipdemo.settings import Settings
from chipdemo.teaching import Teacher
from chipdemo.ui.api import browse as browse_api
from chipdemo.ui.api import inspect as api
from chipdemo.ui.api import label as label_api
from chipdemo.ui.api.mcp import own_folder
from chipdemo.ui.auth import Annotators, has_oauth
from chipdemo.ui.compare import tab as compare_tab
from chipdemo.ui.compare.logic import Lineup
from chipdemo.ui.events import KEEP_S, LIGHT
from chipdemo.ui.html import header_html
from chipdemo.ui.http.access import Access
from chipdemo.ui.http.docs import docs_routes
from chipdemo.ui.http.endpoints import http_api
from chipdemo.ui.inspect import history, wiring
from chipdemo.ui.inspect import tab as inspect_tab
from chipdemo.ui.inspect.first_example import FirstExample
from chipdemo.ui.inspect.layout import Parts as InspectParts
from chipdemo.ui.inspect.layout import layout as inspect_layout
from chipdemo.ui.label import tab as label_tab
from chipdemo.ui.label import training as training_panel
from chipdemo.ui.label.logic import Desk
from chipdemo.ui.many import tab as many_tab
from chipdemo.ui.sign_in import MESSAGE, TITLE, SignInPage, account_html
from chipdemo.ui.teach import tab as teach_tab
from chipdemo.ui.teach.logic import TaughtSource, TeachService
from chipdemo.ui.theme import launch_options, zoom_route
from chipdemo.ui.tiles import Tiles
from chipdemo.ui.uploads import fetch_no_addresses

CACHE_CHECK_S, CACHE_KEEP_S = 600, 2 * KEEP_S  # seconds
STOP_S = 2  # seconds
SESSIONS = 500  # visitors whose last image is kept
OPEN_TAB_JS = "() => window.chip.openAsked()"

log = logging.getLogger(__name__)


def build_app(
    judge: Judge,
    settings: Settings,
    recent: Recent,
    examples: Sequence[ExampleSet] = (),
    ablation: Path | None = None,
    load: Callable[[Path], Model] | None = None,
    desk: Desk | None = None,
    metrics: Metrics | None = None,
    teacher: Callable[[], Teacher] | None = None,
    continuing: Callable[[str], Teacher] | None = None,
    first_example: FirstExample | None = None,
) -> gr.Blocks:
    """The whole app, not yet launched.

    recent: what was inspected lately. examples: images on offer beside those of the models, by trusted
    paths. ablation: the ablation.json that Compare opens with, trusted too; it need not exist. load: a
    checkpoint folder -> its model, for the rows of the ablation; raises ChipDemoError. desk: for the Label
    tab; without it there is none. teacher: called when the Teach tab is first used; without it there is no
    such tab. continuing: a taught checkpoint, as for --model or a zip of it -> what lets it go on learning.
    first_example: that the page opens with; without it, the page is empty at first.
    """
    fetch_no_addresses()
    lineup = Lineup(judge.models, settings.model_sources, ablation, load)
    annotators = Annotators(settings, has_oauth() and not settings.auth)  # accounts go first
    with api.App(
        title=TITLE,
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(CACHE_CHECK_S, CACHE_KEEP_S),
    ) as app:
        app.tiles = desk.tiles if desk else Tiles()
        header = add_header(app, judge, settings)
        with gr.Tabs(selected="inspect", elem_id="tabs"):
            inspect = tuple(examples), recent, desk, annotators, teacher is not None, first_example
            parts, many_parts = add_inspect(app, header, judge, settings, *inspect)
            add_compare(lineup, settings)
            if desk:
                add_label(parts, many_parts, desk, annotators, judge)
            if teacher:
                add_teach(parts, teacher, continuing, judge, settings)
        api.add_api(judge, lineup, settings)
        if desk:  # below gr.Tabs, which may hold tabs alone
            label_api.add_label_api(desk, annotators)
            browse_api.add_browse_api(desk, annotators)
        app.load(None, js=OPEN_TAB_JS, api_visibility="private")
    app.queue(max_size=settings.queue_size, default_concurrency_limit=settings.concurrency)
    if metrics:  # gradio tells the length of its queue nowhere else
        metrics.ask("chipdemo_waiting", "Requests that wait for the model.", lambda: len(app._queue))
    return app


def add_header(app: gr.Blocks, judge: Judge, settings: Settings) -> gr.HTML:
    """The header, and with accounts of --auth who is signed in, with the way out."""
    first = judge.models.first
    text = header_html(first.model.info, first.refused)
    header = gr.HTML(text, apply_default_css=False, elem_id="header")

    def on_open_account(request: gr.Request) -> str:
        return account_html(request.username or "")

    if settings.auth:
        account = gr.HTML("", apply_default_css=False, elem_id="account")
        app.load(on_open_account, None, account, **LIGHT)
    return header


def add_inspect(
    app: api.App,
    header: gr.HTML,
    judge: Judge,
    settings: Settings,
    examples: Sequence[ExampleSet],
    recent: Recent,
    desk: Desk | None,
    annotators: Annotators,
    teaches: bool,
    first_example: FirstExample | None,
) -> tuple[InspectParts, many_tab.Parts]:
    with gr.Tab("Inspect", id="inspect", elem_id="inspect") as tab:
        parts = inspect_layout(judge, header, settings, examples, desk is not None, first_example is not None)
        many_parts = many_tab.layout(1 + len(judge.models.in_use))  # one of the visitor's own
    keep_address(tab, "inspect")
    handlers = inspect_tab.Handlers(parts, judge, settings, recent, app.tiles, teaches)
    images, choices = wiring.wire(handlers)
    opened = many_tab.wire(many_tab.Handlers(many_parts, handlers, settings, desk is not None))
    journal = desk.journal if desk else None
    shown = [*images, opened], choices
    history.wire(app, history.Handlers(handlers, annotators, journal, first_example), shown)
    return parts, many_parts


def add_compare(lineup: Lineup, settings: Settings) -> None:
    with gr.Tab("Compare", id="compare", elem_id="compare") as tab:
        parts = compare_tab.layout(settings)
    keep_address(tab, "compare")
    compare_tab.wire(parts, tab, lineup, settings)


def add_label(
    inspect_parts: InspectParts,
    many_parts: many_tab.Parts,
    desk: Desk,
    annotators: Annotators,
    judge: Judge,
) -> None:
    with gr.Tab("Label", id="label", elem_id="label") as tab:
        parts = label_tab.layout(desk, annotators)
    label_tab.wire(parts, tab, desk, annotators)
    label_tab.wire_sending(inspect_parts, desk, annotators)
    label_tab.wire_sending_many(many_parts, desk, annotators)
    if parts.training:
        chosen = training_panel.wire(parts.training, tab, desk, annotators)
        wiring.wire_change(chosen, inspect_parts, judge.models)


def add_teach(
    inspect_parts: InspectParts,
    teacher: Callable[[], Teacher],
    continuing: Callable[[str], Teacher] | None,
    judge: Judge,
    settings: Settings,
) -> None:
    def in_use() -> TaughtSource | None:
        taught = [one for one in judge.models.in_use if is_taught(one.model)]
        if continuing is None or not taught:
            return None
        return TaughtSource(taught[0].model.info.name, taught[0].source)

    with gr.Tab("Teach", id="teach", elem_id="teach") as tab:
        parts = teach_tab.layout()
    keep_address(tab, "teach")
    service = TeachService(teacher, settings.limits, continuing, in_use)
    teach_tab.wire(parts, tab, service, inspect_parts, judge.models)


def keep_address(tab: gr.Tab, name: str) -> None:
    """Choosing the tab writes #name into the address; opening the address chooses the tab."""
    tab.select(None, js=f"() => window.chip.keepTab('{name}')", api_visibility="private")


def serve(
    app: gr.Blocks,
    settings: Settings,
    service: InspectionService,
    metrics: Metrics | None = None,
    **options: Any,
) -> tuple[Any, str, str]:
    """Launch with the look and the limits of the settings. options: more of Blocks.launch.

    service: started; it answers the HTTP API at /v1, which is described at /docs. /health answers without a
    sign-in, and so does /metrics where there are any. Language models find the
    tools of ui/api at /gradio_api/mcp/, unless users sign in: gradio's server of tools cannot. Raises
    OSError where the port is taken.
    """
    listeners = [metrics.add_request] if metrics else []
    routes = [
        Route("/health", lambda _: PlainTextResponse("ok\n")),
        zoom_route(),
        app.tiles.route(),
        *docs_routes(),
        Mount("/v1", http_api(service, access_of(app, settings), settings.limits, listeners)),
    ]
    if metrics:
        metrics.ask("chipdemo_http_waiting", "Images of /v1 without an answer yet.", lambda: service.accepted)
        routes.append(Route("/metrics", lambda _: PlainTextResponse(metrics.text())))
    launched = app.launch(
        server_name=settings.host,
        server_port=settings.port,
        share=settings.share,
        auth=list(settings.auth) or None,
        auth_message=MESSAGE,
        max_file_size=f"{settings.max_upload_mb}mb",
        state_session_capacity=SESSIONS,
        ssr_mode=False,
        run_history=False,
        mcp_server=not settings.auth,
        app_kwargs={"routes": routes, "lifespan": own_folder, "middleware": [Middleware(SignInPage)]},
        **launch_options(),
        **options,
    )
    if app.mcp_error:  # mcp is not installed, for example
        log.warning("there are no tools for language models: %s", app.mcp_error)
    return launched


def access_of(app: gr.Blocks, settings: Settings) -> Access:
    """Who may ask the HTTP API. Raises SettingsError where the API keys cannot be read."""

    def user_of(request: Request) -> str | None:
        """Who signed in on the page; gradio keeps that in a cookie."""
        id, tokens = app.app.cookie_id, app.app.tokens
        cookies = (request.cookies.get(f"access-token{safe}-{id}") for safe in ("", "-unsecure"))
        known = (tokens[cookie] for cookie in cookies if cookie in tokens)
        return next(known, None)

    keys = ApiKeys(Path(settings.api_keys_file).expanduser()) if settings.api_keys_file else None
    return Access(settings.auth, keys, user_of)


def stop_serving(app: gr.Blocks) -> None:
    """End what is at work within STOP_S seconds, take nothing new, and delete what was uploaded."""
    app.server.config.timeout_graceful_shutdown = STOP_S  # pages that are open would hold on for ever
    app.server.should_exit = True
    app.server.thread.join(2 * STOP_S)
