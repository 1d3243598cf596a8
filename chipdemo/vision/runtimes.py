"""Engines that run an exported graph: OpenVINO and ONNX Runtime. See graph.py for what it holds."""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from chipdemo.inspection import ModelInfo
from chipdemo.settings import AUTO
from chipdemo.vision.checkpoint import ModelSpec
from chipdemo.vision.engine import EngineOutput, TorchEngine
from chipdemo.vision.graph import ONNX, PIXELS, onnx_bytes, require
from chipdemo.vision.model import ChipNet
from chipdemo.vision.normals import Normals

TORCH = "torch"
PACKAGES = {"openvino": ("openvino", "onnx"), ONNX: ("onnxruntime", "onnx"), TORCH: ()}  # fastest first
NAMES = {"openvino": "OpenVINO", ONNX: "ONNX Runtime", TORCH: "PyTorch"}
KEPT = 10  # exported networks, for the next start
VERSION = 1  # of what graph.py writes

log = logging.getLogger(__name__)

Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]


class GraphEngine(TorchEngine):
    """Runs a graph for verdicts and maps, and PyTorch for the gradients that only it has.

    run_graph: (N, size, size, 3) uint8 pixels -> the graph's outputs by name; from several threads.
    """

    def __init__(self, run_graph: Run, net: ChipNet, spec: ModelSpec, normals: Normals | None = None):
        super().__init__(net, spec, normals)
        self.run_graph = run_graph

    @torch.inference_mode()
    def run(self, pixels: np.ndarray) -> EngineOutput:
        """(N, size, size, 3) uint8 pixels -> EngineOutput."""
        found = self.run_graph(np.ascontiguousarray(pixels))
        strides = self.normals.description.strides if self.normals else ()
        middle = [torch.from_numpy(found[f"middle_{stride}"]) for stride in strides]
        anomaly = self.search(middle).numpy() if self.normals else None
        fields = (found.get(name) for name in EngineOutput._fields[:-1])
        return EngineOutput(*fields, anomaly)


def openvino_graph(content: bytes) -> Run:
    """A graph in OpenVINO, in single precision. content: an ONNX file."""
    import openvino

    core = openvino.Core()
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(content), "CPU", hints)
    names = [(name, index) for index, one in enumerate(compiled.outputs) for name in one.get_names()]
    local = threading.local()  # a request holds its own inputs and outputs

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        if not hasattr(local, "request"):
            local.request = compiled.create_infer_request()
        found = local.request.infer({PIXELS: pixels}, share_inputs=True)
        return {name: found[index] for name, index in names}

    return run


def onnx_graph(content: bytes) -> Run:
    """A graph in ONNX Runtime. content: an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda pixels: dict(zip(names, session.run(names, {PIXELS: pixels})))


def chosen(runtime: str) -> str:
    """One of PACKAGES for one of RUNTIMES: "auto" is PyTorch on a GPU, else the fastest that is here.

    Raises SettingsError where the one asked for is not installed.
    """
    if runtime == AUTO:
        if torch.cuda.is_available():
            return TORCH
        return next(name for name, packages in PACKAGES.items() if all(map(find_spec, packages)))
    require(*PACKAGES[runtime])
    return runtime


def engine_of(
    net: ChipNet,
    spec: ModelSpec,
    info: ModelInfo,
    normals: Normals | None = None,
    runtime: str = TORCH,
    graphs: Path | None = None,
) -> TorchEngine:
    """The engine of one of PACKAGES. graphs: a folder that keeps exported networks for the next start."""
    if runtime == TORCH:
        return TorchEngine(net, spec, normals)
    content = exported(net, spec, info, normals, graphs)
    open_graph = openvino_graph if runtime == "openvino" else onnx_graph
    return GraphEngine(open_graph(content), net, spec, normals)


def exported(
    net: ChipNet, spec: ModelSpec, info: ModelInfo, normals: Normals | None, graphs: Path | None
) -> bytes:
    """The ONNX file of a network: that of an earlier start, where it was kept, since it takes seconds."""
    path = graphs and graphs / f"{info.revision}-{VERSION}.onnx"
    if path and path.exists():
        return path.read_bytes()
    content = onnx_bytes(net, spec, info, normals.description.strides if normals else ())
    if path:
        try:
            _keep(path, content)
        except OSError as error:
            log.info("the exported network is not kept for the next start: %s", error)
    return content


def _keep(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; of many that were written before, the oldest go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
    for old in sorted(path.parent.glob("*.onnx"), key=os.path.getmtime)[:-KEPT]:
        old.unlink(missing_ok=True)
