"""Photograph -> Inspection, over any engine."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image

from chipdemo.images import content_sha256
from chipdemo.inspection import (
    CBAM,
    CLASS_WEIGHTS,
    EVIDENCE,
    INVERSE,
    INVERSE_EVIDENCE,
    Inspection,
    ModelInfo,
    NormalPatch,
    Prepared,
    Region,
    judge,
)
from chipdemo.regions import regions_of
from chipdemo.vision.checkpoint import (
    HEAD,
    JUDGE_BY_MEMORY,
    MEMORY,
    ModelSpec,
    find_checkpoint,
    load_checkpoint,
)
from chipdemo.vision.engine import EngineOutput, TorchEngine
from chipdemo.vision.explain import (
    GRADIENT_METHODS,
    fixed_heat,
    gradient_heat,
    strongest_channels,
)
from chipdemo.vision.matching import (
    ClassWeightMatching,
    InverseFeatureMatching,
    Match,
    Matching,
    score_of,
)
from chipdemo.vision.nearest import patches_of
from chipdemo.vision.normals import load_normals
from chipdemo.vision.runtimes import NAMES, TORCH, chosen, engine_of
from chipdemo.vision.transforms import pixels_of

PATCHES = 3  # of normal chips, for a region
UNLIKE_SHARE = 0.5  # of all places: where so many are like no normal one, it is another thing altogether


class NetworkInspector:
    """The Inspector of a checkpoint. See chipdemo.inspection.Inspector for the contract.

    Its verdict comes from a trained ChipNet or from the memory of normal chips, as spec.verdict_by says.
    """

    def __init__(self, engine: TorchEngine, spec: ModelSpec, info: ModelInfo):
        self.engine, self.spec, self.info = engine, spec, info
        normals, head = engine.normals, engine.net.head
        self.matchings: dict[str, Matching] = {}
        if normals:
            self.matchings[INVERSE] = InverseFeatureMatching(normals)
        if spec.verdict_by == HEAD:
            attention = (CBAM,) if spec.attention == "cbam" else ()
            self.methods = (EVIDENCE, *attention, *self.matchings, CLASS_WEIGHTS, *GRADIENT_METHODS)
            self.matchings[CLASS_WEIGHTS] = ClassWeightMatching(head.weight[1].cpu().numpy(), spec.heat_scale)
            if normals:
                self.matchings[INVERSE_EVIDENCE] = InverseFeatureMatching(normals, spec.heat_scale)
                self.methods += (INVERSE_EVIDENCE,)
        else:
            self.methods = (INVERSE,)

    def current(self) -> "NetworkInspector":
        return self

    @property
    def whole(self) -> "NetworkInspector":
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
        size = photograph.image_size
        log_odds, distance = self._judged(output, photograph.pixels)
        probability = float(1 / (1 + np.exp(-log_odds / self.spec.temperature)))
        verdict = judge(probability, threshold)
        heat = self._heat(output)
        if self.engine.normals:
            match = self.matchings[INVERSE].match(output, photograph.pixels, verdict, size)
            heat[INVERSE] = match.heat
        by_memory = self.spec.verdict_by == JUDGE_BY_MEMORY
        regions = match.regions if by_memory else regions_of(heat[EVIDENCE], size)
        attention = output.channel_attention
        channels = () if attention is None else strongest_channels(output.features[0], attention[0])
        heat_ms = 1000 * (perf_counter() - started)
        return Inspection(
            verdict=verdict,
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
            image_size=size,
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
        if method in self.matchings:
            return self.match(image, method).heat
        if method in GRADIENT_METHODS:
            features = self.engine.forward(self._pixels(image)[None]).features
            return gradient_heat(self.engine.net, features, method)
        return self._heat(self.engine.run(self._pixels(image)[None]))[method]

    def regions(self, image: Image.Image, method: str) -> tuple[Region, ...]:
        """See chipdemo.inspection.Inspector."""
        return self.match(image, method).regions

    def match(self, image: Image.Image, method: str = INVERSE) -> Match:
        """Heat and regions of a matching, at the model's own threshold. Raises ValueError if unknown."""
        if method not in self.matchings:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(self.matchings) or 'none'}")
        pixels = self._pixels(image)
        output = self.engine.run(pixels[None])
        log_odds, _ = self._judged(output, pixels)
        verdict = judge(1 / (1 + np.exp(-log_odds / self.spec.temperature)), self.info.threshold)
        return self.matchings[method].match(output, pixels, verdict, image.size)

    def nearest_normals(
        self, image: Image.Image, regions: Sequence[Region]
    ) -> tuple[tuple[NormalPatch, ...], ...]:
        """See chipdemo.inspection.Inspector."""
        if self.engine.normals is None:
            return ((),) * len(regions)
        found = self.engine.nearest(self._pixels(image)[None])
        return tuple(patches_of(self.engine.normals, *found, one, image.size)[:PATCHES] for one in regions)

    def _pixels(self, image: Image.Image) -> np.ndarray:
        """(size, size, 3) uint8."""
        return pixels_of(image, self.spec.image_size, self.spec.interpolation)

    def _judged(self, output: EngineOutput, pixels: np.ndarray) -> tuple[float, float]:
        """The log-odds of abnormal, and the distance from the training photographs in units of the limit."""
        if self.spec.verdict_by == HEAD:
            return float(output.log_odds[0]), float(output.distance[0]) / self.spec.distance_limit
        limits = self.engine.normals.limits
        anomaly = self.matchings[INVERSE].anomaly(output, pixels)
        log_odds = (score_of(anomaly) - limits.score) / limits.spread
        return log_odds, float(np.quantile(anomaly, 1 - UNLIKE_SHARE)) / limits.heat

    def _heat(self, output: EngineOutput) -> dict[str, np.ndarray]:
        """The head's maps that cost nothing, by name: (h, w) float32, 0-1."""
        if self.spec.verdict_by != HEAD:
            return {}
        heat = {EVIDENCE: fixed_heat(output.evidence[0], self.spec.heat_scale)}
        if output.spatial_attention is not None:
            heat[CBAM] = output.spatial_attention[0]
        return heat


def load_inspector(
    model: str, revision: str | None = None, runtime: str = TORCH, graphs: Path | None = None
) -> NetworkInspector:
    """The inspector of a checkpoint folder or Hub id, there of a commit.

    runtime: one of settings.RUNTIMES. graphs: a folder that keeps exported networks for the next start.
    Raises CheckpointError, SettingsError.
    """
    runtime = chosen(runtime)
    folder = find_checkpoint(model, revision)
    net, spec, info = load_checkpoint(folder, name=model)
    taught = spec.verdict_by == JUDGE_BY_MEMORY or (folder / MEMORY).exists()
    normals = load_normals(folder) if taught else None
    engine = engine_of(net, spec, info, normals, runtime, graphs)
    return NetworkInspector(engine, spec, replace(info, runtime=NAMES[runtime]))
