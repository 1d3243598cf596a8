"""The judging path: every part of Chip Inspector that judges an image calls the Judge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

from chipdemo.images import DecodedImage
from chipdemo.inspection import (
    COMPARABLE,
    Box,
    Explanation,
    Inspection,
    Model,
    NormalPatch,
    Prediction,
    Region,
    Tiles,
    verdict_of,
)
from chipdemo.models import Models
from chipdemo.regions import find_regions
from chipdemo.tiling import BATCH, spread, stitch, tile_around, tiles_for

if TYPE_CHECKING:
    from chipdemo.view import View

KNOWN = 0.5  # share of the tiles that have to be in distribution for the tiles to decide

Listener = Callable[[Inspection], None]


@dataclass(frozen=True)
class Prepared:
    """An image as the network gets it, with the model that is to judge it.

    tiles: each tile's box and its view, where the image is to be inspected in tiles too; tile_count: how
    many there are or would be; cells: they are the cells of a grid. methods: explanations wanted beside
    those that cost nothing.
    """

    model: Model
    view: "View"
    image_sha256: str
    timing_ms: dict[str, float]
    tiles: "tuple[tuple[Box, View], ...]"
    tile_count: int
    cells: bool
    methods: tuple[str, ...]


class Judge:
    """Judges and explains images. Safe to call from several threads.

    models: which model is in use. listeners: called once with every inspection.

    A large image is also inspected in tiles. The most abnormal tile decides, or the image as a whole if
    that is more abnormal and in distribution; of a grid of cells, the most abnormal cell. Where most tiles
    are out of distribution, as pieces of a chip are to a model of whole chips, the whole decides alone;
    this is checked after the first BATCH of them.
    The figures of the validation split are for one view: of many tiles, more are flagged by mistake.
    """

    def __init__(self, models: Models, listeners: Sequence[Listener] = ()):
        self.models, self.listeners = models, tuple(listeners)

    def inspect(
        self,
        image: DecodedImage,
        *,
        threshold: float | None = None,
        tiles: bool = True,
        model: Model | None = None,
        methods: Sequence[str] = (),
    ) -> Inspection:
        """Judge one image by one forward pass, and one for each BATCH of tiles.

        threshold: 0-1, the model's own unless given. tiles: inspect a large image in tiles too.
        model: instead of the one in use. methods: explanations of COMPARABLE wanted in heatmaps too.
        """
        prepared = self.prepare(image, tiles=tiles, model=model, methods=methods)
        return self.inspect_batch([prepared], threshold=threshold)[0]

    def prepare(
        self,
        image: DecodedImage,
        *,
        tiles: bool = True,
        model: Model | None = None,
        methods: Sequence[str] = (),
    ) -> Prepared:
        """The part of inspect that needs no network, for threads that work ahead of it."""
        model = model or self.models.in_use
        started = perf_counter()
        view = model.prepare(image.image)
        timing_ms = {"read the file": image.read_ms} if image.read_ms else {}
        timing_ms["resize"] = _ms_since(started)
        boxes, cells = tiles_for(image.image, model.info)
        wanted = [(box, model.prepare(image.image.crop(box))) for box in boxes if tiles]
        if wanted:
            timing_ms["resize tiles"] = _ms_since(started) - timing_ms["resize"]
        return Prepared(
            model,
            view,
            image.sha256,
            timing_ms,
            tuple(wanted),
            len(boxes),
            cells,
            tuple(method for method in methods if method in COMPARABLE),
        )

    def inspect_batch(
        self, images: Sequence[Prepared], *, threshold: float | None = None
    ) -> list[Inspection]:
        """Judge images that were prepared with the same model; their whole views share a forward pass."""
        inspections = _judged(images, images[0].model.info.threshold if threshold is None else threshold)
        for inspection in inspections:
            for listener in self.listeners:
                listener(inspection)
        return inspections

    def explain(
        self, image: DecodedImage, method: str, *, tiles: bool = True, model: Model | None = None
    ) -> Explanation:
        """The heatmap and the regions of a method, as inspect gives them; no listener is called.

        Methods that stretch each map to its own maximum explain the whole image: their maps of tiles cannot
        be put together. Raises ValueError for a method that the model does not offer.
        """
        model = model or self.models.in_use
        if method not in model.methods:
            raise ValueError(f"method is {method!r}; choose one of {', '.join(model.methods)}")
        if method not in COMPARABLE:
            return Explanation(method, model.explain(model.prepare(image.image), method), ())
        prepared = self.prepare(image, tiles=tiles, model=model, methods=[method])
        return explanation_of(_judged([prepared], model.info.threshold)[0], method)

    def nearest_normal_patches(
        self,
        image: DecodedImage,
        regions: Sequence[Region],
        *,
        tiles: bool = True,
        model: Model | None = None,
    ) -> tuple[tuple[NormalPatch, ...], ...]:
        """For each region, the patches of normal images that match it best, in the tile around it."""
        model = model or self.models.in_use
        boxes = tiles_for(image.image, model.info).boxes if tiles else ()
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


def _judged(images: Sequence[Prepared], threshold: float) -> list[Inspection]:
    model, methods = images[0].model, images[0].methods
    started = perf_counter()
    predictions = model.predict([image.view for image in images], methods)
    network_ms = _ms_since(started) / len(images)
    wholes = [_inspection(*each, threshold, network_ms) for each in zip(images, predictions)]
    return [_with_tiles(*each) for each in zip(images, wholes, predictions)]


def _inspection(image: Prepared, prediction: Prediction, threshold: float, network_ms: float) -> Inspection:
    started = perf_counter()
    method, heatmap = next(iter(prediction.heatmaps.items()))
    regions = find_regions(heatmap, method, image.view.image_size)
    return Inspection(
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
        model_name=image.model.info.name,
        model_revision=image.model.info.revision,
        image_sha256=image.image_sha256,
        image_size=image.view.image_size,
        timing_ms=image.timing_ms | {"network and heatmaps": network_ms, "regions": _ms_since(started)},
    )


def _with_tiles(image: Prepared, whole: Inspection, prediction: Prediction) -> Inspection:
    """The inspection of the whole, or of its tiles where it has some and they decide."""
    if not image.tile_count:
        return whole
    whole_ms = sum(ms for step, ms in whole.timing_ms.items() if step != "resize tiles")
    if not image.tiles:
        tile_ms = whole.timing_ms["network and heatmaps"] + whole.timing_ms["regions"]
        ms = image.tile_count * tile_ms
        tiles = Tiles(image.tile_count, 0, 0, False, ms, whole_ms, None, cells=image.cells)
        return replace(whole, tiles=tiles)
    started = perf_counter()
    tiles = _predicted_tiles(image)
    unknown = sum(tile.out_of_distribution for _, tile in tiles)
    decide = unknown <= (1 - KNOWN) * len(tiles)
    with_whole = not (image.cells or whole.out_of_distribution)
    views = [*tiles, *([((0, 0, *whole.image_size), prediction)] if with_whole else [])]
    joined = _joined(whole, views) if decide else whole
    ms = _ms_since(started)
    timing_ms = whole.timing_ms | {f"{len(tiles):,} of {image.tile_count:,} tiles": ms}
    ms += image.timing_ms["resize tiles"]
    most_abnormal, _ = max(tiles, key=lambda tile: tile[1].abnormal_probability)
    worst = most_abnormal if decide else None
    found = Tiles(image.tile_count, len(tiles), unknown, decide, ms, whole_ms, whole, worst, image.cells)
    return replace(joined, tiles=found, timing_ms=timing_ms)


def _predicted_tiles(image: Prepared) -> list[tuple[Box, Prediction]]:
    """The tiles in batches, the first spread over the image; no more where most are out of distribution."""
    predicted, tiles = [], spread(image.tiles) if image.tiles else []
    while len(predicted) < len(tiles):
        boxes, views = zip(*tiles[len(predicted) : len(predicted) + BATCH])
        predicted += zip(boxes, image.model.predict(views, image.methods))
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
