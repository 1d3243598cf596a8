"""Engines that run an exported graph: OpenVINO and ONNX Runtime. See graph.py for what it holds.

Nothing here needs PyTorch once a graph is kept, but for the gradient methods and the export itself.
"""

import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chipdemo.errors import CheckpointError, SettingsError
from chipdemo.inspection import ModelInfo
from chipdemo.settings import AUTO
from chipdemo.vision.anomaly.stored import Normals
from chipdemo.vision.checkpoint import ModelSpec, model_revision
from chipdemo.vision.runtimes.engine import Engine, EngineOutput
from chipdemo.vision.zerogpu import cuda

if TYPE_CHECKING:
    import openvino

    from chipdemo.vision.runtimes.pytorch import TorchEngine

PIXELS = "pixels"  # the name of a graph's input
ONNX, TORCH = "onnx", "torch"
PACKAGES = {"openvino": ("openvino", "onnx"), ONNX: ("onnxruntime", "onnx"), TORCH: ()}  # fastest first
NAMES = {"openvino": "OpenVINO", ONNX: "ONNX Runtime", TORCH: "PyTorch"}
KEPT = 10  # exported networks, for the next start
VERSION = 3  # of what graph.py writes

log = logging.getLogger(__name__)

Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]  # a graph: inputs -> outputs, by name


def require(*packages: str, instead: str = "") -> None:
    """Raises SettingsError where one is not installed. instead: another way out, if there is one."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise SettingsError(
            f"Expected the package {' and '.join(missing)}; it is not installed. Run: pip install "
            f"{' '.join(missing)}{instead}."
        )


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
    """As OpenMP reads it, which is how a worker of a cluster is told its share; 0 for all cores."""
    return int(os.environ.get("OMP_NUM_THREADS", "0").partition(",")[0])


def openvino_run(content: bytes) -> Run:
    """A graph in OpenVINO, in single precision. content: an ONNX file."""
    import openvino

    core = openvino.Core()
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": _threads(),
    }
    local = threading.local()  # a request holds its own inputs and outputs

    @cache
    def compiled(single: bool) -> "openvino.CompiledModel":
        model = core.read_model(content)
        if single:  # what the page asks; of a known shape, it is a tenth faster
            shape = model.input(0).partial_shape
            shape[0] = 1
            model.reshape(shape)
        return core.compile_model(model, "CPU", hints)

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        single = all(len(values) == 1 for values in inputs.values())
        requests = local.__dict__.setdefault("requests", {})
        if single not in requests:
            requests[single] = compiled(single).create_infer_request()
        found = requests[single].infer(inputs, share_inputs=True)
        return {name: values for output, values in found.items() for name in output.get_names()}

    compiled(True)
    return run


def onnx_run(content: bytes) -> Run:
    """A graph in ONNX Runtime. content: an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs))))


def chosen(runtime: str) -> str:
    """One of PACKAGES for one of RUNTIMES: "auto" is PyTorch on a GPU, else the fastest that is here.

    Raises SettingsError where the one asked for is not installed.
    """
    if runtime == AUTO:
        if _on_gpu():
            return TORCH
        return next(name for name, packages in PACKAGES.items() if all(map(find_spec, packages)))
    require(*PACKAGES[runtime], instead=", or choose --runtime torch")
    return runtime


def _on_gpu() -> bool:
    if shutil.which("nvidia-smi") is None:  # comes with the driver; importing PyTorch to ask takes seconds
        return False
    return cuda()


def engine_of(
    folder: Path,
    spec: ModelSpec,
    info: ModelInfo,
    normals: Normals | None = None,
    runtime: str = TORCH,
    graphs: Path | None = None,
) -> Engine:
    """The engine of a checkpoint folder. runtime: one of PACKAGES. graphs: keeps exported networks for the
    next start. Raises CheckpointError."""

    def in_torch() -> "TorchEngine":
        from chipdemo.vision.runtimes.pytorch import (
            TorchEngine,  # here, since PyTorch takes seconds to import
        )
        from chipdemo.vision.weights import load_network

        return TorchEngine(load_network(folder, spec), spec, normals)

    def of_the_same_model() -> "TorchEngine":
        if not folder.is_dir() or model_revision(folder) != info.revision:
            raise CheckpointError(
                f"Expected the model {info.revision} in {folder}, for its gradients; it is another by now, "
                "or gone. Inspect the image again, or start the app again if that does not help."
            )
        return in_torch()

    if runtime == TORCH:
        return in_torch()
    open_graph = openvino_run if runtime == "openvino" else onnx_run
    content = kept(info, graphs)
    try:
        if content is not None:
            return GraphEngine(open_graph(content), of_the_same_model)
    except Exception as error:  # noqa: BLE001 - whatever a runtime says of a damaged file
        log.warning("what an earlier start exported cannot be used: %s", error)
    return GraphEngine(open_graph(exported(folder, spec, info, normals, graphs)), of_the_same_model)


def _path(info: ModelInfo, graphs: Path) -> Path:
    return graphs / f"{info.revision}-{VERSION}.onnx"


def kept(info: ModelInfo, graphs: Path | None) -> bytes | None:
    """The ONNX file of a model that an earlier start exported, if any."""
    try:
        return _path(info, graphs).read_bytes() if graphs else None
    except OSError:
        return None


def exported(
    folder: Path, spec: ModelSpec, info: ModelInfo, normals: Normals | None, graphs: Path | None
) -> bytes:
    """The ONNX file of a checkpoint, which takes seconds; kept for the next start. Raises CheckpointError."""
    from chipdemo.vision.runtimes.export import onnx_bytes  # here, since it imports PyTorch
    from chipdemo.vision.weights import load_network

    log.info("exporting %s, which takes some seconds; later starts find it in %s", info.name, graphs)
    with ThreadPoolExecutor(1) as apart:  # PyTorch's main thread pretends to have a GPU where they are lent
        content = apart.submit(lambda: onnx_bytes(load_network(folder, spec), spec, info, normals)).result()
    if graphs:
        try:
            _keep(_path(info, graphs), content)
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
