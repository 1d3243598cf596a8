"""The API of labeling by real clients and by raw HTTP, and who may write."""

from collections.abc import Iterator

import gradio as gr
import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from huggingface_hub import HfApi

from chipdemo.errors import LabelError
from chipdemo.labeling.journal import Journal
from chipdemo.settings import Settings
from chipdemo.ui.auth import Annotators, has_oauth, local_user
from tests.drawn import picture
from tests.drawn_images import draw, fill
from tests.fakes import FakeModel
from tests.hub import Account, Hub
from tests.serving import served

ACCOUNTS = (("ada", "secret"), ("bob", "word"), ("eve", "listed-out"))
ID = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(scope="module")
def journal(tmp_path_factory) -> Iterator[Journal]:
    with Journal(tmp_path_factory.mktemp("journal") / "labels.db") as journal:
        yield journal


@pytest.fixture(scope="module")
def shas(journal, tmp_path_factory) -> list[str]:
    return fill(journal, tmp_path_factory.mktemp("images"), 12)


@pytest.fixture(scope="module")
def address(journal, shas) -> Iterator[str]:
    limits = {"labelers": ("ada", "bob"), "reviewers": ("bob",)}
    with served(FakeModel(), journal=journal, auth=ACCOUNTS, **limits) as address:
        yield address


@pytest.fixture(scope="module")
def clients(address) -> dict[str, Client]:
    return {name: Client(address, auth=(name, word), verbose=False) for name, word in ACCOUNTS}


def written(journal: Journal) -> int:
    return journal.counts().events


def test_a_client_labels_and_undoes(clients, journal, shas):
    ada = clients["ada"]
    queue = ada.predict(count=2, order="plain", api_name="/queue")
    assert queue["annotator"] == "ada" and len(queue["images"]) == 2
    sha256 = queue["images"][0]["sha256"]
    box = {"x": 1, "y": 2, "width": 3, "height": 4, "defect_type": "dent"}
    polygon = {"points": [[0, 0], [5, 0], [5, 5]], "defect_type": "scratch"}
    marks = {"boxes": [box], "polygons": [polygon]}
    answer = ada.predict(
        sha256=sha256, label="abnormal", defect_type="crack", note="so", **marks, api_name="/label"
    )
    event = answer["event"]
    assert set(event) == {
        "event_id", "sha256", "label", "defect_type", "boxes", "polygons", "mask", "mask_type", "note",
        "annotator", "created_at", "retracts", "decides", "model",
    }  # fmt: skip
    assert (event["annotator"], event["boxes"], event["model"]["name"]) == ("ada", [box], "fake-model")
    assert event["polygons"] == [polygon]
    assert set(answer["progress"]) >= {"images", "done", "own", "own_last_hour", "pending"}
    assert journal.vote(sha256, "ada").event_id == event["event_id"]
    undone = ada.predict(api_name="/undo")
    assert undone["undone"]["event_id"] == event["event_id"] and undone["image"]["sha256"] == sha256
    assert journal.vote(sha256, "ada") is None
    with pytest.raises(AppError):
        ada.predict(api_name="/undo")


def test_a_call_that_is_repeated_writes_once(clients, journal, shas):
    before = written(journal)
    for _ in range(2):
        clients["ada"].predict(sha256=shas[5], label="normal", event_id=ID, api_name="/label")
    assert written(journal) == before + 1


def test_pages_of_a_client_get_different_images_and_undo_their_own_labels(clients, journal, shas):
    ada = clients["ada"]
    one, two = (ada.predict(count=1, page=page, api_name="/queue")["images"][0] for page in ("one", "two"))
    assert one["sha256"] != two["sha256"]
    event = ada.predict(sha256=one["sha256"], label="normal", page="one", api_name="/label")["event"]
    again = {"sha256": one["sha256"], "label": "abnormal", "page": "two", "api_name": "/label"}
    with pytest.raises(AppError):
        ada.predict(**again)
    with pytest.raises(AppError):
        ada.predict(page="two", api_name="/undo")
    ada.predict(**again, replaces=event["event_id"])
    assert journal.vote(one["sha256"], "ada").label == "abnormal"
    undone = ada.predict(page="two", api_name="/undo")["undone"]
    assert undone["label"] == "abnormal" and journal.vote(one["sha256"], "ada").label == "normal"


def test_two_clients_get_different_images(clients):
    queues = [clients[name].predict(count=3, api_name="/queue")["images"] for name in ("ada", "bob")]
    ada, bob = ({image["sha256"] for image in queue} for queue in queues)
    assert len(ada) == len(bob) == 3 and not ada & bob


