"""The Teach tab: layout, then wiring. teaching.py does the work."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from chipdemo.errors import ChipDemoError
from chipdemo.inspection import Model
from chipdemo.teaching import FALSE_ALARMS, FEWEST, Draft, Taught
from chipdemo.ui.events import KEEP_S
from chipdemo.ui.inspect import tab as inspect_tab
from chipdemo.ui.teach import html as teach_fragments
from chipdemo.ui.teach import logic as teaching
from chipdemo.ui.teach.logic import Classroom, Told
from chipdemo.ui.turns import Turns
from chipdemo.ui.uploads import uploaded_files

RATES = (0.005, 0.01, FALSE_ALARMS, 0.05, 0.1)
CHOSEN_JS = "(draft, rows, ...rest) => [draft, window.chip.leftOut(), ...rest]"
UNSEEN = "What was seen is no longer kept here. Press Teach again."
GONE = "What was taught is no longer kept here. Teach it again, or open the download."
TO_INSPECT_JS = "() => document.getElementById('inspect-button').click()"


@dataclass(frozen=True)
class Parts:
    """The components that events read or write. draft, taught: of this visitor."""

    goods: gr.File
    defects: gr.File
    name: gr.Textbox
    rate: gr.Radio
    teach: gr.Button
    stop: gr.Button
    results: gr.HTML
    go_on: gr.Button
    left_out: gr.JSON
    use: gr.Button
    download: gr.DownloadButton
    draft: gr.State
    taught: gr.State

    @property
    def shown(self) -> list[Any]:
        """Where _shown goes, in order."""
        buttons = [self.teach, self.stop, self.go_on, self.use, self.download]
        return [self.results, *buttons, self.draft, self.taught]


def layout() -> Parts:
    """The tab's components, to be called inside its gr.Tab."""
    with gr.Row(elem_classes="teach"):
        with gr.Column(elem_classes="teach-input"):
            goods = gr.File(
                file_count="multiple",
                label=f"Good images, {FEWEST} or more, or zips of them",
                elem_id="teach-goods",
                height=200,
            )
            defects = gr.File(
                file_count="multiple",
                label="Known defects, if you have any",
                elem_id="teach-defects",
                height=170,
            )
            name = gr.Textbox(
                label="Name of the chip",
                placeholder="my-chip",
                max_length=teaching.NAMED,
                elem_id="teach-name",
            )
            rate = gr.Radio(
                [(f"{100 * rate:g} %", rate) for rate in RATES],
                value=FALSE_ALARMS,
                label="False alarms: good chips that may be stopped",
                info="Fewer of them, and fewer defects are caught.",
                elem_id="teach-rate",
            )
            teach = gr.Button("Teach", variant="primary", elem_id="teach-start")
            stop = gr.Button("Stop", visible=False, elem_id="teach-stop")
        with gr.Column(elem_classes="teach-output"):
            results = gr.HTML(teach_fragments.INTRO, apply_default_css=False, elem_id="teach-results")
            go_on = gr.Button("Go on", variant="primary", visible=False, elem_id="teach-go-on")
            with gr.Row(elem_classes="teach-actions"):
                use = gr.Button(
                    "Inspect with it", variant="primary", visible=False, elem_id="teach-use", min_width=200
                )
                download = gr.DownloadButton(
                    "Download", visible=False, elem_id="teach-download", min_width=200
                )
    left_out = gr.JSON(visible="hidden")
    draft = gr.State(None, time_to_live=KEEP_S)
    taught = gr.State(None, time_to_live=KEEP_S)
    return Parts(
        goods, defects, name, rate, teach, stop, results, go_on, left_out, use, download, draft, taught
    )


