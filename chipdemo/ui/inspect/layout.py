"""The components of the Inspect tab. tab.py fills them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from chipdemo.examples import Example, ExampleSet
from chipdemo.images import FORMATS
from chipdemo.inspection import Model, ModelInfo, default_method
from chipdemo.judge import Judge
from chipdemo.labeling.inspections import PageHistory
from chipdemo.settings import Settings
from chipdemo.threshold import FPR, RECALL
from chipdemo.ui.events import KEEP_S
from chipdemo.ui.inspect import html, logic
from chipdemo.ui.inspect.example_strips import examples_html
from chipdemo.ui.inspect.history_html import Listing
from chipdemo.ui.theme import stage_template
from chipdemo.ui.turns import Turns

TARGETS = {  # what a visitor may ask of the threshold: label, percent at first
    RECALL: ("Detect at least … % of abnormal images", 95),
    FPR: ("Flag at most … % of normal images", 2),
}
IN_TILES, AS_A_WHOLE = "tiles", "whole"
AUTOMATIC = "*"  # in place of a model's name: the one that knows the image best
STAGE_JS = "window.chip.mount(element, props, watch);"
HISTORY_JS = "window.chip.mountHistory(element, props, watch, trigger);"
EXAMPLES_JS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-index]');
  if (button) trigger('select', {index: +button.dataset.index, value: button.title});
});
"""


@dataclass(frozen=True)
class TargetParts:
    """Where a visitor asks for the threshold that keeps a promise. percent: of the images of one class."""

    column: gr.Column
    percent: gr.Number
    choose: gr.Button


@dataclass(frozen=True)
class Parts:
    """The components of the tab that events read or write, and the states of a visitor.

    shown_model: the ModelInfo that the page speaks of. own_model: a model of the visitor's own, or None.
    model: the name of the one that is to judge, or AUTOMATIC.
    current: a Current, a Failed, or None. page_history: of a visitor whom nobody knows. listing: which
    entries the history shows. back: to the gallery that the image came from. targets: by metric. opacity,
    boxes, address (the sha256 in it): filled from the browser when they are needed.
    """

    shown_model: gr.State
    own_model: gr.State
    current: gr.State
    turns: gr.State
    page_history: gr.State
    listing: gr.State
    header: gr.HTML
    note: gr.HTML
    own_row: gr.Row
    own_note: gr.HTML
    own_back: gr.Button
    back: gr.Button
    stage: gr.HTML
    image: gr.Image
    history: gr.HTML
    examples: gr.HTML
    example_sets: Sequence[ExampleSet]
    model: gr.Radio
    verdict: gr.HTML
    threshold: gr.Slider
    reset: gr.Button
    targets: Mapping[str, TargetParts]
    promise: gr.HTML
    tiles: gr.Radio
    method: gr.Radio
    regions: gr.HTML
    nearest: gr.HTML
    send: gr.Button
    get_nearest: gr.Button
    get_overlay: gr.Button
    get_json: gr.Button
    again: gr.Button
    drift: gr.HTML
    teach_it: gr.Button
    details: gr.HTML
    raw: gr.JSON
    overlay_file: gr.DownloadButton
    json_file: gr.DownloadButton
    opacity: gr.Number
    boxes: gr.Checkbox
    address: gr.Textbox

    @property
    def of_model(self) -> list[Any]:
        """What of_another_model updates."""
        targets = [parts.column for parts in self.targets.values()]
        model = [self.shown_model, self.header, self.threshold, self.reset, self.promise, *targets]
        return [*model, self.method, self.get_nearest, self.examples]

    @property
    def shipped_examples(self) -> list[Example]:
        """By the number of their button."""
        return [example for one in self.example_sets for example in one.examples]

    @property
    def of_image(self) -> list[Any]:
        """What shows an inspection."""
        numbers = [self.verdict, self.regions, self.nearest, self.drift, self.details, self.raw]
        return [self.note, self.stage, self.tiles, self.teach_it, *numbers]

    @property
    def of_change(self) -> list[Any]:
        """What with_model updates."""
        own = [self.own_model, self.own_row, self.own_note, self.model, self.current]
        return [*own, *self.of_model, *self.of_image]


