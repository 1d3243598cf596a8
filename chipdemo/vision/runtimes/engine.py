"""The protocol of the runtimes: pixels in, numbers out."""

from typing import NamedTuple, Protocol

import numpy as np

LOG_ODDS, PATCHES = "log_odds", "patches"  # of EngineOutput, as the outputs of a graph are named


class EngineOutput(NamedTuple):
    """What an engine gives for N images, as float32 arrays. C channels, (h, w) patches.

    embedding: (N, C), the pooled features. patches: (N, H, W, D), the descriptors that the memory bank is
    searched for, on its own grid; None without one.
    Of a network that judges, None where its memory bank does: log_odds: (N,) of abnormal, before calibration.
    cam: (N, h, w), the class activation map; its mean plus the difference of the head's biases is log_odds.
    abnormal_map: (N, h, w), the features matched with the head's weights of "abnormal" alone.
    distance: (N,) from the training images.
    channel_attention: (N, C) and spatial_attention: (N, h, w), 0-1; strongest: (N, K) int64, the
    channels of the highest attention, highest first, and strongest_maps: (N, K, h, w), their
    features; all four None without attention.
    """

    embedding: np.ndarray
    patches: np.ndarray | None = None
    log_odds: np.ndarray | None = None
    cam: np.ndarray | None = None
    abnormal_map: np.ndarray | None = None
    distance: np.ndarray | None = None
    channel_attention: np.ndarray | None = None
    spatial_attention: np.ndarray | None = None
    strongest: np.ndarray | None = None
    strongest_maps: np.ndarray | None = None

    def of(self, index: int) -> "EngineOutput":
        """What it gives for one of the images, N = 1."""
        return EngineOutput(*(None if array is None else array[index : index + 1] for array in self))


class Engine(Protocol):
    """Runs a network. Safe to call from several threads."""

    def run(self, pixels: np.ndarray, patches: bool = True) -> EngineOutput:
        """(N, size, size, 3) uint8 pixels -> EngineOutput.

        patches: whether they are wanted of a network that judges; they take ResNet-50 an eighth of its time.
        """

    def gradient_heat(self, pixels: np.ndarray, method: str) -> np.ndarray:
        """One of cam.GRADIENT_METHODS: (1, size, size, 3) uint8 pixels -> (h, w) float32, 0-1.

        Raises CheckpointError where the network behind an exported one cannot be loaded any more.
        """
