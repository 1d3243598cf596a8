"""Which revision of a model to use: the newest that is not worse than the one before it.

A Hub repository has its revisions in its history. A checkpoint folder has one, and beside it the model that
was in use before, where training put a worse one in its place (comparison.kept_folder).
"""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from chipdemo.comparison import Comparison, Refused, comparison_of, kept_folder
from chipdemo.errors import CheckpointError, CheckpointOutOfReachError, HubError
from chipdemo.hub import describe_error, with_retries
from chipdemo.vision.checkpoint import (
    HUB_ERRORS,
    HUB_ID,
    METRICS,
    json_text,
    latest_revision,
    model_revision,
    out_of_reach,
    read_json,
)


class InUse(NamedTuple):
    """source: of the model to load, a checkpoint folder, owner/name or owner/name@commit.

    refused: the newest revision, where it is worse. It is the one to load where there is no other.
    """

    source: str
    refused: Refused | None = None


def newest_accepted(model: str) -> InUse:
    """The revision of a checkpoint folder or Hub id to use: the newest that takes over.

    A model whose revisions cannot be asked for is left to whoever loads it. Raises CheckpointError.
    """
    refused = None
    try:
        for source, comparison in _revisions(model):
            if comparison is None or comparison.takes_over:
                return InUse(source, refused)
            refused = refused or Refused(model, newest_revision(model), comparison)
    except (CheckpointOutOfReachError, *HUB_ERRORS) as error:
        if refused:
            raise out_of_reach(model, error) from error
    return InUse(model, refused)


def accept(model: str, revision: str) -> None:
    """Write into the newest revision's metrics.json that it takes over although it is worse.

    revision: of the newest one, or its first 7 characters or more, so that no other is accepted by mistake.
    Raises CheckpointError, HubError.
    """
    newest = newest_revision(model)
    if len(revision) < 7 or not newest.startswith(revision):
        raise CheckpointError(f"The newest revision of {model} is {newest}, not {revision}. Nothing changed.")
    path = _metrics_file(model, newest)
    comparison = _comparison_in(path)
    if comparison is None or comparison.takes_over:
        raise CheckpointError(f"Revision {newest} of {model} takes over anyway. Nothing changed.")
    metrics = read_json(path)
    metrics["comparison"]["accepted"] = datetime.date.today().isoformat()
    if Path(model).expanduser().is_dir():
        part = path.with_name(f"{path.name}.part")
        part.write_text(json_text(metrics), encoding="utf-8")
        part.replace(path)
        return
    operation = CommitOperationAdd(METRICS, json_text(metrics).encode())
    try:
        with_retries(
            lambda: HfApi().create_commit(
                model, [operation], commit_message=f"Accept revision {newest[:12]}", parent_commit=newest
            )
        )
    except Exception as error:  # noqa: BLE001 - network, proxy, storage and Hub raise errors of many types
        raise HubError(f"{model} could not be changed: {describe_error(error)}") from error


def newest_revision(model: str) -> str:
    """The name of the newest revision: a commit, or 12 hex digits of a folder. Raises CheckpointError."""
    folder = Path(model).expanduser()
    return model_revision(folder) if folder.is_dir() else latest_revision(model)


def _revisions(model: str) -> Iterator[tuple[str, Comparison | None]]:
    """Newest first: what loads the revision, and its comparison."""
    folder, named = Path(model).expanduser(), HUB_ID.fullmatch(model)
    if folder.is_dir():
        yield model, (comparison := _comparison_in(folder / METRICS))
        while comparison and (kept := kept_folder(folder, comparison.revision)).is_dir():
            yield str(kept), (comparison := _comparison_in(kept / METRICS))
    elif named and not named["revision"]:
        newest = newest_revision(model)
        yield model, _comparison_in(_metrics_file(model, newest))
        for commit in HfApi().list_repo_commits(model):
            try:
                path = _metrics_file(model, commit.commit_id)
            except EntryNotFoundError:  # before the first checkpoint was pushed
                continue
            yield f"{model}@{commit.commit_id}", _comparison_in(path)


def _metrics_file(model: str, revision: str) -> Path:
    folder = Path(model).expanduser()
    return folder / METRICS if folder.is_dir() else Path(hf_hub_download(model, METRICS, revision=revision))


def _comparison_in(metrics: Path) -> Comparison | None:
    try:
        return comparison_of(read_json(metrics))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{metrics} has no usable comparison: {error}. Train again.") from error
