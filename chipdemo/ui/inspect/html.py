"""Pieces of the Inspect tab as HTML. Every text that comes from outside is escaped here."""

from collections.abc import Sequence
from html import escape

from PIL import Image

from chipdemo.inspection import (
    CAM,
    CAM_OF_FLIPS,
    CBAM,
    CLASS_WEIGHTS,
    COMPARABLE,
    INVERSE,
    INVERSE_CAM,
    Channel,
    Inspection,
    Model,
    ModelInfo,
    NormalPatch,
    Region,
    Tiles,
    default_method,
    outcome_text,
)
from chipdemo.monitoring import Drift
from chipdemo.overlay import data_uri, overlay
from chipdemo.threshold import CONFIDENCE, FPR, RECALL, Target
from chipdemo.ui.html import rate_html

THUMBNAIL = 112  # pixels

EXPLANATIONS = {
    CAM: "the exact class activation map, the evidence for “abnormal” at each position. Its mean plus a "
    "constant is the log-odds of the verdict. The color scale is the same for every image; red starts at "
    "0.5, which normal images rarely reach.",
    CAM_OF_FLIPS: "the mean of the CAMs of the image and its three mirror images. It takes three more runs "
    "of the network and does not add up to the verdict. Red starts at 0.5.",
    INVERSE: "how much each patch differs from its best match among the normal images in the memory bank. "
    "Red starts at 0.5, which normal images rarely reach.",
    INVERSE_CAM: "high where a patch both differs from normal images and is evidence for “abnormal”. Red "
    "starts at 0.5.",
    CLASS_WEIGHTS: "where the last features match the weights of the class “abnormal”. The map is empty for "
    "an image that is normal at the model's own threshold. Red starts at 0.5.",
    CBAM: "where the attention module looks, from 0 to 1. It looks at good and defective parts alike, so "
    "a high value does not mean “defective”.",
    "Grad-CAM": "features weighted by their mean gradient: positions that raise the score of “abnormal”.",
    "Grad-CAM++": "Grad-CAM with weights that also bring out several small regions.",
    "LayerCAM": "features weighted by their gradient at each position; finer than Grad-CAM.",
    "HiResCAM": "features times gradients at each position, without averaging.",
    "EigenCAM": "the first principal component of the features, whatever the verdict.",
}
STRETCHED = " Scaled to its maximum in this image, so it cannot be compared between images."


def explanation_text(method: str) -> str:
    """What an explanation shows, and on what scale."""
    text = EXPLANATIONS.get(method, "a heatmap of the network's features.")
    return f"{method}: {text}" + ("" if method in COMPARABLE else STRETCHED)


def overlay_reason(model: Model) -> str | None:
    """Why the explanation that is shown first is that one; None where none was measured."""
    measured, method = model.info.overlays, default_method(model)
    found = next((one for one in measured if one.method == method), None)
    if found is None:
        return None
    best = "the best of" if found == measured[0] else "the best that this model offers of"
    count = f"{len(measured)} overlays measured"
    return (
        f"{method[0].upper()}{method[1:]}: AUPRO {found.aupro:.2f} on {escape(found.data)}, {best} {count}."
    )


def intro_html(info: ModelInfo, models: Sequence[ModelInfo] = ()) -> str:
    """In the place of the verdict before there is one. models: one of which is to judge."""
    known = f"The model was trained on {escape(info.data)} images. Images of another kind are"
    if len(models) > 1:
        names = " and ".join(f"<strong>{escape(one.name)}</strong>{_in_brackets(one.data)}" for one in models)
        known = f"Each image goes to the model that knows it best: {names}. Images that no model knows are"
    return (
        "<section class='verdict waiting' role='status'><p class='word'>No image yet</p>"
        "<p>Drop an image of a chip, paste it, take one with the camera, or choose an example. "
        "You get a verdict, the regions it is based on, and what the threshold means.</p>"
        f"<p>{known} marked as out of distribution.</p>{_tested(info)}</section>"
    )


def _in_brackets(text: str) -> str:
    return f" ({escape(text)})" if text else ""


def _tested(info: ModelInfo) -> str:
    """What the model does to its test split; "" where that is not known."""
    curve, point = info.test, info.test.at(info.threshold)
    if not point.accuracy.total:
        return ""
    rates = [
        f"Right about {rate_html(point.accuracy, 'images')}",
        f"Detects {rate_html(point.recall, 'abnormal images')}",
        f"Flags {rate_html(point.false_positive_rate, 'normal images')}",
    ]
    if curve.auroc:
        area, low, high = curve.auroc
        uncertainty = f"<small class='uncertainty'>(95 % interval {low:.3f}–{high:.3f})</small>"
        rates.append(f"AUROC <strong>{area:.3f}</strong> {uncertainty}")
    measured = f"{escape(info.name)}, measured on {escape(curve.split)}"
    return f"<div class='rates'><p>{measured}:</p>{_list(rates)}</div>"


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"


