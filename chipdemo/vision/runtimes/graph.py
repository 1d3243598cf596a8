"""Engines that run an exported graph in OpenVINO or ONNX Runtime. See export.py for what it holds.

Nothing here needs PyTorch, but for the gradient methods. A graph is an ONNX file in memory, or the path of a
checkpoint's graph.onnx, which lies beside the weights that it refers to.
"""

import os
import threading
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chipdemo.settings import BFLOAT16, FLOAT32
from chipdemo.vision.checkpoint import WEIGHTS
from chipdemo.vision.runtimes.engine import EngineOutput
from chipdemo.vision.runtimes.precision import backbone_and_rest
from chipdemo.vision.runtimes.select import OPENVINO, PIXELS

if TYPE_CHECKING:
    import openvino

    from chipdemo.vision.runtimes.pytorch import TorchEngine

SHAPES = (8, 4, 2, 1)  # images in one run: a graph of a known shape is up to a quarter faster
VERSION = 7  # of what export.py writes
Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]  # a graph: inputs -> outputs, by name


class GraphEngine:
    """Runs a graph for verdicts and maps, and PyTorch for the gradients that only it has.

    run_graph: may be called from several threads.
    load_torch: called when gradients are first asked for.
    """

    def __init__(self, run_graph: Run, load_torch: "Callable[[], TorchEngine]"):
        self.run_graph, self._load_torch = run_graph, load_torch

    @cached_property
    def in_torch(self) -> "TorchEngine":
        return self._load_torch()

    def run(self, pixels: np.ndarray) -> EngineOutput:
        """See Engine."""
        found = self.run_graph({PIXELS: np.ascontiguousarray(pixels)})
        return EngineOutput(**{name: found[name] for name in EngineOutput._fields if name in found})

    def gradient_heat(self, pixels: np.ndarray, method: str) -> np.ndarray:
        """See Engine."""
        return self.in_torch.gradient_heat(pixels, method)


def _threads() -> int:
    """OMP_NUM_THREADS, which sets a cluster worker's share of the cores; 0 for all."""
    return int(os.environ.get("OMP_NUM_THREADS", "0").partition(",")[0])


def made_for(revision: str) -> str:
    """What a graph of today's kind says of the model that it was made for."""
    return f"{revision}-{VERSION}"


def openvino_run(graph: bytes | Path, precision: str = FLOAT32) -> Run:
    """A graph in OpenVINO. precision: FLOAT32, or BFLOAT16 for the backbone of an export with `plain`."""
    import openvino

    core = openvino.Core()
    # not mapped: a file that is written over would end the process
    whole = core.read_model(graph, config={"ENABLE_MMAP": False})
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": _threads(),
    }
    local = threading.local()  # a request holds its own inputs and outputs

    @cache
    def compiled(count: int) -> "list[openvino.CompiledModel]":
        model = whole.clone()
        shape = model.input(0).partial_shape
        shape[0] = count
        model.reshape(shape)
        parts = [(model, "f32")]
        if precision == BFLOAT16:
            parts = list(zip(backbone_and_rest(model), ("bf16", "f32")))
        return [
            core.compile_model(part, "CPU", hints | {"INFERENCE_PRECISION_HINT": its}) for part, its in parts
        ]

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """In as few runs as there are known shapes for."""
        count = len(next(iter(inputs.values())))
        known = next(shape for shape in SHAPES if shape <= count)
        found = run_known(known, {name: values[:known] for name, values in inputs.items()})
        if known == count:
            return found
        others = run({name: values[known:] for name, values in inputs.items()})
        return {name: np.concatenate((found[name], others[name])) for name in found}

    def run_known(count: int, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        requests = local.__dict__.setdefault("requests", {})
        if count not in requests:
            requests[count] = [part.create_infer_request() for part in compiled(count)]
        first, *rest = requests[count]
        found = first.infer(inputs, share_inputs=True, share_outputs=bool(rest))
        for request in rest:
            for index, tensor in enumerate(first.output_tensors):
                request.set_input_tensor(index, tensor)
            found = request.infer()
        return {name: values for output, values in found.items() for name in output.get_names()}

    compiled(1)
    return run


def onnx_run(graph: bytes | Path) -> Run:
    """A graph in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    if isinstance(graph, Path):
        weights = (graph.parent / WEIGHTS).read_bytes()  # not mapped, as above
        options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
        graph = graph.read_bytes()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs))))


def open_graph(runtime: str, graph: bytes | Path, precision: str = FLOAT32) -> Run:
    """A graph in one of select.PACKAGES but PyTorch. precision: as openvino_run has it."""
    return openvino_run(graph, precision) if runtime == OPENVINO else onnx_run(graph)
