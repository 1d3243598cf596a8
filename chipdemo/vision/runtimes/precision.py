"""The precision that the backbone runs in: single precision, or bfloat16 where that was measured to be safe.

bfloat16 has the range of single precision and 8 of its 24 significant bits; processors with AVX-512 BF16 or
AMX multiply it several times as fast. Only OpenVINO runs it here, and only the backbone: attention, head,
distance, maps and patches stay in single precision, since they take differences of numbers that are close.
"""

from typing import TYPE_CHECKING, Any

from chipdemo.errors import SettingsError
from chipdemo.settings import AUTO, BFLOAT16, FLOAT32
from chipdemo.vision.runtimes.select import NAMES, OPENVINO

if TYPE_CHECKING:
    import openvino

MOST_OTHER_OUTCOMES, MOST_AUROC_LOSS = 0.01, 0.002  # against single precision, on validation images
MEASURED = "bfloat16"  # of metrics.json: what benchmarks/precision.py measured
BACKBONE = "net.backbone."  # what the names of its weights start with in a graph


def chosen_precision(asked: str, runtime: str, measured: dict[str, Any] | None) -> str:
    """FLOAT32 or BFLOAT16 for one of settings.PRECISIONS.

    measured: what metrics.json says of bfloat16, if anything. Raises SettingsError where bfloat16 is asked
    for and the runtime or the processor lacks it.
    """
    able = runtime == OPENVINO and processor_has_bfloat16()
    if asked == AUTO:
        return BFLOAT16 if able and measured and holds(measured) else FLOAT32
    if asked == BFLOAT16 and not able:
        lacks = "This processor" if runtime == OPENVINO else NAMES[runtime]
        raise SettingsError(f"{lacks} has no bfloat16 here. Leave --precision out.")
    return asked


def holds(measured: dict[str, Any]) -> bool:
    """Whether so few outcomes change that a precision is used. measured: on validation images."""
    return (
        measured["other_outcomes"] <= MOST_OTHER_OUTCOMES * measured["images"]
        and measured["auroc_loss"] <= MOST_AUROC_LOSS
    )


def processor_has_bfloat16() -> bool:
    """Whether OpenVINO multiplies it in hardware here."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def backbone_and_rest(model: "openvino.Model") -> tuple["openvino.Model", "openvino.Model"]:
    """A graph in two: the outputs of the first are the inputs of the second, in the same order.

    The first ends with the last operation that has weights of the backbone. model: an export with `plain`,
    whose weights have their names; it is taken apart.
    """
    import openvino
    from openvino import opset13

    first = _before(_with_backbone_weights(model))
    cuts = []
    for operation in model.get_ordered_ops():
        if operation.get_friendly_name() not in first or operation.get_type_name() == "Constant":
            continue
        for output in operation.outputs():
            after = [
                each
                for each in output.get_target_inputs()
                if each.get_node().get_friendly_name() not in first
            ]
            if after:
                cuts.append((output, after))
    inputs = []
    for output, after in cuts:
        inputs.append(opset13.parameter(output.get_partial_shape(), output.get_element_type()))
        for each in after:
            each.replace_source_output(inputs[-1].output(0))
    backbone = openvino.Model([output for output, _ in cuts], model.get_parameters(), "backbone")
    return backbone, openvino.Model(model.get_results(), inputs, "rest")


def _with_backbone_weights(model: "openvino.Model") -> list["openvino.Node"]:
    """The operations on an image that use weights of the backbone."""
    constants: dict[str, bool] = {}  # by name: whether they come from weights of the backbone
    found = []
    for operation in model.get_ordered_ops():
        name, sources = operation.get_friendly_name(), _sources(operation)
        if operation.get_type_name() == "Constant":
            constants[name] = name.startswith(BACKBONE)
        elif sources and all(source.get_friendly_name() in constants for source in sources):
            constants[name] = any(constants[source.get_friendly_name()] for source in sources)
        elif any(constants.get(source.get_friendly_name()) for source in sources):
            found.append(operation)
    return found


def _before(operations: list["openvino.Node"]) -> set[str]:
    """The names of operations and of all that they need."""
    names, left = set(), list(operations)
    while left:
        operation = left.pop()
        if operation.get_friendly_name() not in names:
            names.add(operation.get_friendly_name())
            left += _sources(operation)
    return names


def _sources(operation: "openvino.Node") -> list["openvino.Node"]:
    return [each.get_source_output().get_node() for each in operation.inputs()]
