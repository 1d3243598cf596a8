"""A real headless Chromium; where there is none, the tests are skipped and say why."""

import shutil

import numpy as np
import pytest
from PIL import Image

from chipdemo.examples import Example, ExampleSet
from tests.fakes import FakeModel
from tests.serving import served

WAIT_MS = 20_000  # for a condition, on a slow machine
READY = ("#image input[type=file]", "#stage .stage")  # what a page shows when it can be used
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a green test picture
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", *CAMERA]


@pytest.fixture(scope="session")
def chromium():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test gets it")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on this machine; install it, e.g. apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """dark.png (abnormal), light.png (normal), red.png (out of distribution), and others."""
    folder = tmp_path_factory.mktemp("images")
    values = np.linspace(0, 70, 120 * 90).astype(np.uint8).reshape(90, 120)
    Image.fromarray(values).save(folder / "dark.png")
    Image.new("RGB", (120, 90), (240, 240, 240)).save(folder / "light.png")
    Image.new("RGB", (120, 90), "red").save(folder / "red.png")
    Image.fromarray(np.arange(90 * 120).astype(np.uint16).reshape(90, 120)).save(folder / "deep.tif")
    (folder / "bad.png").write_bytes(b"this is no image")
    Image.new("RGB", (120, 90), "black").save(folder / "<img src=x onerror=document.title=1>.png")
    return folder


@pytest.fixture(scope="session")
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture(scope="session")
def address(model, images):
    drawings = ExampleSet(
        model.info.name, "drawings", "ours", (Example(images / "dark.png", "a dark drawing"),)
    )
    with served(model, (drawings,)) as address:
        yield address


@pytest.fixture
def open_page(chromium, address):
    """open_page(width=..., color_scheme=...) -> the page, ready; fails on errors and outside requests."""
    contexts, complaints = [], []

    def open_(
        width: int = 1440, height: int = 900, path: str = "/", ready: tuple[str, ...] = READY, **options
    ):
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: complaints.append(f"error on the page: {error}"))
        page.on("request", lambda request: complaints.extend(outside(request.url, address)))
        page.goto(address + path)
        for selector in ready:
            page.wait_for_selector(selector, state="attached")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def outside(url: str, address: str) -> list[str]:
    local = url.startswith((address, "data:", "blob:"))
    return [] if local else [f"request to the outside: {url}"]
