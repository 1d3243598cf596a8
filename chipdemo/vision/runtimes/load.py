"""The engine of a checkpoint, from its graph.onnx.

A checkpoint without one that fits is exported, and what is exported is kept for the next start.
"""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from chipdemo.errors import CheckpointError
from chipdemo.inspection import ModelInfo
from chipdemo.settings import FLOAT32
from chipdemo.vision.anomaly.anomaly_model import FittedBank
from chipdemo.vision.checkpoint import GRAPH, ModelSpec, model_revision
from chipdemo.vision.runtimes.engine import Engine
from chipdemo.vision.runtimes.graph import GraphEngine, made_for, open_graph
from chipdemo.vision.runtimes.select import TORCH

if TYPE_CHECKING:
    from chipdemo.vision.runtimes.pytorch import TorchEngine

KEPT = 10  # exported networks

log = logging.getLogger(__name__)


def engine_of(
    folder: Path,
    spec: ModelSpec,
    info: ModelInfo,
    bank: FittedBank | None = None,
    runtime: str = TORCH,
    graphs: Path | None = None,
    precision: str = FLOAT32,
) -> Engine:
    """The engine of a checkpoint folder. runtime: one of PACKAGES. graphs: keeps exported networks for the
    next start. precision: FLOAT32, or BFLOAT16 in OpenVINO. Raises CheckpointError."""

    def in_torch() -> "TorchEngine":
        from chipdemo.vision.runtimes.pytorch import (
            TorchEngine,  # here, since PyTorch takes seconds to import
        )
        from chipdemo.vision.weights import load_network

        return TorchEngine(load_network(folder, spec), spec, bank)

    def load_torch() -> "TorchEngine":
        if not folder.is_dir() or model_revision(folder) != info.revision:
            raise CheckpointError(
                f"The model {info.revision} is no longer in {folder}, so its gradients cannot be computed. "
                "Inspect the image again; restart the app if that does not help."
            )
        return in_torch()

    if runtime == TORCH:
        return in_torch()
    for graph in (shipped(folder, info), kept(info, graphs)):
        try:
            if graph is not None:
                return GraphEngine(open_graph(runtime, graph, precision), load_torch)
        except Exception as error:  # noqa: BLE001 - runtimes raise many types for a damaged file
            log.warning("the graph of %s cannot be used, so it is exported anew: %s", info.name, error)
    graph = exported(folder, spec, info, bank, graphs)
    return GraphEngine(open_graph(runtime, graph, precision), load_torch)


def shipped(folder: Path, info: ModelInfo) -> Path | None:
    """The graph.onnx of a checkpoint folder, if it was made for this very model."""
    try:
        content = (folder / GRAPH).read_bytes()
    except OSError:
        return None
    return folder / GRAPH if made_for(info.revision).encode() in content else None  # of its metadata


def _path(info: ModelInfo, graphs: Path) -> Path:
    return graphs / f"{made_for(info.revision)}.onnx"


def kept(info: ModelInfo, graphs: Path | None) -> bytes | None:
    """The ONNX file of a model that an earlier start exported, if any."""
    try:
        return _path(info, graphs).read_bytes() if graphs else None
    except OSError:
        return None


def exported(
    folder: Path, spec: ModelSpec, info: ModelInfo, bank: FittedBank | None, graphs: Path | None
) -> bytes:
    """The ONNX file of a checkpoint, which takes seconds; kept for the next start. Raises CheckpointError."""
    from chipdemo.vision.runtimes.export import onnx_bytes  # here, since it imports PyTorch
    from chipdemo.vision.weights import load_network

    log.info("exporting %s, which takes some seconds; later starts find it in %s", info.name, graphs)
    with ThreadPoolExecutor(1) as apart:  # PyTorch's main thread pretends to have a GPU where they are lent
        content = apart.submit(
            lambda: onnx_bytes(load_network(folder, spec), spec, info, bank, plain=True)
        ).result()
    if graphs:
        try:
            keep(_path(info, graphs), content)
        except OSError as error:
            log.info("the exported network is not kept for the next start: %s", error)
    return content


def keep(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; of many that were written before, the oldest go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
    for old in sorted(path.parent.glob("*.onnx"), key=os.path.getmtime)[:-KEPT]:
        old.unlink(missing_ok=True)
