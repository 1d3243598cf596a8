"""The panel "Many images at once" of the Inspect tab: layout, then wiring."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from chipdemo.batch.report import CSV, HTML, PARQUET
from chipdemo.errors import ChipDemoError
from chipdemo.inspection import Model, ModelInfo
from chipdemo.settings import Settings
from chipdemo.threshold import typed_threshold
from chipdemo.ui.events import KEEP_S, LIGHT
from chipdemo.ui.html import refused_html
from chipdemo.ui.inspect.layout import AUTOMATIC
from chipdemo.ui.inspect.logic import Current, chosen_threshold, own_threshold
from chipdemo.ui.inspect.tab import Handlers as Inspecting
from chipdemo.ui.inspect.tab import (
    Updates,
    download,
    models_of,
    of_another_model,
)
from chipdemo.ui.inspect.wiring import FAILED_JS, wire_computed
from chipdemo.ui.many import html, logic
from chipdemo.ui.many.logic import Many
from chipdemo.ui.theme import many_template
from chipdemo.ui.turns import Turns
from chipdemo.ui.uploads import uploaded_files

MANY = "many"  # kind of turns
STOPPED = "Stopped. Drop the images again to restart."
REPORTS = {HTML: "Report (HTML)", CSV: "Table (CSV)", PARQUET: "Table (Parquet)"}
GALLERY_JS = """
window.chip.mountMany(
  element,
  props,
  watch,
  (row) => trigger('select', {index: row, value: ''}),
  (rows) => trigger('send', {rows}),
);
"""
OPEN_JS = """(...values) => {
    window.chip.pending();
    document.getElementById("stage").scrollIntoView();
    return values;
}"""
OPENED_JS = "() => document.getElementById('back-to-many')?.focus({preventScroll: true})"
FOUND_JS = "() => window.chip.toMany()"
DOWNLOAD_JS = "() => document.getElementById('many-file').click()"
BACK_JS = "() => window.chip.backToMany()"


@dataclass(frozen=True)
class ThresholdParts:
    """The threshold of one of the models that judged."""

    column: gr.Column
    slider: gr.Slider
    meaning: gr.HTML


@dataclass(frozen=True)
class Parts:
    """The components that events read or write.

    many: a Many, or None. thresholds: one for each model that may have judged. reports: buttons by the name
    of the file that they make; file: brings it to the visitor.
    """

    files: gr.File
    running: gr.Row
    progress: gr.HTML
    stop: gr.Button
    message: gr.HTML
    thresholds: Sequence[ThresholdParts]
    downloads: gr.Row
    reports: Mapping[str, gr.Button]
    file: gr.DownloadButton
    gallery: gr.HTML
    sent: gr.HTML
    many: gr.State

    @property
    def sliders(self) -> list[gr.Slider]:
        return [each.slider for each in self.thresholds]

    @property
    def judged(self) -> list[Any]:
        """What a threshold changes."""
        return [self.gallery, *(each.meaning for each in self.thresholds)]

    @property
    def shown(self) -> list[Any]:
        columns = [each.column for each in self.thresholds]
        running = [self.running, self.progress, self.message, self.sent, self.downloads]
        return [*running, *columns, *self.sliders, *self.judged, self.many]

    def keep_a_while(self, file: Path) -> None:
        """Gradio deletes a file of its cache some time after a component had it."""
        self.gallery.move_resource_to_block_cache(file)


def layout(models: int) -> Parts:
    """The panel's components, to be called inside the Inspect tab. models: how many may judge, at most."""
    with gr.Accordion("Many images at once", open=False, elem_id="many"):
        files = gr.File(
            file_count="multiple",
            label=f"Images or zips of images, up to {logic.MOST:,}",
            elem_id="many-files",
            height=150,
        )
        with gr.Row(visible=False, elem_id="many-running") as running:
            progress = gr.HTML("", apply_default_css=False, elem_id="many-progress")
            stop = gr.Button("Stop", size="sm", elem_id="many-stop", scale=0, min_width=90)
        message = gr.HTML("", apply_default_css=False, elem_id="many-message")
        with gr.Row(elem_id="many-thresholds"):
            thresholds = [_layout_threshold(number) for number in range(models)]
        with gr.Row(visible=False, elem_id="many-downloads", elem_classes="downloads") as downloads:
            reports = {
                name: gr.Button(text, size="sm", min_width=100, elem_id=f"many-{name.rpartition('.')[2]}")
                for name, text in REPORTS.items()
            }
        sent = gr.HTML("", apply_default_css=False, elem_id="many-sent")
        gallery = gr.HTML(
            "",
            judged="",
            html_template=many_template(),
            js_on_load=GALLERY_JS,
            apply_default_css=False,
            elem_id="many-results",
        )
        file = gr.DownloadButton("report", visible="hidden", elem_id="many-file")
    many = gr.State(None, time_to_live=KEEP_S)
    return Parts(
        files, running, progress, stop, message, thresholds, downloads, reports, file, gallery, sent, many
    )


