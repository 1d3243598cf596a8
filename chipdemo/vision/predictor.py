"""A checkpoint as a Model: pixels in; probabilities, heatmaps and distances out, over any runtime."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from chipdemo.errors import TargetError
from chipdemo.examples import ExampleSet, examples_of
from chipdemo.inspection import (
    ABNORMAL,
    CAM,
    CAM_OF_FLIPS,
    CBAM,
    CLASS_WEIGHTS,
    INVERSE,
    INVERSE_CAM,
    ModelInfo,
    NormalPatch,
    Prediction,
    Region,
    verdict_of,
)
from chipdemo.settings import FLOAT32
from chipdemo.threshold import Target
from chipdemo.view import View
from chipdemo.vision.anomaly.alignment import Alignment
from chipdemo.vision.anomaly.anomaly_model import AnomalyModel, load_anomaly_model
from chipdemo.vision.anomaly.matching import (
    black_patches,
    class_weight_heatmap,
    inverse_heatmap,
)
from chipdemo.vision.anomaly.nearest import nearest_patches
from chipdemo.vision.cam import GRADIENT_METHODS, fixed_scale_heatmap, strongest_channels
from chipdemo.vision.checkpoint import (
    HEAD,
    JUDGE_BY_MEMORY,
    MEMORY,
    ModelSpec,
    find_checkpoint,
    read_info,
    read_metrics,
    read_spec,
)
from chipdemo.vision.runtimes.engine import Engine, EngineOutput
from chipdemo.vision.runtimes.load import engine_of
from chipdemo.vision.runtimes.precision import MEASURED, chosen_precision
from chipdemo.vision.runtimes.select import NAMES, TORCH, chosen

log = logging.getLogger(__name__)

SHOWN_PATCHES = 3  # of normal images, for a region
OOD_SHARE = 0.5  # an image is out of distribution where this share of its patches is anomalous


class NetworkModel:
    """The Model of a checkpoint. See chipdemo.inspection.Model for the contract.

    Its verdict comes from a trained ChipNet or from a memory bank, as spec.verdict_by says.
    """

    def __init__(
        self,
        engine: Engine,
        spec: ModelSpec,
        info: ModelInfo,
        anomaly_model: AnomalyModel | None = None,
        examples: ExampleSet | None = None,
    ):
        """anomaly_model: with the memory bank, if there is one; the engine was made with it too."""
        self.examples = examples
        self.engine, self.spec, self.info, self.anomaly_model = engine, spec, info, anomaly_model
        self.alignment = anomaly_model.alignment if anomaly_model else Alignment()
        self.copies = anomaly_model.thumbnails if anomaly_model else ()
        self.scaled_to = self.alignment.scaled_to(spec)
        if spec.verdict_by == HEAD:
            attention = (CBAM,) if spec.attention == "cbam" else ()
            inverse, both = ((INVERSE,), (INVERSE_CAM,)) if anomaly_model else ((), ())
            self.methods = (CAM, *attention, *inverse, CAM_OF_FLIPS, CLASS_WEIGHTS, *GRADIENT_METHODS, *both)
        else:
            self.methods = (INVERSE,)

    def prepare(self, image: Image.Image) -> View:
        """See Model."""
        return self.alignment.view(image, self.spec)

    def predict(self, views: Sequence[View], methods: Sequence[str] = ()) -> list[Prediction]:
        """See Model."""
        if self.alignment.windows:
            return [self._prediction(self._in_windows(view), view, methods) for view in views]
        pixels = np.stack([view.pixels for view in views])
        output = self.engine.run(pixels, patches=self._needs_patches(methods))
        found = [self._prediction(output.of(row), view, methods) for row, view in enumerate(views)]
        if CAM_OF_FLIPS in methods and CAM_OF_FLIPS in self.methods:
            for prediction, cam in zip(found, self._cams_of_flips(pixels, output.cam)):
                prediction.heatmaps[CAM_OF_FLIPS] = fixed_scale_heatmap(cam, self.spec.heat_scale)
        return found

    def explain(self, view: View, method: str) -> np.ndarray:
        """See Model."""
        if method not in GRADIENT_METHODS or method not in self.methods:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(GRADIENT_METHODS)}")
        return self.engine.gradient_heat(view.pixels[None], method)

    def nearest_normal_patches(
        self, image: Image.Image, regions: Sequence[Region]
    ) -> tuple[tuple[NormalPatch, ...], ...]:
        """See Model."""
        if self.anomaly_model is None:
            return ((),) * len(regions)
        bank, view = self.anomaly_model.memory_bank, self.prepare(image)
        nearest = bank.nearest(self.patches(view))
        found = bank.image[nearest], bank.position[nearest]
        return tuple(
            nearest_patches(self.anomaly_model, *found, region, view)[:SHOWN_PATCHES] for region in regions
        )

    def anomaly_map(self, view: View) -> np.ndarray:
        """(h, w) float32: standard deviations above normal of each patch of a view, by the memory bank."""
        return self._anomaly(self._output(view), view)

    def patches(self, view: View) -> np.ndarray:
        """(h, w, D) float32, from describe_patches, of a model with a memory bank."""
        return self._output(view).patches[0]

    def _output(self, view: View) -> EngineOutput:
        """Of one view, N = 1."""
        return self._in_windows(view) if self.alignment.windows else self.engine.run(view.pixels[None])

    def _in_windows(self, view: View) -> EngineOutput:
        """Of one view, N = 1: the patches of all its windows, and the mean of their embeddings."""
        outputs = []

        def network(pixels: np.ndarray) -> tuple[np.ndarray]:
            outputs.append(self.engine.run(pixels))
            return (outputs[-1].patches,)

        (patches,) = self.alignment.windows.run(view, network)
        embedding = np.concatenate([output.embedding for output in outputs]).mean(0, keepdims=True)
        return EngineOutput(embedding=embedding, patches=patches[None])

    def _cams_of_flips(self, pixels: np.ndarray, cams: np.ndarray) -> np.ndarray:
        """Mean CAM of each image and its mirror images: what the network adds at one side averages out.

        pixels: (N, size, size, 3) uint8. cams: (N, h, w), of the images as they are. Returns (N, h, w).
        """
        flips = [cams]
        for axes in ((1,), (2,), (1, 2)):
            flips.append(np.flip(self.engine.run(np.flip(pixels, axes), patches=False).cam, axes))
        return np.mean(flips, 0)

    def _prediction(self, output: EngineOutput, view: View, methods: Sequence[str]) -> Prediction:
        """output: of one image, N = 1."""
        anomaly = self._anomaly(output, view) if self._needs_patches(methods) else None
        log_odds, distance = self._judged(output, anomaly)
        probability = float(1 / (1 + np.exp(-log_odds / self.spec.temperature)))
        return Prediction(
            abnormal_probability=probability,
            log_odds=log_odds,
            distance=distance,
            heatmaps=self._heatmaps(output, view, anomaly, probability, methods),
            channels=strongest_channels(output),
            embedding=output.embedding[0],
        )

    def _needs_patches(self, methods: Sequence[str]) -> bool:
        """Whether the memory bank is to be searched, which takes as long as a small network."""
        asked = self.spec.verdict_by != HEAD or INVERSE in methods or INVERSE_CAM in methods
        return asked and self.anomaly_model is not None

    def _anomaly(self, output: EngineOutput, view: View) -> np.ndarray:
        """(h, w): how little each patch is like the memory bank, in standard deviations above normal."""
        patches = output.patches[0]
        grid = patches.shape[:2]
        return self.anomaly_model.anomaly_map(patches, black_patches(view.pixels, grid), view.inside(grid))

    def _judged(self, output: EngineOutput, anomaly: np.ndarray | None) -> tuple[float, float]:
        """The log-odds of abnormal, and the distance from the training images in units of the limit."""
        if self.spec.verdict_by == HEAD:
            return float(output.log_odds[0]), float(output.distance[0]) / self.spec.distance_limit
        limits = self.anomaly_model.limits
        log_odds = (self.anomaly_model.score(anomaly) - limits.score) / limits.spread
        return log_odds, float(np.quantile(anomaly, 1 - OOD_SHARE)) / limits.heat

    def _heatmaps(
        self,
        output: EngineOutput,
        view: View,
        anomaly: np.ndarray | None,
        probability: float,
        methods: Sequence[str],
    ) -> dict[str, np.ndarray]:
        """By method, (h, w) float32, 0-1: those that cost nothing, and those of `methods`."""
        heatmaps = {}
        if self.spec.verdict_by == HEAD:
            heatmaps[CAM] = fixed_scale_heatmap(output.cam[0], self.spec.heat_scale)
            if output.spatial_attention is not None:
                heatmaps[CBAM] = output.spatial_attention[0]
        if anomaly is not None:
            heatmaps[INVERSE] = view.on_image(inverse_heatmap(anomaly, self.anomaly_model.limits.heat))
        if CLASS_WEIGHTS in methods and CLASS_WEIGHTS in self.methods:
            heatmaps[CLASS_WEIGHTS] = class_weight_heatmap(output, view.pixels, self.spec.heat_scale)
            if verdict_of(probability, self.info.threshold) != ABNORMAL:
                heatmaps[CLASS_WEIGHTS] = np.zeros_like(heatmaps[CLASS_WEIGHTS])
        if INVERSE_CAM in methods and INVERSE_CAM in self.methods:
            heatmaps[INVERSE_CAM] = inverse_heatmap(anomaly, self.anomaly_model.limits.heat, heatmaps[CAM])
        return heatmaps


def load_model(
    source: str,
    revision: str | None = None,
    runtime: str = TORCH,
    graphs: Path | None = None,
    target: Target | None = None,
    must_promise: bool = True,
    precision: str = FLOAT32,
) -> NetworkModel:
    """The model of a checkpoint folder or Hub id, there of a commit.

    runtime: one of settings.RUNTIMES. graphs: a folder that keeps exported networks for the next start.
    target: what the threshold has to promise, instead of the model's own threshold. must_promise: otherwise
    a model without the images for that keeps its own. precision: one of settings.PRECISIONS.
    Raises CheckpointError, SettingsError, TargetError.
    """
    runtime = chosen(runtime)
    folder = find_checkpoint(source, revision)
    spec = read_spec(folder)
    precision = chosen_precision(precision, runtime, read_metrics(folder).get(MEASURED))
    runs_on = f"{NAMES[runtime]}, {precision}" if precision != FLOAT32 else NAMES[runtime]
    info = replace(read_info(source, folder, spec), runtime=runs_on)
    if target:
        info = _promising(info, target, must_promise)
    taught = spec.verdict_by == JUDGE_BY_MEMORY or (folder / MEMORY).exists()
    anomaly_model = load_anomaly_model(folder) if taught else None
    engine = engine_of(folder, spec, info, anomaly_model, runtime, graphs, precision)
    return NetworkModel(engine, spec, info, anomaly_model, examples_of(folder, info.name))


def _promising(info: ModelInfo, target: Target, must_promise: bool) -> ModelInfo:
    """With the threshold that keeps a promise. Raises TargetError."""
    try:
        return replace(info, threshold=info.validation.threshold_for(target), target=target)
    except TargetError as error:
        if must_promise:
            raise
        log.warning("%s keeps its own threshold: %s", info.name, error)
        return info