@pytest.mark.parametrize("api_name", ["/queue", "/label", "/undo"])
def test_a_user_who_is_not_listed_is_refused(clients, journal, shas, api_name):
    before = written(journal)
    data = {"sha256": shas[0], "label": "normal"} if api_name == "/label" else {}
    with pytest.raises(AppError, match="eve"):
        clients["eve"].predict(api_name=api_name, **data)
    assert written(journal) == before


def test_only_a_reviewer_reviews_and_decides(clients, shas):
    with pytest.raises(AppError, match="ada"):
        clients["ada"].predict(order="review", api_name="/queue")
    with pytest.raises(AppError, match="ada"):
        clients["ada"].predict(sha256=shas[0], label="normal", decides=True, api_name="/label")
    assert clients["bob"].predict(order="review", api_name="/queue")["images"] == []


def test_only_a_reviewer_deletes_images_and_brings_them_back(address, clients, journal, shas):
    def ask(who: str, name: str) -> httpx.Response:
        cookies = httpx.Cookies(clients[who].cookies)
        return httpx.post(f"{address}/gradio_api/run/{name}", json={"data": [shas[9:]]}, cookies=cookies)

    before = journal.counts().images
    assert "ada" in ask("ada", "label_delete").json()["error"] and journal.counts().images == before
    assert ask("bob", "label_delete").json()["data"][0]["changed"] == shas[9:]
    assert journal.counts().images == before - len(shas[9:])
    assert "ada" in ask("ada", "label_undelete").json()["error"]
    assert ask("bob", "label_undelete").json()["data"][0]["changed"] == shas[9:]
    assert len(ask("ada", "label_thumbnails").json()["data"][0]["thumbnails"]) == len(shas[9:])


def writes(address: str, cookies: httpx.Cookies | None = None) -> dict[str, dict]:
    """Every event that writes labels or images, by name: its id and its inputs."""
    config = httpx.get(f"{address}/config", cookies=cookies).json()
    return {
        each["api_name"] or str(each["id"]): each
        for each in config["dependencies"]
        if each["backend_fn"]
        and (each["api_name"] or "").startswith(
            ("label", "undo", "queue", "on_dataset", "on_queue_files", "on_review", "on_send")
        )
    }


def forged(sha256: str, inputs: int) -> list:
    """What a hostile client sends: more than there are inputs, and another's name."""
    return [sha256, "normal", "", [], "", "", False, "", "", ""][:inputs] + ["ada", {"username": "ada"}]


PAYLOAD = {"annotator": "ada", "username": "ada", "request": {"username": "ada"}}


def test_without_sign_in_no_way_of_raw_http_writes(address, clients, journal, shas):
    events = writes(address, httpx.Cookies(clients["ada"].cookies))
    assert {
        "label",
        "undo",
        "label_skip",
        "label_look",
        "label_again",
        "on_dataset",
        "on_queue_files",
    } <= set(events)
    before = written(journal)
    for name, event in events.items():
        body = {"data": forged(shas[1], len(event["inputs"])), "session_hash": "x", **PAYLOAD}
        for path, more in (
            (f"call/{name}", {}), (f"run/{name}", {}), (f"api/{name}", {}), (f"call/v2/{name}", {}),
            ("queue/join", {"fn_index": event["id"]}), ("run/predict", {"fn_index": event["id"]}),
        ):  # fmt: skip
            answer = httpx.post(f"{address}/gradio_api/{path}", json=body | more)
            assert answer.status_code == 401, (name, path)
    assert written(journal) == before


def test_the_annotator_of_a_forged_payload_does_not_count(address, clients, journal, shas):
    """bob is signed in and says that he is ada, in every way there is."""
    cookies = httpx.Cookies(clients["bob"].cookies)
    body = {"data": [shas[7], "unsure", "", [], "", "", False, ""], "session_hash": "y", **PAYLOAD}
    headers = {"x-forwarded-user": "ada", "username": "ada"}
    answer = httpx.post(
        f"{address}/gradio_api/run/label?username=ada", json=body, cookies=cookies, headers=headers
    )
    assert answer.json()["data"][0]["event"]["annotator"] == "bob"
    assert journal.vote(shas[7], "ada") is None and journal.vote(shas[7], "bob").label == "unsure"
    answer = httpx.post(
        f"{address}/gradio_api/run/label", json=body | {"data": forged(shas[8], 10)}, cookies=cookies
    )
    assert journal.vote(shas[8], "ada") is None


