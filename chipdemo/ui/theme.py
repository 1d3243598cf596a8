"""Theme, style and keys of the page. Nothing here is fetched from outside."""

from pathlib import Path
from typing import Any

import gradio as gr
from starlette.responses import FileResponse
from starlette.routing import Route

HERE = Path(__file__).parent
ZOOM = "vendor/openseadragon-6.1.1.min.js"  # below HERE, and below the address of the page

SCRIPTS = (
    "page.js",
    "viewer.js",
    "inspect/inspect.js",
    "inspect/history.js",
    "many/many.js",
    "compare/compare.js",
    "label/shapes.js",
    "label/brush.js",
    "label/label.js",
    "label/browse.js",
    "label/review.js",
)
STYLES = (
    "theme.css",
    "viewer.css",
    "inspect/inspect.css",
    "inspect/history.css",
    "many/many.css",
    "compare/compare.css",
    "label/label.css",
    "label/browse.css",
    "label/review.css",
    "label/training.css",
    "teach/teach.css",
)

STEEL = gr.themes.Color(
    name="steel",
    c50="#eef5f8",
    c100="#d8e7ee",
    c200="#b4d0dd",
    c300="#86b3c7",
    c400="#5593ad",
    c500="#367792",
    c600="#2a607a",
    c700="#244f65",
    c800="#214354",
    c900="#1f3947",
    c950="#13252f",
)


def theme() -> gr.themes.ThemeClass:
    """Neutral grays, steel blue, the fonts that the visitor's system has."""
    return gr.themes.Base(
        primary_hue=STEEL,
        secondary_hue=STEEL,
        neutral_hue="gray",
        radius_size="sm",
        font=("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"),
        font_mono=("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"),
    ).set(
        body_background_fill="*neutral_100",
        body_background_fill_dark="#12171c",
        block_background_fill="white",
        block_background_fill_dark="#1a2127",
        block_border_color="*neutral_200",
        block_border_color_dark="#2c363f",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_shadow="none",
        input_background_fill_dark="#12171c",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_500",
        button_primary_text_color="white",
    )


def launch_options() -> dict[str, Any]:
    """What Blocks.launch needs to know of the look."""
    return {
        "theme": theme(),
        "css": _joined(*STYLES),
        "head": f"<script src='{ZOOM}'></script><script>{_joined(*SCRIPTS)}</script>",
        "footer_links": ["api"],
    }


def zoom_route() -> Route:
    """The library that zooms; too large to be in each page."""
    file, keep = HERE / ZOOM, {"Cache-Control": "public, max-age=31536000, immutable"}
    return Route(f"/{ZOOM}", lambda _: FileResponse(file, media_type="text/javascript", headers=keep))


def _joined(*names: str) -> str:
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)


def stage_template() -> str:
    """The unchanging frame of the picture; inspect.js fills it.

    No data goes through gradio's template: it is Handlebars first and then evaluated as a
    JavaScript template string, so a value with ${...} in it would run as code.
    """
    return (HERE / "inspect" / "stage.html").read_text(encoding="utf-8")


def many_template() -> str:
    """The same of the gallery of many images; many.js fills it."""
    return (HERE / "many" / "many.html").read_text(encoding="utf-8")


def desk_template() -> str:
    """The same of the Label tab; label.js fills it."""
    return (HERE / "label" / "label.html").read_text(encoding="utf-8")


def browse_template() -> str:
    """The same of the gallery; browse.js fills it."""
    return (HERE / "label" / "browse.html").read_text(encoding="utf-8")
