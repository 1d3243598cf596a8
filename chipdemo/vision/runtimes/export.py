"""The network as one graph in a file: RGB pixels in, everything an inspection needs out.

OpenVINO and ONNX Runtime run it several times as fast as PyTorch does on a CPU, and a client needs
neither PyTorch nor this package: normalization, temperature and heat scale are inside.

    pixels             (N, size, size, 3) uint8, RGB
    probability        (N,) of abnormal, calibrated, 0-1
    heat               (N, h, w) evidence on the model's own scale, 0-1; red starts at 0.5
    and what EngineOutput has: without attention no maps of it; patches where there is a memory bank, and
    nothing but these and the embedding where it judges

A checkpoint has such a file too, graph.onnx. It holds no weights: it names their places in the checkpoint's
model.safetensors, as ONNX allows ("external data"), so it is small and is read without PyTorch.
"""

import json
import logging
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.onnx import TrainingMode

from chipdemo.errors import DataError
from chipdemo.inspection import ModelInfo
from chipdemo.vision.anomaly.anomaly_model import FittedBank, load_anomaly_model
from chipdemo.vision.anomaly.patches import compared_channels
from chipdemo.vision.cam import HALF
from chipdemo.vision.checkpoint import GRAPH, HEAD, MEMORY, WEIGHTS, ModelSpec
from chipdemo.vision.model import ChipNet
from chipdemo.vision.output import replacing
from chipdemo.vision.runtimes.graph import made_for
from chipdemo.vision.runtimes.pytorch import outputs_of
from chipdemo.vision.runtimes.select import ONNX, PIXELS, require
from chipdemo.vision.transforms import normalize
from chipdemo.vision.weights import current_name, load_checkpoint

FILES = ("model.onnx", "model.xml", "model.bin")
OPSET = 18


class Graph(nn.Module):
    """What the file holds. bank: the memory bank that patches are described for, if there is one."""

    def __init__(self, net: ChipNet, spec: ModelSpec, bank: FittedBank | None = None):
        super().__init__()
        self.net, self.spec, self.bank = net, spec, bank

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """(N, size, size, 3) uint8 -> what is above, by name."""
        named = outputs_of(self.net, self.spec, self.bank, normalize(pixels, self.spec.mean, self.spec.std))
        if self.spec.verdict_by == HEAD:
            named["probability"] = torch.sigmoid(named["log_odds"] / self.spec.temperature)
            named["heat"] = (HALF * named["cam"] / self.spec.heat_scale).clamp(0, 1)
        return named


def layer_name(stage: int) -> str:
    """The name of an output of Layers."""
    return f"layer_{stage}"


class Layers(nn.Module):
    """Intermediate features alone, by layer_name; what follows is not run."""

    def __init__(self, net: ChipNet, spec: ModelSpec, stages: Sequence[int]):
        super().__init__()
        self.net, self.spec, self.stages = net, spec, stages

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """(N, size, size, 3) uint8 -> the channels of each that are compared, (N, C, h, w)."""
        layers = self.net.intermediates(normalize(pixels, self.spec.mean, self.spec.std), self.stages)
        return {layer_name(stage): compared_channels(layer) for stage, layer in zip(self.stages, layers)}


def onnx_bytes(
    net: ChipNet, spec: ModelSpec, info: ModelInfo, bank: FittedBank | None = None, plain: bool = False
) -> bytes:
    """The graph as an ONNX file for any number of images at a time, with what a client has to know in
    its metadata: name, revision, image_size, interpolation, classes, threshold, distance_limit.

    plain: as traced has it. Raises SettingsError where the package onnx is not installed.
    """
    content = traced(Graph(net.cpu(), spec, bank), spec.image_size, plain)
    return _described(content, spec, info).SerializeToString()


def write_graph(folder: Path) -> Path:
    """Write graph.onnx into a checkpoint folder, so that the app starts with it without PyTorch; its path.

    Raises CheckpointError, OSError, SettingsError where the package onnx is not installed.
    """
    net, spec, info = load_checkpoint(folder)
    bank = load_anomaly_model(folder) if (folder / MEMORY).exists() else None
    model = _described(traced(Graph(net, spec, bank), spec.image_size, plain=True), spec, info)
    model.metadata_props.add(key="made_for", value=made_for(info.revision))
    _refer_to_weights(model, folder / WEIGHTS)
    path = folder / GRAPH
    path.write_bytes(model.SerializeToString())
    return path