def verdict_html(inspection: Inspection, info: ModelInfo) -> str:
    """The outcome in large letters, the probability, the threshold, and what the threshold means."""
    probability, threshold = inspection.abnormal_probability, inspection.threshold
    shown, limit = told_apart(probability, threshold)
    word, remark = inspection.outcome.upper(), _judged_by(inspection)
    if inspection.out_of_distribution:
        word, remark = "Out of distribution", _out_of_distribution(inspection, info)
    return (
        f"<section class='verdict {escape(inspection.outcome)}' role='status' aria-live='polite'>"
        f"<p class='word'>{escape(word)}</p>{remark}"
        f"<p class='probability'>abnormal probability <strong>{shown}</strong>, "
        f"threshold <strong>{limit}</strong></p>"
        f"{_bar(probability, threshold)}{meaning(info, threshold)}{_tiles(inspection.tiles)}</section>"
    )


def _judged_by(inspection: Inspection) -> str:
    """Which of several models judged."""
    if not inspection.other_models:
        return ""
    count = 1 + len(inspection.other_models)
    return (
        f"<p class='judged-by'>Judged by <strong>{escape(inspection.model_name)}</strong>, which knows this "
        f"image best of {count} models.</p>"
    )


def _out_of_distribution(inspection: Inspection, info: ModelInfo) -> str:
    """How far an image is from what the models know."""
    nearest = f"Judged by <strong>{escape(inspection.model_name)}</strong>. The image is"
    if inspection.other_models:
        count, name = 1 + len(inspection.other_models), escape(inspection.model_name)
        nearest = f"None of the {count} models knows such images. <strong>{name}</strong> comes nearest."
        nearest += " The image is"
    return (
        f"<p>{nearest} {inspection.distance:.1f} times as far from that model's training images"
        f"{_in_brackets(info.data)} as the limit allows. The model says “{escape(inspection.verdict)}”, but "
        "do not rely on it here.</p>"
    )


def told_apart(probability: float, threshold: float) -> tuple[str, str]:
    """Both with as many decimals, 2 to 5, as it takes to see which is higher."""
    for decimals in (2, 3, 4, 5):
        texts = f"{probability:.{decimals}f}", f"{threshold:.{decimals}f}"
        if texts[0] != texts[1]:
            break
    return texts


def _tiles(tiles: Tiles | None) -> str:
    """How a large image was inspected, and which part of it decided."""
    if tiles is None:
        return ""
    if tiles.decide:
        views = "overlapping tiles and as a whole. The most abnormal view decides"
        if tiles.cells:
            left, top, right, bottom = tiles.most_abnormal
            views = f"cells. The most abnormal one decides: x {left:,}–{right:,}, y {top:,}–{bottom:,} px"
        text = (
            f"Inspected in {tiles.count:,} {views}. The figures above are for one view of a chip; with "
            "several, more normal chips are flagged."
        )
        if tiles.out_of_distribution:
            text += f" {tiles.out_of_distribution:,} of the tiles are out of distribution."
    elif tiles.seen:
        text = (
            f"The image as a whole decides: {tiles.out_of_distribution:,} of the {tiles.seen:,} tiles "
            "inspected are out of distribution, because the model does not know such close views. Small "
            "defects may be missed."
        )
    else:
        text = "Inspected as a whole, as chosen. Small defects may be missed."
    return f"<p class='tiles'>{text}</p>"


def tiles_labels(tiles: Tiles) -> tuple[str, str]:
    """The two ways to inspect a large image, with what each costs: in tiles, as a whole."""
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
    """What a threshold does to the validation split; "" where there is none."""
    point, rates = info.validation.at(threshold), []
    if point.recall.total:
        rates.append(f"detects {rate_html(point.recall, 'abnormal images')}")
    if point.false_positive_rate.total:
        rates.append(f"flags {rate_html(point.false_positive_rate, 'normal images')}")
    if not rates:
        return ""
    return (
        "<div class='rates meaning'><p>This threshold on held-out images "
        f"<small>({escape(info.validation.split)})</small>:</p>{_list(rates)}</div>"
    )


def promise_html(info: ModelInfo, target: Target | None, threshold: float) -> str:
    """Why this threshold: what it promises about new images, and what that costs. "" without a target."""
    if target is None:
        return ""
    point, cost = info.validation.at(threshold), ""
    if target.metric == RECALL and point.false_positive_rate.total:
        cost = f"Cost: flags {rate_html(point.false_positive_rate, 'normal images')}."
    elif target.metric == FPR and point.recall.total:
        cost = f"Detects {rate_html(point.recall, 'abnormal images')}."
    elif target.metric == FPR:
        cost = "How many abnormal images it detects is not known: the model was validated on normal ones."
    return (
        f"<p class='promise' role='status'>Threshold <strong>{threshold:.5g}</strong> is chosen to "
        f"{target}, with {100 * CONFIDENCE:g} % confidence. {cost}</p>"
    )


CHOOSE = " <button type='button' class='choose-image'>Choose an image</button>"  # for inspect.js


def note_html(text: str, is_example: bool = False) -> str:
    """What stands above a result; "" for nothing. The words before a colon stand out."""
    if not text:
        return ""
    title, colon, rest = text.partition(": ")
    choose = CHOOSE if is_example else ""
    return f"<p class='note' role='status'><strong>{escape(title)}{colon}</strong>{escape(rest)}{choose}</p>"


