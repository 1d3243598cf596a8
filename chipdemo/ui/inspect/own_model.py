"""A model of the visitor's own, taught on this page: the Inspect tab uses it, on this page alone."""

from html import escape
from typing import Any, NamedTuple

import gradio as gr

from chipdemo.inspection import Model, ModelInfo


class OwnParts(NamedTuple):
    """model: the visitor's own, or None for the app's. row, note, back: say so and lead back."""

    model: gr.State
    row: gr.Row
    note: gr.HTML
    back: gr.Button


def layout() -> OwnParts:
    """To be called at the top of the Inspect tab."""
    with gr.Row(visible=False, elem_id="own-model") as row:
        note = gr.HTML("", apply_default_css=False, elem_id="own-note")
        back = gr.Button("Back to the app's model", size="sm", elem_id="own-back", scale=0, min_width=200)
    return OwnParts(gr.State(None), row, note, back)


def updates(own: Model | None) -> list[Any]:
    """For OwnParts but the button."""
    return [own, gr.Row(visible=own is not None), note_html(own.info) if own else ""]


def note_html(info: ModelInfo) -> str:
    return (
        f"<p>Inspecting with <strong>{escape(info.name)}</strong>, which you taught. Others do not see it; "
        "it is gone with this page.</p>"
    )
