"""The Label tab: layout, then wiring. The desk itself is label.html and label.js, which use the API."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from chipdemo.errors import ChipDemoError
from chipdemo.labeling.intake import Intake
from chipdemo.ui.auth import Annotators
from chipdemo.ui.events import shown_errors
from chipdemo.ui.inspect import tab as inspect_tab
from chipdemo.ui.inspect.layout import Parts as InspectParts
from chipdemo.ui.inspect.logic import Current
from chipdemo.ui.label import adding, html, review_html
from chipdemo.ui.label import training as training_panel
from chipdemo.ui.label.logic import Desk
from chipdemo.ui.label.review import review
from chipdemo.ui.many import tab as many_tab
from chipdemo.ui.many.logic import Many
from chipdemo.ui.many.tab import Parts as ManyParts
from chipdemo.ui.theme import browse_template, desk_template
from chipdemo.ui.uploads import uploaded_files

DESK_JS = "window.chip.mountDesk(element);"
BROWSE_JS = "window.chip.mountBrowse(element);"
OPEN_JS = "() => { window.chip.keepTab('label'); window.chip.openDesk(); window.chip.openGallery(); }"
MORE_JS = "() => window.chip.moreToLabel()"


@dataclass(frozen=True)
class Parts:
    """The components of the tab that events read or write. training: where the app can train."""

    desk: gr.HTML
    files: gr.File
    dataset: gr.Textbox
    add: gr.Button
    stop: gr.Button
    added: gr.HTML
    review: gr.HTML
    count: gr.Button
    training: training_panel.Parts | None


def layout(desk_service: Desk, annotators: Annotators) -> Parts:
    """The tab's components, to be called inside its gr.Tab. Images and labels come by label.js."""
    if annotators.oauth:
        gr.LoginButton(logout_value="Sign out ({})", size="sm", elem_id="label-sign-in")
    gr.HTML(
        "", html_template=browse_template(), js_on_load=BROWSE_JS, apply_default_css=False, elem_id="browse"
    )
    desk = gr.HTML(
        "", html_template=desk_template(), js_on_load=DESK_JS, apply_default_css=False, elem_id="desk"
    )
    files = gr.File(file_count="multiple", label="Add images to the queue", elem_id="label-files", height=150)
    with gr.Row(elem_id="label-dataset"):
        dataset = gr.Textbox(
            label="Or add a dataset of the Hugging Face Hub",
            placeholder="owner/name",
            max_length=200,
            scale=1,
            min_width=170,
        )
        add = gr.Button("Add", scale=0, min_width=64)
        stop = gr.Button("Stop", visible=False, scale=0, min_width=64)
    added = gr.HTML("", apply_default_css=False, elem_id="label-added")
    count = gr.Button("Show agreement and likely errors", elem_id="review-count")
    review = gr.HTML("", apply_default_css=False, elem_id="review")
    training = training_panel.layout(desk_service) if desk_service.training else None
    return Parts(desk, files, dataset, add, stop, added, review, count, training)


def wire(parts: Parts, tab: gr.Tab, desk: Desk, annotators: Annotators) -> None:
    """The events. Labels do not come this way but by the API."""
    tab.select(None, js=OPEN_JS, api_visibility="private")
    wire_files(parts, desk, annotators)
    wire_dataset(parts, desk, annotators)
    wire_review(parts, desk, annotators)


def wire_files(parts: Parts, desk: Desk, annotators: Annotators) -> None:
    def on_queue_files(
        payload: list[dict[str, Any]] | None, request: gr.Request, profile: gr.OAuthProfile | None
    ) -> dict[Any, Any]:
        try:
            annotators.name(request, profile)
            added = adding.add_files(desk.journal, uploaded_files(payload), desk.settings.limits)
        except ChipDemoError as error:
            return {parts.files: None, parts.added: html.refused_html(str(error))}
        return {parts.files: None, parts.added: html.added_html(added)}

    parts.files.upload(
        on_queue_files,
        parts.files,
        [parts.files, parts.added],
        preprocess=False,
        trigger_mode="multiple",  # files that are dropped while others are added
        api_visibility="private",
        concurrency_limit=2,
    ).then(None, js=MORE_JS, api_visibility="private")


