"""Push a trained checkpoint to the Hugging Face Hub.

    python training/push.py FOLDER [owner/name] [--public]

does what `python training/train.py --push-to-hub` does at the end of training. Without owner/name the
repository belongs to whoever is signed in (`hf auth login`, or the variable HF_TOKEN) and is named after
the folder. A new repository is private unless --public is given; an existing one keeps its visibility.
"""

import argparse
import re
import shlex
import sys
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from safetensors import SafetensorError, safe_open

from chipdemo.comparison import Refused
from chipdemo.errors import CheckpointError, ChipDemoError, HubError
from chipdemo.hub import describe_error, with_retries, writable, writer
from chipdemo.vision.checkpoint import CARD, FILES, MEMORY, OPTIONAL
from chipdemo.vision.weights import load_checkpoint

OWN = "own"  # instead of owner/name: the name of the user and that of the folder
PNG = b"\x89PNG\r\n\x1a\n"  # the first bytes of such a file


def destination(name: str, folder: Path) -> str:
    """owner/name to push to, after checking that the signed-in user may. Raises HubError.

    name: owner/name, or OWN. Call it before training, which may take hours.
    """
    user = writer()
    own = f"{user['name']}/{slug(folder)}"
    return writable(own if name == OWN else name, user, own)


def slug(folder: Path) -> str:
    """The folder's name as a name that the Hub allows: "Chips (new)" -> "Chips-new"."""
    name = re.sub(r"[^A-Za-z0-9_.-]|--+|\.\.+", "-", folder.resolve().name)
    name = re.sub(r"-+", "-", name)[:90].removesuffix(".git").strip("-._")
    return name or "chip-inspector"


def pushable(folder: Path) -> list[str]:
    """The files of a checkpoint to push: weights, JSON, the card and the charts that the card shows.

    No pickle, no state of training, and no image but the small copies of normal images in a memory bank,
    which `teach --without-images` leaves out. Raises CheckpointError.
    """
    if missing := [name for name in FILES if name not in OPTIONAL and not (folder / name).is_file()]:
        raise CheckpointError(
            f"{folder} is not a complete checkpoint: {', '.join(missing)} is missing. Train one first."
        )
    files = [name for name in FILES if (folder / name).is_file()]
    if MEMORY in files:
        _check_safetensors(folder / MEMORY)
    card = (folder / CARD).read_text(encoding="utf-8")
    pictures = dict.fromkeys(re.findall(r"!\[[^\]]*\]\(([\w.-]+\.png)\)", card))
    return files + [name for name in pictures if _is_png(folder / name)]


def _check_safetensors(path: Path) -> None:
    try:
        with safe_open(path, "pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}). Teach the model again.") from error


def _is_png(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(PNG)


def push(folder: Path, repository: str, public: bool = False) -> CommitInfo:
    """Push a checkpoint in one commit and print its address. Raises HubError, CheckpointError.

    repository: from destination(). public: the visibility of a new repository. Nothing changes on this
    machine, and pushing the same again adds nothing.
    """
    files, api = pushable(folder), HfApi()
    _, _, info = load_checkpoint(folder)  # raises CheckpointError for one that cannot be used
    try:
        with_retries(lambda: api.create_repo(repository, private=not public, exist_ok=True))
        private = with_retries(lambda: api.model_info(repository, expand=["private"])).private
        visibility = "private" if private else "public"
        if private == public:
            print(f"{repository} exists and is {visibility}; its visibility is not changed", flush=True)
        commit = with_retries(lambda: _commit(api, folder, repository, files, info.revision))
    except Exception as error:  # noqa: BLE001 - network, proxy, storage and Hub raise errors of many types
        again = ["python", "training/push.py", str(folder), repository, *["--public"] * public]
        raise HubError(
            f"The push to {repository} failed: {describe_error(error)} The checkpoint in {folder} is "
            f"complete. Push it again with: {shlex.join(again)}"
        ) from error
    print(f"pushed revision {info.revision} as {commit.oid}, {visibility}: {commit.commit_url}")
    print(f"open it with: python app.py --model {repository}", flush=True)
    if info.comparison and not info.comparison.takes_over:
        refused = Refused(repository, commit.oid, info.comparison)
        print(f"{refused.text} Apps do not take it over. {refused.advice}", flush=True)
    return commit


def _commit(api: HfApi, folder: Path, repository: str, files: list[str], revision: str) -> CommitInfo:
    """One commit that adds the files and deletes those of an earlier checkpoint that this one lacks.

    create_commit rather than upload_folder, which may make several commits. The operations are made anew
    for each try, so that they take into account what an earlier try has uploaded.
    """
    there = [sibling.rfilename for sibling in api.model_info(repository).siblings or ()]
    operations = [CommitOperationAdd(name, folder / name) for name in files]
    operations += [CommitOperationDelete(name) for name in FILES if name in there and name not in files]
    message = f"Chip Inspector model, revision {revision}"
    return api.create_commit(repository, operations, commit_message=message)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="checkpoint folder, as train.py writes it")
    parser.add_argument("repository", nargs="?", default=OWN, metavar="owner/name", help="where to push it")
    parser.add_argument("--public", action="store_true", help="a new repository is open to everyone")
    options = parser.parse_args(arguments)
    push(options.folder, destination(options.repository, options.folder), options.public)


if __name__ == "__main__":
    try:
        main()
    except ChipDemoError as error:
        sys.exit(f"error: {error}")
