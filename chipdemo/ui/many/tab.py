"""The panel "Many images at once" of the Inspect tab: layout, then wiring. many.py does the work."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from chipdemo.batch.report import CSV, HTML
from chipdemo.errors import ChipDemoError
from chipdemo.files import Limits
from chipdemo.inspection import Model
from chipdemo.judge import Judge
from chipdemo.settings import Settings
from chipdemo.ui.many import html as many_fragments
from chipdemo.ui.many import logic as many
from chipdemo.ui.uploads import uploaded_files


@dataclass(frozen=True)
class Parts:
    """The components that events read or write."""

    files: gr.File
    stop: gr.Button
    results: gr.HTML
    page: gr.DownloadButton
    table: gr.DownloadButton

    @property
    def shown(self) -> list[Any]:
        return [self.results, self.stop, self.page, self.table]


def layout() -> Parts:
    """The panel's components, to be called inside the Inspect tab."""
    with gr.Accordion("Many images at once", open=False, elem_id="many"):
        files = gr.File(
            file_count="multiple",
            label=f"Images or zips, up to {many.MOST:,}",
            elem_id="many-files",
            height=150,
        )
        stop = gr.Button("Stop", visible=False, size="sm", elem_id="many-stop")
        with gr.Row():
            page = gr.DownloadButton("Report (HTML)", visible=False, size="sm", elem_id="many-page")
            table = gr.DownloadButton("Table (CSV)", visible=False, size="sm", elem_id="many-table")
        results = gr.HTML("", apply_default_css=False, elem_id="many-results")
    return Parts(files, stop, results, page, table)


def wire(parts: Parts, threshold: gr.Slider, own: gr.State, judge: Judge, settings: Settings) -> None:
    """The events. threshold, own: the tab's; own is the visitor's own inspector, if any."""
    hidden = gr.update(visible=False)
    running, ended = gr.update(visible=True), [hidden, hidden, hidden]

    def on_files(
        payload: list[dict[str, Any]] | None, threshold: float, own: Model | None
    ) -> Iterator[list[Any]]:
        try:
            limits = Limits(megapixels=settings.max_megapixels)
            for one in many.inspect_uploads(judge, own, uploaded_files(payload), threshold, limits):
                if isinstance(one, many.Progress):
                    yield [many_fragments.progress_html(one), running, hidden, hidden]
                else:
                    yield [many_fragments.many_html(one), hidden, *downloads(one)]
        except ChipDemoError as error:
            yield [many_fragments.refused_html(str(error)), *ended]

    def downloads(one: many.Many) -> list[Any]:
        files = many.report_files(one)
        paths = {name: save_bytes_to_cache(data, name, get_upload_folder()) for name, data in files.items()}
        return [gr.update(value=paths[name], visible=True) for name in (HTML, CSV)]

    judging = parts.files.upload(
        on_files,
        [parts.files, threshold, own],
        parts.shown,
        preprocess=False,
        api_visibility="private",
        concurrency_limit=1,
        concurrency_id=many.MANY_QUEUE,
        show_progress="hidden",
    )
    judging.then(lambda: None, None, parts.files, api_visibility="private", show_progress="hidden")
    parts.stop.click(
        lambda: [many_fragments.refused_html("Stopped. Drop the images again to start anew."), *ended],
        None,
        parts.shown,
        cancels=[judging],
        api_visibility="private",
        show_progress="hidden",
    )
