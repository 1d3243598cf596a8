"""A Model and a Teacher without a network: quick, and deterministic from the pixels alone."""

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from chipdemo.errors import DataError
from chipdemo.files import Found, Limits
from chipdemo.inspection import (
    CAM,
    CBAM,
    INVERSE,
    MATCHINGS,
    Channel,
    Inspection,
    Model,
    ModelInfo,
    NormalPatch,
    Prediction,
    Region,
)
from chipdemo.judge import Judge
from chipdemo.models import Models
from chipdemo.rates import Rate
from chipdemo.teaching import MIN_IMAGES, Draft, Kind, Outlier, Progress, Taught
from chipdemo.threshold import OperatingCurve, OperatingPoint
from chipdemo.view import SQUEEZED, View

METHODS = ("CAM", "CBAM", "Grad-CAM", "Grad-CAM++", "LayerCAM", "HiResCAM", "EigenCAM")
GRID = 9  # heat is GRID x GRID
INFO = ModelInfo(
    name="fake-model",
    revision="0123456789ab",
    backbone="none",
    attention="cbam",
    starting_weights="none",
    image_size=224,
    data="drawn chips",
    data_license="CC0",
    threshold=0.4,
    # At 0.4: 3 of 4 abnormal detected, 1 of 5 normal flagged
    validation=OperatingCurve(
        split="drawn chips, validation, 9 images",
        probabilities=(0.1, 0.2, 0.3, 0.35, 0.45, 0.38, 0.6, 0.8, 0.9),
        abnormal=(False, False, False, False, False, True, True, True, True),
    ),
    # At 0.4: 4 of 5 abnormal detected, no normal flagged
    test=OperatingCurve(
        split="drawn chips, test, 10 images",
        probabilities=(0.1, 0.1, 0.2, 0.2, 0.3, 0.25, 0.5, 0.6, 0.8, 0.9),
        abnormal=(False,) * 5 + (True,) * 5,
    ),
)


class FakeModel:
    """Dark images are abnormal: the probability is 1 - mean brightness. Red ones are out of distribution.

    predictions, explanations: how many views each was asked for, to show what runs the model again.
    """

    info, methods, copies, examples, scaled_to = INFO, METHODS, (), None, INFO.image_size

    def __init__(self):
        self.predictions = self.explanations = 0
        self._lock = threading.Lock()

    def prepare(self, image: Image.Image) -> View:
        side = self.info.image_size
        return View(np.asarray(image.resize((side, side), Image.Resampling.BOX)), SQUEEZED, image.size)

    def predict(self, views: Sequence[View], methods: Sequence[str] = ()) -> list[Prediction]:
        return [self.prediction(Image.fromarray(each.pixels), methods) for each in views]

    def prediction(self, image: Image.Image, methods: Sequence[str]) -> Prediction:
        with self._lock:
            self.predictions += 1
        red, green, _ = np.asarray(image, np.float32).mean((0, 1)) / 255
        probability = float(round(1 - np.asarray(image.convert("L")).mean() / 255, 4))
        heatmap = darkness(image)
        heatmaps = {CAM: heatmap, CBAM: 1 - heatmap}
        heatmaps |= {name: np.roll(heatmap, 4, axis=1) for name in methods if name in MATCHINGS}
        return Prediction(
            abnormal_probability=probability,
            log_odds=float(np.log((probability + 1e-6) / (1 - probability + 1e-6))),
            distance=2.5 if red > green + 0.3 else 0.5,
            heatmaps=heatmaps,
            channels=tuple(Channel(i, 0.9 - i / 10, np.roll(heatmap, i, axis=1)) for i in range(6)),
            embedding=np.asarray(image.resize((GRID, GRID)), np.float32).ravel(),
        )

    def explain(self, view: View, method: str) -> np.ndarray:
        if method not in self.methods:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(self.methods)}")
        with self._lock:
            self.explanations += 1
        heatmap = np.roll(darkness(Image.fromarray(view.pixels)), self.methods.index(method), axis=0)
        return heatmap / max(float(heatmap.max()), 1e-6)

    def nearest_normal_patches(
        self, image: Image.Image, regions: Sequence[Region]
    ) -> tuple[tuple[NormalPatch, ...], ...]:
        gray = Image.new("RGB", (8, 8), "gray")
        return tuple((NormalPatch("0" * 64, 0.1, 0.1, 0.2, 0.2, 0.75, gray),) for _ in regions)


