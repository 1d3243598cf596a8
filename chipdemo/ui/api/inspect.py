"""The API: what gradio_client sees, under names that stay."""

from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from chipdemo.errors import ChipDemoError
from chipdemo.files import Limits
from chipdemo.images import read_image
from chipdemo.judge import Judge
from chipdemo.settings import Settings
from chipdemo.threshold import checked_threshold
from chipdemo.ui.compare.logic import Lineup, answers
from chipdemo.ui.inspect import logic as inspecting
from chipdemo.ui.inspect.tab import MODEL_QUEUE
from chipdemo.ui.many import logic as many
from chipdemo.ui.many.logic import MANY_QUEUE, MOST
from chipdemo.ui.uploads import uploaded_files, uploaded_path

ABOUT = (
    "Judge an image of a chip. image: a PNG, JPEG, TIFF, BMP, WebP or GIF file. threshold: 0 to 1, the "
    "model's own unless given. tiles: look at a large image in overlapping tiles too, "
    "true unless given. Returns the inspection as JSON: verdict ('abnormal' where abnormal_probability, 0 to "
    "1 and calibrated, reaches threshold, otherwise 'normal'), out_of_distribution (true: too far from the "
    "model's training images to trust the verdict; distance says how far, 1 is the limit), regions that "
    "speak for abnormal (x, y, width, height and area in pixels of the upright image, score 0 to 1), "
    "model, image, tiles, timing_ms, and notes on how the file was read; and the image with overlay, "
    "boxes and color bar as a PNG file."
)
ABOUT_BATCH = (
    f"Judge up to {MOST:,} images. images: files as for /inspect, or zips of them. threshold: as there. "
    "Returns a list, an entry an image in their order: the inspection as JSON with file, label and "
    "error, the reason where one could not be read."
)
ABOUT_COMPARE = (
    "Judge an image by every model that is here: the one in use, and those of the shipped comparison "
    "whose checkpoints are on this machine. image: as for /inspect. Returns a list, an entry a model: id, "
    "name, and either inspection (as /inspect returns it) or error, the reason where it could not judge."
)


class App(gr.Blocks):
    """A gr.Blocks that fills in what a client does not send, since endpoints may get further inputs.

    gradio's clients ask for the defaults themselves; those that speak HTTP know the inputs of their day.
    """

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        inputs += [component.value for component in block_fn.inputs[len(inputs) :]]
        super().validate_inputs(block_fn, inputs)


def add_api(judge: Judge, lineup: Lineup, settings: Settings) -> None:
    """Add /inspect and /compare to the gr.Blocks around the call.

    Through components that are never shown, rather than gr.api: gr.api neither insists on gradio's
    mark on a file nor checks a plain path, so a client could name any file of this machine.
    """

    def inspect(
        image: dict[str, Any], threshold: float | None = None, tiles: bool = True
    ) -> tuple[dict[str, Any], str]:
        return answer(judge, image, threshold, settings.max_megapixels, tiles)

    def inspect_batch(images: list[dict[str, Any]], threshold: float | None = None) -> list[dict[str, Any]]:
        return answers_to_many(judge, images, threshold, settings.max_megapixels)

    def compare(image: dict[str, Any]) -> list[dict[str, Any]]:
        return compared(lineup, image, settings.max_megapixels)

    model_queue = {"concurrency_limit": settings.concurrency, "concurrency_id": MODEL_QUEUE}
    image = gr.File(visible=False, label="image")
    threshold = gr.Number(None, visible=False, label="threshold")
    images = gr.File(visible=False, label="images", file_count="multiple")
    result = gr.JSON(visible=False, label="inspection")
    overlay = gr.File(visible=False, label="overlay")
    gr.Button(visible=False).click(
        inspect,
        [image, threshold, gr.Checkbox(True, visible=False, label="tiles")],
        [result, overlay],
        api_name="inspect",
        api_description=ABOUT,
        preprocess=False,  # gr.File would leave an empty temporary file behind for each call
        **model_queue,
    )
    gr.Button(visible=False).click(
        inspect_batch,
        [images, threshold],
        gr.JSON(visible=False, label="inspections"),
        api_name="inspect_batch",
        api_description=ABOUT_BATCH,
        preprocess=False,
        concurrency_limit=1,
        concurrency_id=MANY_QUEUE,
    )
    gr.Button(visible=False).click(
        compare,
        gr.File(visible=False, label="image"),
        gr.JSON(visible=False, label="models"),
        api_name="compare",
        api_description=ABOUT_COMPARE,
        preprocess=False,
        **model_queue,
    )


def answer(
    judge: Judge,
    payload: dict[str, Any] | None,
    threshold: float | None,
    max_megapixels: float,
    tiles: bool = True,
) -> tuple[dict[str, Any], str]:
    """(the inspection's JSON with the reader's notes, path of the overlay's PNG).

    Raises gr.Error, whose text reaches the client.
    """
    model = judge.models.in_use
    try:
        threshold = model.info.threshold if threshold is None else checked_threshold(threshold)
        path = uploaded_path(payload)
        decoded = read_image(path, max_megapixels)
        inspection = judge.inspect(decoded, threshold=threshold, tiles=tiles, model=model)
    except ChipDemoError as error:
        raise gr.Error(str(error), print_exception=False) from error
    method, heat = inspection.method, inspection.heatmaps[inspection.method]
    overlay = inspecting.laid_over(decoded.image, heat, method, inspection.regions)
    name = inspecting.file_stem(path.name) + "-overlay.png"
    return (
        inspecting.inspection_json(inspection, decoded.notes),
        save_bytes_to_cache(overlay, name, get_upload_folder()),
    )


def answers_to_many(
    judge: Judge, payload: Any, threshold: float | None, max_megapixels: float
) -> list[dict[str, Any]]:
    """Each image's result, as batch.result_of makes it. Raises gr.Error where none can be judged."""
    model = judge.models.in_use
    try:
        threshold = model.info.threshold if threshold is None else checked_threshold(threshold)
        limits = Limits(megapixels=max_megapixels)
        *_, found = many.inspect_uploads(judge, model, uploaded_files(payload), threshold, limits)
    except ChipDemoError as error:
        raise gr.Error(str(error), print_exception=False) from error
    # gradio's client takes whatever has a path for a file to download
    return [{name: value for name, value in one.items() if name != "path"} for one in found.results]


def compared(lineup: Lineup, payload: dict[str, Any] | None, max_megapixels: float) -> list[dict[str, Any]]:
    """Each model's answer as JSON. Raises gr.Error where the image cannot be read."""
    try:
        decoded = read_image(uploaded_path(payload), max_megapixels)
    except ChipDemoError as error:
        raise gr.Error(str(error), print_exception=False) from error
    return [answer.to_json(decoded.notes) for answer in answers(lineup, decoded)]
