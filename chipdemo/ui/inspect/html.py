"""Pieces of the page as HTML. Every text that comes from outside is escaped here."""

import base64
import math
from collections.abc import Sequence
from html import escape
from io import BytesIO

import numpy as np
from PIL import Image

from chipdemo.examples import ELPV_CREDIT, Example
from chipdemo.inspection import (
    ABNORMAL,
    CLASS_WEIGHTS,
    COMPARABLE,
    MATCHINGS,
    Channel,
    Inspection,
    ModelInfo,
    NormalPatch,
    Region,
    Tiles,
)
from chipdemo.monitoring import Drift
from chipdemo.overlay import ATTENTION, overlay_rgba, png_bytes

THUMBNAIL = 112  # pixels
CHIPS = 1000  # false alarms are told for so many good chips

EXPLANATIONS = {
    "CAM": "What speaks for “abnormal” and where. These numbers add up to the verdict. The colors are "
    "the same for every image: red starts at 0.5, where normal chips hardly ever get.",
    "inverse matching": "What no normal chip looks like there: each place is matched with those of the good "
    "images that were learned, and the best match is inverted. Red starts at 0.5, where normal chips "
    "hardly ever get.",
    "inverse matching × CAM": "What is both unlike normal chips and evidence for “abnormal”; red "
    "starts at 0.5.",
    "class-weight matching": "Where the last features match what the network has learned to call “abnormal”; "
    "nothing where it is normal at the model's own threshold. Red starts at 0.5.",
    "CBAM": "Where the network's attention module looks, 0 to 1. It looks at good and bad places alike: "
    "bright is “looked at”, not “defective”.",
    "Grad-CAM": "Places whose features push towards “abnormal”.",
    "Grad-CAM++": "Grad-CAM, weighted so that several small places count too.",
    "LayerCAM": "Like Grad-CAM, weighted place by place; finer.",
    "HiResCAM": "Features times gradients, place by place, without averaging.",
    "EigenCAM": "The main pattern in the features, whatever the verdict.",
}
STRETCHED = " Stretched to its own maximum, so it cannot be compared between images."
SHOWN_METRICS = {"accuracy": "accuracy", "auroc": "AUROC", "recall": "recall", "precision": "precision"}


def explanation_text(method: str) -> str:
    """What an explanation shows, and on what scale."""
    text = EXPLANATIONS.get(method, "A heat map of the network's features.")
    return f"{method}: {text}" + ("" if method in COMPARABLE else STRETCHED)


def data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def header_html(info: ModelInfo) -> str:
    made = f"{info.backbone} + {info.attention.upper()}" if info.attention != "none" else info.backbone
    return (
        "<header class='chip-header'><h1>Chip Inspector</h1>"
        f"<p>model <strong>{escape(info.name)}</strong> <code>{escape(info.revision)}</code>"
        f"<span class='made'> · {escape(made)}, trained on {escape(info.data)} "
        f"({escape(info.data_license)}) · runs on {escape(info.runtime)}</span></p></header>"
    )


def intro_html(info: ModelInfo) -> str:
    """What stands in the verdict's place before there is one."""
    metrics = [
        f"{name} {info.test[key]:.3f}" for key, name in SHOWN_METRICS.items() if _is_number(info.test, key)
    ]
    part = escape(str(info.test.get("split", "held-out images")))
    measured = f"<p>{', '.join(metrics)} <small>({part})</small></p>" if metrics else ""
    return (
        "<section class='verdict waiting' role='status'><p class='word'>No image yet</p>"
        "<p>Drop an image of a chip, paste it, take one with the camera, or choose an example. "
        "You will see the verdict, where it comes from, and what the threshold means.</p>"
        f"<p>The model knows {escape(info.data)} images; others are marked as unlike them.</p>"
        f"{measured}</section>"
    )


def _is_number(values, key: str) -> bool:
    return isinstance(values.get(key), (int, float)) and math.isfinite(values[key])


def verdict_html(inspection: Inspection, info: ModelInfo) -> str:
    """The verdict in one word, the probability with the threshold, and what the threshold means."""
    probability, threshold = inspection.abnormal_probability, inspection.threshold
    if inspection.out_of_distribution:
        kind, word = "unlike", "Out of distribution"
        remark = (
            f"<p>This image is {inspection.distance:.1f} times as far from the training images "
            f"({escape(info.data)}) as the limit allows. The network says “{escape(inspection.verdict)}”; "
            "do not trust it here.</p>"
        )
    else:
        kind, word, remark = inspection.verdict, inspection.verdict.upper(), ""
    return (
        f"<section class='verdict {escape(kind)}' role='status' aria-live='polite'>"
        f"<p class='word'>{escape(word)}</p>{remark}"
        f"<p class='probability'>abnormal probability <strong>{probability:.2f}</strong>, "
        f"threshold <strong>{threshold:.2f}</strong></p>"
        f"{_bar(probability, threshold)}"
        f"<p class='meaning'>{meaning(info, threshold)}</p>{_tiles(inspection.tiles)}</section>"
    )


