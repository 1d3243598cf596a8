"""Engines that run an exported graph in OpenVINO or ONNX Runtime. See export.py for what it holds.

Nothing here needs PyTorch, but for the gradient methods. A graph is an ONNX file in memory, or the path of a
checkpoint's graph.onnx, which lies beside the weights that it refers to.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from chipdemo.settings import FLOAT32
from chipdemo.vision.checkpoint import WEIGHTS
from chipdemo.vision.runtimes.engine import PATCHES, EngineOutput
from chipdemo.vision.runtimes.select import OPENVINO, PIXELS, threads

if TYPE_CHECKING:
    from chipdemo.vision.runtimes.pytorch import TorchEngine

VERSION = 8  # of what export.py writes


class Run(Protocol):
    """Runs a graph. Safe to call from several threads."""

    def __call__(self, inputs: Mapping[str, np.ndarray], patches: bool = True) -> Mapping[str, np.ndarray]:
        """Inputs -> outputs, by name. patches: whether these are wanted, if there are any."""


class GraphEngine:
    """Runs a graph for verdicts and maps, and PyTorch for the gradients that only it has.

    load_torch: called when gradients are first asked for.
    """

    def __init__(self, run_graph: Run, load_torch: "Callable[[], TorchEngine]"):
        self.run_graph, self._load_torch = run_graph, load_torch

    @cached_property
    def in_torch(self) -> "TorchEngine":
        return self._load_torch()

    def run(self, pixels: np.ndarray, patches: bool = True) -> EngineOutput:
        """See Engine."""
        found = self.run_graph({PIXELS: np.ascontiguousarray(pixels)}, patches)
        return EngineOutput(**{name: found[name] for name in EngineOutput._fields if name in found})

    def gradient_heat(self, pixels: np.ndarray, method: str) -> np.ndarray:
        """See Engine."""
        return self.in_torch.gradient_heat(pixels, method)


def made_for(revision: str) -> str:
    """What a graph of today's kind says of the model that it was made for."""
    return f"{revision}-{VERSION}"


def onnx_run(graph: bytes | Path) -> Run:
    """A graph in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    if isinstance(graph, Path):
        weights = (graph.parent / WEIGHTS).read_bytes()  # not mapped, as above
        options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
        graph = graph.read_bytes()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    run_options = onnxruntime.RunOptions()
    run_options.only_execute_path_to_fetches = True

    def run(inputs: Mapping[str, np.ndarray], patches: bool = True) -> dict[str, np.ndarray]:
        wanted = [name for name in names if patches or name != PATCHES]
        return dict(zip(wanted, session.run(wanted, dict(inputs), run_options)))

    return run


def open_graph(runtime: str, graph: bytes | Path, precision: str = FLOAT32) -> Run:
    """A graph in one of select.PACKAGES but PyTorch. precision: as OpenVinoGraph has it."""
    if runtime != OPENVINO:
        return onnx_run(graph)
    from chipdemo.vision.runtimes.openvino_graph import OpenVinoGraph  # here, since it may not be installed

    return OpenVinoGraph(graph, precision)
