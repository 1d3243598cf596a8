"""Push a trained checkpoint to the Hugging Face Hub.

    python training/push.py FOLDER [owner/name] [--public]

is what `python training/train.py --push-to-hub` does when training has ended, and what tries it
again. Without owner/name it goes under the name of whoever is signed in (`hf auth login`, or the
variable HF_TOKEN). A new repository is private unless --public; one that exists stays as it is.
"""

import argparse
import re
import shlex
import sys
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from safetensors import SafetensorError, safe_open

from chipdemo.errors import CheckpointError, ChipDemoError, HubError
from chipdemo.hub import describe_error, with_retries, writable, writer
from chipdemo.vision.checkpoint import CARD, FILES, MEMORY
from chipdemo.vision.weights import load_checkpoint

OWN = "own"  # instead of owner/name: the signed-in user's name and the folder's
PNG = b"\x89PNG\r\n\x1a\n"  # how such a file begins


def destination(name: str, folder: Path) -> str:
    """owner/name to push to, after checking that whoever is signed in may. Raises HubError.

    name: owner/name, or OWN. Asked before training, so that hours of it do not end in a refusal.
    """
    user = writer()
    own = f"{user['name']}/{slug(folder)}"
    return writable(own if name == OWN else name, user, own)


def slug(folder: Path) -> str:
    """The folder's name as the Hub allows names: "Chips (new)" -> "Chips-new"."""
    name = re.sub(r"[^A-Za-z0-9_.-]|--+|\.\.+", "-", folder.resolve().name)
    name = re.sub(r"-+", "-", name)[:90].removesuffix(".git").strip("-._")
    return name or "chip-inspector"


def pushable(folder: Path) -> list[str]:
    """The files of a checkpoint that are pushed, and no others: no pickle, no state, no image
    but the small copies in a memory of normal chips, which `teach --without-images` leaves out.

    Its weights, its JSON, its card and the pictures that the card shows. Raises CheckpointError.
    """
    if missing := [name for name in FILES if name != MEMORY and not (folder / name).is_file()]:
        raise CheckpointError(
            f"Expected a whole checkpoint in {folder}; {', '.join(missing)} is not there. Train one first."
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
        raise CheckpointError(f"{path} is damaged ({error}). Fit it again.") from error


def _is_png(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(PNG)


def push(folder: Path, repository: str, public: bool = False) -> CommitInfo:
    """Push a checkpoint in one commit and print where it is. Raises HubError, CheckpointError.

    repository: from destination(). public: of a new repository; one that exists stays as it is.
    Nothing on this machine changes, and pushing the same again adds nothing.
    """
    files, api = pushable(folder), HfApi()
    _, _, info = load_checkpoint(folder)  # what cannot be used here is of no use to others
    try:
        with_retries(lambda: api.create_repo(repository, private=not public, exist_ok=True))
        private = with_retries(lambda: api.model_info(repository, expand=["private"])).private
        visibility = "private" if private else "public"
        if private == public:
            print(f"{repository} is {visibility} and stays so", flush=True)
        commit = with_retries(lambda: _commit(api, folder, repository, files, info.revision))
    except Exception as error:  # noqa: BLE001 - network, proxy, storage and Hub raise errors of many types
        again = ["python", "training/push.py", str(folder), repository, *["--public"] * public]
        raise HubError(
            f"Expected to push to {repository}; found {describe_error(error)} The checkpoint is whole in "
            f"{folder}. Try again with: {shlex.join(again)}"
        ) from error
    print(f"pushed revision {info.revision} as {commit.oid}, {visibility}: {commit.commit_url}")
    print(f"open it with: python app.py --model {repository}", flush=True)
    return commit


def _commit(api: HfApi, folder: Path, repository: str, files: list[str], revision: str) -> CommitInfo:
    """One commit: the files, and none of an earlier checkpoint's that this one lacks.

    create_commit rather than upload_folder, which may make several. Made anew for each try: then
    it sees what an earlier try has left on the Hub, and adds nothing twice.
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
