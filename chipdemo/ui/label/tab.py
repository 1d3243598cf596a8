"""The Label tab: layout, then wiring. What it does is in labeling.py; label.js is its screen."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from chipdemo.errors import ChipDemoError
from chipdemo.ui.auth import Annotators
from chipdemo.ui.events import shown_errors
from chipdemo.ui.inspect import tab as inspect_tab
from chipdemo.ui.inspect.logic import Current
from chipdemo.ui.label import html as label_fragments
from chipdemo.ui.label import logic as labeling
from chipdemo.ui.label import review as reviewing
from chipdemo.ui.label import review_html as review_fragments
from chipdemo.ui.label.logic import Desk
from chipdemo.ui.theme import desk_template
from chipdemo.ui.uploads import uploaded_files

DESK_JS = "window.chip.mountDesk(element);"
OPEN_JS = "() => { window.chip.keepTab('label'); window.chip.openDesk(); }"
MORE_JS = "() => window.chip.moreToLabel()"


@dataclass(frozen=True)
class Parts:
    """The components of the tab that events read or write."""

    desk: gr.HTML
    files: gr.File
    dataset: gr.Textbox
    add: gr.Button
    stop: gr.Button
    added: gr.HTML
    review: gr.HTML
    count: gr.Button


def layout(annotators: Annotators) -> Parts:
    """The tab's components, to be called inside its gr.Tab. Images and labels come by label.js."""
    if annotators.oauth:
        gr.LoginButton(size="sm", elem_id="label-sign-in")
    desk = gr.HTML(
        "", html_template=desk_template(), js_on_load=DESK_JS, apply_default_css=False, elem_id="desk"
    )
    files = gr.File(file_count="multiple", label="Add images to the queue", elem_id="label-files", height=150)
    with gr.Row(elem_id="label-dataset"):
        dataset = gr.Textbox(
            label="Or a dataset of the Hugging Face Hub",
            placeholder="owner/name",
            max_length=200,
            scale=1,
            min_width=170,
        )
        add = gr.Button("Add", scale=0, min_width=64)
        stop = gr.Button("Stop", visible=False, scale=0, min_width=64)
    added = gr.HTML("", apply_default_css=False, elem_id="label-added")
    count = gr.Button("Agreement and second looks", elem_id="review-count")
    review = gr.HTML("", apply_default_css=False, elem_id="review")
    return Parts(desk, files, dataset, add, stop, added, review, count)


def wire(parts: Parts, tab: gr.Tab, desk: Desk, annotators: Annotators) -> None:
    """The events. Labels do not come this way: label_api.py."""

    def on_queue_files(
        payload: list[dict[str, Any]] | None, request: gr.Request, profile: gr.OAuthProfile | None
    ):
        try:
            annotators.name(request, profile)
            return None, label_fragments.added_html(labeling.add_files(desk, uploaded_files(payload)))
        except ChipDemoError as error:
            return None, label_fragments.refused_html(str(error))

    def on_dataset(name: str | None, request: gr.Request, profile: gr.OAuthProfile | None):
        running = gr.Button(visible=True)
        try:
            annotators.name(request, profile)
            name = (name or "").strip().removeprefix("hf:")
            yield gr.skip(), label_fragments.reading_html(name), running
            html = label_fragments.added_html(labeling.NOTHING)
            for so_far in labeling.add_dataset(desk, name, not annotators.owns_machine(request)):
                html = label_fragments.added_html(so_far)
                yield gr.skip(), label_fragments.reading_html(name) + html, running
            yield "", html, gr.Button(visible=False)
        except ChipDemoError as error:
            yield gr.skip(), label_fragments.refused_html(str(error)), gr.Button(visible=False)

    def on_review(request: gr.Request, profile: gr.OAuthProfile | None):
        try:
            annotator = annotators.name(request, profile)
            review = reviewing.review(desk, annotator, annotators.reviews(annotator))
        except ChipDemoError as error:
            return label_fragments.refused_html(str(error)), gr.skip()
        return review_fragments.review_html(review), gr.Button("Count anew")

    adding = gr.on(
        [parts.dataset.submit, parts.add.click],
        on_dataset,
        parts.dataset,
        [parts.dataset, parts.added, parts.stop],
        api_visibility="private",
        concurrency_limit=1,
        show_progress="hidden",
    )
    adding.then(None, js=MORE_JS, api_visibility="private")
    parts.stop.click(
        lambda: (gr.Button(visible=False), label_fragments.STOPPED),
        None,
        [parts.stop, parts.added],
        cancels=adding,
        api_visibility="private",
        show_progress="hidden",
    ).then(None, js=MORE_JS, api_visibility="private")
    # One at a time: all votes are read
    parts.count.click(
        on_review, None, [parts.review, parts.count], api_visibility="private", concurrency_limit=1
    )
    tab.select(None, js=OPEN_JS, api_visibility="private")
    parts.files.upload(
        on_queue_files,
        parts.files,
        [parts.files, parts.added],
        preprocess=False,
        api_visibility="private",
        concurrency_limit=2,
    ).then(None, js=MORE_JS, api_visibility="private")


def wire_sending(parts: inspect_tab.Parts, desk: Desk, annotators: Annotators) -> None:
    """The Inspect tab's "Send to labeling"."""

    def on_send(current: Current | None, request: gr.Request, profile: gr.OAuthProfile | None) -> None:
        with shown_errors():
            annotators.name(request, profile)
            current = inspect_tab.needed(current)
            added = labeling.add_files(desk, [(current.name, current.path)])
        if added.refused:
            raise gr.Error(added.refused[0], print_exception=False)
        gr.Info("In the queue of the Label tab." if added.added else "It was in the queue already.")

    parts.send.click(
        on_send, parts.current, None, api_visibility="private", concurrency_limit=None, show_progress="hidden"
    ).then(None, js=MORE_JS, api_visibility="private")
