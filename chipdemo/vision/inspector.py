"""Photograph -> Inspection, over any engine."""

from time import perf_counter

import numpy as np
from PIL import Image

from chipdemo.images import content_sha256
from chipdemo.inspection import Inspection, ModelInfo, judge
from chipdemo.vision.checkpoint import ModelSpec, load_checkpoint
from chipdemo.vision.engine import EngineOutput, TorchEngine
from chipdemo.vision.explain import (
    GRADIENT_METHODS,
    fixed_heat,
    gradient_heat,
    regions_of,
    strongest_channels,
)
from chipdemo.vision.transforms import pixels_of

EVIDENCE, CBAM = "evidence", "CBAM"


class NetworkInspector:
    """The Inspector of a trained ChipNet. See chipdemo.inspection.Inspector for the contract."""

    def __init__(self, engine: TorchEngine, spec: ModelSpec, info: ModelInfo):
        self.engine, self.spec, self.info = engine, spec, info
        attention = (CBAM,) if spec.attention == "cbam" else ()
        self.methods = (EVIDENCE, *attention, *GRADIENT_METHODS)

    def current(self) -> "NetworkInspector":
        return self

    def inspect(self, image: Image.Image, threshold: float | None = None) -> Inspection:
        """Judge an upright 8-bit RGB photograph, at the model's own threshold unless given."""
        times = [perf_counter()]
        sha256 = content_sha256(image)
        pixels = self._pixels(image)
        times.append(perf_counter())
        output = self.engine.run(pixels)
        times.append(perf_counter())
        heat = self._heat(output)
        regions = regions_of(heat[EVIDENCE], image.size)
        attention = output.channel_attention
        channels = () if attention is None else strongest_channels(output.features[0], attention[0])
        times.append(perf_counter())
        steps = zip(("hash and resize", "network", "heat and regions"), np.diff(times) * 1000)
        log_odds = float(output.log_odds[0])
        probability = float(1 / (1 + np.exp(-log_odds / self.spec.temperature)))
        threshold = self.info.threshold if threshold is None else threshold
        distance = float(output.distance[0]) / self.spec.distance_limit
        return Inspection(
            verdict=judge(probability, threshold),
            abnormal_probability=probability,
            threshold=threshold,
            log_odds=log_odds,
            unlike_training=distance > 1,
            distance=distance,
            regions=regions,
            heat=heat,
            channels=channels,
            embedding=output.features[0].mean((1, 2)),  # (C, h, w) -> (C,), as the head pools
            model_name=self.info.name,
            model_revision=self.info.revision,
            image_sha256=sha256,
            image_size=image.size,
            timing_ms={step: float(ms) for step, ms in steps},
        )

    def explain(self, image: Image.Image, method: str) -> np.ndarray:
        """One heat map by the method's name: (h, w) float32, 0-1. Raises ValueError if unknown."""
        if method not in self.methods:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(self.methods)}")
        if method in GRADIENT_METHODS:
            features = self.engine.forward(self._pixels(image)).features
            return gradient_heat(self.engine.net, features, method)
        return self._heat(self.engine.run(self._pixels(image)))[method]

    def _pixels(self, image: Image.Image) -> np.ndarray:
        """(1, size, size, 3) uint8."""
        return pixels_of(image, self.spec.image_size, self.spec.interpolation)[None]

    def _heat(self, output: EngineOutput) -> dict[str, np.ndarray]:
        """The maps that cost nothing, by name: (h, w) float32, 0-1."""
        heat = {EVIDENCE: fixed_heat(output.evidence[0], self.spec.heat_scale)}
        if output.spatial_attention is not None:
            heat[CBAM] = output.spatial_attention[0]
        return heat


def load_inspector(model: str, revision: str | None = None) -> NetworkInspector:
    """The inspector of a checkpoint folder or Hub id, there of a commit. Raises CheckpointError."""
    net, spec, info = load_checkpoint(model, revision)
    return NetworkInspector(TorchEngine(net, spec), spec, info)
