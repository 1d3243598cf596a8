"""The Inspect tab: layout, then wiring. What it does is in inspecting.py."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from chipdemo.errors import ChipDemoError
from chipdemo.examples import Example
from chipdemo.inspection import INVERSE, Model, ModelInfo
from chipdemo.judge import Judge
from chipdemo.monitoring import Recent
from chipdemo.settings import Settings
from chipdemo.ui.inspect import html as fragments
from chipdemo.ui.inspect import logic as inspecting
from chipdemo.ui.inspect import model_in_use, own_model
from chipdemo.ui.inspect.logic import Current
from chipdemo.ui.inspect.model_in_use import ModelParts
from chipdemo.ui.inspect.own_model import OwnParts
from chipdemo.ui.theme import stage_template
from chipdemo.ui.uploads import uploaded_path

MODEL_QUEUE = "model"  # events that run the network share one limit
KEEP_S = 3600  # seconds that an idle visitor's image stays inspectable
PENDING = "(...values) => { window.chip.pending(); return values; }"
# Opening the camera is an input too, of nothing: the last result stays
PENDING_WITH_FILE = "(...values) => { if (values[0]) window.chip.pending(); return values; }"
FAILED = "() => window.chip.failed()"
STAGE_JS = "window.chip.mount(element, props, watch);"
EXAMPLES_JS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-index]');
  if (button) trigger('select', {index: +button.dataset.index, value: button.title});
});
"""
IN_TILES, AS_A_WHOLE = "tiles", "whole"
NOTHING = "Inspect an image first; the last one is no longer kept here."


@dataclass(frozen=True)
class Parts:
    """The components of the tab that events read or write."""

    model: ModelParts
    own: OwnParts
    current: gr.State
    stage: gr.HTML
    image: gr.Image
    examples: gr.HTML
    verdict: gr.HTML
    regions: gr.HTML
    normals: gr.HTML
    drift: gr.HTML
    details: gr.HTML
    raw: gr.JSON
    tiles: gr.Radio
    send: gr.Button
    get_overlay: gr.Button
    get_json: gr.Button
    overlay_file: gr.DownloadButton
    json_file: gr.DownloadButton
    opacity: gr.Number

    @property
    def shown(self) -> list[Any]:
        """Where _results goes, in order."""
        image = [self.image, self.current, self.stage, self.verdict, self.regions]
        return [*image, self.normals, self.drift, self.details, self.raw, self.tiles, *self.model]

    @property
    def changed(self) -> list[Any]:
        """Where changed_to goes, in order."""
        return [self.own.model, self.own.row, self.own.note, *self.shown]


def layout(
    judge: Judge,
    header: gr.HTML,
    settings: Settings,
    examples: Sequence[Example],
    labels: bool = False,
) -> Parts:
    """The tab's components, to be called inside its gr.Tab. header: the page's.

    labels: there is a Label tab.
    """
    model = judge.models.in_use
    info = model.info
    shown = gr.State(info)
    current = gr.State(None, time_to_live=KEEP_S)
    own = own_model.layout()
    with gr.Row(elem_classes="inspect"):
        with gr.Column(elem_classes="area-stage"):
            stage = gr.HTML(
                {"state": "empty"},
                html_template=stage_template(),
                js_on_load=STAGE_JS,
                apply_default_css=False,
                elem_id="stage",
            )
        with gr.Column(elem_classes="area-input"):
            image = gr.Image(
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                label="Image of a chip",
                placeholder="Drop an image of a chip here\nor click to choose one; Ctrl+V pastes\n"
                + f"PNG, JPEG, TIFF, BMP, WebP or GIF, up to {settings.max_megapixels:g} megapixels",
                elem_id="image",
                buttons=[],
            )
            example_strip = gr.HTML(
                fragments.examples_html(examples),
                js_on_load=EXAMPLES_JS,
                apply_default_css=False,
                elem_id="examples",
            )
        with gr.Column(elem_classes="area-verdict"):
            verdict = gr.HTML(fragments.intro_html(info), apply_default_css=False, elem_id="verdict")
            with gr.Group(elem_classes="controls"):
                with gr.Row(elem_classes="threshold-row"):
                    threshold = gr.Slider(
                        0,
                        1,
                        model_in_use.own_threshold(info),
                        step=0.001,
                        label="Threshold: stopped from here on",
                        elem_id="threshold",
                        buttons=[],
                        scale=4,
                    )
                    reset = gr.Button(
                        model_in_use.own_threshold_label(info), size="sm", elem_id="reset", min_width=96
                    )
                tiles = gr.Radio(
                    [("In tiles", IN_TILES), ("As a whole", AS_A_WHOLE)],
                    value=IN_TILES,
                    label="Large image, looked at",
                    elem_id="tiles",
                    visible=False,
                )
                method = gr.Radio(
                    list(model.methods), value=model.methods[0], label="Explanation", elem_id="method"
                )
            regions = gr.HTML("", apply_default_css=False, elem_id="regions")
            normals = gr.HTML("", apply_default_css=False, elem_id="normals")
            with gr.Row(elem_classes="downloads"):
                send = gr.Button("Send to labeling", size="sm", elem_id="send-to-labeling", visible=labels)
                get_normals = gr.Button(
                    "Compare with normal chips",
                    size="sm",
                    elem_id="get-normals",
                    visible=INVERSE in model.methods,
                )
                get_overlay = gr.Button("Download overlay (PNG)", size="sm", elem_id="get-overlay")
                get_json = gr.Button("Download result (JSON)", size="sm", elem_id="get-json")
            drift = gr.HTML("", apply_default_css=False, elem_id="drift")
            with gr.Accordion("Details: channels, timings, raw JSON", open=False, elem_classes="details"):
                details = gr.HTML("", apply_default_css=False, elem_id="details")
                raw = gr.JSON(label="Inspection", elem_id="raw", open=True)
    overlay_file = gr.DownloadButton("overlay", visible="hidden", elem_id="overlay-file")
    json_file = gr.DownloadButton("result", visible="hidden", elem_id="json-file")
    opacity = gr.Number(0.8, visible="hidden")
    return Parts(
        ModelParts(shown, header, threshold, reset, method, get_normals),
        own, current, stage, image, example_strip, verdict, regions, normals, drift,
        details, raw, tiles, send, get_overlay, get_json, overlay_file, json_file, opacity,
    )  # fmt: skip


