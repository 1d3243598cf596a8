"""The endpoints of the gallery, for the page alone; see ui/label/browsing.py."""

from typing import Any

import gradio as gr

from chipdemo.ui.api.label import AT_ONCE
from chipdemo.ui.auth import Annotators
from chipdemo.ui.events import shown_errors
from chipdemo.ui.label import browsing
from chipdemo.ui.label.logic import Desk


def add_browse_api(desk: Desk, annotators: Annotators) -> None:
    """Add them to the gr.Blocks around the call. Each raises gr.Error where the caller may not."""

    def label_browse(
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        filters: dict[str, Any],
        total: float | None = None,
    ) -> dict[str, Any]:
        with shown_errors():
            annotator = annotators.name(request, profile)
            return browsing.found(desk, annotator, annotators.reviews(annotator), filters, total)

    def label_thumbnails(
        request: gr.Request, profile: gr.OAuthProfile | None, sha256s: list[str]
    ) -> dict[str, Any]:
        with shown_errors():
            annotators.name(request, profile)
            return browsing.thumbnails(desk, sha256s)

    def label_delete(
        request: gr.Request, profile: gr.OAuthProfile | None, sha256s: list[str]
    ) -> dict[str, Any]:
        with shown_errors():
            return browsing.delete(desk, annotators.reviewer(request, profile), sha256s)

    def label_undelete(
        request: gr.Request, profile: gr.OAuthProfile | None, sha256s: list[str]
    ) -> dict[str, Any]:
        with shown_errors():
            return browsing.bring_back(desk, annotators.reviewer(request, profile), sha256s)

    for function in (label_browse, label_thumbnails, label_delete, label_undelete):
        gr.api(function, api_name=function.__name__, api_visibility="private", **AT_ONCE)