def _layout_threshold(number: int) -> ThresholdParts:
    with gr.Column(visible=False, min_width=300, elem_classes="many-threshold") as column:
        slider = gr.Slider(0, 1, 0.5, step=0.001, elem_id=f"many-threshold-{number}", buttons=[])
        meaning = gr.HTML("", apply_default_css=False)
    return ThresholdParts(column, slider, meaning)


@dataclass(frozen=True)
class Handlers:
    """What the events do. inspecting: of the Inspect tab. labels: there is a Label tab."""

    parts: Parts
    inspecting: Inspecting
    settings: Settings
    labels: bool = False

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
        turn, judge = turns.begin(MANY), self.inspecting.judge
        models = models_of(judge, own, fixed)
        threshold = chosen_threshold(shown, typed_threshold(threshold, shown.threshold))
        threshold = threshold if len(models) == 1 else None
        try:
            uploads = uploaded_files(payload)
            for found in logic.inspect_uploads(judge, models, uploads, threshold, self.settings.limits):
                if not turns.is_current(MANY, turn):
                    return
                yield self._progress(found) if isinstance(found, logic.Progress) else self._gallery(found)
        except ChipDemoError as error:
            yield self._nothing(refused_html(str(error), "many-refused"))

    def on_stop(self, turns: Turns) -> Updates:
        turns.begin(MANY)
        return self._nothing(refused_html(STOPPED, "many-refused"))

    def _progress(self, progress: logic.Progress) -> Updates:
        parts, updates = self.parts, {} if progress.done else self._nothing("")
        return updates | {
            parts.running: gr.Row(visible=True),
            parts.progress: html.progress_html(progress),
        }

    def _nothing(self, message: str) -> Updates:
        """No gallery: nothing of the last one stays."""
        parts = self.parts
        return {
            parts.running: gr.Row(visible=False),
            parts.message: message,
            parts.sent: "",
            parts.downloads: gr.Row(visible=False),
            parts.gallery: gr.HTML("", judged=""),
            parts.many: None,
            **{each.column: gr.Column(visible=False) for each in parts.thresholds},
        }

    def _gallery(self, many: Many) -> Updates:
        parts, view = self.parts, json.dumps(html.gallery_view(many, self.labels))
        for picture in filter(None, (tile.picture for tile in many.tiles)):
            parts.keep_a_while(picture)
        updates = self._nothing(html.passed_over_html(many)) | {
            parts.downloads: gr.Row(visible=True),
            parts.gallery: gr.HTML(view, judged=json.dumps(html.judged_view(many))),
            parts.many: many,
        }
        for each, info, threshold in zip(parts.thresholds, many.judges, many.thresholds):
            label = f"Decision threshold of {info.name}"
            updates |= {
                each.column: gr.Column(visible=True),
                each.slider: gr.Slider(value=threshold, label=label),
                each.meaning: html.meaning_html(info, threshold),
            }
        return updates

    def on_threshold(self, many: Many | None, *thresholds: Any) -> Updates:
        """Judge the images at the thresholds of now."""
        parts, many = self.parts, at_sliders(many, thresholds)
        meanings = [html.meaning_html(*pair) for pair in zip(many.judges, many.thresholds)]
        judged = gr.HTML(judged=json.dumps(html.judged_view(many)))
        return {parts.gallery: judged, **{each.meaning: one for each, one in zip(parts.thresholds, meanings)}}

    def on_report(self, name: str, many: Many | None, *thresholds: Any) -> Updates:
        content = logic.report_file(at_sliders(many, thresholds), name)
        return {self.parts.file: download(content, name)}

    def on_open(
        self,
        many: Many | None,
        turns: Turns,
        shown: ModelInfo,
        method: str,
        tiles: str,
        opened: gr.SelectData,
        *thresholds: Any,
    ) -> Updates:
        """An image of the gallery in the Inspect tab, judged by the same model at the same threshold."""
        many, parts = at_sliders(many, thresholds), self.inspecting.parts
        row = rows_of([opened.index], many)[0]
        name = many.tiles[row].result["file"]
        info, threshold = many.judge_of(many.tiles[row]) or (shown, own_threshold(shown))
        method = method if shown.name == info.name else ""
        updates = self.inspecting.inspect(
            lambda: logic.file_of(many, row, self.settings.limits),
            name,
            turns,
            many.models,
            info,
            threshold,
            method,
            tiles,
        )
        updates[parts.back] = gr.Button(visible=True)
        if isinstance(current := updates[parts.current], Current):
            model, method = current.model, current.explanation.method
            fixed = many.models[0].info.name if len(many.models) == 1 else AUTOMATIC
            updates |= of_another_model(parts, model, threshold, method) | {parts.model: fixed}
            self.parts.keep_a_while(current.path)
        return updates


