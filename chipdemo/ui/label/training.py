"""The panel below the review: train the next model, export and publish. Only for whoever runs the app.

The panel is hidden until the server knows who opened the tab, and every event asks again. While a training
runs, a timer of the page asks how it stands; pages of others have none that ticks.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from chipdemo.errors import ChipDemoError
from chipdemo.jobs import DONE, RUNNING
from chipdemo.labeling.formats import WRITERS, export_labels
from chipdemo.labeling.status import training_commands
from chipdemo.labeling.training import Progress, Training
from chipdemo.ui.auth import Annotators
from chipdemo.ui.events import LIGHT
from chipdemo.ui.html import refused_html
from chipdemo.ui.label import training_html as html
from chipdemo.ui.label.logic import Desk

EVERY_S = 2  # between two looks at a training that runs
DOWNLOAD_JS = "() => document.getElementById('training-file').click()"

Updates = dict[Any, Any]  # new values, by component


@dataclass(frozen=True)
class Parts:
    """The components that events read or write. panel: with all others inside."""

    panel: gr.Column
    state: gr.HTML
    start: gr.Button
    resume: gr.Button
    stop: gr.Button
    use: gr.Button
    log: gr.HTML
    format: gr.Dropdown
    export: gr.Button
    file: gr.DownloadButton
    publish: gr.Button
    note: gr.HTML
    timer: gr.Timer

    @property
    def of_training(self) -> list[Any]:
        return [self.state, self.start, self.resume, self.stop, self.use, self.log, self.note, self.timer]


def layout(desk: Desk) -> Parts:
    """The components, to be called inside the tab."""
    with gr.Column(visible=False, elem_id="training") as panel:
        gr.HTML("<h2>Next model</h2>", apply_default_css=False)
        state = gr.HTML("", apply_default_css=False, elem_id="training-state")
        with gr.Row(elem_classes="training-buttons"):
            start = gr.Button("Train the next model", elem_id="training-start", min_width=200)
            resume = gr.Button("Resume", visible=False, elem_id="training-resume", min_width=120)
            stop = gr.Button("Stop", visible=False, elem_id="training-stop", min_width=120)
            use = gr.Button("Use it", visible=False, elem_id="training-use", min_width=120)
        log = gr.HTML("", apply_default_css=False, elem_id="training-log")
        gr.HTML("<h2>Labels</h2>", apply_default_css=False)
        with gr.Row(elem_classes="training-buttons"):
            format = gr.Dropdown(
                list(WRITERS), show_label=False, container=False, elem_id="export-format", min_width=130
            )
            export = gr.Button("Export", elem_id="export", min_width=100)
            publish = gr.Button(
                "Publish now", visible=desk.publisher is not None, elem_id="publish", min_width=120
            )
        note = gr.HTML("", apply_default_css=False, elem_id="training-note")
    return Parts(
        panel=panel,
        state=state,
        start=start,
        resume=resume,
        stop=stop,
        use=use,
        log=log,
        format=format,
        export=export,
        file=gr.DownloadButton("export", visible="hidden", elem_id="training-file"),
        publish=publish,
        note=note,
        timer=gr.Timer(EVERY_S, active=False),
    )


@dataclass(frozen=True)
class Handlers:
    """What the events call."""

    parts: Parts
    desk: Desk
    training: Training
    annotators: Annotators

    def on_open(self, request: gr.Request, profile: gr.OAuthProfile | None) -> Updates:
        """The panel, for whoever runs the app, and nothing for others."""
        try:
            self.annotators.operator(request, profile)
        except ChipDemoError:
            return {self.parts.panel: gr.Column(visible=False)}
        return {self.parts.panel: gr.Column(visible=True), **self.on_tick(request, profile)}

    def on_tick(self, request: gr.Request, profile: gr.OAuthProfile | None) -> Updates:
        return self._after(lambda: None, request, profile)

    def on_start(self, request: gr.Request, profile: gr.OAuthProfile | None) -> Updates:
        return self._after(self.training.start, request, profile)

    def on_resume(self, request: gr.Request, profile: gr.OAuthProfile | None) -> Updates:
        return self._after(self.training.resume, request, profile)

    def on_stop(self, request: gr.Request, profile: gr.OAuthProfile | None) -> Updates:
        return self._after(self.training.jobs.stop, request, profile)

    def on_use(self, request: gr.Request, profile: gr.OAuthProfile | None) -> Updates:
        return self._after(self.training.use, request, profile)

    def _after(
        self, action: Callable[[], None], request: gr.Request, profile: gr.OAuthProfile | None
    ) -> Updates:
        """How the training stands after the action, or why that was refused."""
        try:
            self.annotators.operator(request, profile)
            action()
            return self._stands()
        except ChipDemoError as error:
            return {self.parts.note: refused_html(str(error), "refused")}

    def on_export(self, format: str, request: gr.Request, profile: gr.OAuthProfile | None) -> Updates:
        """A zip, in a folder of gradio, which deletes it later."""
        try:
            self.annotators.operator(request, profile)
            name = f"labels-{datetime.now():%Y%m%d-%H%M%S}-{format}"
            folder = Path(tempfile.mkdtemp(dir=get_upload_folder()))
            exported = export_labels(self.desk.journal, folder / name, str(format))
            file = shutil.make_archive(str(folder / name), "zip", folder, name)
            shutil.rmtree(folder / name)
        except ChipDemoError as error:
            return {self.parts.note: refused_html(str(error), "refused")}
        text = f"Exported: {_counted(exported.labels)}."
        if exported.left_out:
            text += f" Left out: {_counted(exported.left_out)}."
        return {self.parts.file: file, self.parts.note: html.note_html(text)}

    def on_publish(self, request: gr.Request, profile: gr.OAuthProfile | None) -> Updates:
        try:
            self.annotators.operator(request, profile)
            count = self.desk.publisher.flush()
        except ChipDemoError as error:
            return {self.parts.note: refused_html(str(error), "refused")}
        return {
            self.parts.note: html.note_html(
                f"{count:,} label events published to {self.desk.settings.dataset}."
            )
        }

    def _stands(self) -> Updates:
        parts, training, missing = self.parts, self.training, self.training.missing()
        progress = training.progress()
        status = progress.job.status if progress else ""
        if progress:
            text = html.progress_html(progress, training.restart_command())
        else:
            text = html.intro_html(training.model, self.desk.settings.dataset)
        if missing:
            settings = self.desk.settings
            commands = training_commands(settings, training.source, settings.dataset)
            text += html.missing_html(missing, commands)
        usable = status == DONE and not progress.in_use
        resumable = progress is not None and progress.job.can_resume and not missing
        return {
            parts.state: text,
            parts.start: gr.Button(
                "Train anew" if resumable else "Train the next model",
                visible=status != RUNNING and not missing,
                variant="secondary" if usable or resumable else "primary",
            ),
            parts.resume: gr.Button(visible=resumable, variant="primary"),
            parts.stop: gr.Button(visible=status == RUNNING),
            parts.use: gr.Button(_use(progress) if usable else "", visible=usable, variant="primary"),
            parts.log: html.log_html(progress),
            parts.note: "",
            parts.timer: gr.Timer(active=status == RUNNING),
        }


def _use(progress: Progress) -> str:
    return "Use it" if progress.result.comparison.takes_over else "Use it all the same"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())


def wire(parts: Parts, tab: gr.Tab, desk: Desk, annotators: Annotators) -> Any:
    """The events. Gives the one that may have put another model in use."""
    handlers = Handlers(parts, desk, desk.training, annotators)
    one = {"api_visibility": "private", "concurrency_limit": 1}
    tab.select(handlers.on_open, None, [parts.panel, *parts.of_training], **LIGHT)
    parts.timer.tick(handlers.on_tick, None, parts.of_training, **LIGHT)
    for button, handler in (
        (parts.start, handlers.on_start),
        (parts.resume, handlers.on_resume),
        (parts.stop, handlers.on_stop),
    ):
        button.click(handler, None, parts.of_training, **LIGHT)
    parts.export.click(handlers.on_export, parts.format, [parts.file, parts.note], **one).success(
        None, js=DOWNLOAD_JS, api_visibility="private"
    )
    parts.publish.click(handlers.on_publish, None, parts.note, **one)
    return parts.use.click(handlers.on_use, None, parts.of_training, **one)
