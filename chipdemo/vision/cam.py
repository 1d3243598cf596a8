"""Heat maps that cost nothing: our exact evidence on a fixed scale, and CBAM's channels."""

import numpy as np

from chipdemo.inspection import Channel
from chipdemo.regions import HALF
from chipdemo.vision.runtimes.engine import EngineOutput

CHANNELS = 6  # strongest CBAM channels that are shown
GRADIENT_METHODS = ("Grad-CAM", "Grad-CAM++", "LayerCAM", "HiResCAM", "EigenCAM")


def fixed_scale_heatmap(cam: np.ndarray, heat_scale: float) -> np.ndarray:
    """(h, w) evidence -> (h, w) float32 heat, 0-1, on the model's own scale.

    heat_scale shows as 0.5 in every image; evidence for "normal" shows as 0.
    """
    return np.clip(HALF * cam / heat_scale, 0, 1).astype(np.float32)


def strongest_channels(output: EngineOutput) -> tuple[Channel, ...]:
    """The channels that CBAM lets through most, of one image; none without attention."""
    if output.strongest is None:
        return ()
    weights = output.channel_attention[0]
    return tuple(
        Channel(int(index), float(weights[index]), _stretched(values))
        for index, values in zip(output.strongest[0], output.strongest_maps[0])
    )


def _stretched(values: np.ndarray) -> np.ndarray:
    """ReLU, then scaled to the map's own maximum: (h, w) -> (h, w) float32, 0-1."""
    positive = np.maximum(values, 0)
    return (positive / max(positive.max(), 1e-12)).astype(np.float32)