def wire_dataset(parts: Parts, desk: Desk, annotators: Annotators) -> None:
    def on_dataset(
        name: str | None, request: gr.Request, profile: gr.OAuthProfile | None
    ) -> Iterator[dict[Any, Any]]:
        name, added = (name or "").strip().removeprefix("hf:"), Intake(0, 0, ())
        hidden = gr.Button(visible=False)
        try:
            annotators.name(request, profile)
            yield {parts.added: html.reading_html(name), parts.stop: gr.Button(visible=True)}
            anonymous = not annotators.owns_machine(request)
            for added in adding.add_dataset(desk.journal, name, anonymous, desk.settings):
                yield {parts.added: html.reading_html(name) + html.added_html(added)}
            yield {parts.dataset: "", parts.added: html.added_html(added), parts.stop: hidden}
        except ChipDemoError as error:
            yield {parts.added: html.refused_html(str(error)), parts.stop: hidden}

    def on_stop() -> dict[Any, Any]:
        return {parts.stop: gr.Button(visible=False), parts.added: html.STOPPED}

    adding_dataset = gr.on(
        [parts.dataset.submit, parts.add.click],
        on_dataset,
        parts.dataset,
        [parts.dataset, parts.added, parts.stop],
        api_visibility="private",
        concurrency_limit=1,
        show_progress="hidden",
    )
    adding_dataset.then(None, js=MORE_JS, api_visibility="private")
    parts.stop.click(
        on_stop,
        None,
        [parts.stop, parts.added],
        cancels=adding_dataset,
        api_visibility="private",
        show_progress="hidden",
    ).then(None, js=MORE_JS, api_visibility="private")


def wire_review(parts: Parts, desk: Desk, annotators: Annotators) -> None:
    def on_review(request: gr.Request, profile: gr.OAuthProfile | None) -> dict[Any, Any]:
        try:
            annotator = annotators.name(request, profile)
            found = review(desk, annotator, annotators.reviews(annotator))
        except ChipDemoError as error:
            return {parts.review: html.refused_html(str(error))}
        return {parts.review: review_html.review_html(found), parts.count: gr.Button("Update")}

    # One at a time: it reads all votes
    parts.count.click(
        on_review,
        None,
        [parts.review, parts.count],
        api_visibility="private",
        concurrency_limit=1,
        trigger_mode="always_last",  # decisions come faster than it counts
        show_progress_on=parts.count,
    )


def wire_sending(parts: InspectParts, desk: Desk, annotators: Annotators) -> None:
    """The Inspect tab's "Send to labeling"."""

    def on_send(current: Current | None, request: gr.Request, profile: gr.OAuthProfile | None) -> None:
        with shown_errors():
            annotators.name(request, profile)
            current = inspect_tab.needed(current)
            uploads = [(current.name, current.path)]
            added = adding.add_files(desk.journal, uploads, desk.settings.limits)
        if added.refused:
            raise gr.Error(added.refused[0], print_exception=False)
        gr.Info("Added to the queue of the Label tab." if added.added else "It is in the queue already.")

    parts.send.click(
        on_send, parts.current, None, api_visibility="private", concurrency_limit=None, show_progress="hidden"
    ).then(None, js=MORE_JS, api_visibility="private")


def wire_sending_many(parts: ManyParts, desk: Desk, annotators: Annotators) -> None:
    """The same of the images that are selected in the gallery."""

    def on_send_selected(
        many: Many | None, sent: gr.EventData, request: gr.Request, profile: gr.OAuthProfile | None
    ) -> Iterator[dict[Any, Any]]:
        try:
            annotators.name(request, profile)
            rows = many_tab.rows_of(sent.rows, many_tab.needed(many))
            yield {parts.sent: html.sending_html(len(rows))}
            added = adding.add_selected(desk.journal, many, rows, desk.settings.limits)
        except ChipDemoError as error:
            yield {parts.sent: html.refused_html(str(error))}
            return
        yield {parts.sent: html.added_html(added)}

    parts.gallery.send(
        on_send_selected,
        parts.many,
        parts.sent,
        trigger_mode="once",
        api_visibility="private",
        concurrency_limit=2,
        show_progress="hidden",
    ).then(None, js=MORE_JS, api_visibility="private")
