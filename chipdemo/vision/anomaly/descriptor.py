"""What makes a patch of an image comparable with another: settings and statistics. No torch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PatchDescriptor:
    """How a patch of an image becomes a vector, and how two of them are compared.

    stages: the layers of the backbone's feature_info that are concatenated, finest first; the finest sets the
        grid.
    window: side of the square of patches that a patch is averaged over, odd.
    reach: how far apart along a side two patches can lie and still match, in sides of the image; inf for
        parts that lie anywhere in it.
    """

    stages: tuple[int, ...]
    window: int = 3
    reach: float = 0.125


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and standard deviation of each channel over normal images: one array (C,) for each layer."""

    mean: tuple[np.ndarray, ...]
    deviation: tuple[np.ndarray, ...]
