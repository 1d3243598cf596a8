"""The page: header, tabs, API. One room for each tab."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from chipdemo.examples import Example
from chipdemo.files import Limits
from chipdemo.inspection import Inspector, ModelInfo
from chipdemo.labeling.journal import Journal
from chipdemo.metrics import Metrics
from chipdemo.monitoring import MonitoredInspector, Recent, log_inspection
from chipdemo.settings import Settings
from chipdemo.teaching import Teacher
from chipdemo.tiling import TiledInspector
from chipdemo.ui.api import inspect as api
from chipdemo.ui.api import label as label_api
from chipdemo.ui.api.tools import tool_routes
from chipdemo.ui.auth import Annotators, has_oauth
from chipdemo.ui.compare import tab as compare_tab
from chipdemo.ui.compare.logic import Lineup
from chipdemo.ui.inspect import html as fragments
from chipdemo.ui.inspect import tab as inspect_tab
from chipdemo.ui.inspect.model_in_use import carried_over, updates
from chipdemo.ui.label import logic as labeling
from chipdemo.ui.label import tab as label_tab
from chipdemo.ui.label.logic import Publisher
from chipdemo.ui.many import tab as many_panel
from chipdemo.ui.teach import tab as teach_tab
from chipdemo.ui.teach.logic import Classroom
from chipdemo.ui.theme import launch_options
from chipdemo.ui.uploads import fetch_no_addresses

CACHE_CHECK_S, CACHE_KEEP_S = 600, 2 * inspect_tab.KEEP_S  # seconds
STOP_S = 2  # seconds
SESSIONS = 500  # visitors whose last image is remembered
OPEN_TAB = "() => window.chip.openAsked()"


def build_app(
    inspector: Inspector,
    settings: Settings,
    examples: Sequence[Example] = (),
    ablation: Path | None = None,
    load: Callable[[Path], Inspector] | None = None,
    journal: Journal | None = None,
    publisher: Publisher | None = None,
    metrics: Metrics | None = None,
    teacher: Callable[[], Teacher] | None = None,
) -> gr.Blocks:
    """The whole app, not yet launched.

    examples: images on offer, by trusted paths. ablation: the ablation.json that Compare opens
    with, trusted too; it need not exist. load: a checkpoint folder -> its inspector, for the rows of
    the ablation; raises ChipDemoError. journal: open, for the Label tab; without it there is none.
    publisher: what sends labels to the shared dataset. metrics: are told of every inspection.
    teacher: gives the one of the Teach tab when it is first needed; without it there is no such tab.
    """
    fetch_no_addresses()
    recent = Recent()
    listeners = [log_inspection, *([metrics.add] if metrics else [])]
    tiled = TiledInspector(inspector)
    monitored = MonitoredInspector(tiled, recent.add, *listeners)
    examples = tuple(examples)
    lineup = Lineup(inspector, settings.model_source, ablation, load)
    with api.App(
        title="Chip Inspector",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(CACHE_CHECK_S, CACHE_KEEP_S),
    ) as app:
        header = gr.HTML(fragments.header_html(inspector.info), apply_default_css=False, elem_id="header")
        with gr.Tabs(selected="inspect", elem_id="tabs"):
            with gr.Tab("Inspect", id="inspect", elem_id="inspect") as tab:
                parts = inspect_tab.layout(inspector, header, settings, examples, labels=journal is not None)
                many_parts = many_panel.layout()
            keep_address(tab, "inspect")
            with gr.Tab("Compare", id="compare", elem_id="compare") as compare:
                compare_parts = compare_tab.layout(settings)
            keep_address(compare, "compare")
            if journal:
                annotators = Annotators(settings, has_oauth())
                with gr.Tab("Label", id="label", elem_id="label") as label:
                    label_parts = label_tab.layout(annotators)
            if teacher:
                with gr.Tab("Teach", id="teach", elem_id="teach") as teach:
                    teach_parts = teach_tab.layout()
                keep_address(teach, "teach")
        inspect_tab.wire(parts, monitored, settings, examples, recent)
        many_panel.wire(many_parts, parts.model.threshold, parts.own.inspector, monitored, settings)
        compare_tab.wire(compare_parts, compare, lineup, settings)
        api.add_api(monitored, lineup, settings)
        if journal:
            desk = labeling.desk_of(journal, tiled, settings, publisher)
            label_tab.wire(label_parts, label, desk, annotators)
            label_tab.wire_sending(parts, desk, annotators)
            label_api.add_label_api(desk, annotators)
        if teacher:
            room = Classroom(teacher, Limits(megapixels=settings.max_megapixels))
            teach_tab.wire(
                teach_parts, room, parts, lambda own: MonitoredInspector(TiledInspector(own), *listeners)
            )
        app.load(None, js=OPEN_TAB, api_visibility="private")
        if settings.watch:
            open_with_model_in_use(app, parts, inspector)
    app.queue(max_size=settings.queue_size, default_concurrency_limit=settings.concurrency)
    if metrics:
        metrics.ask("chipdemo_waiting", "Requests that wait for the model.", lambda: len(app._queue))
    return app


def open_with_model_in_use(app: gr.Blocks, parts: inspect_tab.Parts, inspector: Inspector) -> None:
    """A page that is opened now shows the model in use now, not the one the app began with."""

    def on_open(shown: ModelInfo, threshold: float, method: str) -> list[Any]:
        now = inspector.current()
        threshold, method = carried_over(shown, now, threshold, method)
        intro = gr.skip() if shown == now.info else fragments.intro_html(now.info)
        return [intro, *updates(shown, now, threshold, method)]

    model = parts.model
    app.load(
        on_open,
        [model.shown, model.threshold, model.method],
        [parts.verdict, *model],
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None,
    )


def keep_address(tab: gr.Tab, name: str) -> None:
    """Choosing the tab writes #name into the address; opening the address chooses the tab."""
    tab.select(None, js=f"() => window.chip.keepTab('{name}')", api_visibility="private")


def serve(
    app: gr.Blocks, settings: Settings, metrics: Metrics | None = None, **options: Any
) -> tuple[Any, str, str]:
    """Launch with the look and the limits of the settings. options: more of Blocks.launch.

    /health answers while the app does, and /metrics where there are any, without a sign-in; language
    models find their tools at /gradio_api/mcp/. Raises OSError where the port is taken.
    """
    routes = [Route("/health", lambda _: PlainTextResponse("ok\n")), *tool_routes(app)]
    if metrics:
        routes.append(Route("/metrics", lambda _: PlainTextResponse(metrics.text())))
    return app.launch(
        server_name=settings.host,
        server_port=settings.port,
        share=settings.share,
        auth=list(settings.auth) or None,
        max_file_size=f"{settings.max_upload_mb}mb",
        state_session_capacity=SESSIONS,
        ssr_mode=False,
        run_history=False,
        mcp_server=False,  # tools.py is one that knows who has signed in
        app_kwargs={"routes": routes},
        **launch_options(),
        **options,
    )


def stop_serving(app: gr.Blocks) -> None:
    """End what is at work within STOP_S seconds, take nothing new, and delete what was uploaded."""
    app.server.config.timeout_graceful_shutdown = STOP_S  # pages that are open would hold on for ever
    app.server.should_exit = True
    app.server.thread.join(2 * STOP_S)
