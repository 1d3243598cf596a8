"""The judging path: every part of Chip Inspector that judges an image calls the Judge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from chipdemo.images import MAX_MEGAPIXELS, REDUCING_GAP, DecodedImage, Source, read_image
from chipdemo.inspection import (
    COMPARABLE,
    Box,
    Explanation,
    Inspection,
    Model,
    NormalPatch,
    OtherModel,
    Prediction,
    Region,
    Tiles,
    verdict_of,
)
from chipdemo.models import Models
from chipdemo.regions import find_regions
from chipdemo.tiling import BATCH, is_large, spread, stitch, tile_around, tiles_for

if TYPE_CHECKING:
    from chipdemo.view import View

RESIZE_TILES = "resize tiles"  # a step of timing_ms
KNOWN = 0.5  # share of the tiles that have to be in distribution for the tiles to decide

Listener = Callable[[Inspection], None]


@dataclass(frozen=True)
class Candidate:
    """A model that may judge an image, with the image as its network gets it.

    tile_count: of the tiles that cover the image, if it is large; cells: they are the cells of a grid.
    tiles: each tile's box and its view, made when first asked for; none where the image is to be inspected
    as a whole.
    """

    model: Model
    view: "View"
    tile_count: int
    cells: bool
    tiles: "Callable[[], Sequence[tuple[Box, View]]]"


@dataclass(frozen=True)
class Prepared:
    """An image as the networks get it.

    methods: explanations wanted beside those that cost nothing. threshold: 0-1; None for the model's own.
    """

    candidates: tuple[Candidate, ...]
    image_sha256: str
    image_sha256_of: str
    image_size: tuple[int, int]
    timing_ms: dict[str, float]
    methods: tuple[str, ...]
    threshold: float | None = None

    @property
    def views(self) -> int:
        """Of the image and its tiles, at most: what it costs."""
        return max(1 + one.tile_count for one in self.candidates)

    def judged_by(self, inspection: Inspection) -> Candidate:
        """The candidate whose inspection this is."""
        model = inspection.model_name, inspection.model_revision
        return next(one for one in self.candidates if (one.model.info.name, one.model.info.revision) == model)


class Judge:
    """Judges and explains images. Safe to call from several threads.

    models: of the app. listeners: called once with every inspection.

    Of several models the one that knows an image best judges it: the one to whose training images it is
    nearest, in units of each model's own limit.
    A large image is also inspected in tiles. The most abnormal tile decides, or the image as a whole if
    that is more abnormal and in distribution; of a grid of cells, the most abnormal cell. Where most tiles
    are out of distribution, as pieces of a chip are to a model of whole chips, the whole decides alone;
    this is checked after the first BATCH of them.
    The figures of the validation split are for one view: of many tiles, more are flagged by mistake.
    """

    def __init__(self, models: Models, listeners: Sequence[Listener] = ()):
        self.models, self.listeners = models, tuple(listeners)

    def read(
        self,
        source: Source,
        max_megapixels: float = MAX_MEGAPIXELS,
        *,
        tiles: bool = True,
        models: Sequence[Model] = (),
    ) -> DecodedImage:
        """Read an image to inspect it, and nothing else, with these tiles and models.

        Of a large JPEG that is inspected as a whole, no more pixels are decoded than the models need.
        Raises the same errors as read_image.
        """
        models = models or self.models.every

        def least_side(size: tuple[int, int]) -> int:
            if tiles and any(is_large(size, model.info) for model in models):
                return 0
            return REDUCING_GAP * max(model.scaled_to for model in models)

        return read_image(source, max_megapixels, least_side)

    def inspect(
        self,
        image: DecodedImage,
        *,
        threshold: float | None = None,
        tiles: bool = True,
        models: Sequence[Model] = (),
        methods: Sequence[str] = (),
    ) -> Inspection:
        """Judge one image by one forward pass of each model, and one for each BATCH of tiles.

        threshold: 0-1, the model's own unless given. tiles: inspect a large image in tiles too.
        models: to choose from, instead of those of the app. methods: explanations of COMPARABLE wanted in
        heatmaps too, where the model offers them.
        """
        prepared = self.prepare(image, threshold=threshold, tiles=tiles, models=models, methods=methods)
        return self.inspect_batch([prepared])[0]

    def prepare(
        self,
        image: DecodedImage,
        *,
        threshold: float | None = None,
        tiles: bool = True,
        models: Sequence[Model] = (),
        methods: Sequence[str] = (),
    ) -> Prepared:
        """The part of inspect that needs no network, for threads that work ahead of it."""
        timing_ms = {"read the file": image.read_ms} if image.read_ms else {}
        started = perf_counter()
        candidates = [_candidate(image, model, tiles) for model in models or self.models.every]
        timing_ms["resize"] = _ms_since(started)
        if (
            len(candidates) == 1 and candidates[0].tile_count and tiles
        ):  # of several, one is asked for its tiles
            candidates[0].tiles()
            timing_ms[RESIZE_TILES] = _ms_since(started) - timing_ms["resize"]
        wanted = tuple(method for method in methods if method in COMPARABLE)
        identity = image.sha256, image.sha256_of, image.size
        return Prepared(tuple(candidates), *identity, timing_ms, wanted, threshold)

    def inspect_batch(self, images: Sequence[Prepared]) -> list[Inspection]:
        """Judge images that were prepared for the same models and methods; their whole views share a forward
        pass."""
        inspections = _judged(images)
        for inspection in inspections:
            for listener in self.listeners:
                listener(inspection)
        return inspections

    def inspect_each(self, images: Sequence[Prepared]) -> list[Inspection | Exception]:
        """As inspect_batch, but an error is that of the image it comes from; the others are judged."""
        try:
            return list(self.inspect_batch(images))
        except Exception as error:  # noqa: BLE001 - whatever the network raises
            if len(images) == 1:
                return [error]
            return [found for image in images for found in self.inspect_each([image])]

    def explain(self, image: DecodedImage, method: str, model: Model, *, tiles: bool = True) -> Explanation:
        """The heatmap and the regions of a method, as inspect gives them; no listener is called.

        Methods that stretch each map to its own maximum explain the whole image: their maps of tiles cannot
        be put together. Raises ValueError for a method that the model does not offer.
        """
        if method not in model.methods:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(model.methods)}")
        if method not in COMPARABLE:
            return Explanation(method, model.explain(model.prepare(image.image), method), ())
        prepared = self.prepare(image, tiles=tiles, models=[model], methods=[method])
        return explanation_of(_judged([prepared])[0], method)

    def nearest_normal_patches(
        self,
        image: DecodedImage,
        regions: Sequence[Region],
        model: Model,
        *,
        tiles: bool = True,
    ) -> tuple[tuple[NormalPatch, ...], ...]:
        """For each region, the patches of normal images that match it best, in the tile around it."""
        boxes = tiles_for(image, model.info).boxes if tiles else ()
        if not boxes:
            return model.nearest_normal_patches(image.image, regions)
        found = []
        for region in regions:
            left, top, right, bottom = box = tile_around(boxes, region)
            x, y = max(region.x, left), max(region.y, top)
            width, height = min(region.x + region.width, right) - x, min(region.y + region.height, bottom) - y
            inside = replace(region, x=x - left, y=y - top, width=width, height=height)
            found += model.nearest_normal_patches(image.image.crop(box), [inside])
        return tuple(found)


def explanation_of(inspection: Inspection, method: str) -> Explanation:
    """The explanation by a method whose heatmap the inspection holds. Raises KeyError where it does not."""
    heatmap = inspection.heatmaps[method]
    if method == inspection.method:
        return Explanation(method, heatmap, inspection.regions)
    in_tiles = bool(inspection.tiles and inspection.tiles.decide)
    return Explanation(method, heatmap, find_regions(heatmap, method, inspection.image_size, in_tiles))


def _candidate(image: DecodedImage, model: Model, tiles: bool) -> Candidate:
    boxes, cells = tiles_for(image, model.info)
    if boxes and tiles and image.reduced:
        raise ValueError("the image was read to be inspected as a whole, so it has no tiles")
    views = cache(partial(_tile_views, image.image, model, boxes if tiles else ()))
    return Candidate(model, model.prepare(image.image), len(boxes), cells, views)


def _tile_views(image: Image.Image, model: Model, boxes: Sequence[Box]) -> "tuple[tuple[Box, View], ...]":
    return tuple((box, model.prepare(image.crop(box))) for box in boxes)


def _judged(images: Sequence[Prepared]) -> list[Inspection]:
    started, by_model = perf_counter(), []
    for index, candidate in enumerate(images[0].candidates):
        views = [image.candidates[index].view for image in images]
        by_model.append(_predicted(candidate.model, views, images[0].methods))
    network_ms = _ms_since(started) / len(images)
    return [_inspection(*each, network_ms) for each in zip(images, zip(*by_model))]


def _predicted(model: Model, views: "Sequence[View]", methods: Sequence[str]) -> list[Prediction]:
    """Raises ValueError where a number is not finite: it would pass for normal."""
    predictions = model.predict(views, methods)
    for one in predictions:
        numbers = one.log_odds, one.distance, *one.heatmaps.values()
        if not all(np.isfinite(each).all() for each in numbers):
            raise ValueError(f"{model.info.name} gives numbers that are not finite")
    return predictions


def _inspection(image: Prepared, predictions: Sequence[Prediction], network_ms: float) -> Inspection:
    """By the candidate that knows the image best. predictions: of each candidate."""
    started = perf_counter()
    pairs = list(zip(image.candidates, predictions))
    candidate, prediction = best = min(pairs, key=lambda pair: pair[1].distance)
    others = [(one.model.info, found.distance) for one, found in (pair for pair in pairs if pair is not best)]
    info = candidate.model.info
    threshold = info.threshold if image.threshold is None else image.threshold
    method, heatmap = next(iter(prediction.heatmaps.items()))
    regions = find_regions(heatmap, method, image.image_size)
    whole = Inspection(
        verdict=verdict_of(prediction.abnormal_probability, threshold),
        abnormal_probability=prediction.abnormal_probability,
        threshold=threshold,
        log_odds=prediction.log_odds,
        out_of_distribution=prediction.out_of_distribution,
        distance=prediction.distance,
        regions=regions,
        heatmaps=prediction.heatmaps,
        channels=prediction.channels,
        embedding=prediction.embedding,
        model_name=info.name,
        model_revision=info.revision,
        image_sha256=image.image_sha256,
        image_sha256_of=image.image_sha256_of,
        image_size=image.image_size,
        timing_ms=image.timing_ms | {"network and heatmaps": network_ms, "regions": _ms_since(started)},
        other_models=tuple(OtherModel(one.name, one.revision, distance) for one, distance in others),
    )
    return _with_tiles(candidate, image.methods, whole, prediction)


def _with_tiles(
    candidate: Candidate, methods: Sequence[str], whole: Inspection, prediction: Prediction
) -> Inspection:
    """The inspection of the whole, or of its tiles where it has some and they decide."""
    if not candidate.tile_count:
        return whole
    resize_ms, started = whole.timing_ms.get(RESIZE_TILES, 0), perf_counter()
    whole_ms = sum(whole.timing_ms.values()) - resize_ms
    views = candidate.tiles()
    if not views:
        tile_ms = whole.timing_ms["network and heatmaps"] + whole.timing_ms["regions"]
        ms = candidate.tile_count * tile_ms
        tiles = Tiles(candidate.tile_count, 0, 0, False, ms, whole_ms, None, cells=candidate.cells)
        return replace(whole, tiles=tiles)
    tiles = _predicted_tiles(candidate.model, views, methods)
    unknown = sum(tile.out_of_distribution for _, tile in tiles)
    decide = unknown <= (1 - KNOWN) * len(tiles)
    with_whole = not (candidate.cells or whole.out_of_distribution)
    shown = [*tiles, *([((0, 0, *whole.image_size), prediction)] if with_whole else [])]
    joined = _joined(whole, shown) if decide else whole
    ms = _ms_since(started)
    timing_ms = whole.timing_ms | {f"{len(tiles):,} of {candidate.tile_count:,} tiles": ms}
    ms += resize_ms
    most_abnormal, _ = max(tiles, key=lambda tile: tile[1].abnormal_probability)
    worst = most_abnormal if decide else None
    found = Tiles(
        candidate.tile_count, len(tiles), unknown, decide, ms, whole_ms, whole, worst, candidate.cells
    )
    return replace(joined, tiles=found, timing_ms=timing_ms)


def _predicted_tiles(
    model: Model, views: "Sequence[tuple[Box, View]]", methods: Sequence[str]
) -> list[tuple[Box, Prediction]]:
    """The tiles in batches, the first spread over the image; no more where most are out of distribution."""
    predicted, tiles = [], spread(views)
    while len(predicted) < len(tiles):
        boxes, some = zip(*tiles[len(predicted) : len(predicted) + BATCH])
        predicted += zip(boxes, _predicted(model, some, methods))
        if sum(tile.out_of_distribution for _, tile in predicted) > (1 - KNOWN) * len(predicted):
            break
    return predicted


def _joined(whole: Inspection, views: Sequence[tuple[Box, Prediction]]) -> Inspection:
    """What the most abnormal of the views says, and what all of them show. views: each part with its box."""
    worst = max((view for _, view in views), key=lambda view: view.abnormal_probability)
    heatmaps = {
        method: stitch(whole.image_size, [(box, view.heatmaps[method]) for box, view in views])
        for method in whole.heatmaps
    }
    return replace(
        whole,
        verdict=verdict_of(worst.abnormal_probability, whole.threshold),
        abnormal_probability=worst.abnormal_probability,
        log_odds=worst.log_odds,
        out_of_distribution=worst.out_of_distribution,
        distance=worst.distance,
        regions=find_regions(heatmaps[whole.method], whole.method, whole.image_size, in_tiles=True),
        heatmaps=heatmaps,
    )


def _ms_since(started: float) -> float:
    return 1000 * (perf_counter() - started)
