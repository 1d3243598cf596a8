"""Deploy the app to a Hugging Face Space, or update one.

    python space/deploy.py --space owner/chips --model owner/model --dataset owner/labels --dry-run
    read -rs CHIPS_TOKEN; export CHIPS_TOKEN    # a token that can write to the dataset and read the model
    python space/deploy.py --space owner/chips ... --secret HF_TOKEN=CHIPS_TOKEN

--dry-run lists what would be uploaded; it needs neither a token nor the network. To deploy, sign in
with `hf auth login` or the variable HF_TOKEN. A new Space is private unless --public is given; the
visibility of an existing one does not change. All files go up in one commit, which also removes those
that are no longer needed; deploying the same again changes nothing. Annotators sign in on the Space
itself, and their labels are published with the token in its secret HF_TOKEN.
"""

import argparse
import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from os import environ

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils.sha import git_hash

from chipdemo.errors import ChipDemoError, HubError, SettingsError
from chipdemo.hub import checked_name, describe_error, with_retries, writable, writer
from chipdemo.settings import Settings, add_flags, variable
from space.contents import CARD, TITLE, files_of

TOKEN = "HF_TOKEN"  # the secret that huggingface_hub reads on the Space
GIT = ".gitattributes"
OURS = "chipdemo/settings.py"  # a Space with this file is one of ours
CHECKPOINT = ("model.safetensors", "config.json")  # a model repository with these files is one of ours
NO_TOKEN = (
    f"note     The Space has no secret {TOKEN}: it cannot read a private model or publish labels. "
    f"Set it with --secret {TOKEN}=VARIABLE."
)
# become variables of the Space
MORE_SETTINGS = ("journal", "hot_reload", "labelers", "reviewers", "annotators_per_image")


@dataclass(frozen=True)
class Wanted:
    """The Space to deploy. files: content by path. variables: None removes one. public: of a new Space."""

    space: str
    files: Mapping[str, bytes] = field(repr=False)
    variables: Mapping[str, str | None]
    secrets: Mapping[str, str] = field(repr=False)
    replace_secrets: bool = False
    public: bool = False


@dataclass(frozen=True)
class Present:
    """The Space as it is. files: hash by path, the sha256 of a large file, git's hash of any other."""

    exists: bool = False
    private: bool = True
    revision: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: AbstractSet[str] = frozenset()