def layout(
    judge: Judge,
    header: gr.HTML,
    settings: Settings,
    examples: Sequence[ExampleSet],
    labels: bool = False,
    opens: bool = False,
) -> Parts:
    """The components, to be called inside the tab. header: the page's. labels: there is a Label tab.

    opens: an inspection is shown as soon as the page is there.
    """
    model = judge.models.first.model
    examples = [*examples, *(one.examples for one in judge.models.every if one.examples)]
    states = {
        "shown_model": gr.State(model.info),
        "own_model": gr.State(None),
        "current": gr.State(None, time_to_live=KEEP_S),
        "turns": gr.State(Turns()),
        "page_history": gr.State(PageHistory()),
        "listing": gr.State(Listing()),
    }
    with gr.Row(visible=False, elem_id="own-model") as own_row:
        own_note = gr.HTML("", apply_default_css=False, elem_id="own-note")
        own_back = gr.Button("Back to the app's model", size="sm", elem_id="own-back", scale=0, min_width=200)
    with gr.Row(elem_classes="inspect"):
        note = gr.HTML("", apply_default_css=False, elem_id="note")
        with gr.Column(elem_classes="area-stage"):
            back = gr.Button("← Back to the images", size="sm", visible=False, elem_id="back-to-many")
            stage = gr.HTML(
                {"state": "pending", "message": "Opening ..."} if opens else {"state": "empty"},
                html_template=stage_template(),
                js_on_load=STAGE_JS,
                apply_default_css=False,
                elem_id="stage",
            )
        with gr.Column(elem_classes="area-input"):
            image = _layout_input(settings)
        with gr.Column(elem_classes="area-strips"):
            strips = _layout_strips(model, examples)
        with gr.Column(elem_classes="area-verdict"):
            outputs = _layout_verdict(model, judge.models.infos, labels)
    hidden = {
        "overlay_file": gr.DownloadButton("overlay", visible="hidden", elem_id="overlay-file"),
        "json_file": gr.DownloadButton("result", visible="hidden", elem_id="json-file"),
        "opacity": gr.Number(0.8, visible="hidden"),
        "boxes": gr.Checkbox(True, visible="hidden"),
        "address": gr.Textbox("", visible="hidden"),
        "again": gr.Button("Inspect again", visible="hidden", elem_id="inspect-again"),
    }
    own = {"own_row": own_row, "own_note": own_note, "own_back": own_back}
    shown = {"header": header, "note": note, "stage": stage, "image": image, "back": back}
    return Parts(**shown, **states, **own, **strips, **outputs, **hidden)


def _layout_input(settings: Settings) -> gr.Image:
    return gr.Image(
        sources=["upload", "webcam", "clipboard"],
        type="filepath",
        label="Image of a chip",
        placeholder="Drop an image of a chip here\nor click to choose one; Ctrl+V pastes\n"
        f"{FORMATS}, up to {settings.max_megapixels:g} megapixels",
        elem_id="image",
        buttons=[],
    )


def _layout_strips(model: Model, examples: Sequence[ExampleSet]) -> dict[str, Any]:
    history = gr.HTML("", js_on_load=HISTORY_JS, apply_default_css=False, elem_id="history")
    strip = gr.HTML(
        examples_html(model, examples),
        js_on_load=EXAMPLES_JS,
        apply_default_css=False,
        elem_id="examples",
    )
    return {"history": history, "examples": strip, "example_sets": examples}


def model_choices(names: Sequence[str], chosen: str = AUTOMATIC) -> dict[str, Any]:
    """Of the radio of models, which is hidden where there is one alone. chosen: a name, or AUTOMATIC."""
    automatic = ("Automatic", AUTOMATIC)
    return {"choices": [automatic, *names], "value": chosen, "visible": len(names) > 1}


