"""The Inspect tab: which event asks which handler of tab.py, with which inputs, and what it changes."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import gradio as gr

from chipdemo.inspection import ModelInfo
from chipdemo.models import Models
from chipdemo.ui.events import LIGHT
from chipdemo.ui.inspect.layout import Parts
from chipdemo.ui.inspect.tab import Handlers, Updates, with_model
from chipdemo.ui.turns import Turns

# Events of one concurrency_id start in the order in which they were sent; others may overtake each other
IN_ORDER = {"preprocess": False, "concurrency_id": "threshold", **LIGHT}
PENDING_JS = "(...values) => { window.chip.pending(); return values; }"
# Opening the camera is an input too, of nothing: the last result stays
PENDING_WITH_FILE_JS = "(...values) => { if (values[0]) window.chip.pending(); return values; }"
FAILED_JS = "() => window.chip.failed()"
OVERLAY_JS = (
    "(current, shown, threshold) => [current, shown, threshold, window.chip.opacity(), window.chip.boxes()]"
)


def wire(handlers: Handlers) -> tuple[list[Any], list[Any]]:
    """The events. None of them is part of the API; ui/api is.

    Returns those after which a new image is shown, and those after which the same is shown in another way.
    """
    parts = handlers.parts
    model = [parts.own_model, parts.model]
    chosen = [parts.turns, *model, parts.shown_model, parts.threshold, parts.method, parts.tiles]
    judged = [parts.current, parts.shown_model, parts.threshold]
    moved = [parts.current, parts.turns, parts.shown_model]
    at_threshold = [parts.verdict, parts.raw, parts.promise]
    heavy, light = handlers.heavy, {"preprocess": False, **LIGHT}
    new_image = heavy | {"trigger_mode": "multiple", "show_progress": "hidden"}
    last_choice = heavy | {"trigger_mode": "always_last", "show_progress": "minimal"}
    computed = [parts.image, parts.current]
    images = [
        parts.image.input(
            handlers.on_image, [parts.image, *chosen], computed, js=PENDING_WITH_FILE_JS, **new_image
        ),
        parts.examples.select(handlers.on_example, chosen, computed, js=PENDING_JS, **new_image),
        parts.model.input(handlers.on_model, [parts.current, *chosen], computed, **new_image),
        parts.again.click(handlers.on_model, [parts.current, *chosen], computed, **new_image),
    ]
    choices = [
        component.input(
            handlers.on_choice,
            [parts.current, parts.turns, parts.shown_model, parts.threshold, parts.method, parts.tiles],
            parts.current,
            **last_choice,
        )
        for component in (parts.method, parts.tiles)
    ]
    for event in images:
        event.failure(None, js=FAILED_JS, api_visibility="private")
    images, choices = ([wire_computed(handlers, event) for event in events] for events in (images, choices))
    choices += [
        parts.threshold.input(
            handlers.on_threshold,
            [*moved, parts.threshold],
            at_threshold,
            trigger_mode="always_last",
            **IN_ORDER,
        ),
        parts.reset.click(handlers.on_reset, moved, [parts.threshold, *at_threshold], **IN_ORDER),
    ]
    for metric, target in parts.targets.items():
        choosing = partial(handlers.on_target, metric)
        outputs = [parts.threshold, target.percent, *at_threshold]
        choices += [
            event(choosing, [*moved, target.percent], outputs, **IN_ORDER)
            for event in (target.choose.click, target.percent.submit)
        ]
    parts.get_nearest.click(
        handlers.on_nearest, parts.current, parts.nearest, show_progress="minimal", **heavy
    )
    parts.own_back.click(handlers.on_back, parts.turns, parts.of_change, **light)
    wire_downloads(handlers, judged, heavy, light)
    return images, choices


def wire_computed(handlers: Handlers, event: Any) -> Any:
    """What an event wrote into Parts.current is shown. Returns the event after which it is."""
    parts = handlers.parts
    return event.success(
        handlers.on_computed,
        [parts.current, parts.turns, parts.shown_model, parts.threshold, parts.method],
        [*parts.of_model, *parts.of_image],
        **IN_ORDER,
    )


def wire_change(event: Any, parts: Parts, models: Models) -> None:
    """After an event that may have put another model in use, the page shows that one."""

    def on_change(shown: ModelInfo, turns: Turns) -> Updates:
        if shown in models.infos:
            return {parts.current: gr.skip()}
        return with_model(parts, models.first.model, None, models, turns)

    event.success(on_change, [parts.shown_model, parts.turns], parts.of_change, **LIGHT)


def wire_downloads(
    handlers: Handlers, judged: list[Any], heavy: Mapping[str, Any], light: Mapping[str, Any]
) -> None:
    """judged: the inputs that an inspection is shown from. heavy, light: options of events."""
    parts = handlers.parts
    overlay = parts.get_overlay.click(
        handlers.on_overlay, [*judged, parts.opacity, parts.boxes], parts.overlay_file, js=OVERLAY_JS, **heavy
    )
    result = parts.get_json.click(handlers.on_json, judged, parts.json_file, **light)
    for event, name in ((overlay, "overlay-file"), (result, "json-file")):
        click = f"() => document.getElementById('{name}').click()"
        event.success(None, js=click, api_visibility="private")