def _refer_to_weights(model, weights: Path) -> None:
    """Replace the weights in an ONNX model by their places in a file of safetensors.

    Those in half precision are cast when the graph is loaded.
    """
    import onnx

    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        tensors = json.loads(file.read(length))
    places = {f"net.{current_name(name)}": about for name, about in tensors.items() if "dtype" in about}
    casts = []
    for weight in model.graph.initializer:
        if weight.name not in places:
            continue
        place, single = places[weight.name], weight.name
        if place["dtype"] == "F16":
            weight.name, weight.data_type = f"{single}.half", onnx.TensorProto.FLOAT16
            casts.append(onnx.helper.make_node("Cast", [weight.name], [single], to=onnx.TensorProto.FLOAT))
        start, end = place["data_offsets"]
        about = {"location": weights.name, "offset": 8 + length + start, "length": end - start}
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        for key, value in about.items():
            weight.external_data.add(key=key, value=str(value))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)


def _described(content: bytes, spec: ModelSpec, info: ModelInfo):
    """An ONNX file as a model with the metadata of onnx_bytes."""
    require("onnx")
    import onnx  # here, since only who exports needs it

    model = onnx.load_from_string(content)
    about = {
        "name": info.name,
        "revision": info.revision,
        "image_size": spec.image_size,
        "interpolation": spec.interpolation,
        "classes": list(spec.classes),
        "threshold": spec.threshold,
        "distance_limit": spec.distance_limit,
    }
    for key, value in about.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=key, value=text)
    return model


def traced(graph: nn.Module, image_size: int, plain: bool = False) -> bytes:
    """An ONNX file of a module that takes PIXELS, (N, size, size, 3) uint8, and gives tensors by name.

    plain: its weights are the module's own tensors, by their names; otherwise operations are joined.
    """
    example = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    names = list(graph.eval()(example))
    stream = BytesIO()
    with warnings.catch_warnings():  # of tracing, which is right for a network without branches
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (example,),
            stream,
            input_names=[PIXELS],
            output_names=names,
            dynamic_axes={name: {0: "images"} for name in (PIXELS, *names)},
            opset_version=OPSET,
            dynamo=False,  # the other exporter needs packages of its own
            do_constant_folding=not plain,
            training=TrainingMode.PRESERVE if plain else TrainingMode.EVAL,  # the latter joins
        )
    return stream.getvalue()


def save_graph(
    net: ChipNet,
    spec: ModelSpec,
    info: ModelInfo,
    folder: Path,
    format: str,
    images: Sequence[np.ndarray] = (),
) -> list[Path]:
    """Write a model as model.onnx, or as OpenVINO's model.xml and model.bin; gives their paths.

    images: (size, size, 3) uint8 pixels to choose the steps of an 8-bit network by; without them it
    stays in single precision. Raises DataError where the model judges by its memory or the folder holds
    anything else, SettingsError where a package is missing.
    """
    if spec.verdict_by != HEAD:
        raise DataError(
            f"{info.name} judges by its memory bank, which is searched outside the network, so it cannot be "
            "exported. Run it with python -m chipdemo inspect."
        )
    require(*(() if format == ONNX else ("openvino",)), *(("nncf",) if images else ()))
    content = onnx_bytes(net, spec, info)
    with replacing(folder, FILES) as part:
        if format == ONNX:
            import onnx

            model = onnx.load_from_string(content)
            onnx.save(_quantized(model, images) if images else model, part / "model.onnx")
        else:
            import openvino

            model = openvino.Core().read_model(content)
            model = _quantized(model, images) if images else model
            openvino.save_model(model, part / "model.xml", compress_to_fp16=False)
    return sorted(folder.iterdir())


def _quantized(model, images: Sequence[np.ndarray]):
    """An ONNX or OpenVINO model in 8 bits, by NNCF."""
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own set_log_level turns all others down too
    examples = nncf.Dataset([{PIXELS: pixels[None]} for pixels in images])
    return nncf.quantize(model, examples, subset_size=len(images))
