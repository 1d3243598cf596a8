"""What the Hugging Face Hub and its client say when something fails, in our words."""

import httpx2
from huggingface_hub.errors import HfHubHTTPError

SIGN_IN = "Sign in by `hf auth login` or the variable HF_TOKEN with a token that may write"
NETWORK = "Check the network, and HF_ENDPOINT and HF_HUB_OFFLINE where they are set."
FULL = "The Hub has no room for it. Make some, or ask for more, in the owner's settings."
NEXT_STEPS = {
    401: f"The Hub does not accept the token. {SIGN_IN}.",
    403: f"The token may not write there. {SIGN_IN}, or choose an owner/name that is yours.",
    404: "There is no such repository for this token. Check owner/name.",
    409: "Someone else is changing the repository. Wait until they have ended.",
    412: "Someone else is changing the repository. Wait until they have ended.",
    413: FULL,
    429: "The Hub has had too many requests. Wait a few minutes.",
    500: "The Hub has trouble of its own. Wait a few minutes.",
    507: FULL,
}


def cause_of(error: Exception) -> Exception:
    """huggingface_hub tries uploads again by itself and wraps what fails for good in a RuntimeError."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error


def may_pass(error: Exception) -> bool:
    """Whether the same may work a little later: the Hub is busy, failing or out of reach."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return isinstance(error, httpx2.TransportError)


def told(error: Exception) -> str:
    """What went wrong and what helps, as sentences."""
    cause = cause_of(error)
    if isinstance(cause, HfHubHTTPError):
        status = cause.response.status_code
        said = f" ({cause.server_message})" if cause.server_message else ""
        step = NEXT_STEPS.get(status) or NEXT_STEPS.get(min(status, 500), "Correct that first.")
        return f"HTTP status {status}{said}. {step}"
    step = "Correct that first." if isinstance(cause, ValueError) else NETWORK
    return f"{type(cause).__name__} ({cause}). {step}"
