"""The Teach tab: layout, then wiring. logic.py does the work."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from chipdemo.errors import ChipDemoError
from chipdemo.inspection import Model
from chipdemo.models import Models
from chipdemo.teaching import FALSE_POSITIVE_RATE, MIN_IMAGES, Draft, Taught
from chipdemo.ui.events import KEEP_S
from chipdemo.ui.html import refused_html
from chipdemo.ui.inspect import tab as inspect_tab
from chipdemo.ui.inspect.layout import Parts as InspectParts
from chipdemo.ui.inspect.logic import Current
from chipdemo.ui.teach.html import INTRO, STOPPED, progress_html, review_html, summary_html
from chipdemo.ui.teach.logic import NAME_LETTERS, QUEUE, Step, TaughtSource, TeachService
from chipdemo.ui.turns import Turns
from chipdemo.ui.uploads import uploaded_files

RATES = (0.005, 0.01, FALSE_POSITIVE_RATE, 0.05, 0.1)
READING = Step(0, "reading images", 0)
# The rows of the outliers that are ticked, or the kind that is chosen, take the place of left_out
TICKED_JS = """(draft, rows, ...rest) => [
    draft,
    [...document.querySelectorAll("#teach-results [data-row]:checked")].map((one) => +one.dataset.row),
    ...rest
]"""
DRAFT_GONE = "The images were removed from memory. Press Teach again."
MODEL_GONE = "The model was removed from memory. Teach it again, or open the one that you downloaded."
IMAGE_GONE = "The image was removed from memory. Drop it again."
TO_TEACH_JS = "() => document.getElementById('teach-button').click()"
TO_INSPECT_JS = (
    "() => ['inspect-button', 'inspect-again'].forEach((id) => document.getElementById(id).click())"
)
FIRST_GOOD = (
    "The image is the first of the good ones. Take it out if it is defective, and add more good ones."
)

Updates = dict[Any, Any]  # new values, by component


@dataclass(frozen=True)
class Parts:
    """The components that events read or write. draft, taught, source, turns: of this visitor.

    source: what the taught model can be recalibrated by.
    """

    goods: gr.File
    defects: gr.File
    name: gr.Textbox
    rate: gr.Radio
    teach: gr.Button
    recalibrate: gr.Button
    stop: gr.Button
    results: gr.HTML
    go_on: gr.Button
    left_out: gr.JSON
    use: gr.Button
    download: gr.DownloadButton
    draft: gr.State
    taught: gr.State
    source: gr.State
    turns: gr.State

    @property
    def changed(self) -> list[Any]:
        """What the events of teaching write."""
        buttons = [self.teach, self.stop, self.go_on, self.use, self.download]
        return [self.results, *buttons, self.recalibrate, self.draft, self.taught, self.source]

    def running(self, step: Step, **states: Any) -> Updates:
        """The work is going on and can be stopped. states: draft and taught, where they change."""
        return self._shown(progress_html(step), self.stop) | self._states(states)

    def failed(self, message: str, draft: Draft | None = None) -> Updates:
        """No model was made. draft: with outliers that still wait for a choice."""
        refused = refused_html(message, "many-refused teach-refused")
        if draft is None:
            return self._shown(refused, self.teach)
        return self._shown(refused + review_html(draft), self.teach, self.go_on)

    def review(self, draft: Draft) -> Updates:
        """Outliers wait for a choice."""
        return self._shown(review_html(draft), self.teach, self.go_on) | self._states({"draft": draft})

    def done(self, draft: Draft, taught: Taught) -> Updates:
        """A model was made."""
        name = taught.model.info.name + ".zip"
        file = save_bytes_to_cache(taught.archive, name, get_upload_folder())
        label = f"Download ({len(taught.archive) / 1e6:.0f} MB)"
        shown = self._shown(summary_html(draft, taught), self.teach, self.use, self.download)
        shown[self.download] = gr.update(value=file, label=label, visible=True)
        source = TaughtSource(taught.model.info.name, file)
        shown |= self.recalibrating(source)
        return shown | self._states({"draft": None, "taught": taught.model, "source": source})

    def recalibrating(self, model: TaughtSource | None) -> Updates:
        """The button for a model that can go on learning."""
        name = f"Recalibrate {model.name}" if model else ""
        return {self.recalibrate: gr.update(value=name, visible=model is not None)}

    def _shown(self, html: str, *buttons: Any) -> Updates:
        """The results, and these buttons alone. Teach is the first choice unless another button is."""
        every = (self.teach, self.stop, self.go_on, self.use, self.download)
        updates = {button: gr.update(visible=button in buttons) for button in every}
        if self.teach in buttons:
            variant = "primary" if len(buttons) == 1 else "secondary"
            updates[self.teach] = gr.update(visible=True, variant=variant)
        return {self.results: html} | updates

    def _states(self, values: Mapping[str, Any]) -> Updates:
        return {getattr(self, name): value for name, value in values.items()}


def layout() -> Parts:
    """The tab's components, to be called inside its gr.Tab."""
    with gr.Row(elem_classes="teach"):
        with gr.Column(elem_classes="teach-input"):
            given = _inputs()
        with gr.Column(elem_classes="teach-output"):
            results = gr.HTML(INTRO, apply_default_css=False, elem_id="teach-results")
            go_on = gr.Button("Go on", variant="primary", visible=False, elem_id="teach-go-on")
            with gr.Row(elem_classes="teach-actions"):
                use = gr.Button(
                    "Inspect with it", variant="primary", visible=False, elem_id="teach-use", min_width=200
                )
                download = gr.DownloadButton(
                    "Download", visible=False, elem_id="teach-download", min_width=200
                )
    return Parts(
        **given,
        results=results,
        go_on=go_on,
        left_out=gr.JSON(visible="hidden"),
        use=use,
        download=download,
        draft=gr.State(None, time_to_live=KEEP_S),
        taught=gr.State(None, time_to_live=KEEP_S),
        source=gr.State(None, time_to_live=KEEP_S),
        turns=gr.State(Turns()),
    )


