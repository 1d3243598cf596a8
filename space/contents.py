"""The files of a Space: the app, its requirements, and the card with the settings of the Space."""

import json
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import SpaceCardData, constants

from chipdemo.settings import SHIPPED

ROOT = Path(__file__).resolve().parent.parent
TITLE = "Chip Inspector"
SHORT = "Is this chip defective, and where? With evidence."  # the Hub allows 60 characters
PYTHON = "3.12"  # among those that ZeroGPU offers
TAGS = ("chip-inspection", "image-classification", "explainability", "data-labeling", "mcp-server")
CARD, THUMBNAIL = "README.md", "thumbnail.png"
WEIGHTS = "model.safetensors"  # of a checkpoint folder
SUFFIXES = (
    ".py",
    ".js",
    ".css",
    ".html",
    ".json",
    ".safetensors",
    ".onnx",
    ".md",
    ".png",
    ".jpg",
    ".txt",
)  # of what is uploaded


def files_of(space: str, model: str, dataset: str, preload: bool) -> dict[str, bytes]:
    """The content of every file of the Space, by its path.

    model: on the Hub; "" for the shipped one. Of the checkpoints only those that the Space uses are among
    them.
    """
    paths = [ROOT / name for name in ("app.py", "LICENSE", "requirements.txt")]
    paths += sorted((ROOT / "chipdemo").rglob("*"))
    unused = {path.parent for path in paths if path.name == WEIGHTS} - used_checkpoints(model)
    files = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in paths
        if path.is_file() and (path.suffix in SUFFIXES or path.parent == ROOT)
        if not path.name.startswith(".") and not unused & set(path.parents)
    }
    return files | {
        CARD: card(space, model, dataset, preload).encode(),
        THUMBNAIL: (ROOT / "docs" / "inspect.png").read_bytes(),
    }


def used_checkpoints(model: str) -> set[Path]:
    """The folders of the shipped models, unless another one is named, and of the rows of the comparison.

    A shipped model takes part in the comparison where it is in use. model: on the Hub, or "".
    """
    used = set() if model else set(SHIPPED)
    for ablation in (ROOT / "chipdemo" / "ablation").glob("*.json"):
        rows = json.loads(ablation.read_text(encoding="utf-8"))["rows"]
        folders = {(ablation.parent / row["checkpoint"]).resolve() for row in rows if row["checkpoint"]}
        used |= folders - set(SHIPPED)
    return used


def card(space: str, model: str, dataset: str, preload: bool) -> str:
    """The README.md of the Space. preload: the Hub downloads the model when it builds the Space."""
    hub = constants.ENDPOINT
    data = SpaceCardData(
        title=TITLE,
        sdk="gradio",
        sdk_version=version("gradio"),
        python_version=PYTHON,
        app_file="app.py",
        license=["apache-2.0"] if model else ["apache-2.0", "cc-by-nc-sa-4.0"],  # of the shipped weights
        models=[model] if model else None,
        datasets=[dataset] if dataset else None,
        tags=list(TAGS),
        short_description=SHORT,
        thumbnail=f"{hub}/spaces/{space}/resolve/main/{THUMBNAIL}",
        colorFrom="gray",
        colorTo="gray",
        fullWidth=True,
        suggested_hardware="cpu-basic",
        preload_from_hub=[model] if preload else None,
        hf_oauth=True,  # with the scopes that are always there, openid and profile, and no others
        disable_embedding=True,
    )
    body = (ROOT / "space" / "card.md").read_text(encoding="utf-8").format(
        model=f"[{model}]({hub}/{model})" if model else "the shipped one, for non-commercial use",
        dataset=f"published to [{dataset}]({hub}/datasets/{dataset})" if dataset else "not published",
    )  # fmt: skip
    return f"---\n{data.to_yaml()}\n---\n\n{body}"