def wire(parts: Parts, judge: Judge, settings: Settings, examples: Sequence[Example], recent: Recent) -> None:
    """The events. None of them is part of the API; api.py is. recent: what all visitors had inspected."""
    limit, model = settings.max_megapixels, parts.model
    heavy = {
        "api_visibility": "private",
        "concurrency_limit": settings.concurrency,
        "concurrency_id": MODEL_QUEUE,
    }
    light = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"}

    def on_image(
        payload: dict[str, Any] | None,
        own: Model | None,
        shown: ModelInfo,
        threshold: float,
        method: str,
        tiles: str,
    ):
        if payload is None:
            return [gr.skip()] * len(parts.shown)
        name = payload.get("orig_name")
        return judged(lambda: uploaded_path(payload), name, own, shown, threshold, method, tiles)

    def on_example(
        own: Model | None,
        shown: ModelInfo,
        threshold: float,
        method: str,
        tiles: str,
        chosen: gr.SelectData,
    ):
        path = examples[int(chosen.index)].path
        return judged(lambda: path, path.name, own, shown, threshold, method, tiles)

    def judged(
        path: Callable[[], Path],
        name: str | None,
        own: Model | None,
        shown: ModelInfo,
        threshold: float,
        method: str,
        tiles: str,
    ) -> list[Any]:
        now = own or judge.models.in_use
        threshold, method = model_in_use.carried_over(shown, now, threshold, method)
        try:
            in_tiles = tiles == IN_TILES
            results = results_of(
                inspecting.inspect_image(judge, path(), threshold, method, limit, in_tiles, now)
            )
        except ChipDemoError as error:
            results = failure_of(str(error), name or "")
        model_in_use.announce(shown, now)
        return [None, *results, *model_in_use.updates(shown, now, threshold, method)]

    def results_of(current: Current) -> list[Any]:
        inspection = current.inspection
        return [
            current,
            fresh(current.view),
            fragments.verdict_html(inspection, current.model.info),
            fragments.regions_html(current.regions, current.view["method"]),
            "",
            fragments.drift_html(recent.drift(current.model.info)),
            fragments.details_html(inspection),
            current.to_json(),
            tiles_radio(current),
        ]

    def on_threshold(current: Current | None, threshold: float):
        if current is None:
            return gr.skip(), gr.skip(), gr.skip()
        current = inspecting.rejudge(current, threshold)
        verdict = fragments.verdict_html(current.inspection, current.model.info)
        return current, verdict, current.to_json()

    def on_reset(current: Current | None, shown: ModelInfo):
        return model_in_use.own_threshold(shown), *on_threshold(current, shown.threshold)

    def on_method(current: Current | None, method: str):
        if current is None:
            return gr.skip(), gr.skip(), gr.skip()
        with shown_errors():
            current = inspecting.explain_current(current, method, limit)
        return current, dict(current.view), fragments.regions_html(current.regions, method)

    def on_tiles(current: Current | None, method: str, tiles: str):
        with shown_errors():
            return results_of(inspecting.looked_at(needed(current), tiles == IN_TILES, method, limit))

    def on_normals(current: Current | None):
        with shown_errors():
            return fragments.normals_html(inspecting.compared_with_normals(needed(current), limit))

    def make_overlay(current: Current | None, method: str, opacity: float) -> str:
        with shown_errors():
            data = inspecting.overlay_file(needed(current), method, opacity, limit)
        return save_bytes_to_cache(
            data, inspecting.file_stem(current.name) + "-overlay.png", get_upload_folder()
        )

    def make_json(current: Current | None) -> str:
        data = json.dumps(needed(current).to_json(), indent=2).encode()
        return save_bytes_to_cache(
            data, inspecting.file_stem(current.name) + "-inspection.json", get_upload_folder()
        )

    judging = [parts.own.model, model.shown, model.threshold, model.method, parts.tiles]
    judged_now = [parts.current, parts.verdict, parts.raw]
    # preprocess=False: gradio would decode the file itself, and clip 16 bits to 8
    parts.image.input(
        on_image,
        [parts.image, *judging],
        parts.shown,
        preprocess=False,
        js=PENDING_WITH_FILE,
        trigger_mode="multiple",
        show_progress="hidden",
        **heavy,
    ).failure(None, js=FAILED, api_visibility="private")
    parts.examples.select(
        on_example, judging, parts.shown, js=PENDING, trigger_mode="multiple", show_progress="hidden", **heavy
    ).failure(None, js=FAILED, api_visibility="private")
    model.threshold.input(
        on_threshold, [parts.current, model.threshold], judged_now, trigger_mode="always_last", **light
    )
    model.reset.click(on_reset, [parts.current, model.shown], [model.threshold, *judged_now], **light)
    model.method.input(
        on_method,
        [parts.current, model.method],
        [parts.current, parts.stage, parts.regions],
        trigger_mode="always_last",
        show_progress="minimal",
        **heavy,
    )
    parts.tiles.input(
        on_tiles,
        [parts.current, model.method, parts.tiles],
        parts.shown[1 : -len(model)],
        trigger_mode="always_last",
        show_progress="minimal",
        **heavy,
    )
    model.get_normals.click(on_normals, parts.current, parts.normals, show_progress="minimal", **heavy)
    parts.get_overlay.click(
        make_overlay,
        [parts.current, model.method, parts.opacity],
        parts.overlay_file,
        js="(current, method, _) => [current, method, window.chip.opacity()]",
        **heavy,
    ).success(None, js="() => document.querySelector('#overlay-file').click()", api_visibility="private")
    parts.get_json.click(make_json, parts.current, parts.json_file, **light).success(
        None, js="() => document.querySelector('#json-file').click()", api_visibility="private"
    )
    parts.own.back.click(
        lambda shown: changed_to(None, judge.models.in_use, shown), model.shown, parts.changed, **light
    )


