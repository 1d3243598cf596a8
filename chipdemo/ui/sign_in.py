"""Sign-in by the accounts of --auth: what gradio's page of it lacks, and the way out.

Gradio puts neither title nor scripts into its sign-in page, so they are added to its HTML on the way.
"""

from html import escape
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

TITLE = "Chip Inspector"
MESSAGE = f"<strong>{TITLE}</strong>: inspect, explain and label images of chips. Sign in with your account."
SCRIPT = (Path(__file__).parent / "sign_in.js").read_text(encoding="utf-8")
ADDED = f"<title>{TITLE}</title><script>{SCRIPT}</script></head>".encode()


class SignInPage:
    """Middleware that adds title and script to the page at / while it is the sign-in page."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: list[Message] = []

        async def changed(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.append(message)
                return
            if start:  # the page comes in one piece
                body = message["body"]
                if b'"auth_required"' in body:
                    body = body.replace(b"</head>", ADDED, 1)
                headers = [pair for pair in start[0]["headers"] if pair[0] != b"content-length"]
                headers.append((b"content-length", str(len(body)).encode()))
                await send(start.pop() | {"headers": headers})
                message = message | {"body": body}
            await send(message)

        is_page = scope["type"] == "http" and scope["path"] == "/" and scope["method"] == "GET"
        await self.app(scope, receive, changed if is_page else send)


def account_html(name: str) -> str:
    """Who is signed in, and the way out: of this browser alone, as others may use the account too."""
    return (
        f"<p class='account'>signed in as <strong><bdi>{escape(name)}</bdi></strong> "
        "<a href='logout?all_session=false'>Sign out</a></p>"
    )
