"""The documents: every link, setting, package, module and command that they name exists."""

import re
import shlex
from pathlib import Path

import pytest

import app
import space.deploy
from chipdemo.__main__ import command_line
from chipdemo.settings import DEFAULT_MODEL
from chipdemo.vision.predictor import load_model
from docs.make_settings import PAGE, page
from tests.serving import served
from tests.tiny import draw_chip
from training import ablate, evaluate, options
from training.ablation.plans import PLANS

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md"))
)
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PARSERS = {
    "app.py": lambda words: app.read_settings(words, {}),
    "training/train.py": options.parse,
    "training/evaluate.py": evaluate.parse,
    "training/ablate.py": lambda words: ablate.parse(words, PLANS),
    "space/deploy.py": lambda words: space.deploy.command_line().parse_args(words),
}


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> list[list[str]]:
    """The words of every command line of the pages that starts python."""
    blocks = [block for path in PAGES for block in re.findall(r"```sh\n(.*?)```", text_of(path), re.DOTALL)]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [each[each.index("python") + 1 :] for each in words if "python" in each]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(path):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text_of(path)):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_page_of_settings_is_up_to_date():
    """If not: python docs/make_settings.py."""
    assert PAGE.read_text(encoding="utf-8") == page(PAGE.read_text(encoding="utf-8"))


def test_every_package_and_no_other_module_is_in_the_architecture():
    for folder in ("chipdemo", "training", "space", "benchmarks"):
        for package in (ROOT / folder).rglob("__init__.py"):
            assert f"`{package.parent.relative_to(ROOT).as_posix()}`" in ARCHITECTURE
    for row in re.findall(r"^\| (`chipdemo.*)$", ARCHITECTURE, re.MULTILINE):
        packages, _, modules = (cell.strip() for cell in row.rstrip("| ").split(" | "))
        for package in re.findall(r"`([\w/]+)`", packages):
            for module in re.findall(r"`(\w+\.py)`", modules):
                assert (ROOT / package / module).is_file(), f"{package}/{module}"


@pytest.mark.parametrize("words", commands(), ids=shlex.join)
def test_every_command_has_only_flags_that_exist(words):
    match words:
        case ["-m", "chipdemo", *arguments]:
            command_line().parse_args(arguments)
        case [script, *arguments] if script in PARSERS:
            PARSERS[script](arguments)
        case [script, *_]:
            assert (ROOT / script).is_file()


def test_the_snippet_of_the_api_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    (snippet,) = re.findall(r"```python\n(.*?)```", text_of(ROOT / "docs" / "api.md"), re.DOTALL)
    draw_chip(1, size=200).save(tmp_path / "chip.png")
    monkeypatch.chdir(tmp_path)
    with served(load_model(str(DEFAULT_MODEL))) as address:
        found = {}
        exec(snippet.replace("http://127.0.0.1:7860", address), found)
    of_the_inspection = (
        text_of(ROOT / "docs" / "api.md").partition("## The inspection\n")[2].partition("\n## ")[0]
    )
    keys = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", of_the_inspection, re.MULTILINE)
    assert set(re.findall(r"\w+", " ".join(keys))) == found["result"].keys()
    assert Path(found["overlay"]).suffix == ".png"
    assert found["result"]["outcome"] in capsys.readouterr().out
