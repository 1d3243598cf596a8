"""What a page says of its model, and how a newer one that has taken over comes onto it.

A page shows one model at a time. The newer one arrives with the visitor's next image or next
visit, never under a verdict that is being read: header, threshold and explanations change together.
"""

from html import escape
from typing import Any, NamedTuple

import gradio as gr

from chipdemo.inspection import INVERSE, Model, ModelInfo
from chipdemo.ui.inspect import html as fragments


class ModelParts(NamedTuple):
    """The components that speak of the model. shown: the ModelInfo that this visitor's page shows."""

    shown: gr.State
    header: gr.HTML
    threshold: gr.Slider
    reset: gr.Button
    method: gr.Radio
    get_normals: gr.Button


def own_threshold(info: ModelInfo) -> float:
    """The model's threshold as the slider shows it, 0-1."""
    return round(info.threshold, 3)


def own_threshold_label(info: ModelInfo) -> str:
    return f"Model's own {info.threshold:.2f}"


def carried_over(shown: ModelInfo, now: Model, threshold: float, method: str) -> tuple[float, str]:
    """A visitor's threshold and explanation, under the model in use now.

    A threshold that was the shown model's own becomes the new one's own; a chosen one stays.
    """
    if shown == now.info:
        return threshold, method
    return (
        own_threshold(now.info) if threshold == own_threshold(shown) else threshold,
        method if method in now.methods else now.methods[0],
    )


def updates(shown: ModelInfo, now: Model, threshold: float, method: str) -> list[Any]:
    """For ModelParts, in order. threshold, method: as carried over."""
    if shown == now.info:
        return [gr.skip()] * len(ModelParts._fields)
    return [
        now.info,
        fragments.header_html(now.info),
        threshold,
        own_threshold_label(now.info),
        gr.Radio(choices=list(now.methods), value=method),
        gr.Button(visible=INVERSE in now.methods),
    ]


def announce(shown: ModelInfo, now: Model) -> None:
    """Say once, on a page that is open, that a newer model judges from this image on."""
    if shown != now.info:
        gr.Info(f"A newer model judges from now on: {escape(now.info.name)} {escape(now.info.revision)}")