def needed(many: Many | None) -> Many:
    """Raises gr.Error where there are no images, or no more."""
    if many is None:
        raise gr.Error(logic.GONE, print_exception=False)
    return many


def at_sliders(many: Many | None, thresholds: Sequence[Any]) -> Many:
    """The images, judged as the sliders stand. Raises gr.Error where they are gone."""
    typed = zip(thresholds, needed(many).judges)
    return many.at_thresholds([typed_threshold(value, info.threshold) for value, info in typed])


def rows_of(rows: Any, many: Many) -> list[int]:
    """Rows of images, as a browser sent them. Raises gr.Error for what is none."""
    if isinstance(rows, list) and all(isinstance(row, int) and 0 <= row < len(many.tiles) for row in rows):
        return list(dict.fromkeys(rows))
    raise gr.Error("These images are not in the gallery. Drop them again.", print_exception=False)


def wire(handlers: Handlers) -> Any:
    """The events. The model and the threshold of the Inspect tab apply.

    Returns the event after which an image of the gallery is shown there.
    """
    parts, inspecting = handlers.parts, handlers.inspecting
    chosen = inspecting.parts
    private = {"api_visibility": "private", "show_progress": "hidden"}
    at_once = private | {"concurrency_limit": None, "trigger_mode": "multiple"}
    # First: files that are still waiting for their turn take no turn themselves
    parts.files.upload(handlers.on_newer, chosen.turns, None, **at_once)
    found = parts.files.upload(
        handlers.on_files,
        [parts.files, chosen.turns, chosen.own_model, chosen.model, chosen.shown_model, chosen.threshold],
        parts.shown,
        preprocess=False,
        trigger_mode="multiple",
        concurrency_limit=1,
        concurrency_id=logic.QUEUE,
        **private,
    )
    found.success(None, js=FOUND_JS, api_visibility="private")
    found.then(lambda: None, None, parts.files, **private)
    parts.stop.click(handlers.on_stop, chosen.turns, parts.shown, cancels=[found], **at_once)
    judged = [parts.many, *parts.sliders]
    for slider in parts.sliders:
        slider.input(
            handlers.on_threshold,
            judged,
            parts.judged,
            preprocess=False,
            trigger_mode="always_last",
            **LIGHT,
        )
    for name, button in parts.reports.items():
        made = button.click(partial(handlers.on_report, name), judged, parts.file, preprocess=False, **LIGHT)
        made.success(None, js=DOWNLOAD_JS, api_visibility="private")
    return wire_opening(handlers)


def wire_opening(handlers: Handlers) -> Any:
    """An image of the gallery in the Inspect tab, and the way back.

    Returns the event after which it is shown.
    """
    parts, inspecting = handlers.parts, handlers.inspecting
    chosen = inspecting.parts
    opening = parts.gallery.select(
        handlers.on_open,
        [parts.many, chosen.turns, chosen.shown_model, chosen.method, chosen.tiles, *parts.sliders],
        [chosen.image, chosen.current, chosen.back, chosen.model, *chosen.of_model],
        js=OPEN_JS,
        trigger_mode="multiple",
        show_progress="hidden",
        **inspecting.heavy,
    )
    opening.failure(None, js=FAILED_JS, api_visibility="private")
    opening.success(None, js=OPENED_JS, api_visibility="private")
    for other in (chosen.image.input, chosen.examples.select, chosen.history.select):
        other(lambda: gr.Button(visible=False), None, chosen.back, **LIGHT)
    chosen.back.click(None, js=BACK_JS, api_visibility="private")
    return wire_computed(inspecting, opening)
