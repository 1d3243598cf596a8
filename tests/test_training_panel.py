"""The training panel by raw HTTP: what whoever runs the app gets, and that others start nothing."""

import json
import re
import zipfile
from io import BytesIO

import httpx
import pytest
from gradio_client import Client

from chipdemo.errors import HubError
from chipdemo.jobs import DONE
from chipdemo.labeling.training import Training
from chipdemo.models import Models
from chipdemo.settings import Settings
from chipdemo.ui.label.logic import PublishStatus
from tests.drawn import picture
from tests.fakes import FakeModel
from tests.serving import served
from tests.test_label_api import ACCOUNTS, through_the_queue
from tests.test_training import label
from tests.waiting import until

BUTTONS = ("training-start", "training-resume", "training-stop", "training-use", "export", "publish")


class FakePublisher:
    """Publishes three events, or fails."""

    status: PublishStatus | None = None

    def __init__(self):
        self.flushed, self.error = 0, ""

    def flush(self) -> int:
        self.flushed += 1
        if self.error:
            raise HubError(self.error)
        return 3


@pytest.fixture
def models() -> Models:
    return Models(FakeModel())


@pytest.fixture
def training(journal, models, tmp_path):
    label(journal, {picture(0): "normal", picture(1): "abnormal"})
    (tmp_path / "train.py").write_text("print('trained')")
    training = Training(
        journal, Settings(), models.first, FakeModel, lambda out: False, script=tmp_path / "train.py"
    )
    yield training
    training.jobs.close()


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def serve(journal, models, training, publisher):
    """serve(**settings) -> a context with the address."""
    return lambda **settings: served(
        models, journal=journal, training=training, publisher=publisher, **settings
    )


class Page:
    """A visitor who presses the buttons of the panel, also those that are hidden. more: of httpx."""

    def __init__(self, address: str, **more):
        self.address, self.more, self.calls = address, more, 0
        self.config = httpx.get(f"{address}/config", **more).json()

    def event(self, elem_id: str, kind: str) -> dict:
        parts = {each["props"].get("elem_id"): each["id"] for each in self.config["components"]}
        (event,) = (
            each
            for each in self.config["dependencies"]
            if [parts[elem_id], kind] in each["targets"] and parts["training-note"] in each["outputs"]
        )
        return event

    def send(self, event: dict, *data: str) -> str:
        self.calls += 1
        body = {"data": list(data), "fn_index": event["id"], "session_hash": f"page{id(self)}{self.calls}"}
        return through_the_queue(self.address, body, **self.more)

    def press(self, button: str) -> str:
        """The message with the answer."""
        return self.send(self.event(button, "click"), *(["csv"] if button == "export" else []))

    def open(self) -> str:
        return self.send(self.event("label", "select"))


def test_its_user_sees_the_panel_and_trains_without_a_terminal(serve, training):
    with serve() as address:
        page = Page(address)
        assert "Training goes on from the model in use" in page.open()
        assert "The labels are being exported" in page.press("training-start")
        job = until(lambda: (job := training.jobs.last()).status == DONE and job)
        assert job.tail().endswith("trained\n")
        assert "no job to resume" in page.press("training-resume")


def refused(page: Page) -> None:
    assert "Training goes on" not in page.open()
    for button in BUTTONS:
        message = page.press(button)
        assert "CHIPDEMO_" in message and "role='alert'" in message, button


@pytest.mark.parametrize(
    "settings, more", [({"host": "0.0.0.0"}, {}), ({}, {"headers": {"host": "chips.example"}})]
)
def test_a_visitor_of_a_public_app_starts_nothing(serve, training, publisher, settings, more):
    with serve(**settings) as address:
        refused(Page(address, **more))
    assert not training.jobs.folder.exists() and not publisher.flushed


def test_of_the_accounts_those_that_are_named_may(serve, training, publisher):
    with serve(auth=ACCOUNTS, reviewers=("bob",)) as address:
        ada, bob = (Client(address, auth=account, verbose=False) for account in ACCOUNTS[:2])
        refused(Page(address, cookies=httpx.Cookies(ada.cookies)))
        assert not training.jobs.folder.exists() and not publisher.flushed
        page = Page(address, cookies=httpx.Cookies(bob.cookies))
        assert "Training goes on" in page.open()
        assert "3 label events published" in page.press("publish")


def test_labels_are_exported_as_a_zip_and_only_in_formats_that_exist(serve, journal, tmp_path):
    with serve() as address:
        page = Page(address)
        message = page.press("export")
        assert "Exported: 1 " in message
        path = re.search(r'"path":"([^"]+\.zip)"', message.replace(": ", ":"))[1]
        content = httpx.get(f"{address}/gradio_api/file={path}").content
        names = zipfile.ZipFile(BytesIO(content)).namelist()
        assert any(re.fullmatch(r"labels-[\d-]+-csv/labels\.csv", name) for name in names)
        assert '"success":false' in page.send(page.event("export", "click"), "../../csv")


def test_why_nothing_was_published_is_told(serve, publisher):
    publisher.error = "The Hub says <b>no</b>."
    with serve() as address:
        message = json.loads(Page(address).press("publish").removeprefix("data: "))
    assert "The Hub says &lt;b&gt;no" in json.dumps(message)