def fresh(view: Mapping[str, Any]) -> dict[str, Any]:
    """The view, unlike any before: the page hears of changes only, and waits for one after a drop."""
    return {**view, "serial": time.time_ns()}


def changed_to(own: Model | None, now: Model, shown: ModelInfo) -> list[Any]:
    """For Parts.changed: another model, and no image yet. own: the visitor's, if it is theirs."""
    threshold = model_in_use.own_threshold(now.info)
    nothing = [None, None, fresh({"state": "empty"}), fragments.intro_html(now.info), "", "", "", "", None]
    nothing += [gr.update(visible=False)]  # tiles
    model = model_in_use.updates(shown, now, threshold, now.methods[0])
    return [*own_model.updates(own), *nothing, *model]


def tiles_radio(current: Current) -> dict[str, Any]:
    """For a large image, with what each way of looking at it costs; for others it is not there."""
    tiles = current.inspection.tiles
    if tiles is None:
        return gr.update(visible=False)
    labels = fragments.tiles_labels((current.tiled or current.inspection).tiles)
    chosen = IN_TILES if tiles.seen else AS_A_WHOLE
    return gr.update(choices=list(zip(labels, (IN_TILES, AS_A_WHOLE))), value=chosen, visible=True)


def failure_of(message: str, name: str) -> list[Any]:
    """What the tab shows where an image could not be inspected; nothing of the last one stays."""
    stage = {"state": "error", "name": name, "message": message}
    return [None, fresh(stage), fragments.NOT_INSPECTED, "", "", "", "", None, gr.update(visible=False)]


def needed(current: Current | None) -> Current:
    if current is None:
        raise gr.Error(NOTHING, print_exception=False)
    return current


class shown_errors:
    """with shown_errors(): a ChipDemoError inside becomes a message on the page."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ChipDemoError):
            raise gr.Error(str(error), print_exception=False) from error
