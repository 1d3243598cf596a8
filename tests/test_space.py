"""Deploying a Space, with the real client, to a Hub on this machine; and the Space itself."""

import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from huggingface_hub import CommitOperationAdd, HfApi, RepoCard
from pyarrow import parquet

from chipdemo.errors import ChipDemoError, HubError, SettingsError
from chipdemo.labeling.hub.publish import COLUMNS
from chipdemo.labeling.journal import Journal
from chipdemo.settings import DEFAULT_MODEL, SHIPPED
from space.contents import SHORT, files_of
from space.deploy import command_line, deploy
from tests.drawn_images import fill
from tests.hub import CUT, LOST, Account, Hub
from tests.test_label_api import through_the_queue
from tests.test_label_api import writes as writes_of_labels
from tests.tiny import tiny_checkpoint

ROOT = Path(__file__).parent.parent
TOKEN, SECRET, OAUTH = "hf_ada_secret", "hf_labels_only", "oauth-client-secret"
ACCOUNTS = {
    TOKEN: Account("ada", orgs=("acme",)),
    SECRET: Account("ada"),
    "hf_read": Account("ada", role="read"),
    "hf_bob": Account("bob"),
}
SPACE = "ada/chips"
NAMED = ["--space", SPACE, "--model", "ada/model", "--dataset", "ada/labels"]
# https://huggingface.co/docs/hub/spaces-config-reference, and license of every repository card
KEYS = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "python_version", "sdk_version", "suggested_hardware",
    "suggested_storage", "app_file", "app_build_command", "app_port", "base_path", "fullWidth", "header",
    "short_description", "models", "datasets", "tags", "thumbnail", "pinned", "hf_oauth", "hf_oauth_scopes",
    "hf_oauth_expiration_minutes", "hf_oauth_authorized_org", "disable_embedding",
    "startup_duration_timeout", "custom_headers", "preload_from_hub", "license",
}  # fmt: skip
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """The repository, but for the weights of the comparison, which are large and go up like any others."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("chipdemo", "docs", "space"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("app.py", "LICENSE", "requirements.txt"):
        shutil.copyfile(ROOT / name, tree / name)
    for weights in (tree / "chipdemo" / "ablation").rglob("*.safetensors"):
        weights.write_bytes(b"weights")
    return tree


@pytest.fixture
def hub(tmp_path, monkeypatch, tree) -> Iterator[Hub]:
    monkeypatch.setattr("space.contents.ROOT", tree)
    monkeypatch.setattr("space.contents.SHIPPED", [tree / path.relative_to(ROOT) for path in SHIPPED])
    """With a public model ada/model."""
    with Hub(ACCOUNTS) as hub:
        hub.serve(monkeypatch, tmp_path / "home", TOKEN)
        push_model(tmp_path / "model", private=False)
        yield hub


def push_model(folder: Path, private: bool) -> None:
    api = HfApi()
    api.create_repo("ada/model", private=private)
    files = [CommitOperationAdd(path.name, path) for path in tiny_checkpoint(folder).iterdir()]
    api.create_commit("ada/model", files, commit_message="model")


def run(*flags: str) -> None:
    deploy(command_line().parse_args([*NAMED, *flags]))


def space(hub: Hub):
    return hub.repository(SPACE, "space")


def front_matter(hub: Hub) -> dict:
    return RepoCard(space(hub).files["README.md"].decode()).data.to_dict()


def writes(hub: Hub) -> list[str]:
    """Every request that may change something."""
    reads = ("GET ", "HEAD ", "POST /api/validate-yaml")
    return [line for line in hub.requests if not line.startswith(reads) and "preupload" not in line]


# What is made


def test_a_space_is_made_private_with_all_files_in_one_commit(hub, capsys):
    run()
    made = space(hub)
    assert made.private and made.sdk == "gradio"
    assert [commit.message for commit in made.commits] == [
        "initial commit", f"Chip Inspector: {len(made.files) - 1} files",
    ]  # fmt: skip
    assert {"app.py", "requirements.txt", "README.md", "LICENSE", "thumbnail.png"} <= made.files.keys()
    assert made.variables == {"CHIPDEMO_MODEL": "ada/model", "CHIPDEMO_DATASET": "ada/labels"}
    assert made.files["app.py"] == (ROOT / "app.py").read_bytes()
    assert f"open     {hub.address}/spaces/{SPACE}" in capsys.readouterr().out


def test_a_space_is_public_only_when_told_and_stays_as_it_is(hub, capsys):
    run("--public")
    assert not space(hub).private
    run()
    assert not space(hub).private
    assert "keep     ada/chips, public" in capsys.readouterr().out


def files_of_the_app() -> set[str]:
    paths = [path.relative_to(ROOT) for path in (ROOT / "chipdemo").rglob("*") if path.is_file()]
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts and path.name[0] != "."}


def test_every_file_of_the_app_goes_up_and_no_other(hub):
    run()
    app = {path for path in files_of_the_app() if "/weights/" not in path}
    assert space(hub).files.keys() - app == {
        "app.py", "requirements.txt", "README.md", "LICENSE", "thumbnail.png", ".gitattributes",
    }  # fmt: skip
    assert app <= space(hub).files.keys()


def test_the_shipped_weights_go_up_where_no_model_is_named(hub):
    deploy(command_line().parse_args(["--space", SPACE]))
    assert files_of_the_app() <= space(hub).files.keys() and space(hub).variables == {}
    weights = (DEFAULT_MODEL / "model.safetensors").relative_to(ROOT).as_posix()
    assert space(hub).files[weights] == (ROOT / weights).read_bytes()
    data = front_matter(hub)
    assert data["license"] == ["apache-2.0", "cc-by-nc-sa-4.0"]
    assert not {"models", "datasets", "preload_from_hub"} & data.keys()


def test_a_checkpoint_goes_up_only_if_the_space_uses_it(tmp_path, monkeypatch):
    """The shipped model, two of an earlier version, and two rows of the comparison, one of them the first."""
    rows = [{"checkpoint": name} for name in ("elpv/row", "../weights/shipped", "", "elpv/not_here")]
    for folder in ("weights/shipped", "weights/old", "ablation/elpv/row", "ablation/elpv/old"):
        for name in ("model.safetensors", "metrics.json", "README.md"):
            (tmp_path / "chipdemo" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "chipdemo" / folder / name).write_text("what is in it")
    for name in ("app.py", "LICENSE", "requirements.txt", "docs/inspect.png", "space/card.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("what is in it")
    (tmp_path / "chipdemo" / "ablation" / "elpv.json").write_text(json.dumps({"rows": rows}))
    monkeypatch.setattr("space.contents.ROOT", tmp_path)
    monkeypatch.setattr("space.contents.SHIPPED", [tmp_path / "chipdemo" / "weights" / "shipped"])

    def checkpoints(model: str) -> set[str]:
        paths = files_of(SPACE, model, "", False)
        assert "chipdemo/ablation/elpv.json" in paths
        return {path.removeprefix("chipdemo/").rpartition("/")[0] for path in paths if "metrics" in path}

    assert checkpoints("") == {"weights/shipped", "ablation/elpv/row"}
    assert checkpoints("ada/model") == {"ablation/elpv/row"}


def test_what_else_lies_beside_the_app_stays_here(tmp_path, monkeypatch):
    for path in (
        "app.py", "LICENSE", "requirements.txt", "docs/inspect.png", "space/card.md", "chipdemo/settings.py",
        "chipdemo/.env", "chipdemo/.secret.json", "chipdemo/labels.db", "chipdemo/errors.py~", "tests/hub.py",
        "chipdemo/__pycache__/errors.cpython-311.pyc", "training/train.py", "runs/model.safetensors",
    ):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("what is in it")
    monkeypatch.setattr("space.contents.ROOT", tmp_path)
    assert set(files_of(SPACE, "ada/model", "", False)) == {
        "app.py", "LICENSE", "requirements.txt", "README.md", "thumbnail.png", "chipdemo/settings.py",
    }  # fmt: skip


def test_the_front_matter_says_what_the_hub_understands(hub):
    run()
    data = front_matter(hub)
    assert data.keys() <= KEYS
    assert (data["sdk"], data["app_file"], data["license"]) == ("gradio", "app.py", ["apache-2.0"])
    assert re.fullmatch(r"6\.31\.\d+", data["sdk_version"]) and re.fullmatch(
        r"3\.\d+", data["python_version"]
    )
    assert data["models"] == data["preload_from_hub"] == ["ada/model"]
    assert data["datasets"] == ["ada/labels"]
    assert data["hf_oauth"] is True and "hf_oauth_scopes" not in data  # openid and profile, no more
    assert data["thumbnail"] == f"{hub.address}/spaces/ada/chips/resolve/main/thumbnail.png"
    assert len(data["short_description"]) <= 60 and data["short_description"] == SHORT
    assert {data["colorFrom"], data["colorTo"]} <= COLORS
    assert httpx.get(data["thumbnail"], headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 302


def test_a_private_model_is_not_preloaded_and_its_need_of_a_token_is_told(hub, capsys, tmp_path):
    hub.repository("ada/model").private = True
    run()
    assert "preload_from_hub" not in front_matter(hub)
    assert any(
        line.startswith("note ") and "HF_TOKEN" in line for line in capsys.readouterr().out.splitlines()
    )


def test_settings_become_variables_and_those_of_others_stay(hub):
    run("--labelers", "acme", "--journal", "/data/labels.db")
    space(hub).variables["CHIPDEMO_PEOPLE"] = "3"
    deploy(command_line().parse_args(["--space", SPACE]))
    assert space(hub).variables == {
        "CHIPDEMO_LABELERS": "acme", "CHIPDEMO_JOURNAL": "/data/labels.db", "CHIPDEMO_PEOPLE": "3",
    }  # fmt: skip


# Again


def test_the_same_again_changes_nothing(hub, monkeypatch, capsys):
    monkeypatch.setenv("LABELS_TOKEN", SECRET)
    run("--secret", "HF_TOKEN=LABELS_TOKEN", "--annotators-per-image", "2")
    before = writes(hub)
    capsys.readouterr()
    run("--secret", "HF_TOKEN=LABELS_TOKEN", "--annotators-per-image", "2")
    assert writes(hub) == before and len(space(hub).commits) == 2
    assert "nothing to change" in capsys.readouterr().out


def test_what_changed_goes_in_one_commit_and_what_is_not_needed_goes_away(hub, capsys):
    run()
    kept = space(hub).files["chipdemo/errors.py"]
    HfApi().create_commit(
        SPACE,
        [CommitOperationAdd("chipdemo/stale.py", b"old"), CommitOperationAdd("app.py", b"broken"),
         CommitOperationAdd("notes.png", b"by hand")],
        commit_message="by hand", repo_type="space",
    )  # fmt: skip
    capsys.readouterr()
    run()
    out = capsys.readouterr().out
    assert "change   app.py\nremove   chipdemo/stale.py\nremove   notes.png\n" in out
    assert len(space(hub).commits) == 4 and space(hub).commits[-1].message == "Chip Inspector: 3 files"
    assert not {"chipdemo/stale.py", "notes.png"} & space(hub).files.keys()
    assert space(hub).files["app.py"] == (ROOT / "app.py").read_bytes()
    assert space(hub).files["chipdemo/errors.py"] == kept and ".gitattributes" in space(hub).files


def test_a_dry_run_needs_no_token_and_no_network(hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "")
    before = len(hub.requests)
    run("--secret", "HF_TOKEN=NOT_SET_YET", "--labelers", "acme", "--dry-run")
    assert len(hub.requests) == before and ("space", SPACE) not in hub.repositories
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "create   ada/chips, private"
    app = {path for path in files_of_the_app() if "/weights/" not in path}
    assert {line.split()[1] for line in out if line.startswith("add ")} == app | {
        "app.py", "requirements.txt", "README.md", "LICENSE", "thumbnail.png",
    }  # fmt: skip
    assert {line for line in out if line.startswith(("set ", "secret "))} == {
        "set      CHIPDEMO_MODEL=ada/model", "set      CHIPDEMO_DATASET=ada/labels",
        "set      CHIPDEMO_LABELERS=acme", "secret   HF_TOKEN",
    }  # fmt: skip


@pytest.mark.parametrize(
    "flags", [["--space", "chips"], ["--model", "../weights"], ["--annotators-per-image", "many"]]
)
def test_a_dry_run_refuses_what_cannot_be_deployed(flags):
    with pytest.raises(ChipDemoError):
        run(*flags, "--dry-run")


def test_a_dry_run_does_not_repeat_a_secret_given_by_mistake(capsys):
    with pytest.raises(SettingsError):
        run("--secret", SECRET, "--dry-run")
    assert SECRET not in capsys.readouterr().out


def test_a_space_of_somebody_else_is_left_alone(hub):
    api = HfApi()
    api.create_repo(SPACE, repo_type="space", space_sdk="gradio")
    api.create_commit(SPACE, [CommitOperationAdd("app.py", b"")], commit_message="game", repo_type="space")
    with pytest.raises(HubError, match="ada/chips .* app.py"):
        run()
    assert len(space(hub).commits) == 2 and space(hub).variables == {}


# Secrets


def test_a_secret_comes_from_a_variable_and_is_never_shown(hub, monkeypatch, capsys):
    monkeypatch.setenv("LABELS_TOKEN", SECRET)
    hub.fail("POST .*/secrets", 403)
    with pytest.raises(HubError) as failure:
        run("--secret", "HF_TOKEN=LABELS_TOKEN")
    run("--secret", "HF_TOKEN=LABELS_TOKEN")
    assert space(hub).secrets == {"HF_TOKEN": SECRET}
    prediction = "".join(capsys.readouterr()) + str(failure.value)
    assert "secret   HF_TOKEN" in prediction and SECRET not in prediction and TOKEN not in prediction


def test_a_secret_that_is_there_stays_until_told_otherwise(hub, monkeypatch, capsys):
    run()
    space(hub).secrets["HF_TOKEN"] = "set by hand"
    monkeypatch.setenv("HF_LABELS", SECRET)
    run("--secret", "HF_TOKEN=HF_LABELS")
    assert space(hub).secrets == {"HF_TOKEN": "set by hand"}
    assert "keep     secret HF_TOKEN" in capsys.readouterr().out
    run("--secret", "HF_TOKEN=HF_LABELS", "--replace-secrets")
    assert space(hub).secrets == {"HF_TOKEN": SECRET}


@pytest.mark.parametrize("pair", [f"HF_TOKEN={SECRET}", SECRET, "HF_TOKEN=NOT_SET", "=x", "a b=c", ""])
def test_a_secret_on_the_command_line_itself_is_refused_and_not_repeated(hub, pair, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(SettingsError, match="--secret") as refusal:
        run("--secret", pair)
    assert SECRET not in str(refusal.value)


# Failures

FAILURES = [
    ("POST /api/repos/create", 402, 1, "plan does not include it"),
    ("POST /api/repos/create", 403, 1, "may not write"),
    ("GET /api/spaces/", 500, 9, "trouble of its own"),
    ("POST .*/variables", 401, 1, "does not accept the token"),
    ("POST .*/variables", 500, 9, "trouble of its own"),
    ("POST .*/preupload/", 403, 1, "may not write"),
    ("POST .*/commit/", 409, 1, "Someone else is changing"),
    ("POST .*/commit/", 412, 1, "Someone else is changing"),
    ("POST .*/commit/", CUT, 9, "Check the network"),
    ("PUT /lfs/", CUT, 99, "Check the network"),
]


@pytest.mark.parametrize(("request_line", "answer", "times", "message"), FAILURES)
def test_a_failed_deployment_says_why_and_the_same_command_ends_it(
    hub, pauses, request_line, answer, times, message
):
    hub.fail(request_line, answer, times)
    with pytest.raises(HubError, match=message) as failure:
        run()
    assert TOKEN not in str(failure.value)
    hub.faults.clear()
    run()
    assert len(space(hub).commits) == 2 and "CHIPDEMO_MODEL" in space(hub).variables


@pytest.mark.parametrize("answer", [500, CUT, LOST])
@pytest.mark.parametrize("request_line", ["POST /api/repos/create", "DELETE .*/variables", "POST .*/commit/"])
def test_what_passes_is_waited_for_and_nothing_is_done_twice(hub, pauses, request_line, answer):
    run()
    deploy(command_line().parse_args(["--space", "ada/other", "--dataset", "ada/labels"]))
    hub.fail(request_line, answer, times=2)
    deploy(command_line().parse_args(["--space", "ada/other", "--model", "ada/model"]))
    deploy(command_line().parse_args(["--space", "ada/third", "--model", "ada/model"]))
    other = hub.repository("ada/other", "space")
    assert pauses and len(other.commits) == 3 and other.variables == {"CHIPDEMO_MODEL": "ada/model"}
    assert len(hub.repository("ada/third", "space").commits) == 2


@pytest.mark.parametrize(
    "token, message",
    [("", "HF_TOKEN"), ("hf_unknown", "does not accept the token"), ("hf_read", "may only read"),
     ("hf_bob", "ada.* bob")],
)  # fmt: skip
def test_who_may_not_write_is_told_before_anything_is_done(hub, monkeypatch, token, message):
    before = writes(hub)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=message):
        run()
    assert writes(hub) == before


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--space", "chips"], "owner/name"),
        (["--space", "ada/../bob"], "owner/name"),
        (["--model", "../weights"], "owner/name"),
        (["--model", "ada/none"], "ada/none"),
        (["--model", "ada/empty"], "model.safetensors"),
        (["--dataset", "labels"], "owner/name"),
    ],
)
def test_a_name_that_cannot_be_is_refused_before_anything_is_done(hub, flags, message):
    HfApi().create_repo("ada/empty")
    before = writes(hub)
    with pytest.raises(ChipDemoError, match=message):
        run(*flags)
    assert writes(hub) == before


def test_a_setting_that_cannot_be_is_refused(hub):
    with pytest.raises(SettingsError, match="--annotators-per-image .*many.* 1 to 100"):
        run("--annotators-per-image", "many")


@pytest.mark.parametrize("flags, status", [(["--dry-run"], 0), ([], 1)])
def test_the_script_without_a_token_lists_the_files_or_ends_in_one_line(hub, tmp_path, flags, status):
    ended = subprocess.run(
        [sys.executable, "space/deploy.py", *NAMED, *flags],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | hub.environment(tmp_path / "other", ""),
    )  # fmt: skip
    assert ended.returncode == ended.stderr.count("\n") == status, ended.stderr
    assert ("add      app.py" in ended.stdout) == (status == 0)


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom space.deploy import command_line\n"
        "try: command_line().parse_args(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'gradio', 'PIL', 'datasets'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


# The Space itself


@pytest.fixture
def deployed(hub, tmp_path) -> Path:
    """The files of a Space in a folder of their own."""
    run()
    for path, content in space(hub).files.items():
        (tmp_path / "app" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "app" / path).write_bytes(content)
    return tmp_path / "app"


def environment_of(hub: Hub, tmp_path: Path, port: int) -> dict[str, str]:
    """What a Space's container sets, and its variables and secrets."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHIPDEMO_")}
    return kept | hub.environment(tmp_path / "cache", SECRET) | space(hub).variables | {
        "SYSTEM": "spaces", "SPACE_ID": SPACE, "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": str(port), "OAUTH_CLIENT_ID": "an id", "OAUTH_CLIENT_SECRET": OAUTH,
        "OAUTH_SCOPES": "openid profile", "OPENID_PROVIDER_URL": hub.address,
        "CHIPDEMO_JOURNAL": str(tmp_path / "labels.db"), "CHIPDEMO_FLUSH_EVERY_S": "9999",
        "GRADIO_TEMP_DIR": str(tmp_path / "uploads"), "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def signed_in(name: str, secret: str) -> dict[str, str]:
    """The cookie of somebody who has signed in with Hugging Face, signed with a secret."""
    from itsdangerous import TimestampSigner

    about = {"name": name, "preferred_username": name, "profile": "", "picture": ""}
    session = b64encode(json.dumps({"oauth_info": {"userinfo": about}}).encode())
    signer = TimestampSigner(hashlib.sha256(f"{secret}-v4".encode()).hexdigest())  # as gradio does
    return {"session": signer.sign(session).decode()}


def test_a_space_refuses_strangers_and_publishes_its_last_labels_when_it_is_stopped(hub, deployed, tmp_path):
    """One start, as a Space does it, from the deployed files alone; stopped as a container is."""
    with Journal(tmp_path / "labels.db") as journal:
        sha256 = fill(journal, tmp_path, 1)[0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = subprocess.Popen(
        [sys.executable, "app.py"], cwd=deployed, env=environment_of(hub, tmp_path, port), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    prediction, address = [], f"http://127.0.0.1:{port}"
    try:
        for line in started.stdout:
            prediction.append(line)
            if "public link" in line:
                break
        assert "ada/model" in httpx.get(address, timeout=60).text, prediction
        label = {"data": [sha256, "abnormal", "", [], "", "", False, ""], "session_hash": "x"}
        for name, event in writes_of_labels(address).items():
            data = [None] * len(event["inputs"]) if name.startswith("on_") else label["data"]
            body = {"data": data, "fn_index": event["id"], "session_hash": f"hash{event['id']}"}
            assert "Sign in with Hugging Face" in through_the_queue(address, body), name
        answers = [
            httpx.post(f"{address}/gradio_api/run/label", json=label, cookies=cookies, timeout=60).text
            for cookies in ({}, signed_in("carl", "a guess"), signed_in("carl", OAUTH))
        ]
        assert ["Sign in with Hugging Face" in answer for answer in answers] == [True, True, False]
        httpx.post(f"{address}/gradio_api/upload", files={"files": ("chip.png", b"private")})
        assert files_in(tmp_path / "uploads") and ("dataset", "ada/labels") not in hub.repositories
        with httpx.stream("GET", f"{address}/gradio_api/heartbeat/page"):  # of a page that stays open
            started.terminate()
            started.wait(timeout=60)
    finally:
        started.kill()
        prediction += [started.communicate()[0]]
    assert started.returncode == 0, prediction
    assert files_in(tmp_path / "uploads") == []
    files = hub.repository("ada/labels", "dataset").files
    shards = [path for path in files if path.endswith(".parquet") and path != COLUMNS]
    (shard,) = (io.BytesIO(files[path]) for path in shards)
    assert parquet.read_table(shard).select(["annotator", "label"]).to_pylist() == [
        {"annotator": "carl", "label": "abnormal"}
    ]
    assert not any(secret in line for line in prediction for secret in (SECRET, OAUTH))


def test_the_card_is_yaml_and_text(deployed):
    _, data, body = (deployed / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(data)["title"] == "Chip Inspector"
    assert "/datasets/ada/labels)" in body and "{" not in body
