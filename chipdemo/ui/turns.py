"""The newest request of a visitor wins: an answer that comes late must not replace a newer one."""

import threading
from typing import Any


class Turns:
    """Numbers a visitor's requests, for a gr.State: gr.State(Turns()).

    Gradio copies the value of a State once for each visitor and then passes that copy by reference, so
    all events of one visitor share it. A handler takes a turn when it starts, and asks before each
    update whether it is still current; if not, it ends with gr.skip().

        turn = turns.begin("image")
        for update in work():
            if not turns.is_current("image", turn):
                yield gr.skip()  # gradio repeats the last update of a generator when it ends
                return
            yield update

    The events need trigger_mode="multiple"; a page otherwise drops what comes while one is pending.
    """

    def __init__(self):
        self._newest: dict[str, int] = {}
        self._lock = threading.Lock()

    def begin(self, what: str) -> int:
        """A new turn of a kind, e.g. "image"; all earlier ones of that kind end with it."""
        with self._lock:
            self._newest[what] = self._newest.get(what, 0) + 1
            return self._newest[what]

    def is_current(self, what: str, turn: int) -> bool:
        """Whether no later turn of that kind has begun. 0 is the turn before the first."""
        with self._lock:
            return self._newest.get(what, 0) == turn

    def __deepcopy__(self, memo: dict[int, Any]) -> "Turns":
        """For another visitor, who has made no request; a lock could not be copied."""
        return Turns()
