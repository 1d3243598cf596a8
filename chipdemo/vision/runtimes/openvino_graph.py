"""A graph in OpenVINO.

A run that is alone uses every core. Runs beside others have cores of their own: cores that wait for each
other would waste what the other threads of the app could use.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openvino

from chipdemo.settings import BFLOAT16, FLOAT32
from chipdemo.vision.runtimes.engine import LOG_ODDS, PATCHES
from chipdemo.vision.runtimes.precision import backbone_and_rest
from chipdemo.vision.runtimes.select import threads

SHAPES = (8, 4, 2, 1)  # images in one run: a graph of a known shape is up to a quarter faster
ALONE = {"PERFORMANCE_HINT": "LATENCY"}
BESIDE_OTHERS = {
    "PERFORMANCE_HINT": "THROUGHPUT",
    "PERFORMANCE_HINT_NUM_REQUESTS": 2,  # as many as there are runs at a time, unless settings say more
    "ENABLE_CPU_PINNING": False,  # other threads want the cores too
}


class Variant(NamedTuple):
    """How a graph is compiled. count: images in a run. patches: whether they are among its outputs."""

    count: int
    alone: bool
    patches: bool


class OpenVinoGraph:
    """See graph.Run. Compiled when it is first needed, but for the variant that is needed first."""

    def __init__(self, graph: bytes | Path, precision: str = FLOAT32):
        """graph: an ONNX file. precision: FLOAT32, or BFLOAT16 for the backbone of an export with `plain`."""
        self._core = openvino.Core()
        # not mapped: a file that is written over would end the process
        self._model = self._core.read_model(graph, config={"ENABLE_MMAP": False})
        self._precision = precision
        self._compiled: dict[Variant, list[openvino.CompiledModel]] = {}
        self._compiling, self._counting = threading.Lock(), threading.Lock()
        self._running = 0
        self._local = threading.local()  # a request holds its own inputs and outputs
        names = {name for output in self._model.outputs for name in output.get_names()}
        self._has_patches = PATCHES in names
        self._compile(Variant(1, alone=True, patches=self._has_patches and LOG_ODDS not in names))

    def __call__(self, inputs: Mapping[str, np.ndarray], patches: bool = True) -> dict[str, np.ndarray]:
        with self._counted() as alone:
            return self._run(inputs, alone, patches and self._has_patches)

    @contextmanager
    def _counted(self) -> Iterator[bool]:
        """Whether no other run is under way."""
        with self._counting:
            self._running += 1
            alone = self._running == 1
        try:
            yield alone
        finally:
            with self._counting:
                self._running -= 1

    def _run(self, inputs: Mapping[str, np.ndarray], alone: bool, patches: bool) -> dict[str, np.ndarray]:
        """In as few runs as there are known shapes for."""
        count = len(next(iter(inputs.values())))
        known = next(shape for shape in SHAPES if shape <= count)
        first = {name: values[:known] for name, values in inputs.items()}
        found = self._run_known(first, Variant(known, alone, patches))
        if known == count:
            return found
        others = self._run({name: values[known:] for name, values in inputs.items()}, alone, patches)
        return {name: np.concatenate((found[name], others[name])) for name in found}

    def _run_known(self, inputs: Mapping[str, np.ndarray], variant: Variant) -> dict[str, np.ndarray]:
        requests = self._local.__dict__.setdefault("requests", {})
        if variant not in requests:
            requests[variant] = [part.create_infer_request() for part in self._compile(variant)]
        first, *rest = requests[variant]
        found = first.infer(inputs, share_inputs=True, share_outputs=bool(rest))
        for request in rest:
            for index, tensor in enumerate(first.output_tensors):
                request.set_input_tensor(index, tensor)
            found = request.infer()
        return {name: values for output, values in found.items() for name in output.get_names()}

    def _compile(self, variant: Variant) -> list[openvino.CompiledModel]:
        """The parts of the graph, one after the other."""
        with self._compiling:
            if variant not in self._compiled:
                parts = self._parts(variant)
                hints = {"INFERENCE_NUM_THREADS": threads()} | (ALONE if variant.alone else BESIDE_OTHERS)
                self._compiled[variant] = [
                    self._core.compile_model(part, "CPU", hints | {"INFERENCE_PRECISION_HINT": precision})
                    for part, precision in parts
                ]
            return self._compiled[variant]

    def _parts(self, variant: Variant) -> list[tuple[openvino.Model, str]]:
        """Each with its precision."""
        model = self._model.clone()
        shape = model.input(0).partial_shape
        shape[0] = variant.count
        model.reshape(shape)
        if not variant.patches:
            for result in model.get_results():
                if PATCHES in result.output(0).get_names():
                    model.remove_result(result)
        if self._precision == BFLOAT16:
            return list(zip(backbone_and_rest(model), ("bf16", "f32")))
        return [(model, "f32")]