@dataclass(frozen=True)
class Changes:
    """From present to wanted: paths of files, variables with their new values (None: remove), secrets."""

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
    """What to change in the present Space. Raises HubError where it holds something else than this app."""
    foreign = sorted(present.files.keys() - {CARD, GIT})
    if foreign and OURS not in present.files:
        raise HubError(
            f"{wanted.space} is not a Space of {TITLE}: it holds {foreign[0]}. Choose another name, or "
            "remove its files on the Hub."
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
    """Look at the Space and make what changes are missing, so that it can be repeated after any failure.

    Variables and secrets come first: the commit starts a build, which needs them.
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


def lines_of(wanted: Wanted, present: Present, changes: Changes) -> list[str]:
    """The changes, a line each. Of a secret only the name is shown."""
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
        f"keep     secret {name} as it is; --replace-secrets replaces it"
        for name in wanted.secrets
        if name not in changes.secrets
    ]
    if not any((changes.added, changes.changed, changes.removed, changes.variables, changes.secrets)):
        lines.append("nothing to change")
    return lines


# The command line


def deploy(options: argparse.Namespace) -> None:
    """Create or update the Space, and print what changes. Raises HubError, SettingsError."""
    checked_name(options.space, "owner/chip-inspector")
    if options.model:
        checked_name(options.model, "owner/model")
    if options.dry_run:
        wanted = wanted_by(options, secrets=dict.fromkeys(variables_of_secrets(options.secret), ""))
        print("\n".join(lines_of(wanted, Present(), changes_of(wanted, Present()))))
        print("dry run: nothing was uploaded, and the Hub was not asked what it already has")
        return
    secrets = secrets_of(options.secret)
    user = writer()
    writable(options.space, user, f"{user['name']}/chip-inspector")
    api = HfApi()
    try:
        private_model = bool(options.model) and is_private(api, options.model)
        wanted = wanted_by(options, secrets, preload=bool(options.model) and not private_model)
        present = with_retries(lambda: present_in(api, wanted.space))
        print("\n".join(lines_of(wanted, present, changes_of(wanted, present))), flush=True)
        if (options.dataset or private_model) and TOKEN not in present.secrets | secrets.keys():
            print(NO_TOKEN, flush=True)
        with_retries(lambda: carry_out(api, wanted))
    except ChipDemoError:
        raise
    except Exception as error:  # noqa: BLE001 - network, proxy, storage and Hub raise errors of many types
        raise HubError(
            f"{options.space} was not deployed completely: {describe_error(error)} Then run the same command "
            "again; it continues where this one stopped."
        ) from error
    print(f"open     {constants.ENDPOINT}/spaces/{wanted.space}")


def wanted_by(options: argparse.Namespace, secrets: Mapping[str, str], preload: bool = False) -> Wanted:
    """What the flags ask for. preload: the Hub can read the model. Raises SettingsError."""
    named = {variable("model"): options.model or None, variable("dataset"): options.dataset or None}
    variables = named | variables_of(options)
    files = files_of(options.space, options.model, options.dataset, preload)
    return Wanted(options.space, files, variables, secrets, options.replace_secrets, options.public)


def is_private(api: HfApi, model: str) -> bool:
    """Whether the model is private: the Hub cannot preload it then. Raises HubError if there is none."""
    try:
        info = with_retries(lambda: api.model_info(model))
    except RepositoryNotFoundError as error:
        raise HubError(
            f"There is no model {model} on the Hub that this token can read. Push it first: "
            f"python training/push.py FOLDER {model}"
        ) from error
    there = {each.rfilename for each in info.siblings or ()}
    if missing := [name for name in CHECKPOINT if name not in there]:
        raise HubError(
            f"{model} is not a model of {TITLE}: it has no {missing[0]}. Push one: "
            f"python training/push.py FOLDER {model}"
        )
    return bool(info.private)


def variables_of(options: argparse.Namespace) -> dict[str, str]:
    """The settings given as flags, as variables of the Space. Raises SettingsError."""
    Settings().with_flags(options)
    given = {name: getattr(options, name) for name in MORE_SETTINGS}
    return {variable(name): value for name, value in given.items() if value is not None}


def secrets_of(pairs: Sequence[str]) -> dict[str, str]:
    """The values: "HF_TOKEN=CHIPS_TOKEN" -> {"HF_TOKEN": "hf_..."}. Raises SettingsError."""
    secrets = {}
    for name, source in variables_of_secrets(pairs).items():
        if not environ.get(source):
            raise SettingsError(
                f"The variable for --secret {name} is not set in this shell. Set it, and give its name: "
                f"--secret {name}=VARIABLE"
            )
        secrets[name] = environ[source]
    return secrets


def variables_of_secrets(pairs: Sequence[str]) -> dict[str, str]:
    """ "HF_TOKEN=CHIPS_TOKEN" -> {"HF_TOKEN": "CHIPS_TOKEN"}, "HF_TOKEN" -> {"HF_TOKEN": "HF_TOKEN"}.

    Raises SettingsError, whose message does not repeat the text: it may be the secret itself.
    """
    variables = {}
    for pair in pairs:
        name, _, source = pair.partition("=")
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", name):
            raise SettingsError(
                "--secret takes NAME or NAME=VARIABLE, where NAME has capitals, digits and '_' only. "
                f"For example: --secret {TOKEN}=CHIPS_TOKEN"
            )
        variables[name] = source or name
    return variables


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    owner = {"metavar": "OWNER/NAME"}
    parser.add_argument("--space", required=True, help="the Space", **owner)
    parser.add_argument("--model", default="", help="a pushed model; without it, the shipped one", **owner)
    parser.add_argument("--dataset", default="", help="the dataset to publish labels to", **owner)
    parser.add_argument(
        "--secret",
        action="append",
        default=[],
        metavar="NAME[=VARIABLE]",
        help="a secret of the Space, taken from a variable of this shell; can be repeated",
    )
    parser.add_argument("--replace-secrets", action="store_true", help="also replace secrets that exist")
    parser.add_argument("--public", action="store_true", help="make a new Space public")
    parser.add_argument("--dry-run", action="store_true", help="list what would be uploaded, without network")
    add_flags(parser, MORE_SETTINGS)
    return parser


if __name__ == "__main__":
    try:
        deploy(command_line().parse_args())
    except ChipDemoError as error:
        sys.exit(f"error: {error}")
