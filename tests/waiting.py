"""Waits for what another process does, and no longer than that takes."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LIMIT_S = 400  # of a machine that is busy with other things; seconds are usual


def until(ask: Callable[[], T]) -> T:
    """The first answer that is true. Fails after LIMIT_S."""
    end = time.monotonic() + LIMIT_S
    while not (answer := ask()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return answer
