"""Put the app on a Hugging Face Space, or bring one up to date.

    python space/deploy.py --space owner/chips --model owner/model --dataset owner/labels --dry-run
    read -rs CHIPS_TOKEN; export CHIPS_TOKEN    # one that may write to the dataset and read the model
    python space/deploy.py --space owner/chips ... --secret HF_TOKEN=CHIPS_TOKEN

Who deploys is signed in by `hf auth login` or the variable HF_TOKEN. A new Space is private unless
--public; one that exists stays as it is. The files go in one commit, which also removes what is no
longer needed; the same again changes nothing. A Space has a sign-in of its own for those who label,
and publishes their labels with the token in its secret HF_TOKEN.
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from os import environ
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script, from anywhere

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils.sha import git_hash

from chipdemo.errors import ChipDemoError, HubError, SettingsError
from chipdemo.hub import checked_name, describe_error, with_retries, writable, writer
from chipdemo.settings import Settings, add_flags, variable
from space.contents import CARD, TITLE, files_of

TOKEN = "HF_TOKEN"  # the secret that huggingface_hub reads on the Space
GIT = ".gitattributes"
OURS = "chipdemo/settings.py"  # by which a Space is known to be one of these
CHECKPOINT = ("model.safetensors", "config.json")  # by which a model is
NO_TOKEN = (
    f"note     The Space's secret {TOKEN} is not set: a private model is not read and no label published "
    f"without a token that may. Set it by --secret {TOKEN}=VARIABLE."
)
MORE_SETTINGS = (
    "journal",
    "hot_reload",
    "labelers",
    "reviewers",
    "annotators_per_image",
)  # that become variables


@dataclass(frozen=True)
class Wanted:
    """What the Space is to be. files: content by path. variables: None removes one. public: if new."""

    space: str
    files: Mapping[str, bytes] = field(repr=False)
    variables: Mapping[str, str | None]
    secrets: Mapping[str, str] = field(repr=False)
    replace_secrets: bool = False
    public: bool = False


@dataclass(frozen=True)
class Present:
    """What the Space is. files: hash by path, sha256 of the large ones, git's of the others."""

    exists: bool = False
    private: bool = True
    revision: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: AbstractSet[str] = frozenset()


@dataclass(frozen=True)
class Changes:
    """From present to wanted: paths, and names with the values of variables, None for one that goes."""

    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]
    variables: Mapping[str, str | None]
    secrets: Sequence[str]


def present_in(api: HfApi, space: str) -> Present:
    """The Space as it is now."""
    try:
        info = api.space_info(space, files_metadata=True)
    except RepositoryNotFoundError:
        return Present()
    return Present(
        True,
        bool(info.private),
        info.sha,
        {each.rfilename: each.lfs.sha256 if each.lfs else each.blob_id for each in info.siblings or ()},
        {name: each.value for name, each in api.get_space_variables(space).items()},
        frozenset(api.get_space_secrets(space)),
    )


