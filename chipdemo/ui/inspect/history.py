"""What was inspected before: the strip below the image, and the addresses #inspect/SHA256 that open it again.

An image in the history is judged again from its file, under the choices that it was shown with. Where the
visitor is known (Annotators.owner) the history is in the file of the journal, otherwise in the page alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from chipdemo.errors import ChipDemoError
from chipdemo.images import file_suffix
from chipdemo.inspection import Model, ModelInfo, outcome_text
from chipdemo.judge import Judge
from chipdemo.labeling.inspections import Entry, History, KeptHistory, Limits, PageHistory
from chipdemo.labeling.journal import Journal
from chipdemo.threshold import typed_threshold
from chipdemo.ui.auth import Annotators
from chipdemo.ui.events import LIGHT, MODEL_QUEUE, shown_errors
from chipdemo.ui.inspect import html, logic, tab
from chipdemo.ui.inspect.first_example import FirstExample
from chipdemo.ui.inspect.history_html import Listing, history_html, listing_of, time_of
from chipdemo.ui.inspect.layout import AS_A_WHOLE, AUTOMATIC, IN_TILES
from chipdemo.ui.inspect.logic import Choices, Current, Failed
from chipdemo.ui.inspect.tab import IMAGE, Updates
from chipdemo.ui.inspect.wiring import FAILED_JS
from chipdemo.ui.turns import Turns

NOT_YOURS = "This inspection is not in your history. Inspect the image again{}."
OR_SIGN_IN = ", or sign in as who inspected it"
NOT_KEPT = ". Here a history lasts until the page is closed or loaded again"
ADDRESS_JS = "(address, ...values) => [window.chip.inspectionAddress(), ...values]"


@dataclass(frozen=True)
class Handlers:
    """What the events do. journal, example: None where there is none."""

    inspecting: tab.Handlers
    annotators: Annotators
    journal: Journal | None
    example: FirstExample | None

    def on_start(self, address: str, turns: Turns, shown: ModelInfo, threshold: Any, method: str) -> Updates:
        """A page that was opened: the model in use now, and an example.

        Where it asks for an inspection, on_address shows both.
        """
        if address:
            return {self.inspecting.parts.current: gr.skip()}
        updates = self.inspecting.on_open(shown, threshold, method)
        return updates | self._example(turns) if self.example else updates

    def on_address(
        self,
        address: str,
        turns: Turns,
        own: Model | None,
        page: PageHistory,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
    ) -> Updates:
        """Show the inspection of an address again; that without one shows the example."""
        if not address:
            return self._example(turns)
        turn, history = turns.begin(IMAGE), self._history(page, request, profile)
        asked, threshold = AUTOMATIC, None
        try:
            found = history.find(address)
            if found is None:
                current = Failed(turn, "", self._not_found(history))
            else:
                entry, _ = found
                current = self._again(*found, own, turn)
                names = [model.info.name for model in tab.models_of(self.inspecting.judge, own, AUTOMATIC)]
                asked = entry.asked if entry.asked in names else AUTOMATIC
                threshold = entry.threshold if entry.model == current.model.info.name else None
        except ChipDemoError as error:
            current = Failed(turn, "", str(error))
        return self._shown(current, turns, threshold) | {self.inspecting.parts.model: gr.Radio(value=asked)}

    def on_inspected(
        self,
        current: Current | Failed | None,
        turns: Turns,
        shown: ModelInfo,
        threshold: Any,
        asked: str,
        listing: Listing,
        page: PageHistory,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
    ) -> Updates:
        """Keep what is shown, after it is shown."""
        parts = self.inspecting.parts
        if not _is_kept(current, turns, shown):
            return {parts.history: gr.skip()}
        entry, history = entry_of(current, threshold, asked), self._history(page, request, profile)
        with shown_errors():
            try:
                history.keep(entry, current.path)
            except OSError:  # the upload is gone: the page stood open for hours
                return {parts.history: gr.skip()}
            return {parts.history: self._list(history, listing, entry)}

    def on_chosen(
        self,
        current: Current | Failed | None,
        turns: Turns,
        shown: ModelInfo,
        threshold: Any,
        asked: str,
        listing: Listing,
        page: PageHistory,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
    ) -> Updates:
        """Keep another threshold, explanation or view of what is shown."""
        parts = self.inspecting.parts
        if not _is_kept(current, turns, shown):
            return {parts.history: gr.skip()}
        history = self._history(page, request, profile)
        with shown_errors():
            changed = history.change(entry_of(current, threshold, asked))
            return {parts.history: self._list(history, listing) if changed else gr.skip()}

    def on_list(
        self, listing: Listing, page: PageHistory, request: gr.Request, profile: gr.OAuthProfile | None
    ) -> Updates:
        with shown_errors():
            return {self.inspecting.parts.history: self._list(self._history(page, request, profile), listing)}

    def on_filter(
        self,
        asked: gr.EventData,
        page: PageHistory,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
    ) -> Updates:
        listing = listing_of(asked._data)
        return {
            self.inspecting.parts.listing: listing,
            **self.on_list(listing, page, request, profile),
        }

    def on_delete(
        self,
        chosen: gr.EventData,
        listing: Listing,
        page: PageHistory,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
    ) -> Updates:
        sha256 = str(chosen._data["sha256"])
        with shown_errors():
            self._history(page, request, profile).delete("" if sha256 == "all" else sha256)
        return self.on_list(listing, page, request, profile)

    def _history(self, page: PageHistory, request: gr.Request, profile: gr.OAuthProfile | None) -> History:
        settings, owner = self.inspecting.settings, self.annotators.owner(request, profile)
        if self.journal is None or owner is None or not settings.history_images:
            return page
        limits = Limits(settings.history_images, settings.history_mb, settings.history_days)
        return KeptHistory(self.journal, owner, limits)

    def _list(self, history: History, listing: Listing, new: Entry | None = None) -> str:
        where = "only until this page is closed"
        if isinstance(history, KeptHistory):
            where = f"kept for {history.limits.days:,} days"
        found = history.last(listing.count, listing.outcome, listing.model)
        return history_html(found, listing, where, new)

    def _not_found(self, history: History) -> str:
        if isinstance(history, PageHistory):
            return NOT_YOURS.format(NOT_KEPT)
        return NOT_YOURS.format(OR_SIGN_IN if self.annotators.signs_in else "")

    def _again(self, entry: Entry, content: bytes, own: Model | None, turn: int) -> Current:
        """The inspection of an entry, by the model that it names where there is one. Raises ImageError."""
        judge = Judge(self.inspecting.judge.models)  # without listeners: it was counted when it was inspected
        path = tab.download(content, f"{logic.file_stem(entry.name)}{file_suffix(content)}")
        file, limit = (entry.name, Path(path)), self.inspecting.settings.max_megapixels
        choices = Choices(entry.model, entry.threshold, entry.method, entry.in_tiles)
        models = tab.models_of(judge, own, entry.asked)
        current = logic.inspect_image(judge, models, file, choices, limit, turn)
        same = [model for model in models if model.info.name == entry.model]
        if same and current.model.info.name != entry.model:  # another one came, which knows it better
            current = logic.inspect_image(judge, same, file, choices, limit, turn)
        return replace(current, date=time_of(entry), note=note_of(entry, current.model.info))

    def _example(self, turns: Turns) -> Updates:
        parts, models, turn = self.inspecting.parts, self.inspecting.judge.models, turns.begin(IMAGE)
        current = self.example and self.example.current(turn)
        if current:
            return self._shown(current, turns)
        return {
            parts.current: None,
            **tab.nothing_shown(parts),
            parts.stage: {"state": "empty", "turn": turn},
            parts.verdict: html.intro_html(models.first.model.info, models.infos),
        }

    def _shown(self, current: Current | Failed, turns: Turns, threshold: float | None = None) -> Updates:
        """An inspection that the visitor did not make now, with its model. threshold: None for its own."""
        parts = self.inspecting.parts
        if not turns.is_current(IMAGE, current.turn):
            return {parts.current: gr.skip()}
        if isinstance(current, Failed):
            info = self.inspecting.judge.models.first.model.info
            return {parts.current: current, **self.inspecting.on_computed(current, turns, info, None, "")}
        info, method = current.model.info, current.explanation.method
        threshold = logic.own_threshold(info) if threshold is None else threshold
        return {
            parts.current: current,
            **tab.of_another_model(parts, current.model, threshold, method),
            **self.inspecting.on_computed(current, turns, info, threshold, method),
            parts.tiles: tab.tiles_radio(current, value=IN_TILES if current.in_tiles else AS_A_WHOLE),
        }


def _is_kept(current: Current | Failed | None, turns: Turns, shown: ModelInfo) -> bool:
    """Whether this is an inspection of the visitor's, and what the page shows."""
    if not isinstance(current, Current) or current.is_example:
        return False
    return shown == current.model.info and turns.is_current(IMAGE, current.turn)