def through_the_queue(address: str, body: dict, **more) -> str:
    httpx.post(f"{address}/gradio_api/queue/join", json=body, **more).raise_for_status()
    url = f"{address}/gradio_api/queue/data?session_hash={body['session_hash']}"
    with httpx.stream("GET", url, timeout=20, **more) as events:
        return next(line for line in events.iter_lines() if "process_completed" in line)


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0"}, {}])
def test_an_app_that_others_can_reach_without_sign_in_takes_no_label(tmp_path, settings):
    """By listening on the network; and by a tunnel, whose name the request asks for."""
    headers = {} if settings else {"host": "chips.example"}
    with Journal(tmp_path / "labels.db") as journal:
        sha256 = fill(journal, tmp_path, 1)[0]
        with served(FakeModel(), journal=journal, **settings) as address:
            for name, event in writes(address).items():
                inputs = len(event["inputs"])
                data = [None] * inputs if name.startswith("on_") else forged(sha256, inputs)[:inputs]
                body = {"data": data, "fn_index": event["id"], "session_hash": f"hash{event['id']}"}
                message = through_the_queue(address, body, headers=headers)
                if name not in ("on_dataset", "on_queue_files", "on_review", "on_send_selected"):
                    assert '"success":false' in message, name
                assert "CHIPDEMO_AUTH" in message, name
            called = httpx.post(
                f"{address}/gradio_api/call/label", json={"data": forged(sha256, 10)[:10]}, headers=headers
            )
            answer = httpx.get(
                f"{address}/gradio_api/call/label/{called.json()['event_id']}", headers=headers, timeout=20
            )
            assert "event: error" in answer.text
            if settings:
                with pytest.raises(AppError, match="CHIPDEMO_AUTH"):
                    Client(address, verbose=False).predict(sha256=sha256, label="normal", api_name="/label")
        assert written(journal) == 0


def test_on_this_machine_alone_its_user_labels(tmp_path):
    with Journal(tmp_path / "labels.db") as journal:
        fill(journal, tmp_path, 1)
        with served(FakeModel(), journal=journal) as address:
            assert Client(address, verbose=False).predict(api_name="/queue")["annotator"] == local_user()


def test_an_app_without_a_journal_has_nothing_to_label_with():
    with served(FakeModel()) as address:
        assert writes(address) == {}


class Asked:
    """What Annotators reads of a gr.Request."""

    def __init__(self, username: str | None = None, **headers: str):
        self.username, self.headers = username, {"host": "127.0.0.1:7860"} | headers


def profile(name: str, *organizations: str) -> gr.OAuthProfile:
    orgs = [{"preferred_username": each, "name": "acme"} for each in organizations]
    about = {"name": "ada", "preferred_username": name, "profile": "", "picture": "", "orgs": orgs}
    return gr.OAuthProfile(about)


def test_on_a_space_the_hugging_face_user_labels_and_nobody_else():
    annotators = Annotators(Settings(), oauth=True)
    assert annotators.name(Asked(), profile("carl")) == "carl"
    with pytest.raises(LabelError, match="Hugging Face"):
        annotators.name(Asked(username="carl"), None)


def test_members_of_a_listed_organization_label_and_its_name_cannot_be_put_on():
    annotators = Annotators(Settings(labelers=("acme", "ada")), oauth=True)
    assert annotators.name(Asked(), profile("carl", "acme")) == "carl"
    with pytest.raises(LabelError, match="carl"):
        annotators.name(Asked(), profile("carl", "others"))  # whose display names are acme and ada


def test_another_site_cannot_use_the_sign_in_of_its_visitor():
    """A browser sends the cookies along, and says where the request comes from."""
    annotators = Annotators(Settings(auth=ACCOUNTS))
    assert annotators.name(Asked("ada", **{"sec-fetch-site": "same-origin"}), None) == "ada"
    with pytest.raises(LabelError):
        annotators.name(Asked("ada", **{"sec-fetch-site": "cross-site"}), None)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:7861", "null"])
def test_a_browser_that_says_only_where_its_page_is_from_is_believed(origin):
    annotators = Annotators(Settings(auth=ACCOUNTS))
    assert annotators.name(Asked("ada", origin="http://127.0.0.1:7860"), None) == "ada"
    with pytest.raises(LabelError):
        annotators.name(Asked("ada", origin=origin), None)
    behind_a_proxy = {"origin": "https://chips.example", "sec-fetch-site": "same-origin"}
    assert annotators.name(Asked("ada", **behind_a_proxy), None) == "ada"


