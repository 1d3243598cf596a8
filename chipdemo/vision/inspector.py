"""Photograph -> Inspection, over any engine."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np
from PIL import Image

from chipdemo.images import content_sha256
from chipdemo.inspection import Inspection, ModelInfo, Prepared, judge
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
        return self.inspect_batch([self.prepare(image)], threshold)[0]

    def prepare(self, image: Image.Image) -> Prepared:
        started = perf_counter()
        sha256, pixels = content_sha256(image), self._pixels(image)
        return Prepared(pixels, sha256, image.size, 1000 * (perf_counter() - started))

    def inspect_batch(
        self, photographs: Sequence[Prepared], threshold: float | None = None
    ) -> list[Inspection]:
        started = perf_counter()
        output = self.engine.run(np.stack([photograph.pixels for photograph in photographs]))
        network_ms = 1000 * (perf_counter() - started) / len(photographs)
        threshold = self.info.threshold if threshold is None else threshold
        return [
            self._inspection(photograph, output.of(index), network_ms, threshold)
            for index, photograph in enumerate(photographs)
        ]

    def _inspection(
        self, photograph: Prepared, output: EngineOutput, network_ms: float, threshold: float
    ) -> Inspection:
        """output: of this photograph alone, N = 1."""
        started = perf_counter()
        heat = self._heat(output)
        regions = regions_of(heat[EVIDENCE], photograph.image_size)
        attention = output.channel_attention
        channels = () if attention is None else strongest_channels(output.features[0], attention[0])
        heat_ms = 1000 * (perf_counter() - started)
        log_odds = float(output.log_odds[0])
        probability = float(1 / (1 + np.exp(-log_odds / self.spec.temperature)))
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
            image_sha256=photograph.image_sha256,
            image_size=photograph.image_size,
            timing_ms={
                "hash and resize": photograph.prepared_ms,
                "network": network_ms,
                "heat and regions": heat_ms,
            },
        )

    def explain(self, image: Image.Image, method: str) -> np.ndarray:
        """One heat map by the method's name: (h, w) float32, 0-1. Raises ValueError if unknown."""
        if method not in self.methods:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(self.methods)}")
        if method in GRADIENT_METHODS:
            features = self.engine.forward(self._pixels(image)[None]).features
            return gradient_heat(self.engine.net, features, method)
        return self._heat(self.engine.run(self._pixels(image)[None]))[method]

    def _pixels(self, image: Image.Image) -> np.ndarray:
        """(size, size, 3) uint8."""
        return pixels_of(image, self.spec.image_size, self.spec.interpolation)

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
