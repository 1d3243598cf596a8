"""Who may ask the HTTP API: whoever may open the page, or whoever has a key."""

import hmac
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from chipdemo.errors import AccessError
from chipdemo.keys import ApiKeys
from chipdemo.settings import Accounts
from chipdemo.ui.auth import is_of_another_site

ANYBODY = "anybody"


@dataclass(frozen=True)
class Access:
    """accounts: of --auth. keys: of --api-keys-file. user_of: who has signed in on the page, by its cookie.

    Without accounts and keys, anybody may ask, but for pages of other sites.
    """

    accounts: Accounts = ()
    keys: ApiKeys | None = None
    user_of: Callable[[Request], str | None] = lambda request: None

    @property
    def challenge(self) -> str:
        """What WWW-Authenticate says."""
        known = [("Bearer", self.keys), ('Basic realm="Chip Inspector", charset="UTF-8"', self.accounts)]
        return ", ".join(scheme for scheme, any_are_known in known if any_are_known)

    def caller(self, request: Request) -> str:
        """The name of who asks, for the log. Raises AccessError."""
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" or "x-api-key" in request.headers:
            return self._owner(request.headers.get("x-api-key") or value.strip())
        if scheme.lower() == "basic" and self.accounts:
            return self._account(value)
        if is_of_another_site(request.headers):
            raise AccessError("This request came from a page of another site. Open this app instead.")
        if user := self.accounts and self.user_of(request):
            return user
        if self.accounts or self.keys:
            raise AccessError(f"This app wants to know who asks. Send {self._ways}.")
        return ANYBODY

    @property
    def _ways(self) -> str:
        key = "the header Authorization: Bearer KEY" if self.keys else ""
        account = "user and password (Basic)" if self.accounts else ""
        return " or ".join(filter(None, (key, account)))

    def _owner(self, key: str) -> str:
        if name := self.keys and self.keys.name(key):
            return name
        reason = "is not valid" if self.keys else "is not needed here: this app has no --api-keys-file"
        raise AccessError(f"The API key {reason}. Check the key, or ask whoever runs this app for one.")

    def _account(self, encoded: str) -> str:
        try:
            given = b64decode(encoded, validate=True)
        except ValueError:
            given = b""
        found = ""
        for user, password in self.accounts:
            if hmac.compare_digest(given, f"{user}:{password}".encode()):
                found = user
        if not found:
            raise AccessError("User or password is wrong. Check both.")
        return found
