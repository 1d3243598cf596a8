"""The Compare tab: layout, then wiring. What it does is in logic.py."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from chipdemo.ablation.format import METRICS, Ablation, Row
from chipdemo.errors import AblationError, ChipDemoError
from chipdemo.images import read_image
from chipdemo.settings import Settings
from chipdemo.ui.compare import html, logic
from chipdemo.ui.compare.logic import Lineup
from chipdemo.ui.events import MODEL_QUEUE, shown_errors
from chipdemo.ui.turns import Turns
from chipdemo.ui.uploads import uploaded_path

# Not as data of the event: gradio drops that where an event has to wait for the one before
SELECTED_JS = "(loaded, _) => [loaded, window.chip.selectedModels()]"
TABLE_JS = "window.chip.mountTable(element, trigger);"
CHART_METRICS = ("accuracy", "auroc")
SHIPPED = ""  # what `loaded` holds for the ablation that the app brings along
IMAGE = "image"  # of Turns

Update = dict[Component, Any]


@dataclass(frozen=True)
class Parts:
    """The components of the tab that events read or write.

    loaded: None before the tab is opened, then SHIPPED or the path of a visitor's file. turns: Turns.
    chosen: (turn, upload), the last image that the visitor chose, or None.
    """

    loaded: gr.State
    turns: gr.State
    chosen: gr.State
    about: gr.HTML
    load: gr.UploadButton
    back: gr.Button
    message: gr.HTML
    image: gr.Image
    stop: gr.Button
    answers: gr.HTML
    table: gr.HTML
    selected: gr.JSON
    metric: gr.Radio
    scatter: gr.HTML
    plots: gr.HTML
    disagreements: gr.HTML

    @property
    def shown(self) -> list[Component]:
        """What show_ablation updates."""
        return [
            self.loaded, self.message, self.back, self.about, self.table, self.metric, self.scatter,
            self.plots, self.disagreements,
        ]  # fmt: skip


def layout(settings: Settings) -> Parts:
    """The tab's components, to be called inside its gr.Tab. They are filled when it is opened."""

    def piece(name: str, **more: Any) -> gr.HTML:
        return gr.HTML("", apply_default_css=False, elem_id=f"compare-{name}", **more)

    with gr.Row(elem_classes="compare-head"):
        with gr.Column(scale=3, min_width=300):
            about = piece("about")
            with gr.Row(elem_classes="compare-load"):
                load = gr.UploadButton(
                    "Load an ablation.json", file_types=[".json"], size="sm", elem_id="compare-load"
                )
                back = gr.Button(
                    "Show the shipped comparison", visible=False, size="sm", elem_id="compare-back"
                )
            message = piece("message")
        with gr.Column(scale=2, min_width=300):
            image = gr.Image(
                sources=["upload", "clipboard"],
                type="filepath",
                label="Your image, inspected by every model",
                placeholder="Drop an image here: every model inspects it\nor click to choose one; "
                + f"Ctrl+V pastes\nup to {settings.max_megapixels:g} megapixels",
                elem_id="compare-image",
                buttons=[],
            )
    answers = piece("answers")
    stop = gr.Button("Stop", visible=False, size="sm", elem_id="compare-stop")
    table = piece("table", js_on_load=TABLE_JS)
    metric = gr.Radio(
        [(METRICS[name], name) for name in CHART_METRICS],
        value=CHART_METRICS[0],
        label="Against time",
        visible=False,
        elem_id="compare-metric",
    )
    return Parts(
        gr.State(None), gr.State(Turns()), gr.State(None), about, load, back, message, image, stop, answers,
        table, gr.JSON(visible="hidden"), metric, piece("scatter"), piece("plots"), piece("disagreements"),
    )  # fmt: skip


def wire(parts: Parts, tab: gr.Tab, lineup: Lineup, settings: Settings) -> None:
    """The events. None of them is part of the API; api/ is."""
    wire_ablation(parts, tab, lineup.ablation)
    wire_image(parts, lineup, settings)


LIGHT = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"}


def wire_ablation(parts: Parts, tab: gr.Tab, shipped: Path | None) -> None:
    """The events around the table and its charts. shipped: the ablation that the app brings along."""

    def on_open(loaded: str | None, metric: str) -> Update:
        return show_shipped(parts, shipped, metric) if loaded is None else {parts.loaded: gr.skip()}

    def on_back(metric: str) -> Update:
        return show_shipped(parts, shipped, metric)

    def on_load(payload: dict[str, Any] | None, metric: str) -> Update:
        try:
            path = uploaded_path(payload)
            return show_ablation(parts, str(path), path, metric)
        except ChipDemoError as error:
            return {parts.message: html.message_html(str(error))}

    def on_metric(loaded: str | None, metric: str) -> Update:
        return {parts.scatter: html.scatter_html(logic.after_baselines(current(loaded).rows), metric)}

    def on_select(loaded: str | None, ids: list[str] | None) -> Update:
        ablation = current(loaded)
        return show_selected(parts, ablation, logic.selected_rows(logic.after_baselines(ablation.rows), ids))

    def current(loaded: str | None) -> Ablation:
        with shown_errors():
            return logic.cached_ablation(Path(loaded) if loaded else shipped)

    tab.select(on_open, [parts.loaded, parts.metric], parts.shown, **LIGHT)
    parts.load.upload(on_load, [parts.load, parts.metric], parts.shown, preprocess=False, **LIGHT)
    parts.back.click(on_back, parts.metric, parts.shown, **LIGHT)
    parts.metric.input(on_metric, [parts.loaded, parts.metric], parts.scatter, **LIGHT)
    parts.table.select(
        on_select,
        [parts.loaded, parts.selected],
        [parts.plots, parts.disagreements],
        js=SELECTED_JS,
        trigger_mode="always_last",
        **LIGHT,
    )