def _inputs() -> dict[str, Any]:
    """What a visitor gives, by the names of Parts."""
    return {
        "goods": gr.File(
            file_count="multiple",
            label=f"Good images, {MIN_IMAGES} or more, or zips of them",
            elem_id="teach-goods",
            height=200,
        ),
        "defects": gr.File(
            file_count="multiple",
            label="Known defects, if you have any",
            elem_id="teach-defects",
            height=170,
        ),
        "name": gr.Textbox(
            label="Name of the chip", placeholder="my-chip", max_length=NAME_LETTERS, elem_id="teach-name"
        ),
        "rate": gr.Radio(
            [(f"{100 * rate:g} %", rate) for rate in RATES],
            value=FALSE_POSITIVE_RATE,
            label="False positive rate: share of good chips that may be flagged",
            info="A lower rate also detects fewer defects.",
            elem_id="teach-rate",
        ),
        "teach": gr.Button("Teach", variant="primary", elem_id="teach-start"),
        "recalibrate": gr.Button("Recalibrate", visible=False, elem_id="teach-recalibrate"),
        "stop": gr.Button("Stop", visible=False, elem_id="teach-stop"),
    }


@dataclass(frozen=True)
class Handlers:
    """What the events call. inspecting: the Inspect tab. models: of the app."""

    parts: Parts
    service: TeachService
    inspecting: InspectParts
    models: Models

    def on_teach(
        self, goods: Any, defects: Any, name: str | None, rate: Any, turns: Turns
    ) -> Iterator[Updates]:
        yield from newest(turns, self._drafted(goods, defects, name, rate))

    def on_recalibrate(
        self,
        goods: Any,
        defects: Any,
        name: str | None,
        rate: Any,
        turns: Turns,
        source: TaughtSource | None,
    ) -> Iterator[Updates]:
        """The model taught on this page, or else the app's, goes on learning from the images."""
        model = source or self.service.in_use()
        if model is None:
            yield self.parts.failed(MODEL_GONE)
            return
        yield from newest(turns, self._drafted(goods, defects, name or model.name, rate, model))

    def on_open(self, source: TaughtSource | None) -> Updates:
        return self.parts.recalibrating(source or self.service.in_use())

    def _drafted(
        self, goods: Any, defects: Any, name: str | None, rate: Any, model: TaughtSource | None = None
    ) -> Iterator[Updates]:
        steps = self.service.draft(uploaded_files(goods), uploaded_files(defects), model)
        yield from self._fitted(steps, name, rate)

    def _fitted(self, steps: Iterator[Step | Draft], name: str | None, rate: Any) -> Iterator[Updates]:
        """steps: of the service, which end with a draft."""
        yield self.parts.running(READING, draft=None)
        try:
            for one in steps:
                if isinstance(one, Step):
                    yield self.parts.running(one)
        except ChipDemoError as error:
            yield self.parts.failed(str(error))
            return
        if one.outliers or one.kinds:
            yield self.parts.review(one)
        else:
            yield from self._finished(one, (), name, rate)

    def on_go_on(
        self, draft: Draft | None, rows: Any, name: str | None, rate: Any, turns: Turns
    ) -> Iterator[Updates]:
        if draft is None:
            yield self.parts.failed(DRAFT_GONE)
            return
        rows = [row for row in rows if isinstance(row, int)] if isinstance(rows, list) else []
        if draft.kinds:
            steps = self.service.draft_kind(draft, rows[0] if rows else 0)
            yield from newest(turns, self._fitted(steps, name, rate))
            return
        yield from newest(turns, self._finished(draft, rows, name, rate))

    def _finished(self, draft: Draft, without: Any, name: str | None, rate: Any) -> Iterator[Updates]:
        rate = rate if rate in RATES else FALSE_POSITIVE_RATE
        try:
            for one in self.service.finish(draft, without, rate, name or ""):
                if isinstance(one, Step):
                    yield self.parts.running(one)
        except ChipDemoError as error:
            yield self.parts.failed(str(error), draft)
            return
        yield self.parts.done(draft, one)

    def on_teach_it(self, current: Any) -> Updates:
        """The image of the Inspect tab is the first good one."""
        if not isinstance(current, Current):
            raise gr.Error(IMAGE_GONE, print_exception=False)
        gr.Info(FIRST_GOOD)
        return {self.parts.goods: [str(current.path)]}

    def on_stop(self, draft: Draft | None, turns: Turns) -> Updates:
        turns.begin(QUEUE)
        return self.parts.failed(STOPPED, draft)

    def on_use(self, taught: Model | None, turns: Turns, current: Any) -> Updates:
        """The image that the visitor inspected last is judged anew by it: see TO_INSPECT_JS."""
        if taught is None:
            raise gr.Error(MODEL_GONE, print_exception=False)
        updates = inspect_tab.with_model(self.inspecting, taught, taught, self.models, turns)
        if isinstance(current, Current) and not current.is_example:
            updates[self.inspecting.current] = current
        return updates


