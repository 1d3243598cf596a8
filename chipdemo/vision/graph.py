"""The network as one graph in a file: RGB pixels in, everything an inspection needs out.

OpenVINO and ONNX Runtime run it several times as fast as PyTorch does on a CPU, and a client needs
neither PyTorch nor this package: normalisation, temperature and heat scale are inside.

    pixels             (N, size, size, 3) uint8, RGB
    probability        (N,) of abnormal, calibrated, 0-1
    heat               (N, h, w) evidence on the model's own scale, 0-1; red starts at 0.5
    log_odds, evidence, features, channel_attention, spatial_attention, distance
                       as EngineOutput has them; without attention, there are no attention maps
    middle_S           (N, C, h, w) features of stride S, where normal chips were learned
"""

import json
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn

from chipdemo.errors import SettingsError
from chipdemo.inspection import ModelInfo
from chipdemo.vision.checkpoint import ModelSpec
from chipdemo.vision.explain import HALF
from chipdemo.vision.model import ChipNet
from chipdemo.vision.output import replacing
from chipdemo.vision.transforms import normalise

PIXELS = "pixels"
ONNX = "onnx"
FILES = ("model.onnx", "model.xml", "model.bin")
OPSET = 18


def require(*packages: str) -> None:
    """Raises SettingsError where one is not installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise SettingsError(
            f"Expected the package {' and '.join(missing)}; it is not installed. pip install "
            f"{' '.join(missing)}, or do without by --runtime torch."
        )


class Graph(nn.Module):
    """What is put into the file. strides: of middle features that are wanted too."""

    def __init__(self, net: ChipNet, spec: ModelSpec, strides: Sequence[int] = ()):
        super().__init__()
        self.net, self.spec, self.strides = net, spec, tuple(strides)

    @property
    def outputs(self) -> list[str]:
        attention = ("channel_attention", "spatial_attention") if self.spec.attention == "cbam" else ()
        middle = (f"middle_{stride}" for stride in self.strides)
        return ["probability", "heat", "log_odds", "evidence", "features", *attention, "distance", *middle]

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(N, size, size, 3) uint8 -> the tensors that `outputs` names."""
        output = self.net(normalise(pixels, self.spec.mean, self.spec.std), self.strides)
        log_odds = output.logits[:, 1] - output.logits[:, 0]  # (N, 2) -> (N,)
        probability = torch.sigmoid(log_odds / self.spec.temperature)
        heat = (HALF * output.evidence / self.spec.heat_scale).clamp(0, 1)
        attention = (output.channel_attention, output.spatial_attention)
        return (
            probability, heat, log_odds, output.evidence, output.features,
            *(maps for maps in attention if maps is not None), output.distance, *output.middle,
        )  # fmt: skip


def onnx_bytes(net: ChipNet, spec: ModelSpec, info: ModelInfo, strides: Sequence[int] = ()) -> bytes:
    """The graph as an ONNX file for any number of photographs at a time, with what a client has to know in
    its metadata: name, revision, image_size, interpolation, classes, threshold, distance_limit.

    Raises SettingsError where the package onnx is not installed.
    """
    require("onnx")
    import onnx  # here, since only who exports needs it

    graph = Graph(net.cpu(), spec, strides).eval()
    example = torch.zeros(2, spec.image_size, spec.image_size, 3, dtype=torch.uint8)
    stream = BytesIO()
    with warnings.catch_warnings():  # of tracing, which is right for a network without branches
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (example,),
            stream,
            input_names=[PIXELS],
            output_names=graph.outputs,
            dynamic_axes={name: {0: "photographs"} for name in (PIXELS, *graph.outputs)},
            opset_version=OPSET,
            dynamo=False,  # the other exporter needs packages of its own
        )
    model = onnx.load_from_string(stream.getvalue())
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
    return model.SerializeToString()


def save_graph(net: ChipNet, spec: ModelSpec, info: ModelInfo, folder: Path, format: str) -> list[Path]:
    """Write a model as model.onnx, or as OpenVINO's model.xml and model.bin; gives their paths.

    Raises DataError where the folder holds anything else, SettingsError where a package is missing.
    """
    if format != ONNX:
        require("openvino")
    content = onnx_bytes(net, spec, info)
    with replacing(folder, FILES) as part:
        if format == ONNX:
            (part / "model.onnx").write_bytes(content)
        else:
            import openvino

            model = openvino.Core().read_model(content)
            openvino.save_model(model, part / "model.xml", compress_to_fp16=False)
    return sorted(folder.iterdir())
