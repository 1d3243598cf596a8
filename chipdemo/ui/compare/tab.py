"""The Compare tab: layout, then wiring. What it does is in comparing.py."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from chipdemo.ablation.format import METRICS, Ablation, Row
from chipdemo.errors import AblationError, ChipDemoError
from chipdemo.images import read_image
from chipdemo.settings import Settings
from chipdemo.ui.compare import html as fragments
from chipdemo.ui.compare import logic as comparing
from chipdemo.ui.compare.logic import Lineup
from chipdemo.ui.events import MODEL_QUEUE, shown_errors
from chipdemo.ui.uploads import uploaded_path

# Not as data of the event: gradio drops that where an event has to wait for the one before
TICKED_JS = "(loaded, _) => [loaded, window.chip.ticked()]"
TABLE_JS = "window.chip.mountTable(element, trigger);"
CHART_METRICS = ("accuracy", "auroc")
SHIPPED = ""  # what `loaded` holds for the ablation that the app brings along


@dataclass(frozen=True)
class Parts:
    """The components of the tab that events read or write.

    loaded: None before the tab is opened, then SHIPPED or the path of a visitor's file.
    """

    loaded: gr.State
    about: gr.HTML
    load: gr.UploadButton
    back: gr.Button
    message: gr.HTML
    image: gr.Image
    stop: gr.Button
    answers: gr.HTML
    table: gr.HTML
    ticked: gr.JSON
    metric: gr.Radio
    scatter: gr.HTML
    drawn: gr.HTML
    disagreements: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """Where `show` goes, in order."""
        return [
            self.loaded, self.message, self.back, self.about, self.table, self.metric, self.scatter,
            self.drawn, self.disagreements,
        ]  # fmt: skip


def layout(settings: Settings) -> Parts:
    """The tab's components, to be called inside its gr.Tab. They are filled when it is opened."""

    def html(name: str, **more: Any) -> gr.HTML:
        return gr.HTML("", apply_default_css=False, elem_id=f"compare-{name}", **more)

    loaded = gr.State(None)
    with gr.Row(elem_classes="compare-head"):
        with gr.Column(scale=3, min_width=300):
            about = html("about")
            with gr.Row(elem_classes="compare-load"):
                load = gr.UploadButton(
                    "Load an ablation.json", file_types=[".json"], size="sm", elem_id="compare-load"
                )
                back = gr.Button("Back to the shipped one", visible=False, size="sm", elem_id="compare-back")
            message = html("message")
        with gr.Column(scale=2, min_width=300):
            image = gr.Image(
                sources=["upload", "clipboard"],
                type="filepath",
                label="Your image, judged by every model here",
                placeholder="Drop an image here: every model judges it\nor click to choose one; "
                + f"Ctrl+V pastes\nup to {settings.max_megapixels:g} megapixels",
                elem_id="compare-image",
                buttons=[],
            )
    answers = html("answers")
    stop = gr.Button("Stop", visible=False, size="sm", elem_id="compare-stop")
    table = html("table", js_on_load=TABLE_JS)
    ticked = gr.JSON(visible="hidden")
    metric = gr.Radio(
        [(METRICS[name], name) for name in CHART_METRICS],
        value=CHART_METRICS[0],
        label="Against time",
        visible=False,
        elem_id="compare-metric",
    )
    return Parts(
        loaded, about, load, back, message, image, stop, answers, table, ticked, metric,
        html("scatter"), html("drawn"), html("disagreements"),
    )  # fmt: skip