def newest(turns: Turns, updates: Iterator[Updates]) -> Iterator[Updates]:
    """The updates, until the visitor stops them or begins anew; then the work behind them ends too."""
    turn = turns.begin(QUEUE)
    with closing(updates):
        for update in updates:
            if not turns.is_current(QUEUE, turn):
                yield gr.skip()  # gradio repeats the last update of a generator when it ends
                return
            yield update


def wire(parts: Parts, tab: gr.Tab, service: TeachService, inspecting: InspectParts, models: Models) -> None:
    """The events. inspecting: the Inspect tab. models: of the app."""
    handlers = Handlers(parts, service, inspecting, models)
    private = {"api_visibility": "private", "show_progress": "hidden"}
    queued = private | {"concurrency_limit": 1, "concurrency_id": QUEUE, "preprocess": False}
    at_once = private | {"concurrency_limit": None}
    chosen = [parts.name, parts.rate, parts.turns]
    going_on = parts.go_on.click(
        handlers.on_go_on, [parts.draft, parts.left_out, *chosen], parts.changed, js=TICKED_JS, **queued
    )
    # The last one chosen wins: what waits in the queue for the outliers of earlier images is dropped
    teaching = parts.teach.click(
        handlers.on_teach, [parts.goods, parts.defects, *chosen], parts.changed, cancels=[going_on], **queued
    )
    recalibrating = parts.recalibrate.click(
        handlers.on_recalibrate,
        [parts.goods, parts.defects, *chosen, parts.source],
        parts.changed,
        cancels=[going_on, teaching],
        **queued,
    )
    parts.stop.click(
        handlers.on_stop,
        [parts.draft, parts.turns],
        parts.changed,
        cancels=[teaching, recalibrating, going_on],
        **at_once,
    )
    tab.select(handlers.on_open, parts.source, parts.recalibrate, **at_once)
    inspecting.teach_it.click(handlers.on_teach_it, inspecting.current, parts.goods, **at_once).success(
        None, js=TO_TEACH_JS, api_visibility="private"
    )
    parts.use.click(
        handlers.on_use,
        [parts.taught, inspecting.turns, inspecting.current],
        inspecting.of_change,
        **at_once,
    ).success(None, js=TO_INSPECT_JS, api_visibility="private")
