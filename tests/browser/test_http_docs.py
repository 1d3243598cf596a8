"""The documentation of the HTTP API works without a network: a request is tried out on the page."""

from tests.browser.conftest import WAIT_MS


def test_an_image_is_inspected_from_the_documentation(chromium, address, images):
    page = chromium.new_page()
    page.set_default_timeout(WAIT_MS)
    outside = []
    page.on("request", lambda request: outside.append(request.url))
    page.goto(f"{address}/docs")
    page.click("#operations-Inspect-inspect_inspect_post .opblock-summary")
    page.set_input_files("#operations-Inspect-inspect_inspect_post input[type=file]", images / "dark.png")
    page.click("#operations-Inspect-inspect_inspect_post .execute")
    page.wait_for_selector("text=abnormal_probability")
    assert all(url.startswith((address, "data:", "blob:")) for url in outside)
    page.close()
