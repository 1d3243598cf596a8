"""The panel "Many images at once" of the Inspect tab: layout, then wiring."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from chipdemo.batch.report import CSV, HTML
from chipdemo.errors import ChipDemoError
from chipdemo.files import Limits
from chipdemo.inspection import Model, ModelInfo
from chipdemo.judge import Judge
from chipdemo.settings import Settings
from chipdemo.threshold import typed_threshold
from chipdemo.ui.html import refused_html
from chipdemo.ui.inspect.layout import Parts as InspectParts
from chipdemo.ui.inspect.logic import chosen_threshold
from chipdemo.ui.inspect.tab import Updates, download, models_of
from chipdemo.ui.many import html, logic
from chipdemo.ui.turns import Turns
from chipdemo.ui.uploads import uploaded_files

MANY = "many"  # kind of turns
STOPPED = "Stopped. Drop the images again to restart."


@dataclass(frozen=True)
class Parts:
    """The components that events read or write."""

    files: gr.File
    stop: gr.Button
    results: gr.HTML
    page: gr.DownloadButton
    table: gr.DownloadButton

    @property
    def shown(self) -> list[Any]:
        return [self.results, self.stop, self.page, self.table]


def layout() -> Parts:
    """The panel's components, to be called inside the Inspect tab."""
    with gr.Accordion("Many images at once", open=False, elem_id="many"):
        files = gr.File(
            file_count="multiple",
            label=f"Images or zips of images, up to {logic.MOST:,}",
            elem_id="many-files",
            height=150,
        )
        stop = gr.Button("Stop", visible=False, size="sm", elem_id="many-stop")
        with gr.Row():
            page = gr.DownloadButton("Report (HTML)", visible=False, size="sm", elem_id="many-page")
            table = gr.DownloadButton("Table (CSV)", visible=False, size="sm", elem_id="many-table")
        results = gr.HTML("", apply_default_css=False, elem_id="many-results")
    return Parts(files, stop, results, page, table)


@dataclass(frozen=True)
class Handlers:
    """What the events do."""

    parts: Parts
    judge: Judge
    settings: Settings

    def on_newer(self, turns: Turns) -> None:
        """Whatever is being inspected for this visitor ends with its batch, and shows no more."""
        turns.begin(MANY)

    def on_files(
        self,
        payload: list[Mapping[str, Any]] | None,
        turns: Turns,
        own: Model | None,
        fixed: str,
        shown: ModelInfo,
        threshold: Any,
    ) -> Iterator[Updates]:
        turn, limits = turns.begin(MANY), Limits(megapixels=self.settings.max_megapixels)
        models = models_of(self.judge, own, fixed)
        threshold = chosen_threshold(shown, typed_threshold(threshold, shown.threshold))
        threshold = threshold if len(models) == 1 else None
        try:
            uploads = uploaded_files(payload)
            for found in logic.inspect_uploads(self.judge, models, uploads, threshold, limits):
                if not turns.is_current(MANY, turn):
                    return
                yield self._updates(found)
        except ChipDemoError as error:
            yield self._ended(refused_html(str(error), "many-refused"))

    def on_stop(self, turns: Turns) -> Updates:
        turns.begin(MANY)
        return self._ended(refused_html(STOPPED, "many-refused"))

    def _updates(self, found: logic.Progress | logic.Many) -> Updates:
        parts = self.parts
        if isinstance(found, logic.Progress):
            return self._ended(html.progress_html(found)) | {parts.stop: gr.Button(visible=True)}
        files = logic.report_files(found)
        return {
            **self._ended(html.many_html(found)),
            parts.page: gr.DownloadButton(value=download(files[HTML], HTML), visible=True),
            parts.table: gr.DownloadButton(value=download(files[CSV], CSV), visible=True),
        }

    def _ended(self, results: str) -> Updates:
        parts = self.parts
        hidden = {parts.page: gr.DownloadButton(visible=False), parts.table: gr.DownloadButton(visible=False)}
        return {parts.results: results, parts.stop: gr.Button(visible=False), **hidden}


def wire(parts: Parts, chosen: InspectParts, judge: Judge, settings: Settings) -> None:
    """The events. chosen: the Inspect tab, whose model and threshold apply."""
    handlers = Handlers(parts, judge, settings)
    private = {"api_visibility": "private", "show_progress": "hidden"}
    at_once = private | {"concurrency_limit": None, "trigger_mode": "multiple"}
    # First: files that are still waiting for their turn take no turn themselves
    parts.files.upload(handlers.on_newer, chosen.turns, None, **at_once)
    inspecting = parts.files.upload(
        handlers.on_files,
        [parts.files, chosen.turns, chosen.own_model, chosen.model, chosen.shown_model, chosen.threshold],
        parts.shown,
        preprocess=False,
        trigger_mode="multiple",
        concurrency_limit=1,
        concurrency_id=logic.QUEUE,
        **private,
    )
    inspecting.then(lambda: None, None, parts.files, **private)
    parts.stop.click(handlers.on_stop, chosen.turns, parts.shown, cancels=[inspecting], **at_once)