class Breaks(FakeModel):
    """Fails at green images, and where a red one is among the views."""

    def prepare(self, image):
        if image.convert("RGB").getpixel((0, 0)) == (0, 128, 0):
            raise ValueError("green")
        return super().prepare(image)

    def predict(self, views, methods=()):
        if any(tuple(view.pixels[0, 0]) == (255, 0, 0) for view in views):
            raise ValueError("red")
        return super().predict(views, methods)


class Knows(FakeModel):
    """An image is as far from its training images as its mean brightness differs from a level, 0-1."""

    def __init__(self, name: str, level: float):
        super().__init__()
        self.info, self.level = replace(self.info, name=name, revision=f"{name}-1", threshold=level), level

    def predict(self, views, methods=()):
        far = [float(4 * abs(view.pixels.mean() / 255 - self.level)) for view in views]
        return [replace(one, distance=each) for one, each in zip(super().predict(views, methods), far)]


def fake_judge(model: Model | None = None, *listeners: Callable[[Inspection], None]) -> Judge:
    """A judge with a fake model in use."""
    return Judge(Models(model or FakeModel()), listeners)


class FakeTeacher:
    """Images called odd are outliers. hold: waits in the middle of a draft until it is set, if given.

    seen: how many images the drafts had so far.
    """

    def __init__(self, hold: threading.Event | None = None):
        self.hold, self.seen = hold, 0

    def draft(
        self,
        goods: Sequence[Found],
        defects: Sequence[Found],
        limits: Limits,
        progress: Progress,
        together: bool = False,
    ) -> Draft:
        for row in range(len(goods)):
            progress(row / len(goods), "reading images")
            if self.hold and row == len(goods) // 2:
                self.hold.wait(20)
            self.seen += 1
        if (
            not together
            and any("tall" in one.name for one in goods)
            and any("wide" in one.name for one in goods)
        ):
            kinds = [[one.name for one in goods if name in one.name] for name in ("wide", "tall")]
            return Draft(
                len(goods),
                (),
                "",
                (),
                (),
                1.0,
                (
                    Kind("landscape", tuple(kinds[0]), (64, 48), (b"",)),
                    Kind("portrait", tuple(kinds[1]), (48, 64), ()),
                ),
            )
        odd = [row for row, one in enumerate(goods) if "odd" in one.name]
        outliers = tuple(Outlier(row, goods[row].name, 3.5, b"", b"") for row in odd)
        return Draft(len(goods), (), "The parts lie alike.", ("All of them are drawn.",), outliers, 1.0)

    def finish(
        self,
        draft: Draft,
        without: Collection[int],
        false_positive_rate: float,
        name: str,
        progress: Progress,
    ) -> Taught:
        progress(0.5, "saving the model")
        if (count := draft.images - len(without)) < MIN_IMAGES:
            raise DataError(f"{count} good images are too few.")
        names = {one.row: one.name for one in draft.outliers}
        return Taught(
            model=TaughtModel(name),
            archive=b"a zip of " + name.encode(),
            images=count,
            patches=20_000,
            memory_bytes=6_700_000,
            false_positive_rate_wanted=false_positive_rate,
            point=OperatingPoint(0.5, Rate(0, 0), Rate(0, count)),
            dropped=tuple(one for row, one in names.items() if row in without),
            kept=tuple(one for row, one in names.items() if row not in without),
            warnings=draft.warnings,
            seconds=2.0,
        )


class TaughtModel(FakeModel):
    """The same under another name; it can show normal chips."""

    methods, copies = (*METHODS, INVERSE), (b"a small copy",)

    def __init__(self, name: str):
        super().__init__()
        self.info = replace(INFO, name=name, revision="taught", data=name, threshold=0.5)


def darkness(image: Image.Image) -> np.ndarray:
    """(GRID, GRID) float32, 0-1: how dark each part is; 0 for light gray."""
    gray = image.convert("L").resize((GRID, GRID), Image.Resampling.BOX)
    return np.clip(1.6 * (1 - np.asarray(gray, np.float32) / 255) - 0.5, 0, 1).astype(np.float32)
