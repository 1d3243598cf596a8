"""Image -> Inspection, over any engine."""

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
from chipdemo.vision.anomaly.matching import (
    ClassWeightMatching,
    InverseFeatureMatching,
    Match,
    Matching,
    score_of,
)
from chipdemo.vision.anomaly.nearest import patches_of
from chipdemo.vision.anomaly.stored import Normals, load_normals
from chipdemo.vision.cam import GRADIENT_METHODS, fixed_heat, strongest_channels
from chipdemo.vision.checkpoint import (
    HEAD,
    JUDGE_BY_MEMORY,
    MEMORY,
    ModelSpec,
    find_checkpoint,
    read_info,
    read_spec,
)
from chipdemo.vision.runtimes.engine import Engine, EngineOutput
from chipdemo.vision.runtimes.exported import NAMES, TORCH, chosen, engine_of
from chipdemo.vision.transforms import pixels_of

PATCHES = 3  # of normal chips, for a region
UNLIKE_SHARE = 0.5  # of all places: where so many are like no normal one, it is another thing altogether


class NetworkInspector:
    """The Inspector of a checkpoint. See chipdemo.inspection.Inspector for the contract.

    Its verdict comes from a trained ChipNet or from the memory of normal chips, as spec.verdict_by says.
    """

    def __init__(self, engine: Engine, spec: ModelSpec, info: ModelInfo, normals: Normals | None = None):
        """normals: what images are matched with, if anything; the engine was made with it too."""
        self.engine, self.spec, self.info, self.normals = engine, spec, info, normals
        self.matchings: dict[str, Matching] = {}
        if normals:
            self.matchings[INVERSE] = InverseFeatureMatching(normals)
        if spec.verdict_by == HEAD:
            attention = (CBAM,) if spec.attention == "cbam" else ()
            self.methods = (EVIDENCE, *attention, *self.matchings, CLASS_WEIGHTS, *GRADIENT_METHODS)
            self.matchings[CLASS_WEIGHTS] = ClassWeightMatching(spec.heat_scale)
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
        """Judge an upright 8-bit RGB image, at the model's own threshold unless given."""
        return self.inspect_batch([self.prepare(image)], threshold)[0]

    def prepare(self, image: Image.Image) -> Prepared:
        started = perf_counter()
        sha256, pixels = content_sha256(image), self._pixels(image)
        return Prepared(pixels, sha256, image.size, 1000 * (perf_counter() - started))

    def inspect_batch(self, images: Sequence[Prepared], threshold: float | None = None) -> list[Inspection]:
        started = perf_counter()
        output = self._run(np.stack([image.pixels for image in images]))
        network_ms = 1000 * (perf_counter() - started) / len(images)
        threshold = self.info.threshold if threshold is None else threshold
        return [
            self._inspection(image, output.of(index), network_ms, threshold)
            for index, image in enumerate(images)
        ]

    def _inspection(
        self, image: Prepared, output: EngineOutput, network_ms: float, threshold: float
    ) -> Inspection:
        """output: of this image alone, N = 1."""
        started = perf_counter()
        size = image.image_size
        log_odds, distance = self._judged(output, image.pixels)
        probability = float(1 / (1 + np.exp(-log_odds / self.spec.temperature)))
        verdict = judge(probability, threshold)
        heat = self._heat(output)
        if self.normals:
            match = self.matchings[INVERSE].match(output, image.pixels, verdict, size)
            heat[INVERSE] = match.heat
        by_memory = self.spec.verdict_by == JUDGE_BY_MEMORY
        regions = match.regions if by_memory else regions_of(heat[EVIDENCE], size)
        heat_ms = 1000 * (perf_counter() - started)
        return Inspection(
            verdict=verdict,
            abnormal_probability=probability,
            threshold=threshold,
            log_odds=log_odds,
            out_of_distribution=distance > 1,
            distance=distance,
            regions=regions,
            heat=heat,
            channels=strongest_channels(output),
            embedding=output.embedding[0],
            model_name=self.info.name,
            model_revision=self.info.revision,
            image_sha256=image.image_sha256,
            image_size=size,
            timing_ms={
                "hash and resize": image.prepared_ms,
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
            return self.engine.gradient_heat(self._pixels(image)[None], method)
        return self._heat(self._run(self._pixels(image)[None]))[method]

    def regions(self, image: Image.Image, method: str) -> tuple[Region, ...]:
        """See chipdemo.inspection.Inspector."""
        return self.match(image, method).regions

    def match(self, image: Image.Image, method: str = INVERSE) -> Match:
        """Heat and regions of a matching, at the model's own threshold. Raises ValueError if unknown."""
        if method not in self.matchings:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(self.matchings) or 'none'}")
        pixels = self._pixels(image)
        output = self._run(pixels[None])
        log_odds, _ = self._judged(output, pixels)
        verdict = judge(1 / (1 + np.exp(-log_odds / self.spec.temperature)), self.info.threshold)
        return self.matchings[method].match(output, pixels, verdict, image.size)

    def nearest_normals(
        self, image: Image.Image, regions: Sequence[Region]
    ) -> tuple[tuple[NormalPatch, ...], ...]:
        """See chipdemo.inspection.Inspector."""
        if self.normals is None:
            return ((),) * len(regions)
        memory = self.normals.memory
        nearest = memory.nearest(self.engine.run(self._pixels(image)[None]).places[0])
        found = memory.image[nearest], memory.place[nearest]
        return tuple(patches_of(self.normals, *found, one, image.size)[:PATCHES] for one in regions)

    def _run(self, pixels: np.ndarray) -> EngineOutput:
        """(N, size, size, 3) uint8 pixels -> what the engine gives, and each place against the memory."""
        output = self.engine.run(pixels)
        if self.normals is None:
            return output
        return output._replace(
            anomaly=np.stack([self.normals.memory.search(places) for places in output.places])
        )

    def _pixels(self, image: Image.Image) -> np.ndarray:
        """(size, size, 3) uint8."""
        return pixels_of(image, self.spec.image_size, self.spec.interpolation)

    def _judged(self, output: EngineOutput, pixels: np.ndarray) -> tuple[float, float]:
        """The log-odds of abnormal, and the distance from the training images in units of the limit."""
        if self.spec.verdict_by == HEAD:
            return float(output.log_odds[0]), float(output.distance[0]) / self.spec.distance_limit
        limits = self.normals.limits
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
    spec = read_spec(folder)
    info = replace(read_info(model, folder, spec), runtime=NAMES[runtime])
    taught = spec.verdict_by == JUDGE_BY_MEMORY or (folder / MEMORY).exists()
    normals = load_normals(folder) if taught else None
    engine = engine_of(folder, spec, info, normals, runtime, graphs)
    return NetworkInspector(engine, spec, info, normals)
