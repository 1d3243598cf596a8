"""What the events of several tabs have in common."""

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from chipdemo.errors import ChipDemoError

MODEL_QUEUE = "model"  # events that run the network share one limit
KEEP_S = 3600  # seconds that what an idle visitor computed is kept
LIGHT = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"}


@contextmanager
def shown_errors() -> Iterator[None]:
    """Show a ChipDemoError raised inside as a message on the page."""
    try:
        yield
    except ChipDemoError as error:
        raise gr.Error(str(error), print_exception=False) from error
