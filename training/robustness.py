"""How often a model's verdict flips under a change that no inspector would notice.

Every change is made to the image as it was decoded, before the usual preprocessing, and is the same in
every call. Hendrycks and Dietterich, ICLR 2019, measure classifiers under such changes on ImageNet.
"""

import math
from collections.abc import Callable, Collection, Iterator
from io import BytesIO
from itertools import chain, islice
from zlib import crc32

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy.special import expit
from scipy.stats import binomtest

from chipdemo.errors import DataError, ImageError
from chipdemo.files import in_parallel
from chipdemo.images import Source, read_image
from chipdemo.inspection import ABNORMAL
from chipdemo.vision.checkpoint import ModelSpec
from chipdemo.vision.model import ChipNet
from chipdemo.vision.transforms import pixels_of
from training.data import LabeledData, Sample, sources_of
from training.measure import auroc
from training.predict import BATCH_SIZE, predict
from training.uncertainty import RESAMPLES, interval, resampled

NOISE = 4  # gray levels of 255, standard deviation
SHIFT = 0.02  # of the longer side: 6 of 300 pixels
CROP = 0.05  # of each side, half of it at each edge
ROTATION = 2  # degrees
RESIZE = 5 / 6  # of each side: 250 of 300 pixels
BLUR = 0.7  # pixels, standard deviation
CARD_TITLE = "Robustness"  # of its section in the model card

Change = Callable[[Image.Image], Image.Image]


def rotate(image: Image.Image) -> Image.Image:
    """By ROTATION; the edge pixels are repeated where the image ends, so that no corner turns black."""
    margin = math.ceil(max(image.size) * math.sin(math.radians(ROTATION)))
    return ImageOps.crop(_widened(image, margin).rotate(ROTATION, Image.Resampling.BICUBIC), margin)


def shift(image: Image.Image) -> Image.Image:
    """To the right and down by SHIFT; the edge pixels are repeated."""
    offset = max(round(SHIFT * max(image.size)), 1)
    return _widened(image, offset).crop((0, 0, *image.size))


def _widened(image: Image.Image, margin: int) -> Image.Image:
    return Image.fromarray(np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), "edge"))


def crop(image: Image.Image) -> Image.Image:
    """Without CROP of its width and height."""
    width, height = image.size
    across, down = round(CROP / 2 * width), round(CROP / 2 * height)
    return image.crop((across, down, width - across, height - down))


def add_noise(image: Image.Image) -> Image.Image:
    """With Gaussian noise of NOISE, the same in every channel; its seed is the image's content."""
    pixels = np.asarray(image)
    noise = np.random.default_rng(crc32(pixels)).normal(0, NOISE, (*pixels.shape[:2], 1))
    return Image.fromarray(np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8))


def jpeg(quality: int) -> Change:
    """Saved as JPEG of this quality, 0-100, and read again."""

    def change(image: Image.Image) -> Image.Image:
        image.save(stream := BytesIO(), "JPEG", quality=quality)
        return Image.open(stream).convert("RGB")

    return change


def brighten(factor: float) -> Change:
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


