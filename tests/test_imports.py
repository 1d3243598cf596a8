"""Imports point one way: app.py -> ui -> judge, batch, labeling -> the core; app.py -> vision -> the core;
training -> vision. No two files import each other, on whatever way.

Every form counts: import, from, inside a function, under `if TYPE_CHECKING`, importlib, __import__.
"""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

CORE = tuple(
    f"chipdemo/{name}.py"
    for name in (
        "comparison",
        "errors",
        "examples",
        "files",
        "grids",
        "hub",
        "images",
        "inspection",
        "monitoring",
        "judge",
        "locks",
        "keys",
        "models",
        "near_duplicates",
        "overlay",
        "rates",
        "regions",
        "settings",
        "splits",
        "spreadsheet",
        "teaching",
        "threshold",
        "tiling",
    )  # fmt: skip
)
TORCH = ("torch", "torchvision", "timm", "pytorch_grad_cam", "torchmetrics")
GRADIO = ("gradio", "gradio_client")
HUB = ("huggingface_hub", "httpx2")
MAY_TALK_TO_THE_HUB = (
    "chipdemo/hub.py",
    "chipdemo/labeling/hub/*",
    "chipdemo/vision/backbone_weights.py",
    "chipdemo/vision/checkpoint.py",
    "chipdemo/vision/revisions.py",
    "chipdemo/vision/weights.py",
    "training/*",
    "space/*",
)

LONG = {("training/train.py", "run")}  # a training loop reads top to bottom

# files, what they may not import, files that may nevertheless
RULES = [
    (CORE, (*TORCH, *GRADIO, "chipdemo.ui", "chipdemo.vision", "chipdemo.labeling", "training"), ()),
    (("chipdemo/ui/*",), (*TORCH, "chipdemo.vision", "chipdemo.cli", "training"), ()),
    (("chipdemo/batch/*",), (*TORCH, *GRADIO, "chipdemo.vision", "chipdemo.ui", "chipdemo.cli"), ()),
    (("chipdemo/judge.py", "chipdemo/vision/*", "chipdemo/labeling/*"), ("chipdemo.batch",), ()),
    (("chipdemo/vision/*", "chipdemo/labeling/*"), (*GRADIO, "chipdemo.ui", "training"), ()),
    (("chipdemo/labeling/*",), (*TORCH, "chipdemo.vision"), ()),
    (("training/*",), (*GRADIO, "chipdemo.ui"), ()),
    (("chipdemo/*",), ("training", "tests", "app"), ()),
    (("app.py", "chipdemo/*", "training/*", "space/*"), HUB, MAY_TALK_TO_THE_HUB),
]


def sources() -> list[str]:
    """Our Python files, relative to the root, with forward slashes."""
    folders = [ROOT / name for name in ("chipdemo", "training", "space")]
    files = [ROOT / "app.py", *(file for folder in folders for file in folder.rglob("*.py"))]
    return sorted(file.relative_to(ROOT).as_posix() for file in files if file.exists())


def imported(source: str, path: str) -> Iterator[str]:
    """The dotted names that a file imports in any way. path: relative, to resolve "from . import"."""
    tree = ast.parse(source)
    importers = {"__import__", "import_module"} | {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "importlib"
        for alias in node.names
        if alias.name in ("import_module", "__import__") and alias.asname
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, path)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in importers:
            yield _literal(node)


def _absolute(module: str, level: int, path: str) -> str:
    package = Path(path).parent.parts
    above = package[: len(package) - level + 1] if level else ()
    return ".".join((*above, *filter(None, [module])))


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _literal(node: ast.Call) -> str:
    """The name given to import_module; "?" where it is not written out, which no rule allows."""
    named = [keyword.value for keyword in node.keywords if keyword.arg == "name"]
    given = [*node.args, *named][:1]
    return given[0].value if given and isinstance(given[0], ast.Constant) else "?"


def offences(source: str, path: str) -> list[str]:
    """What a file imports against the rules, as "path imports name"."""
    names = sorted(set(imported(source, path)))
    found = []
    for files, forbidden, excepted in RULES:
        if not any(fnmatch(path, pattern) for pattern in files) or any(fnmatch(path, p) for p in excepted):
            continue
        for name in names:
            if name == "?" or any(name == banned or name.startswith(banned + ".") for banned in forbidden):
                found.append(f"{path} imports {name}")
    return found


@pytest.mark.parametrize("path", sources())
def test_imports_point_one_way(path):
    assert offences((ROOT / path).read_text(encoding="utf-8"), path) == []


def test_no_files_import_each_other():
    """Imports inside functions count too; those under TYPE_CHECKING are no imports."""
    modules = {module_of(path): path for path in sources()}
    imports = {
        path: {modules[name] for name in imported(without_types(path), path) if name in modules} - {path}
        for path in modules.values()
    }
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def module_of(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def without_types(path: str) -> str:
    """The source without what stands under `if TYPE_CHECKING`."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kept = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return ast.unparse(ast.Module(kept, []))


@pytest.mark.parametrize("path", sources())
def test_no_function_is_longer_than_60_lines(path):
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno - node.lineno >= 60
    }
    assert {name for name in long if (path, name) not in LONG} == set()


@pytest.mark.parametrize(
    "source",
    [
        "import torch",
        "import torch.nn.functional as F",
        "from torch import nn",
        "def f():\n    import torch",
        "if TYPE_CHECKING:\n    from torch import Tensor",
        "import importlib\nimportlib.import_module('torch')",
        "from importlib import import_module as load\nload('torch.nn')",
        "import importlib\nimportlib.import_module(name='timm')",
        "__import__('torch')",
        "import importlib\nimportlib.import_module('to' + 'rch')",
        "from chipdemo import vision",
        "from chipdemo.vision.predictor import load_model",
        "from .. import vision",
        "from ..vision import inspector",
        "from huggingface_hub import HfApi",
    ],
)
def test_every_form_of_a_forbidden_import_is_found(source):
    assert offences(source, "chipdemo/ui/some_tab.py")


@pytest.mark.parametrize(
    "source, path",
    [
        ("import torchlight", "chipdemo/ui/theme.py"),
        ("import gradio as gr", "chipdemo/ui/theme.py"),
        ("from chipdemo.inspection import Model", "chipdemo/ui/theme.py"),
        ("from . import html", "chipdemo/ui/theme.py"),
        ("import importlib.util\nimportlib.util.find_spec('torch')", "chipdemo/examples.py"),
        ("from huggingface_hub import snapshot_download", "chipdemo/vision/checkpoint.py"),
    ],
)
def test_what_is_allowed_is_not_complained_of(source, path):
    assert offences(source, path) == []


@pytest.mark.parametrize(
    "source, path",
    [
        ("import gradio", "chipdemo/vision/cam.py"),
        ("import gradio", "chipdemo/overlay.py"),
        ("from chipdemo.ui import page", "training/train.py"),
        ("import torch", "chipdemo/images.py"),
        ("import training.train", "chipdemo/vision/model.py"),
        ("from huggingface_hub import HfApi", "chipdemo/models.py"),
    ],
)
def test_each_room_has_its_own_rules(source, path):
    assert offences(source, path)
