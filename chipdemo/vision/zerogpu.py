"""A GPU for the time of a call: Spaces on ZeroGPU lend one so (https://huggingface.co/docs/hub/spaces-zerogpu).

The app's own process never has it, whatever PyTorch is made to say there: what it is lent to runs in a
process forked for the call. One image is judged on the CPU sooner than a GPU is lent; many at a
time are worth it.
"""

import logging
import os
from collections.abc import Callable
from functools import wraps
from multiprocessing import parent_process
from time import monotonic
from typing import ParamSpec, TypeVar

LENT_S = 20  # seconds that are asked for; the fewer, the sooner they are had
PAUSE_S = 60  # seconds until it is asked again, when none was lent

log = logging.getLogger(__name__)

Given = ParamSpec("Given")
Result = TypeVar("Result")


def lends() -> bool:
    """Whether this machine lends GPUs, by the variable that the package spaces goes by."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def cuda() -> bool:
    """Whether PyTorch has a GPU in this process."""
    if lends() and parent_process() is None:
        return False
    import torch

    return torch.cuda.is_available()


def on_lent_gpu(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """A function that is lent a GPU for each call, where GPUs are lent; the same one anywhere else.

    Where none is to be had, as when a visitor's share is used up, it runs without. Its arguments and its
    result are pickled.
    """
    if not lends():
        return function
    import spaces

    with_gpu, refused = spaces.GPU(duration=LENT_S)(function), float("-inf")

    @wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        nonlocal refused
        if monotonic() - refused > PAUSE_S:
            try:
                return with_gpu(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - whatever keeps it from lending, the work goes on
                log.warning("no GPU was lent, going on without: %s", error)
                refused = monotonic()
        return function(*args, **kwargs)

    return call
