"""What is installed: every package that our code imports, and all files that it reads."""

import re
import sys
from ast import Import, ImportFrom, parse, walk
from fnmatch import fnmatch
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml takes Python 3.11")

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = {
    extra: [Requirement(line) for line in lines]
    for extra, lines in PROJECT["project"]["optional-dependencies"].items()
}
OURS = {"app", "chipdemo", "training", "space"}


def serving() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in (re.sub("#.*", "", line).strip() for line in lines) if line]


def named(requirements: list[Requirement]) -> set[str]:
    """The distributions, with those that an extra of a distribution stands for, such as gradio[mcp]."""
    names = {normal(each.name) for each in requirements}
    for each in requirements:
        for line in distribution(each.name).requires or () if each.extras else ():
            need = Requirement(line)
            if need.marker and any(need.marker.evaluate({"extra": extra}) for extra in each.extras):
                names.add(normal(need.name))
    return names


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imports_of(*folders: str) -> dict[str, str]:
    """The third-party modules that the Python files import, each with one of the files."""
    found = {}
    paths = [ROOT / "app.py", *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    for path in paths:
        for node in walk(parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, Import) else []
            names += [node.module] if isinstance(node, ImportFrom) and node.module else []
            found |= {name.partition(".")[0]: path.relative_to(ROOT).as_posix() for name in names}
    return {name: path for name, path in found.items() if name not in {*sys.stdlib_module_names, *OURS}}


def missing(modules: dict[str, str], requirements: list[Requirement]) -> dict[str, str]:
    owners, names = packages_distributions(), named(requirements)
    return {
        module: path
        for module, path in modules.items()
        if not names & {normal(owner) for owner in owners.get(module, [module])}
    }


def test_the_requirements_name_every_package_that_the_app_imports():
    optional = [
        *EXTRAS["ray"],
        *EXTRAS["watch"],
        *EXTRAS["export"],
        Requirement("spaces"),
    ]  # which ZeroGPU brings
    assert missing(imports_of("chipdemo"), serving() + optional) == {}


def test_the_extra_for_training_names_the_rest():
    assert missing(imports_of("training"), serving() + EXTRAS["train"] + [Requirement("spaces")]) == {}


def test_a_space_installs_nothing_for_training_and_tests():
    extras = {normal(each.name) for lines in EXTRAS.values() for each in lines}
    assert {normal(each.name) for each in serving()} & extras == set()


def test_what_is_installed_here_is_what_the_files_say():
    for each in serving() + [each for lines in EXTRAS.values() for each in lines]:
        assert each.specifier.contains(distribution(each.name).version), each


def test_all_files_of_the_app_are_part_of_the_package():
    patterns = [
        pattern.replace("**/", "*") for pattern in PROJECT["tool"]["setuptools"]["package-data"]["chipdemo"]
    ]
    files = [
        path for path in (ROOT / "chipdemo").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert [
        path for path in files if path.suffix != ".py" and not any(fnmatch(path.name, p) for p in patterns)
    ] == []