def _tiles(tiles: Tiles | None) -> str:
    """What a large image was looked at in, and what of it decided."""
    if tiles is None:
        return ""
    if tiles.decide:
        text = (
            f"Looked at in {tiles.count:,} overlapping tiles and as a whole; the most abnormal look decides, "
            "so of good images more are stopped than these figures, which are for one look."
        )
        if tiles.out_of_distribution:
            text += f" {tiles.out_of_distribution:,} of the tiles are out of distribution."
    elif tiles.seen:
        text = (
            f"Judged as a whole: of the {tiles.seen:,} tiles looked at, {tiles.out_of_distribution:,} are "
            "out of distribution, so this model does not know such close views. Small defects may be missed."
        )
    else:
        text = "Judged as a whole, as chosen: defects that are small in it may be missed."
    return f"<p class='tiles'>{text}</p>"


def tiles_labels(tiles: Tiles) -> tuple[str, str]:
    """The two ways of looking at a large image, with what each costs: in tiles, as a whole."""
    some = f"{tiles.seen:,} of {tiles.count:,}" if 0 < tiles.seen < tiles.count else f"{tiles.count:,}"
    about = "" if tiles.seen else "about "
    return f"In {some} tiles, {about}{_seconds(tiles.ms)}", f"As a whole, {_seconds(tiles.whole_ms)}"


def _seconds(ms: float) -> str:
    return f"{ms / 1000:.1f} s" if ms >= 95 else f"{ms / 1000:.2f} s"


def _bar(probability: float, threshold: float) -> str:
    return (
        f"<div class='bar' role='img' aria-label='Probability {probability:.2f} on a bar from 0 to 1, "
        f"threshold at {threshold:.2f}'>"
        f"<div class='fill' style='width:{100 * probability:.1f}%'></div>"
        f"<div class='mark' style='left:{100 * threshold:.1f}%'></div></div>"
        "<div class='bar-ends' aria-hidden='true'><span>0</span><span>1</span></div>"
    )


def meaning(info: ModelInfo, threshold: float) -> str:
    """What a threshold did to the held-out part, as a sentence of HTML."""
    point = info.validation.at(threshold)
    facts = []
    if math.isfinite(point.false_positive_rate):
        facts.append(
            f"of {CHIPS:,} good chips <strong>{CHIPS * point.false_positive_rate:.0f}</strong> would be "
            "flagged"
        )
    if math.isfinite(point.recall):
        facts.append(f"of 100 defective <strong>{100 * point.recall:.0f}</strong> are caught")
    if not math.isfinite(point.precision):
        facts.append("none of the held-out images was stopped")
    elif math.isfinite(point.recall):  # where no defect is known, none of what is stopped is one
        facts.append(f"of 100 stopped <strong>{100 * point.precision:.0f}</strong> are defective")
    return f"At this threshold {'; '.join(facts)} <small>({escape(info.validation.split)})</small>."


NOT_INSPECTED = (
    "<section class='verdict waiting' role='status'><p class='word'>Not inspected</p>"
    "<p>There is no verdict on this file. Choose another image or an example.</p></section>"
)


def regions_html(regions: Sequence[Region], method: str) -> str:
    """Those that are drawn. method: the explanation that is shown."""
    kind = method if method in MATCHINGS else "CAM"
    where = f"where the {kind} reaches half heat"
    if method == CLASS_WEIGHTS:
        where = f"peaks of {kind}, at least half as high as the highest"
    if not regions:
        return f"<section class='regions'><h2>Regions</h2><p>None {where}.</p></section>"
    rows = "".join(
        f"<tr><th scope='row'>{number}</th><td>{r.x}, {r.y}</td><td>{r.width} × {r.height}</td>"
        f"<td>{r.area:,} px</td><td>{r.score:.2f}</td></tr>"
        for number, r in enumerate(regions, 1)
    )
    return (
        f"<section class='regions'><h2>Regions <small>{where}; pixels of the "
        "upright image</small></h2><table><thead><tr><th scope='col'>no.</th><th scope='col'>left, top"
        "</th><th scope='col'>size</th><th scope='col'>area</th><th scope='col'>heat</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></section>"
    )