def wire_image(parts: Parts, lineup: Lineup, settings: Settings) -> None:
    """The events around the visitor's own image. The last one chosen wins.

    Choosing takes a turn at once, without waiting for a model, so that whatever still works on an
    earlier image stops after its present model.
    """

    def on_choose(payload: dict[str, Any] | None, turns: Turns) -> Update:
        return {parts.image: None, parts.chosen: payload and (turns.begin(IMAGE), payload)}

    def on_chosen(chosen: tuple[int, dict[str, Any]] | None, turns: Turns) -> Iterator[Update]:
        if not chosen:
            return
        turn, payload = chosen
        for text, unfinished in answered(lineup, payload, settings.max_megapixels):
            if not turns.is_current(IMAGE, turn):
                yield gr.skip()
                return
            yield {parts.stop: gr.Button(visible=unfinished), parts.answers: text}

    def on_stop(turns: Turns) -> Update:
        turns.begin(IMAGE)
        return {parts.stop: gr.Button(visible=False)}

    parts.image.input(
        on_choose,
        [parts.image, parts.turns],
        [parts.image, parts.chosen],
        preprocess=False,  # gradio would decode the file itself, and clip 16 bits to 8
        trigger_mode="multiple",
        **LIGHT,
    ).success(
        on_chosen,
        [parts.chosen, parts.turns],
        [parts.stop, parts.answers],
        api_visibility="private",
        concurrency_limit=settings.concurrency,
        concurrency_id=MODEL_QUEUE,
        show_progress="hidden",
        trigger_mode="multiple",  # a page would not ask again before the last answer is complete
    )
    parts.stop.click(on_stop, parts.turns, parts.stop, **LIGHT)


def answered(lineup: Lineup, payload: dict[str, Any], max_megapixels: float) -> Iterator[tuple[str, bool]]:
    """What the tab shows of an uploaded image, after each model; and whether more will come."""
    try:
        decoded = read_image(uploaded_path(payload), max_megapixels)
    except ChipDemoError as error:
        yield html.message_html(str(error)), False
        return
    name, total = payload.get("orig_name") or "Image", len(lineup.models())
    cards = []
    yield html.answers_html(name, cards, total), True
    for answer in logic.answers(lineup, decoded):
        picture = logic.answer_picture(decoded.image, answer.inspection) if answer.inspection else ""
        cards.append(html.answer_html(answer, picture))
        yield html.answers_html(name, cards, total), len(cards) < total


def show_selected(parts: Parts, ablation: Ablation, rows: Sequence[Row]) -> Update:
    """The charts and the disagreements of some rows."""
    return {
        parts.plots: html.plots_html(rows, ablation.abnormal, ablation.data.split),
        parts.disagreements: html.disagreements_html(ablation, rows),
    }


def show_ablation(parts: Parts, loaded: str, path: Path, metric: str) -> Update:
    """A whole ablation. loaded: what the state will hold. Raises AblationError."""
    ablation = logic.cached_ablation(path)
    rows = logic.after_baselines(ablation.rows)
    return {
        parts.loaded: loaded,
        parts.message: "",
        parts.back: gr.Button(visible=loaded != SHIPPED),
        parts.about: html.about_html(ablation),
        parts.table: html.table_html(ablation, rows),
        parts.metric: gr.Radio(visible=True),
        parts.scatter: html.scatter_html(rows, metric),
        **show_selected(parts, ablation, rows[: logic.SELECTED]),
    }


def show_shipped(parts: Parts, path: Path | None, metric: str) -> Update:
    """The ablation that the app brings along; where there is none, what to do next."""
    message = ""
    if path is not None and path.exists():
        try:
            return show_ablation(parts, SHIPPED, path, metric)
        except AblationError as error:
            message = html.message_html(str(error))
    return {
        parts.loaded: SHIPPED,
        parts.message: message,
        parts.back: gr.Button(visible=False),
        parts.about: html.EMPTY,
        parts.table: html.published_html(),
        parts.metric: gr.Radio(visible=False),
        parts.scatter: "",
        parts.plots: "",
        parts.disagreements: "",
    }