def entry_of(current: Current, threshold: Any, asked: str) -> Entry:
    """What the history keeps of an inspection. threshold: as the page shows it. asked: of the radio Model."""
    info = current.model.info
    threshold = typed_threshold(threshold, info.threshold)
    inspection = current.inspection.at_threshold(threshold)
    return Entry(
        sha256=inspection.image_sha256,
        name=current.name,
        inspected_at=round(current.date.timestamp() * 1e6),
        model=info.name,
        revision=info.revision,
        asked=asked,
        threshold=logic.chosen_threshold(info, threshold),
        method=current.explanation.method,
        in_tiles=current.in_tiles,
        outcome=inspection.outcome,
        abnormal_probability=inspection.abnormal_probability,
        small=current.small,
    )


def note_of(entry: Entry, info: ModelInfo) -> str:
    """Where another model judges now than when it was inspected, which and what it said; else ""."""
    if (entry.model, entry.revision) == (info.name, info.revision):
        return ""
    return (
        f"Judged again: on {time_of(entry):%Y-%m-%d}, {entry.model} {entry.revision} said "
        f"“{outcome_text(entry.outcome)}” ({entry.abnormal_probability:.2f}). That model is no longer in use "
        f"here; {info.name} {info.revision} judges now."
    )


def wire(app: gr.Blocks, handlers: Handlers, shown: tuple[Sequence[Any], Sequence[Any]]) -> None:
    """The events. shown: those of wiring.wire after which an inspection is shown."""
    parts, (images, choices) = handlers.inspecting.parts, shown
    raw = {"preprocess": False, "api_visibility": "private"}
    light = raw | LIGHT
    opened = [parts.current, parts.image, *parts.of_model, *parts.of_image]
    of_page = [parts.shown_model, parts.threshold, parts.method]
    kept = [parts.current, parts.turns, parts.shown_model, parts.threshold, parts.model]
    listed = [parts.listing, parts.page_history]
    starting = app.load(
        handlers.on_start, [parts.address, parts.turns, *of_page], opened, js=ADDRESS_JS, **light
    )
    opening = parts.history.select(
        handlers.on_address,
        [parts.address, parts.turns, parts.own_model, parts.page_history],
        [*opened, parts.model],
        js=ADDRESS_JS,
        trigger_mode="multiple",
        show_progress="hidden",
        concurrency_limit=handlers.inspecting.settings.concurrency,
        concurrency_id=MODEL_QUEUE,
        **raw,
    )
    for event in (starting, opening):
        event.failure(None, js=FAILED_JS, api_visibility="private")
    app.load(handlers.on_list, listed, parts.history, **light)
    for events, handler in ((images, handlers.on_inspected), (choices, handlers.on_chosen)):
        for event in events:
            event.success(handler, [*kept, *listed], parts.history, **light)
    at_once = light | {"trigger_mode": "multiple"}
    parts.history.input(handlers.on_filter, parts.page_history, [parts.listing, parts.history], **at_once)
    parts.history.delete(handlers.on_delete, listed, parts.history, **at_once)
