"""Writing to the Hugging Face Hub: who may, what is tried again, and what fails, in our words."""

import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id

from chipdemo.errors import HubError

PAUSES_S = (1, 4, 16)  # before another try

SIGN_IN = "Sign in by `hf auth login` or the variable HF_TOKEN with a token that may write"
NETWORK = "Check the network, and HF_ENDPOINT and HF_HUB_OFFLINE where they are set."
FULL = "The Hub has no room for it. Make some, or ask for more, in the owner's settings."
NEXT_STEPS = {
    401: f"The Hub does not accept the token. {SIGN_IN}.",
    402: "The owner's plan does not include it. See the billing settings of the owner on the Hub.",
    403: f"The token may not write there. {SIGN_IN}, or choose an owner/name that is yours.",
    404: "There is no such repository for this token. Check owner/name.",
    409: "Someone else is changing the repository. Wait until they have ended.",
    412: "Someone else is changing the repository. Wait until they have ended.",
    413: FULL,
    429: "The Hub has had too many requests. Wait a few minutes.",
    500: "The Hub has trouble of its own. Wait a few minutes.",
    507: FULL,
}

Result = TypeVar("Result")


def writer() -> dict[str, Any]:
    """Who is signed in, as the Hub tells it. Raises HubError for nobody, or a token that may only read."""
    try:
        user = with_retries(HfApi().whoami)
    except LocalTokenNotFoundError as error:
        raise HubError(f"You are not signed in to the Hub. {SIGN_IN}.") from error
    except Exception as error:  # noqa: BLE001 - network, proxy and Hub raise errors of many types
        raise HubError(f"The Hub did not say who is signed in: {describe_error(error)}") from error
    if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise HubError(f"The token of {user['name']} may only read. {SIGN_IN}.")
    return user


def writable(repository: str, user: dict[str, Any], example: str) -> str:
    """The repository, after checking that the user may own it. Raises HubError."""
    owners = [user["name"], *(org["name"] for org in user.get("orgs", []))]
    owner = checked_name(repository, example).partition("/")[0]
    if owner.lower() not in [each.lower() for each in owners]:
        raise HubError(
            f"You may not write to repositories of {owner}, only to those of {', '.join(owners)}, for "
            f"example {example}."
        )
    return repository


def checked_name(repository: str, example: str) -> str:
    """The repository, after checking that it is owner/name as the Hub allows names. Raises HubError."""
    try:
        validate_repo_id(repository)
        _, _ = repository.split("/")
    except (HFValidationError, ValueError) as error:
        raise HubError(
            f"{repository!r} is not a repository name. Write owner/name with letters, digits, '-', '_' and "
            f"'.', for example {example}."
        ) from error
    return repository


def with_retries(call: Callable[[], Result]) -> Result:
    """The call's result; it is tried again while the Hub is busy, failing or out of reach."""
    for pause_s in PAUSES_S:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - raised again unless it may pass
            if not may_pass(error):
                raise
            print(f"The Hub is busy or out of reach, next try in {pause_s} s", file=sys.stderr, flush=True)
            time.sleep(pause_s)
    return call()


def cause_of(error: Exception) -> Exception:
    """huggingface_hub tries uploads again by itself and wraps what fails for good in a RuntimeError."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error


def may_pass(error: Exception) -> bool:
    """Whether the same may work a little later: the Hub is busy, failing or out of reach."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, httpx2.TransportError)


def describe_error(error: Exception) -> str:
    """What went wrong and what helps, as sentences."""
    cause = cause_of(error)
    if isinstance(cause, HfHubHTTPError):
        status = cause.response.status_code
        said = f" ({cause.server_message})" if cause.server_message else ""
        step = NEXT_STEPS.get(status) or NEXT_STEPS.get(min(status, 500), "Correct that first.")
        return f"HTTP status {status}{said}. {step}"
    step = "Correct that first." if isinstance(cause, ValueError) else NETWORK
    return f"{type(cause).__name__} ({cause}). {step}"