def wire(
    parts: Parts,
    room: Classroom,
    inspecting: inspect_tab.Parts,
) -> None:
    """The events. inspecting: the Inspect tab."""

    def on_teach(goods: Any, defects: Any, name: str | None, rate: Any) -> Iterator[list[Any]]:
        draft = None
        yield shown(teach_fragments.progress_html(Told(0, "reading", 0)), running=True, draft=None)
        try:
            for one in teaching.look(room, uploaded_files(goods), uploaded_files(defects)):
                if isinstance(one, Draft):
                    draft = one
                else:
                    yield shown(teach_fragments.progress_html(one), running=True)
        except ChipDemoError as error:
            yield shown(teach_fragments.refused_html(str(error)))
            return
        if draft.standouts:
            yield shown(teach_fragments.review_html(draft), review=True, draft=draft)
        else:
            yield from finished(draft, (), name, rate)

    def on_go_on(draft: Draft | None, rows: Any, name: str | None, rate: Any) -> Iterator[list[Any]]:
        if draft is None:
            yield shown(teach_fragments.refused_html(UNSEEN))
            return
        rows = [row for row in rows if isinstance(row, int)] if isinstance(rows, list) else []
        yield from finished(draft, rows, name, rate)

    def finished(draft: Draft, without: Any, name: str | None, rate: Any) -> Iterator[list[Any]]:
        rate = rate if rate in RATES else FALSE_ALARMS
        try:
            for one in teaching.finish(room, draft, without, rate, name or ""):
                if isinstance(one, Told):
                    yield shown(teach_fragments.progress_html(one), running=True)
        except ChipDemoError as error:
            html = teach_fragments.refused_html(str(error)) + teach_fragments.review_html(draft)
            yield shown(html, review=True)
            return
        yield done(draft, one)

    def done(draft: Draft, taught: Taught) -> list[Any]:
        file = save_bytes_to_cache(taught.archive, taught.model.info.name + ".zip", get_upload_folder())
        label = f"Download ({len(taught.archive) / 1e6:.0f} MB)"
        download = gr.DownloadButton(label, value=file, visible=True)
        html = teach_fragments.summary_html(draft, taught)
        return shown(html, download=download, draft=None, taught=taught.model)

    def on_stop(draft: Draft | None) -> list[Any]:
        stopped = teach_fragments.refused_html(teach_fragments.STOPPED)
        if draft is None:
            return shown(stopped)
        return shown(stopped + teach_fragments.review_html(draft), review=True)

    def on_use(taught: Model | None, turns: Turns) -> dict[Any, Any]:
        if taught is None:
            raise gr.Error(GONE, print_exception=False)
        return inspect_tab.with_model(inspecting, taught, taught, turns)

    one_at_a_time = {
        "api_visibility": "private",
        "concurrency_limit": 1,
        "concurrency_id": teaching.QUEUE,
        "show_progress": "hidden",
    }
    chosen = [parts.name, parts.rate]
    looking = parts.teach.click(
        on_teach, [parts.goods, parts.defects, *chosen], parts.shown, preprocess=False, **one_at_a_time
    )
    going_on = parts.go_on.click(
        on_go_on, [parts.draft, parts.left_out, *chosen], parts.shown, js=CHOSEN_JS, preprocess=False,
        **one_at_a_time,
    )  # fmt: skip
    parts.stop.click(
        on_stop, parts.draft, parts.shown, cancels=[looking, going_on], api_visibility="private",
        concurrency_limit=None, show_progress="hidden",
    )  # fmt: skip
    parts.use.click(
        on_use,
        [parts.taught, inspecting.turns],
        inspecting.of_change,
        api_visibility="private",
        concurrency_limit=None,
        show_progress="hidden",
    ).success(None, js=TO_INSPECT_JS, api_visibility="private")


def shown(
    html: str, running: bool = False, review: bool = False, download: Any = None, **states: Any
) -> list[Any]:
    """For Parts.shown. running: it can be stopped. review: it waits for a choice. download: it is done.

    states: draft and taught, where they change.
    """
    return [
        html,
        gr.Button("Teach", visible=not running, variant="secondary" if review or download else "primary"),
        gr.Button(visible=running),
        gr.Button(visible=review),
        gr.Button(visible=download is not None),
        download or gr.DownloadButton(visible=False),
        states.get("draft", gr.skip()),
        states.get("taught", gr.skip()),
    ]
