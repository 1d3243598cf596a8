"""The Hub of the tests, by the clients that the tests do not replace."""

import io
import os
import subprocess
import sys

import pyarrow
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from pyarrow import parquet

from tests.hub import Account, Hub

LOAD = "import datasets; print(datasets.load_dataset('ada/labels')['train']['x'][:])"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with Hub({"hf_ada": Account("ada"), "hf_bob": Account("bob")}) as hub:
        hub.serve(monkeypatch, tmp_path / "home", "hf_ada")
        yield hub


def shard(values: list[int]) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table({"x": values}), stream)
    return stream.getvalue()


def test_a_data_set_of_two_shards_loads(hub, tmp_path):
    api = HfApi()
    api.create_repo("ada/labels", repo_type="dataset", private=True)
    shards = [CommitOperationAdd(f"data/{n}.parquet", shard(v)) for n, v in (("a", [1, 2]), ("b", [3]))]
    api.create_commit("ada/labels", shards, commit_message="two shards", repo_type="dataset")
    environment = os.environ | hub.environment(tmp_path / "other", "hf_ada")
    ended = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True)
    assert ended.stdout.strip() == "[1, 2, 3]", ended.stderr


@pytest.mark.parametrize("token", ["", "hf_bob"])
def test_a_private_repository_is_hidden_from_others(hub, monkeypatch, token):
    HfApi().create_repo("ada/secret", private=True)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(RepositoryNotFoundError):
        HfApi().model_info("ada/secret")
