"""The example that the page opens with, judged once for all visitors."""

import threading
from collections.abc import Sequence
from dataclasses import replace

from chipdemo.errors import ImageError
from chipdemo.examples import Example, ExampleSet
from chipdemo.inspection import ABNORMAL, Model
from chipdemo.judge import Judge
from chipdemo.models import revision_of
from chipdemo.ui.inspect.logic import Choices, Current, inspect_image

SMALL = 0.5  # share of the image, below which a region shows where a defect is
NEXT = "To inspect an image of your own, drop it here, paste it, or choose it."


class FirstExample:
    """The first example with a clear defect. Thread-safe.

    It is judged once, from start on, and again when a model was replaced. Nobody inspected it, so no listener
    of the judge is told.
    """

    def __init__(self, judge: Judge, sets: Sequence[ExampleSet], max_megapixels: float):
        """sets: of examples, beside those of the models."""
        self._judge, self._sets, self._max_megapixels = Judge(judge.models), sets, max_megapixels
        self._current: Current | None = None
        self._revision = ""  # of the models that judged it
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.current, args=[0], name="first example", daemon=True)

    def start(self) -> None:
        """Judge it in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Wait until that has ended."""
        self._thread.join()

    def current(self, turn: int) -> Current | None:
        """It as a turn of a visitor; None where no example can be read."""
        models = self._judge.models.every
        with self._lock:
            if self._revision != revision_of(models):
                self._current, self._revision = self._judged(models), revision_of(models)
            return replace(self._current, turn=turn) if self._current else None

    def _judged(self, models: Sequence[Model]) -> Current | None:
        first = None
        for example in examples_in_order(self._sets, models):
            try:
                current = self._inspected(example, models)
            except ImageError:
                continue
            if _is_clear(current):
                return current
            first = first or current
        return first

    def _inspected(self, example: Example, models: Sequence[Model]) -> Current:
        file, choices = (example.path.name, example.path), Choices("", None, "", True)
        current = inspect_image(self._judge, models, file, choices, self._max_megapixels)
        return replace(current, note=f"Example: {example.caption}. {NEXT}", is_example=True)


def _is_clear(current: Current) -> bool:
    """Abnormal, with a hottest region that is a part of the image."""
    width, height = current.inspection.image_size
    regions = current.regions
    return (
        current.inspection.outcome == ABNORMAL and bool(regions) and regions[0].area < SMALL * width * height
    )


def examples_in_order(sets: Sequence[ExampleSet], models: Sequence[Model]) -> list[Example]:
    """Those of the first model before those of others. sets: beside those that the models bring."""
    every = [*sets, *(model.examples for model in models if model.examples)]
    every.sort(key=lambda one: one.model != models[0].info.name)
    return [example for one in every for example in one.examples]