def wire(parts: Parts, tab: gr.Tab, lineup: Lineup, settings: Settings) -> None:
    """The events. None of them is part of the API; api.py is."""
    heavy = {
        "api_visibility": "private",
        "concurrency_limit": settings.concurrency,
        "concurrency_id": MODEL_QUEUE,
        "show_progress": "hidden",
    }
    light = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"}
    nothing = [gr.skip()] * len(parts.shown)

    def on_open(loaded: str | None, metric: str):
        return nothing if loaded is not None else on_back(metric)

    def on_back(metric: str):
        return shipped(lineup.ablation, metric)

    def on_load(payload: dict[str, Any] | None, metric: str):
        try:
            path = uploaded_path(payload)
            return shown(str(path), path, metric)
        except ChipDemoError as error:
            return [gr.skip(), fragments.message_html(str(error)), *nothing[2:]]

    def on_metric(loaded: str | None, metric: str):
        return fragments.scatter_html(comparing.beside_twins(current(loaded).rows), metric)

    def on_tick(loaded: str | None, ticked: list[str] | None):
        ablation = current(loaded)
        return drawn(ablation, comparing.ticked_rows(comparing.beside_twins(ablation.rows), ticked))

    def current(loaded: str | None) -> Ablation:
        with shown_errors():
            return comparing.ablation_at(Path(loaded) if loaded else lineup.ablation)

    def on_image(payload: dict[str, Any] | None):
        if payload is None:
            yield [gr.skip()] * 3
            return
        for text, going_on in judged(lineup, payload, settings.max_megapixels):
            yield None, gr.Button(visible=going_on), text

    parts_of_metric = [parts.loaded, parts.metric]
    tab.select(on_open, parts_of_metric, parts.shown, **light)
    parts.load.upload(on_load, [parts.load, parts.metric], parts.shown, preprocess=False, **light)
    parts.back.click(on_back, parts.metric, parts.shown, **light)
    parts.metric.input(on_metric, parts_of_metric, parts.scatter, **light)
    parts.table.select(
        on_tick,
        [parts.loaded, parts.ticked],
        [parts.drawn, parts.disagreements],
        js=TICKED_JS,
        trigger_mode="always_last",
        **light,
    )
    judging = parts.image.input(
        on_image,
        parts.image,
        [parts.image, parts.stop, parts.answers],
        preprocess=False,  # gradio would decode the file itself, and clip 16 bits to 8
        **heavy,
    )
    parts.stop.click(lambda: gr.Button(visible=False), None, parts.stop, cancels=judging, **light)


def judged(lineup: Lineup, payload: dict[str, Any], max_megapixels: float) -> Iterator[tuple[str, bool]]:
    """What the tab shows of an uploaded image, after each model; and whether more will come."""
    try:
        decoded = read_image(uploaded_path(payload), max_megapixels)
    except ChipDemoError as error:
        yield fragments.message_html(str(error)), False
        return
    name, total = payload.get("orig_name") or "Image", len(lineup.contenders())
    cards = []
    yield fragments.answers_html(name, cards, total), True
    for answer in comparing.answers(lineup, decoded):
        found = answer.inspection
        picture = comparing.answer_picture(decoded.image, found) if found else ""
        cards.append(fragments.answer_html(answer, picture))
        yield fragments.answers_html(name, cards, total), len(cards) < total


def drawn(ablation: Ablation, rows: Sequence[Row]) -> list[str]:
    """The charts and the disagreements of some rows."""
    return [
        fragments.drawn_html(rows, ablation.abnormal, ablation.data.part),
        fragments.disagreements_html(ablation, rows),
    ]


def shown(loaded: str, path: Path, metric: str) -> list[Any]:
    """An ablation, for Parts.shown. loaded: what the state will hold. Raises AblationError."""
    ablation = comparing.ablation_at(path)
    rows = comparing.beside_twins(ablation.rows)
    return [
        loaded,
        "",
        gr.Button(visible=loaded != SHIPPED),
        fragments.about_html(ablation),
        fragments.table_html(ablation, rows),
        gr.Radio(visible=True),
        fragments.scatter_html(rows, metric),
        *drawn(ablation, rows[: comparing.TICKED]),
    ]


def shipped(path: Path | None, metric: str) -> list[Any]:
    """The ablation that the app brings along, for Parts.shown; where there is none, what to do next."""
    message = ""
    if path is not None and path.exists():
        try:
            return shown(SHIPPED, path, metric)
        except AblationError as error:
            message = fragments.message_html(str(error))
    no_back, no_metric = gr.Button(visible=False), gr.Radio(visible=False)
    return [SHIPPED, message, no_back, fragments.EMPTY, fragments.published_html(), no_metric, "", "", ""]
