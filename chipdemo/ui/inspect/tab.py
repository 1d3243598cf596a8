"""The Inspect tab: what its events do. The components are in layout.py, what is computed in logic.py.

A slow event writes what it computed into Parts.current, unless the visitor has asked for something newer
meanwhile; then on_computed shows it under the choices of that moment. A light event only shows.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from chipdemo.errors import ChipDemoError, TargetError
from chipdemo.images import read_image
from chipdemo.inspection import Model, ModelInfo, default_method, is_taught
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.monitoring import Recent
from chipdemo.settings import Settings
from chipdemo.threshold import Target, typed_threshold
from chipdemo.ui.events import MODEL_QUEUE, shown_errors
from chipdemo.ui.html import header_html, refused_html
from chipdemo.ui.inspect import html, logic
from chipdemo.ui.inspect.example_strips import examples_html
from chipdemo.ui.inspect.layout import (
    AS_A_WHOLE,
    AUTOMATIC,
    IN_TILES,
    TARGETS,
    Parts,
    has_images,
    model_choices,
    reset_label,
)
from chipdemo.ui.inspect.logic import Choices, Current, Failed
from chipdemo.ui.tiles import Tiles
from chipdemo.ui.turns import Turns
from chipdemo.ui.uploads import uploaded_file

# Kinds of turns: a new image; another method or view of the same; another threshold
IMAGE, CHOICE, THRESHOLD = "image", "choice", "threshold"
NOTHING = "There is no inspected image: an image is kept for an hour. Inspect it again."

Updates = dict[Any, Any]  # component -> its new value


@dataclass(frozen=True)
class Handlers:
    """What the events do. recent: what all visitors had inspected. tiles: for the zoom.

    teaches: there is a Teach tab.
    """

    parts: Parts
    judge: Judge
    settings: Settings
    recent: Recent
    tiles: Tiles = field(default_factory=Tiles)
    teaches: bool = False

    @property
    def heavy(self) -> dict[str, Any]:
        """Options of events that run the network.

        preprocess=False: gradio would decode an image itself, clip 16 bits to 8, and refuse a threshold of 5.
        """
        limit = {"concurrency_limit": self.settings.concurrency, "concurrency_id": MODEL_QUEUE}
        return limit | {"preprocess": False, "api_visibility": "private"}

    def on_image(self, payload: Mapping[str, Any] | None, *choices: Any) -> Updates:
        if payload is None:
            return {self.parts.current: gr.skip()}
        return self._inspect(lambda: uploaded_file(payload), str(payload.get("orig_name") or ""), *choices)

    def on_example(
        self,
        turns: Turns,
        own: Model | None,
        fixed: str,
        shown: ModelInfo,
        threshold: Any,
        method: str,
        tiles: str,
        chosen: gr.SelectData,
    ) -> Updates:
        path, choices = self.parts.shipped_examples[int(chosen.index)].path, (threshold, method, tiles)
        return self._inspect(lambda: (path.name, path), path.name, turns, own, fixed, shown, *choices)

    def on_model(self, current: Current | Failed | None, *choices: Any) -> Updates:
        """The image that is shown, judged by another model."""
        if not isinstance(current, Current):
            return {self.parts.current: gr.skip()}
        return self._inspect(lambda: (current.name, current.path), current.name, *choices)

    def _inspect(
        self,
        file: Callable[[], tuple[str, Path]],
        name: str,
        turns: Turns,
        own: Model | None,
        fixed: str,
        *choices: Any,
    ) -> Updates:
        return self.inspect(file, name, turns, models_of(self.judge, own, fixed), *choices)

    def inspect(
        self,
        file: Callable[[], tuple[str, Path]],
        name: str,
        turns: Turns,
        models: Sequence[Model],
        shown: ModelInfo,
        threshold: Any,
        method: str,
        tiles: str,
    ) -> Updates:
        """What a new image changes. file: (name, path), where it was really uploaded.

        models: to choose from. shown: of the model that the threshold and the method belong to.
        """
        turn = turns.begin(IMAGE)
        threshold = logic.chosen_threshold(shown, typed_threshold(threshold, shown.threshold))
        choices = Choices(shown.name, threshold, method, tiles == IN_TILES)
        limit = self.settings.max_megapixels
        try:
            current = logic.inspect_image(self.judge, models, file(), choices, limit, turn)
        except ChipDemoError as error:
            current = Failed(turn, name, str(error))
        if not turns.is_current(IMAGE, turn):
            return {self.parts.current: gr.skip()}
        return {self.parts.image: None, self.parts.current: current}

    def on_choice(
        self,
        current: Current | Failed | None,
        turns: Turns,
        shown: ModelInfo,
        threshold: Any,
        method: str,
        tiles: str,
    ) -> Updates:
        """Another method, or another view of a large image."""
        turn = turns.begin(CHOICE)
        if not isinstance(current, Current) or not turns.is_current(IMAGE, current.turn):
            return {self.parts.current: gr.skip()}
        threshold = typed_threshold(threshold, shown.threshold)
        choices = Choices(shown.name, threshold, method, tiles == IN_TILES)
        with shown_errors():
            current = logic.computed_for(self.judge, current, choices, self.settings.max_megapixels)
        newest = turns.is_current(CHOICE, turn) and turns.is_current(IMAGE, current.turn)
        return {self.parts.current: current if newest else gr.skip()}

    def on_computed(
        self, current: Current | Failed | None, turns: Turns, shown: ModelInfo, threshold: Any, method: str
    ) -> Updates:
        """Show what was computed, unless a newer image is being inspected."""
        parts, turn = self.parts, turns.begin(THRESHOLD)
        if current is None:
            return {parts.stage: gr.skip()}
        if isinstance(current, Failed):
            failed = {parts.stage: current.view(), parts.verdict: html.NOT_INSPECTED}
            updates = nothing_shown(parts) | failed
        else:
            updates = self._all_of(current, turns, turn, shown, threshold, method)
        return updates if turns.is_current(IMAGE, current.turn) else {parts.stage: gr.skip()}

    def _all_of(
        self, current: Current, turns: Turns, turn: int, shown: ModelInfo, threshold: Any, method: str
    ) -> Updates:
        parts = self.parts
        threshold, info = typed_threshold(threshold, shown.threshold), current.model.info
        model = self._refused(info)
        if shown != info:
            if shown.name == info.name:
                gr.Info(f"A newer model is in use: {escape(info.name)} {escape(info.revision)}")
            threshold, method = logic.carried_over(shown, current.model, threshold, method)
            model = of_another_model(parts, current.model, threshold, method) | model
        return {
            **model,
            parts.note: html.note_html(current.note, current.is_example),
            parts.stage: self._view(current),
            parts.tiles: tiles_radio(current),
            parts.regions: html.regions_html(current.regions, current.regions_method),
            parts.nearest: "",
            parts.drift: html.drift_html(
                self.recent.drift(current.model.info), self.teaches and is_taught(current.model)
            ),
            parts.teach_it: gr.Button(visible=self.teaches and current.inspection.out_of_distribution),
            parts.details: html.details_html(current.inspection),
            **self._at_threshold(current, turns, turn, threshold),
        }

    def _view(self, current: Current) -> dict[str, Any]:
        """What inspect.js shows, with the key of the original's tiles where the preview is not the same."""
        if logic.is_whole(current.full.image_size):
            return current.view()
        limit = self.settings.max_megapixels
        key = self.tiles.offer(str(current.path), lambda: read_image(current.path, limit).image)
        return current.view() | {"tiles": key}

    def _at_threshold(
        self, current: Current | Failed | None, turns: Turns, turn: int, threshold: float
    ) -> Updates:
        """The verdict, unless another threshold or image was asked for after that turn."""
        parts = self.parts
        if not isinstance(current, Current):
            return {parts.verdict: gr.skip()}
        inspection = current.inspection.at_threshold(threshold)
        updates = {
            parts.verdict: html.verdict_html(inspection, current.model.info),
            parts.raw: current.to_json(threshold),
        }
        newest = turns.is_current(THRESHOLD, turn) and turns.is_current(IMAGE, current.turn)
        return updates if newest else {parts.verdict: gr.skip()}

    def on_threshold(
        self, current: Current | Failed | None, turns: Turns, shown: ModelInfo, threshold: Any
    ) -> Updates:
        turn, threshold = turns.begin(THRESHOLD), typed_threshold(threshold, shown.threshold)
        return {self.parts.promise: "", **self._at_threshold(current, turns, turn, threshold)}

    def on_reset(self, current: Current | Failed | None, turns: Turns, shown: ModelInfo) -> Updates:
        return self._chosen(current, turns, shown, shown.target, logic.own_threshold(shown))

    def on_target(
        self,
        metric: str,
        current: Current | Failed | None,
        turns: Turns,
        shown: ModelInfo,
        percent: Any,
    ) -> Updates:
        """The threshold that keeps a promise; where there is none, why, and what can be promised instead."""
        curve, nearest = shown.validation, None
        try:
            target = logic.typed_target(metric, percent)
            nearest = curve.nearest_target(target)
            return self._chosen(current, turns, shown, target, curve.threshold_for(target))
        except TargetError as error:
            if nearest is None:
                return {self.parts.promise: refused_html(str(error), "promise")}
            text = f"{error} That is filled in: press Set to choose it."
            percent = round(100 * nearest.share, 1)
            return {
                self.parts.promise: refused_html(text, "promise"),
                self.parts.targets[metric].percent: percent,
            }

    def _chosen(
        self,
        current: Current | Failed | None,
        turns: Turns,
        shown: ModelInfo,
        target: Target | None,
        threshold: float,
    ) -> Updates:
        turn, promise = turns.begin(THRESHOLD), html.promise_html(shown, target, threshold)
        updates = {self.parts.threshold: threshold, self.parts.promise: promise}
        return updates | self._at_threshold(current, turns, turn, threshold)

    def on_nearest(self, current: Current | Failed | None) -> Updates:
        with shown_errors():
            found = logic.beside_normal_patches(self.judge, needed(current), self.settings.max_megapixels)
        return {self.parts.nearest: html.nearest_html(found)}

    def on_overlay(
        self, current: Current | Failed | None, shown: ModelInfo, threshold: Any, opacity: float, boxes: bool
    ) -> Updates:
        current, limit = needed(current), self.settings.max_megapixels
        threshold = typed_threshold(threshold, shown.threshold)
        with shown_errors():
            content = logic.overlay_file(current, threshold, opacity, boxes, limit)
        return {self.parts.overlay_file: download(content, f"{logic.file_stem(current.name)}-overlay.png")}

    def on_json(self, current: Current | Failed | None, shown: ModelInfo, threshold: Any) -> Updates:
        result = needed(current).to_json(typed_threshold(threshold, shown.threshold))
        content = json.dumps(result, indent=2, ensure_ascii=False).encode()
        return {self.parts.json_file: download(content, f"{logic.file_stem(current.name)}-inspection.json")}

    def on_back(self, turns: Turns) -> Updates:
        models = self.judge.models
        return with_model(self.parts, models.first.model, None, models, turns)

    def on_open(self, shown: ModelInfo, threshold: Any, method: str) -> Updates:
        """A page that is opened now shows the model in use now, not the one the app began with."""
        model = self.judge.models.first.model
        if shown == model.info:
            return {self.parts.header: gr.skip(), **self._refused(shown)}
        threshold = typed_threshold(threshold, shown.threshold)
        threshold, _ = logic.carried_over(shown, model, threshold, method)
        updates = of_another_model(self.parts, model, threshold, default_method(model))
        return {
            **updates,
            **self._refused(model.info),
            self.parts.verdict: html.intro_html(model.info, self.judge.models.infos),
        }

    def _refused(self, info: ModelInfo) -> Updates:
        """The header, where it has to name a newer revision of this model that did not take over."""
        for one in self.judge.models.in_use:
            if one.refused and one.model.info.name == info.name:
                return {self.parts.header: header_html(one.model.info, one.refused)}
        return {}


