"""Who may label: one decision, for the page, the API and raw HTTP alike.

The name comes from what the server itself knows of the caller (gradio's session of an account, the
signed session of Hugging Face), never from what a client sent along.
"""

import getpass
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import gradio as gr

from chipdemo.errors import LabelError
from chipdemo.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def has_oauth(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether users sign in by Hugging Face. Only on a Space: elsewhere gradio makes believe."""
    return environ.get("SYSTEM") == "spaces" and bool(environ.get("OAUTH_CLIENT_ID"))


def is_of_another_site(headers: Mapping[str, str]) -> bool:
    """Whether a page of another site asks. Browsers say so since 2023, and before, where a page is from."""
    if "sec-fetch-site" in headers:
        return headers["sec-fetch-site"] == "cross-site"
    return "origin" in headers and urlsplit(headers["origin"]).netloc != headers.get("host")


@dataclass(frozen=True)
class Annotators:
    """Decides by the settings. oauth: users sign in by Hugging Face; accounts of --auth go first."""

    settings: Settings
    oauth: bool = False

    def name(self, request: gr.Request, profile: gr.OAuthProfile | None) -> str:
        """The annotator behind a request. Raises LabelError where this one may not label."""
        if is_of_another_site(request.headers):  # gradio answers any site, with cookies
            raise LabelError("This request came from another site. Open the page of this app instead.")
        name, organizations = self._known(request, profile)
        if self.settings.labelers and not {name, *organizations} & set(self.settings.labelers):
            raise LabelError(
                f"{name[:80]!r} may not label here. Ask whoever runs this app to add you (--labelers, "
                "CHIPDEMO_LABELERS)."
            )
        return name

    def reviewer(self, request: gr.Request, profile: gr.OAuthProfile | None) -> str:
        """The same for who settles disagreements and deletes images from the queue."""
        name = self.name(request, profile)
        if not self.reviews(name):
            raise LabelError(
                f"{name[:80]!r} may not review or delete here. Ask whoever runs this app to add you "
                "(--reviewers, CHIPDEMO_REVIEWERS)."
            )
        return name

    def owner(self, request: gr.Request, profile: gr.OAuthProfile | None) -> str | None:
        """Whose history an inspection belongs to: an account's, or that of this machine's own user.

        None for anybody else, of whom nothing is kept.
        """
        if is_of_another_site(request.headers):
            return None
        if self.settings.auth:
            return f"account {request.username}" if request.username is not None else None
        if self.oauth:
            return f"huggingface {profile.username}" if profile else None
        return "this machine" if self.owns_machine(request) else None

    def operator(self, request: gr.Request, profile: gr.OAuthProfile | None) -> str:
        """The same for who runs the app: trains, changes the model for all, exports and publishes.

        It is this machine's own user; with accounts, the reviewers that were named.
        """
        name = self.name(request, profile)
        if not (self.owns_machine(request) or (self.settings.auth and name in self.settings.reviewers)):
            raise LabelError(
                f"{name[:80]!r} may not do this here. Ask whoever runs this app to name you (--reviewers, "
                "CHIPDEMO_REVIEWERS), with an account."
            )
        return name

    def owns_machine(self, request: gr.Request) -> bool:
        """Whether it is this machine's own user, whose tokens may be used for what they ask."""
        return not self.signs_in and self._is_local(request)

    @property
    def signs_in(self) -> bool:
        """Whether there are accounts to sign in with."""
        return bool(self.settings.auth) or self.oauth

    def reviews(self, name: str) -> bool:
        return not self.settings.reviewers or name in self.settings.reviewers

    def _known(self, request: gr.Request, profile: gr.OAuthProfile | None) -> tuple[str, list[str]]:
        """(name, organizations). Raises LabelError for whoever is not known."""
        if self.settings.auth:
            if request.username is None:
                raise LabelError("You are not signed in. Sign in, then label.")
            return request.username, []
        if self.oauth:
            if profile is None:
                raise LabelError("You are not signed in. Sign in with Hugging Face, then label.")
            # Names that Hugging Face gave out; the display name is anyone's choice
            organizations = profile.get("orgs") or []
            return profile.username, [str(each.get("preferred_username")) for each in organizations]
        if self._is_local(request):
            return self.settings.annotator or local_user(), []
        raise LabelError(
            "Nobody can label here: others can reach this app, and it has no sign-in. Start it with accounts "
            "(CHIPDEMO_AUTH=user:password), or listen on 127.0.0.1 without --share. On a Hugging Face Space, "
            "set hf_oauth: true."
        )

    def _is_local(self, request: gr.Request) -> bool:
        """Listening on this machine alone, and called by a name of this machine: no tunnel, no rebinding."""
        host = request.headers.get("host", "")
        asked = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        forwarded = request.headers.get("x-forwarded-for") or request.headers.get("forwarded")
        return (
            self.settings.host in LOOPBACK
            and not self.settings.share
            and asked.strip("[]") in LOOPBACK
            and not forwarded
        )


def local_user() -> str:
    """The name of this machine's user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as a number without a name
        return "local"