def normals_html(comparisons: Sequence[tuple[Image.Image, Sequence[NormalPatch]]]) -> str:
    """Each region's part of the image beside what normal chips show there."""
    if not comparisons:
        return "<p>No region to compare: no place reaches half heat.</p>"
    rows = []
    for number, (image, patches) in enumerate(comparisons, 1):
        cells = "".join(
            f"<figure>{_patch(one.image, f'normal chip {one.image[:8]}')}"
            f"<figcaption>matches {one.share:.0%}</figcaption></figure>"
            for one in patches
        )
        this = f"<figure>{_patch(image, f'region {number}')}<figcaption>region {number}</figcaption></figure>"
        rows.append(f"<div class='beside'>{this}{cells}</div>")
    return (
        "<section class='normals'><h2>What normal chips show there <small>and how much of the region each "
        f"matches best</small></h2>{''.join(rows)}</section>"
    )


def _patch(image: Image.Image | None, text: str) -> str:
    if image is None:
        return f"<p>{text}: no copy was kept</p>"
    side = max(image.size)
    shown = image.resize([max(1, round(s * THUMBNAIL / side)) for s in image.size])
    return f"<img src='{data_uri(png_bytes(shown), 'png')}' alt='{text}'>"


def details_html(inspection: Inspection) -> str:
    """The strongest channels and the timings."""
    return _channels(inspection.channels) + _timings(inspection)


def _channels(channels: Sequence[Channel]) -> str:
    if not channels:
        return "<p>This model has no channel attention.</p>"
    cells = "".join(
        f"<figure><img src='{_thumbnail(channel.heatmap)}' alt='Feature map of channel {channel.index}'>"
        f"<figcaption>channel {channel.index}<br>weight {channel.weight:.2f}</figcaption></figure>"
        for channel in channels
    )
    return (
        "<h2>Strongest channels <small>what CBAM lets through most; each map stretched to its own maximum"
        f"</small></h2><div class='channels'>{cells}</div>"
    )


def _thumbnail(heat: np.ndarray) -> str:
    image = Image.new("RGB", (THUMBNAIL, THUMBNAIL), (70, 78, 86))
    overlay = overlay_rgba(heat, image.size, ATTENTION)
    image.paste(overlay.convert("RGB"), mask=overlay.getchannel("A"))
    return data_uri(png_bytes(image), "png")


def _timings(inspection: Inspection) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(step)}</th><td>{ms:.1f} ms</td></tr>"
        for step, ms in inspection.timing_ms.items()
    )
    total = sum(inspection.timing_ms.values())
    return (
        "<h2>Timings <small>this image, this server</small></h2><table><tbody>"
        f"{rows}<tr class='total'><th scope='row'>together</th><td>{total:.1f} ms</td></tr></tbody></table>"
    )


def examples_html(examples: Sequence[Example]) -> str:
    """Buttons with small pictures; the server knows an example by its number alone."""
    if not examples:
        return (
            "<section class='examples'><p>No examples here. For images of solar cells, install "
            f"<code>elpv-dataset</code> ({escape(ELPV_CREDIT)}) and start again.</p></section>"
        )
    buttons = "".join(
        f"<button type='button' data-index='{index}' title='{escape(example.caption)}'>"
        f"<img src='{_small(example)}' alt='{escape(example.caption)}'></button>"
        for index, example in enumerate(examples)
    )
    return (
        "<section class='examples'><h2>Examples <small>solar cells by electroluminescence · "
        f"{escape(ELPV_CREDIT)}</small></h2><div class='strip'>{buttons}</div></section>"
    )


def _small(example: Example) -> str:
    with Image.open(example.path) as image:
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        stream = BytesIO()
        image.convert("RGB").save(stream, "JPEG", quality=85)
    return data_uri(stream.getvalue(), "jpeg")


def drift_html(drift: Drift) -> str:
    """Whether the last images of everybody look as they should; nothing before there are enough."""
    if not drift.sentence:
        return ""
    return f"<p class='{'changed' if drift.changed else 'steady'}' role='status'>{drift.sentence}</p>"


def verdict_word(inspection: Inspection) -> str:
    """For the alternative text of the picture."""
    if inspection.out_of_distribution:
        return "out of distribution"
    return "abnormal" if inspection.verdict == ABNORMAL else "normal"