def test_the_token_of_the_machine_is_for_its_own_user_alone():
    assert Annotators(Settings()).owns_machine(Asked())
    assert not Annotators(Settings(auth=ACCOUNTS)).owns_machine(Asked("ada"))
    assert not Annotators(Settings(), oauth=True).owns_machine(Asked())
    assert not Annotators(Settings(share=True)).owns_machine(Asked())
    assert not Annotators(Settings()).owns_machine(Asked(host="chips.example"))


def test_whoever_runs_the_app_is_its_own_user_or_an_account_that_is_named_for_it():
    assert Annotators(Settings(annotator="ada")).operator(Asked(), None) == "ada"
    named = Annotators(Settings(auth=ACCOUNTS, reviewers=("bob",)))
    assert named.operator(Asked("bob"), None) == "bob"
    for annotators, request, signed_in in (
        (named, Asked("ada"), None),
        (named, Asked(), None),
        (named, Asked("bob", **{"sec-fetch-site": "cross-site"}), None),
        (Annotators(Settings(auth=ACCOUNTS)), Asked("ada"), None),  # where all review, nobody is named
        (Annotators(Settings(reviewers=("carl",)), oauth=True), Asked(), profile("carl")),
        (Annotators(Settings(share=True)), Asked(), None),
        (Annotators(Settings()), Asked(host="chips.example"), None),
    ):
        with pytest.raises(LabelError):
            annotators.operator(request, signed_in)


@pytest.mark.parametrize("settings, added", [({"auth": ACCOUNTS}, 0), ({}, 1)])
def test_a_visitor_reads_no_private_dataset_with_the_token_of_the_machine(
    tmp_path, monkeypatch, settings, added
):
    with Hub({"hf_ada": Account("ada")}) as hub, Journal(tmp_path / "labels.db") as journal:
        hub.serve(monkeypatch, tmp_path / "home", "hf_ada")
        HfApi().create_repo("ada/secrets", repo_type="dataset", private=True)
        api = {"path_or_fileobj": picture(1), "path_in_repo": "a.png", "repo_type": "dataset"}
        HfApi().upload_file(repo_id="ada/secrets", **api)
        with served(FakeModel(), journal=journal, **settings) as address:
            cookies = httpx.Cookies(
                Client(address, auth=ACCOUNTS[0] if settings else None, verbose=False).cookies
            )
            event = writes(address, cookies)["on_dataset"]
            body = {"data": ["hf:ada/secrets"], "fn_index": event["id"], "session_hash": "d"}
            message = through_the_queue(address, body, cookies=cookies)
        assert ("1</strong>" if added else "ada/secrets") in message
        assert journal.counts().images == added


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "localhost", "[::1]:7860"])
def test_this_machine_has_several_names(host):
    assert Annotators(Settings(annotator="ada")).name(Asked(host=host), None) == "ada"


@pytest.mark.parametrize(
    "settings, headers",
    [
        (Settings(share=True), {}),
        (Settings(host="0.0.0.0"), {}),
        (Settings(host="192.168.0.5"), {}),
        (Settings(), {"host": "rebound.example:7860"}),
        (Settings(), {"host": ""}),
        (Settings(), {"x-forwarded-for": "10.0.0.1"}),
    ],
)
def test_without_sign_in_nobody_from_elsewhere_labels(settings, headers):
    with pytest.raises(LabelError, match="CHIPDEMO_AUTH"):
        Annotators(settings).name(Asked(**headers), None)


def test_sign_in_by_hugging_face_is_for_spaces_alone():
    assert has_oauth({"SYSTEM": "spaces", "OAUTH_CLIENT_ID": "an id"})
    assert not has_oauth({"OAUTH_CLIENT_ID": "an id"}) and not has_oauth({"SYSTEM": "spaces"})


def test_an_upload_is_added_and_a_path_of_the_machine_is_not(tmp_path):
    private, mine = draw(tmp_path / "private.png", 1), draw(tmp_path / "mine.png", 2)
    with Journal(tmp_path / "labels.db") as journal, served(FakeModel(), journal=journal) as address:
        event = writes(address)["on_queue_files"]
        mark = {"meta": {"_type": "gradio.FileData"}}
        for number, extra in enumerate(({}, mark)):
            body = {"data": [[{"path": str(private), **extra}]], "fn_index": event["id"]}
            through_the_queue(address, body | {"session_hash": f"hostile{number}"})
        assert journal.counts().images == 0
        with mine.open("rb") as file:
            path = httpx.post(f"{address}/gradio_api/upload", files={"files": ("mine.png", file)}).json()[0]
        body = {"data": [[{"path": path, "orig_name": "mine.png", **mark}]], "fn_index": event["id"]}
        assert "1</strong>" in through_the_queue(address, body | {"session_hash": "own"})
        assert journal.counts().images == 1