def _layout_verdict(model: Model, infos: Sequence[ModelInfo], labels: bool) -> dict[str, Any]:
    verdict = gr.HTML(html.intro_html(model.info, infos), apply_default_css=False, elem_id="verdict")
    teach_it = gr.Button("Teach this chip", variant="primary", elem_id="teach-it", visible=False)
    with gr.Group(elem_classes="controls"):
        of_model = gr.Radio(
            **model_choices([info.name for info in infos]),
            label="Model",
            info="Automatic: the one that knows the image best",
            elem_id="model",
        )
        with gr.Row(elem_classes="threshold-row"):
            threshold = gr.Slider(
                0,
                1,
                logic.own_threshold(model.info),
                step=0.001,
                label="Decision threshold",
                elem_id="threshold",
                buttons=[],
                scale=4,
            )
            reset = gr.Button(reset_label(model.info), size="sm", elem_id="reset", min_width=96)
        with gr.Row(elem_classes="target-row"):
            targets = {metric: _layout_target(metric, model.info) for metric in TARGETS}
        own_promise = html.promise_html(model.info, model.info.target, model.info.threshold)
        promise = gr.HTML(own_promise, apply_default_css=False, elem_id="promise")
        tiles = gr.Radio(
            [("In tiles", IN_TILES), ("As a whole", AS_A_WHOLE)],
            value=IN_TILES,
            label="Large image, inspected",
            elem_id="tiles",
            visible=False,
        )
        methods = list(model.methods)
        method = gr.Radio(
            methods,
            value=default_method(model),
            label="Explanation",
            info=html.overlay_reason(model),
            elem_id="method",
        )
    controls = {"threshold": threshold, "reset": reset, "targets": targets, "promise": promise}
    controls |= {"model": of_model, "tiles": tiles, "method": method, "teach_it": teach_it}
    return {"verdict": verdict, **controls, **_layout_numbers(bool(model.copies), labels)}


def _layout_target(metric: str, info: ModelInfo) -> TargetParts:
    with gr.Column(min_width=200, visible=has_images(info, metric)) as column, gr.Row():
        label, value = TARGETS[metric]
        percent = gr.Number(value, label=label, elem_id=f"target-{metric}", min_width=110)
        choose = gr.Button("Set", size="sm", elem_id=f"choose-{metric}", scale=0, min_width=60)
    return TargetParts(column, percent, choose)


def has_images(info: ModelInfo, metric: str) -> bool:
    """Whether there are validation images to choose the threshold by."""
    return bool(len(info.validation.scores[metric]))


def _layout_numbers(keeps_images: bool, labels: bool) -> dict[str, Any]:
    regions = gr.HTML("", apply_default_css=False, elem_id="regions")
    nearest = gr.HTML("", apply_default_css=False, elem_id="nearest")
    with gr.Row(elem_classes="downloads"):
        send = gr.Button("Send to labeling", size="sm", elem_id="send-to-labeling", visible=labels)
        get_nearest = gr.Button(
            "Compare with normal images", size="sm", elem_id="get-nearest", visible=keeps_images
        )
        get_overlay = gr.Button("Download overlay (PNG)", size="sm", elem_id="get-overlay")
        get_json = gr.Button("Download result (JSON)", size="sm", elem_id="get-json")
    drift = gr.HTML("", apply_default_css=False, elem_id="drift")
    with gr.Accordion("Details: channels, timings, raw JSON", open=False, elem_classes="details"):
        details = gr.HTML("", apply_default_css=False, elem_id="details")
        raw = gr.JSON(label="Inspection", elem_id="raw", open=True)
    buttons = {"send": send, "get_nearest": get_nearest, "get_overlay": get_overlay, "get_json": get_json}
    return {
        "regions": regions,
        "nearest": nearest,
        **buttons,
        "drift": drift,
        "details": details,
        "raw": raw,
    }


def reset_label(info: ModelInfo) -> str:
    return f"Back to {info.threshold:.3g}" if info.target else f"Model's own {info.threshold:.2f}"
