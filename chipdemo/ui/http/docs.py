"""The documentation of the HTTP API at /docs, by Swagger UI, which comes along: it works without network."""

from pathlib import Path

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import FileResponse, HTMLResponse
from starlette.routing import Route

HERE = Path(__file__).parent
SCRIPT, STYLE = "vendor/swagger-ui-5.35.0.js", "vendor/swagger-ui-5.35.0.css"
KEEP = {"Cache-Control": "public, max-age=31536000, immutable"}
LOOK = """<style>body { margin: 0 } html.dark-mode { background: #12171c }</style>
<script>
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const look = () => document.documentElement.classList.toggle('dark-mode', dark.matches);
  dark.addEventListener('change', look);
  look();
</script></head>"""


def docs_routes() -> list[Route]:
    """Addresses are relative, so that it works behind a proxy too."""
    page = get_swagger_ui_html(
        openapi_url="v1/openapi.json",
        title="Chip Inspector: HTTP API",
        swagger_js_url=f"docs/{SCRIPT}",
        swagger_css_url=f"docs/{STYLE}",
        swagger_favicon_url="favicon.ico",
        swagger_ui_parameters={"defaultModelsExpandDepth": 0, "tryItOutEnabled": True},
    )
    html = page.body.decode().replace("</head>", LOOK)
    return [
        Route("/docs", lambda _: HTMLResponse(html)),
        *(Route(f"/docs/{name}", lambda _, name=name: FileResponse(HERE / name, headers=KEEP))
          for name in (SCRIPT, STYLE)),
    ]  # fmt: skip