def changes_of(wanted: Wanted, present: Present) -> Changes:
    """What makes the wanted Space of the present one. Raises HubError for somebody else's Space."""
    foreign = sorted(present.files.keys() - {CARD, GIT})
    if foreign and OURS not in present.files:
        raise HubError(
            f"Expected a Space of {TITLE} or none; {wanted.space} holds {foreign[0]}. Choose another name, "
            "or remove its files on the Hub."
        )
    variables = {
        name: value for name, value in wanted.variables.items() if value != present.variables.get(name)
    }
    return Changes(
        sorted(wanted.files.keys() - present.files.keys()),
        [path for path in sorted(wanted.files.keys() & present.files.keys())
         if present.files[path] not in (git_hash(wanted.files[path]), sha256(wanted.files[path]))],
        sorted(present.files.keys() - wanted.files.keys() - {GIT}),
        variables,
        [name for name in wanted.secrets if wanted.replace_secrets or name not in present.secrets],
    )  # fmt: skip


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def carry_out(api: HfApi, wanted: Wanted) -> None:
    """Look, and do what is still to be done: it may be tried again after any failure.

    Variables and secrets first, so that the Space that the commit builds starts with them.
    """
    present = present_in(api, wanted.space)
    if not present.exists:
        private = not wanted.public
        api.create_repo(wanted.space, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        present = present_in(api, wanted.space)
    changes = changes_of(wanted, present)
    for name, value in changes.variables.items():
        if value is None:
            api.delete_space_variable(wanted.space, name)
        else:
            api.add_space_variable(wanted.space, name, value)
    for name in changes.secrets:
        api.add_space_secret(wanted.space, name, wanted.secrets[name])
    operations = [CommitOperationAdd(path, wanted.files[path]) for path in (*changes.added, *changes.changed)]
    operations += [CommitOperationDelete(path) for path in changes.removed]
    if operations:
        message = f"{TITLE}: {len(operations)} files"
        api.create_commit(
            wanted.space,
            operations,
            commit_message=message,
            repo_type="space",
            parent_commit=present.revision,
        )


def told_of(wanted: Wanted, present: Present, changes: Changes) -> list[str]:
    """What happens, line by line; of secrets, the names alone."""
    private = present.private if present.exists else not wanted.public
    lines = [
        f"{'keep' if present.exists else 'create':9}{wanted.space}, {'private' if private else 'public'}"
    ]
    lines += [f"add      {path}" for path in changes.added]
    lines += [f"change   {path}" for path in changes.changed]
    lines += [f"remove   {path}" for path in changes.removed]
    lines += [
        f"unset    {name}" if value is None else f"set      {name}={value}"
        for name, value in changes.variables.items()
    ]
    lines += [f"secret   {name}" for name in changes.secrets]
    lines += [
        f"keep     secret {name}, whatever it holds; --replace-secrets sets it anew"
        for name in wanted.secrets
        if name not in changes.secrets
    ]
    if not any((changes.added, changes.changed, changes.removed, changes.variables, changes.secrets)):
        lines.append("nothing to change")
    return lines


# The command line


def deploy(options: argparse.Namespace) -> None:
    """Make or update the Space, and print what changes. Raises HubError, SettingsError."""
    secrets = secrets_of(options.secret)
    more = variables_of(options)
    user = writer()
    space = writable(options.space, user, f"{user['name']}/chip-inspector")
    if options.model:
        checked_name(options.model, f"{user['name']}/model")
    api = HfApi()
    try:
        private_model = bool(options.model) and is_private(api, options.model)
        variables = {
            variable("model"): options.model or None, variable("dataset"): options.dataset or None, **more,
        }  # fmt: skip
        files = files_of(space, options.model, options.dataset, bool(options.model) and not private_model)
        wanted = Wanted(space, files, variables, secrets, options.replace_secrets, options.public)
        present = with_retries(lambda: present_in(api, space))
        lines = told_of(wanted, present, changes_of(wanted, present))
        print("\n".join(lines), flush=True)
        if (options.dataset or private_model) and TOKEN not in present.secrets | secrets.keys():
            print(NO_TOKEN, flush=True)
        if options.dry_run:
            print("dry run: nothing was changed")
            return
        with_retries(lambda: carry_out(api, wanted))
    except ChipDemoError:
        raise
    except Exception as error:  # noqa: BLE001 - network, proxy, storage and Hub raise errors of many types
        raise HubError(
            f"Expected to deploy to {space}; found {describe_error(error)} Then run the same command again: "
            "what is done stays, and is not done twice."
        ) from error
    print(f"open     {constants.ENDPOINT}/spaces/{space}")


def is_private(api: HfApi, model: str) -> bool:
    """Whether the model is for some alone; the Hub cannot preload it then. Raises HubError for no model."""
    try:
        info = with_retries(lambda: api.model_info(model))
    except RepositoryNotFoundError as error:
        raise HubError(
            f"Expected the model {model} on the Hub; found none that this token may read. Push it first: "
            f"python training/push.py FOLDER {model}"
        ) from error
    there = {each.rfilename for each in info.siblings or ()}
    if missing := [name for name in CHECKPOINT if name not in there]:
        raise HubError(
            f"Expected a model of {TITLE} in {model}; {missing[0]} is not there. Push one: "
            f"python training/push.py FOLDER {model}"
        )
    return bool(info.private)


def variables_of(options: argparse.Namespace) -> dict[str, str]:
    """The settings that were given, as variables. Raises SettingsError."""
    Settings().with_flags(options)
    given = {name: getattr(options, name) for name in MORE_SETTINGS}
    return {variable(name): value for name, value in given.items() if value is not None}


def secrets_of(pairs: Sequence[str]) -> dict[str, str]:
    """ "HF_TOKEN=CHIPS_TOKEN" -> {"HF_TOKEN": what the variable CHIPS_TOKEN holds}. Raises SettingsError.

    What stands for the variable is never repeated: somebody may have written the secret itself.
    """
    secrets = {}
    for pair in pairs:
        name, _, source = pair.partition("=")
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", name):
            raise SettingsError(
                "--secret: expected NAME or NAME=VARIABLE with a NAME of capitals, digits and '_'; found "
                f"something else. For example --secret {TOKEN}=CHIPS_TOKEN."
            )
        if not environ.get(source or name):
            raise SettingsError(
                f"--secret {name}: expected the name of a variable of this shell that holds it; found none "
                f"such. Set the variable first, and name it: --secret {name}=VARIABLE."
            )
        secrets[name] = environ[source or name]
    return secrets


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    owner = {"metavar": "OWNER/NAME"}
    parser.add_argument("--space", required=True, help="the Space", **owner)
    parser.add_argument("--model", default="", help="a pushed model; without it, the shipped one", **owner)
    parser.add_argument("--dataset", default="", help="the dataset that labels are published to", **owner)
    parser.add_argument(
        "--secret",
        action="append",
        default=[],
        metavar="NAME[=VARIABLE]",
        help="a secret of the Space, taken from a variable of this shell; may be given several times",
    )
    parser.add_argument("--replace-secrets", action="store_true", help="also those that are there already")
    parser.add_argument("--public", action="store_true", help="a new Space is open to everyone")
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    add_flags(parser, MORE_SETTINGS)
    return parser


if __name__ == "__main__":
    try:
        deploy(command_line().parse_args())
    except ChipDemoError as error:
        sys.exit(f"error: {error}")