def resize(image: Image.Image) -> Image.Image:
    """To RESIZE of its sides."""
    width, height = (max(round(RESIZE * side), 1) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


# upright RGB image -> RGB image
CHANGES: dict[str, Change] = {
    "turn by 90 degrees": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "mirror image": ImageOps.mirror,
    "rotation by 2 degrees": rotate,
    "shift by 2 % (6 of 300 px)": shift,
    "crop of 5 %": crop,
    "resize to 5/6 (250 of 300 px)": resize,
    "noise of 4 gray levels": add_noise,
    "blur of 0.7 px": lambda image: image.filter(ImageFilter.GaussianBlur(BLUR)),
    "JPEG quality 90": jpeg(90),
    "JPEG quality 75": jpeg(75),
    "JPEG quality 50": jpeg(50),
    "autocontrast": lambda image: ImageOps.autocontrast(image, preserve_tone=True),
    "brightness 0.8": brighten(0.8),
    "brightness 1.2": brighten(1.2),
}


def measure_robustness(
    net: ChipNet,
    spec: ModelSpec,
    data: LabeledData,
    sha256: Collection[str],
    progress: Callable = lambda it, **_: it,
) -> dict:
    """What metrics.json and reports have as "robustness": the figures of flips() on these images.

    sha256: of the images of data to use, such as a test split. They are read one after another, so memory
    does not grow with their number. progress: such as tqdm. Raises DataError if data has none of them, or
    those of one class alone, and for a model without a trained head.
    """
    log_odds, abnormal = [], []
    changed = changed_images(spec, data, frozenset(sha256))
    changed = iter(progress(changed, total=len(sha256), desc="changing images"))
    at_once = max(BATCH_SIZE // (1 + len(CHANGES)), 1)
    while some := list(islice(changed, at_once)):
        predictions = predict(net, np.concatenate([pixels for pixels, _ in some]), spec)
        log_odds.append(predictions.log_odds.reshape(len(some), -1))  # (n, 1 + changes)
        abnormal += [sample.label == ABNORMAL for _, sample in some]
    if len(set(abnormal)) < 2:
        raise DataError(
            f"{data.name} has {abnormal.count(False)} normal and {abnormal.count(True)} abnormal images to "
            "measure robustness on; both are needed. Choose the data that the model was trained on."
        )
    probability = expit(np.concatenate(log_odds).T / spec.temperature)
    return {
        "data": f"{data.name}, {len(abnormal):,} images",
        **flips(probability[0], dict(zip(CHANGES, probability[1:])), np.array(abnormal), spec.threshold),
    }


def changed_images(
    spec: ModelSpec, data: LabeledData, wanted: frozenset[str]
) -> Iterator[tuple[np.ndarray, Sample]]:
    """Each wanted image once: (1 + changes, size, size, 3) uint8, as it is and under each of CHANGES."""

    def load(pair: tuple[Sample, Source | ImageError]) -> tuple[str, np.ndarray, Sample] | None:
        sample, source = pair
        try:
            decoded = None if isinstance(source, ImageError) else read_image(source)
        except ImageError:
            return None  # load_images lists them
        if decoded is None or decoded.sha256 not in wanted:
            return None
        versions = chain([decoded.image], (change(decoded.image) for change in CHANGES.values()))
        pixels = [pixels_of(version, spec.image_size, spec.interpolation) for version in versions]
        return decoded.sha256, np.stack(pixels), sample

    seen = set()
    for loaded in in_parallel(load, sources_of(data.samples)):
        if loaded and loaded[0] not in seen:
            seen.add(loaded[0])
            yield loaded[1:]


def flips(
    original: np.ndarray, changed: dict[str, np.ndarray], abnormal: np.ndarray, threshold: float
) -> dict:
    """Of each change the share of the verdicts that flip, and the metrics under it.

    original: (N,) probabilities, 0-1. changed: the same under each change, by its name. abnormal: (N,)
    bool. A share has a 95 % interval: of one change Wilson's, of their mean a bootstrap over the images.
    """
    verdicts = original >= threshold
    flipped = {name: (of_change >= threshold) != verdicts for name, of_change in changed.items()}
    every = np.mean(list(flipped.values()), 0)  # (N,) of each image the share of the changes that flip it
    worst = max(flipped, key=lambda name: flipped[name].sum())

    def figures(probability: np.ndarray) -> dict[str, float]:
        accuracy = float(np.mean((probability >= threshold) == abnormal))
        return {"auroc": auroc(probability, abnormal), "accuracy": accuracy}

    def of(name: str) -> dict:
        count = int(flipped[name].sum())
        low, high = binomtest(count, len(abnormal)).proportion_ci(method="wilson")
        interval_95 = [float(low), float(high)]
        share = {"flips": count, "share": count / len(abnormal), "interval_95": interval_95}
        return {"change": name, **share, **figures(changed[name])}

    low, high = interval(resampled(lambda rows: every[rows].mean(), abnormal, RESAMPLES))
    return {
        "images": len(abnormal),
        "threshold": threshold,
        "original": figures(original),
        "mean": {"share": float(every.mean()), "interval_95": [float(low), float(high)]},
        "worst": of(worst),
        "changes": [of(name) for name in changed],
    }


def robustness_table(robustness: dict) -> str:
    """What measure_robustness gives, as Markdown: a sentence and a table."""
    images, mean, worst = robustness["images"], robustness["mean"], robustness["worst"]
    low, high = mean["interval_95"]
    lines = [
        f"How many verdicts flip at threshold {robustness['threshold']:.3f} under a change that no inspector "
        f"would notice, on {robustness['data']}: {mean['share']:.1%} on average ({low:.1%}-{high:.1%}), "
        f"{worst['share']:.1%} at worst ({worst['change']}). In brackets: 95 % interval.",
        "",
        "| change | verdicts that flip | share | AUROC | accuracy |",
        "|---|---|---|---|---|",
        "| none | | | {auroc:.3f} | {accuracy:.3f} |".format(**robustness["original"]),
    ]
    for row in robustness["changes"]:
        low, high = row["interval_95"]
        lines.append(
            f"| {row['change']} | {row['flips']:,} of {images:,} | {row['share']:.1%} ({low:.1%}-{high:.1%}) "
            f"| {row['auroc']:.3f} | {row['accuracy']:.3f} |"
        )
    return "\n".join(lines)
