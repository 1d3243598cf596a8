"""Which runtime runs the network: OpenVINO, ONNX Runtime or PyTorch, by what is installed and asked for."""

import os
import shutil
from importlib.util import find_spec

from chipdemo.errors import SettingsError
from chipdemo.settings import AUTO
from chipdemo.vision.zerogpu import cuda

PIXELS = "pixels"  # the name of an exported graph's input
OPENVINO, ONNX, TORCH = "openvino", "onnx", "torch"
PACKAGES = {OPENVINO: ("openvino", "onnx"), ONNX: ("onnxruntime", "onnx"), TORCH: ()}  # fastest first
NAMES = {OPENVINO: "OpenVINO", ONNX: "ONNX Runtime", TORCH: "PyTorch"}


def require(*packages: str, instead: str = "") -> None:
    """Raises SettingsError where one is not installed. instead: another way out, if there is one."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise SettingsError(
            f"The package {' and '.join(missing)} is not installed. Run pip install "
            f"{' '.join(missing)}{instead}."
        )


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


def threads() -> int:
    """OMP_NUM_THREADS, which sets a cluster worker's share of the cores; 0 for all."""
    return int(os.environ.get("OMP_NUM_THREADS", "0").partition(",")[0])


def _on_gpu() -> bool:
    if shutil.which("nvidia-smi") is None:  # comes with the driver; importing PyTorch to ask takes seconds
        return False
    return cuda()