NOT_INSPECTED = (
    "<section class='verdict waiting' role='status'><p class='word'>Not inspected</p>"
    "<p>There is no verdict on this file. Choose another image or an example.</p></section>"
)


def regions_html(regions: Sequence[Region], method: str) -> str:
    """The regions that are drawn. method: the one that found them."""
    where = f"where the {method} reaches 0.5"
    if method == CLASS_WEIGHTS:
        where = f"peaks of {method}, at least half as high as the highest"
    if not regions:
        return f"<section class='regions'><h2>Regions</h2><p>None {where}.</p></section>"
    rows = "".join(
        f"<tr tabindex='0' title='Click or Enter: zoom to it'><th scope='row'>{number}</th>"
        f"<td>{r.x}, {r.y}</td><td>{r.width} × {r.height}</td><td>{r.area:,} px</td>"
        f"<td>{r.score:.2f}</td></tr>"
        for number, r in enumerate(regions, 1)
    )
    return (
        f"<section class='regions'><h2>Regions <small>{where}; in pixels of the upright image</small></h2>"
        "<table><thead><tr><th scope='col'>no.</th><th scope='col'>left, top</th><th scope='col'>size</th>"
        "<th scope='col'>area</th><th scope='col'>heat</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></section>"
    )


def nearest_html(comparisons: Sequence[tuple[Image.Image, Sequence[NormalPatch]]]) -> str:
    """Each region of the image beside the patches of normal images that match it best."""
    if not comparisons:
        return "<p>There is no region to compare.</p>"
    rows = []
    for number, (image, patches) in enumerate(comparisons, 1):
        cells = "".join(
            f"<figure>{_patch(one.image, f'normal image {one.sha256[:8]}')}"
            f"<figcaption>{one.share:.0%} of the patches</figcaption></figure>"
            for one in patches
        )
        this = f"<figure>{_patch(image, f'region {number}')}<figcaption>region {number}</figcaption></figure>"
        rows.append(f"<div class='beside'>{this}{cells}</div>")
    return (
        "<section class='nearest'><h2>Regions beside normal images <small>the best matches in the memory "
        f"bank, and how many of the region's patches each matches best</small></h2>{''.join(rows)}</section>"
    )


def _patch(image: Image.Image, text: str) -> str:
    side = max(image.size)
    shown = image.resize([max(1, round(s * THUMBNAIL / side)) for s in image.size])
    return f"<img src='{data_uri(shown)}' alt='{text}'>"


def details_html(inspection: Inspection) -> str:
    """The strongest channels and the timings."""
    return _channels(inspection.channels) + _timings(inspection)


def _channels(channels: Sequence[Channel]) -> str:
    if not channels:
        return "<p>This model has no channel attention.</p>"
    ground = Image.new("RGB", (THUMBNAIL, THUMBNAIL), (70, 78, 86))
    cells = "".join(
        f"<figure><img src='{data_uri(overlay(ground, channel.heatmap, CBAM))}' "
        f"alt='Feature map of channel {channel.index}'>"
        f"<figcaption>channel {channel.index}<br>weight {channel.weight:.2f}</figcaption></figure>"
        for channel in channels
    )
    return (
        "<h2>Strongest channels <small>with the highest CBAM attention; each map is scaled to its own maximum"
        f"</small></h2><div class='channels'>{cells}</div>"
    )


def _timings(inspection: Inspection) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{escape(step)}</th><td>{ms:.1f} ms</td></tr>"
        for step, ms in inspection.timing_ms.items()
    )
    total = sum(inspection.timing_ms.values())
    return (
        "<h2>Timings <small>of this image on this server</small></h2><table><tbody>"
        f"{rows}<tr class='total'><th scope='row'>total</th><td>{total:.1f} ms</td></tr></tbody></table>"
    )


def drift_html(drift: Drift, taught: bool = False) -> str:
    """Whether the last images of all visitors look as they should; "" before there are enough.

    taught: the model can be recalibrated in the Teach tab.
    """
    if not drift.sentence:
        return ""
    text = drift.sentence
    if drift.changed and taught:
        text += " <a href='#teach'>Recalibrate it</a> with 20 good images of today."
    return f"<p class='{'changed' if drift.changed else 'steady'}' role='status'>{text}</p>"


def own_model_html(info: ModelInfo) -> str:
    """Above the tab while the visitor's own model is in use."""
    return (
        f"<p>Inspecting with <strong>{escape(info.name)}</strong>, which you taught. Only this page uses it; "
        "it is lost when you close or reload the page.</p>"
    )


def caption_of(inspection: Inspection, method: str) -> list[str]:
    """The facts below an overlay that is downloaded."""
    return [
        outcome_text(inspection.outcome),
        f"abnormal probability {inspection.abnormal_probability:.2f}",
        f"threshold {inspection.threshold:.2f}",
        f"model {inspection.model_name} {inspection.model_revision}",
        method,
    ]