def of_another_model(parts: Parts, model: Model, threshold: float, method: str) -> Updates:
    """What the page says of its model. threshold, method: as carried over."""
    target = model.info.target if threshold == logic.own_threshold(model.info) else None
    columns = {
        parts.targets[metric].column: gr.Column(visible=has_images(model.info, metric)) for metric in TARGETS
    }
    return {
        parts.shown_model: model.info,
        parts.header: header_html(model.info),
        parts.threshold: threshold,
        parts.reset: reset_label(model.info),
        parts.promise: html.promise_html(model.info, target, threshold),
        **columns,
        parts.method: gr.Radio(choices=list(model.methods), value=method, info=html.overlay_reason(model)),
        parts.get_nearest: gr.Button(visible=bool(model.copies)),
        parts.examples: examples_html(model, parts.example_sets),
    }


def models_of(judge: Judge, own: Model | None, fixed: str) -> tuple[Model, ...]:
    """Those that may judge an image of this visitor. own: the visitor's. fixed: a name, or AUTOMATIC."""
    every = (*([own] if own else ()), *judge.models.every)
    named = tuple(model for model in every if model.info.name == fixed)
    return named[:1] or every  # the visitor's own, where the app has one of its name


def with_model(parts: Parts, model: Model, own: Model | None, models: Models, turns: Turns) -> Updates:
    """Parts.of_change with another model and no image yet. own: the model where it is the visitor's.

    models: of the app.
    """
    names = list(dict.fromkeys(info.name for info in (*([own.info] if own else []), *models.infos)))
    stage = {"state": "empty", "turn": turns.begin(IMAGE)}
    return {
        parts.own_model: own,
        parts.own_row: gr.Row(visible=own is not None),
        parts.own_note: html.own_model_html(own.info) if own else "",
        parts.model: gr.Radio(**model_choices(names, own.info.name if own else AUTOMATIC)),
        parts.current: None,
        **of_another_model(parts, model, logic.own_threshold(model.info), default_method(model)),
        **nothing_shown(parts),
        parts.stage: stage,
        parts.verdict: html.intro_html(model.info, () if own else models.infos),
    }


def nothing_shown(parts: Parts) -> Updates:
    """No inspection: nothing of the last one stays."""
    empty = dict.fromkeys((parts.note, parts.regions, parts.nearest, parts.drift, parts.details), "")
    hidden = {parts.tiles: gr.Radio(visible=False), parts.teach_it: gr.Button(visible=False)}
    return {**empty, parts.raw: None, **hidden}


def tiles_radio(current: Current, **chosen: str) -> Any:
    """For a large image, with what each view of it costs; hidden for others.

    chosen: the value of the radio; without it, the choice stays.
    """
    if current.full.tiles is None:
        return gr.Radio(visible=False, **chosen)
    labels = html.tiles_labels(current.full.tiles)
    return gr.Radio(choices=list(zip(labels, (IN_TILES, AS_A_WHOLE))), visible=True, **chosen)


def needed(current: Current | Failed | None) -> Current:
    """Raises gr.Error where there is no inspected image."""
    if not isinstance(current, Current):
        raise gr.Error(NOTHING, print_exception=False)
    return current


def download(content: bytes, name: str) -> str:
    """The path of a file that a visitor may fetch."""
    return save_bytes_to_cache(content, name, get_upload_folder())
