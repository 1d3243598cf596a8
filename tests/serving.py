"""A launched app on a free port, for tests that need a real server."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from chipdemo.examples import Example
from chipdemo.inspection import Inspector
from chipdemo.labeling.journal import Journal
from chipdemo.metrics import Metrics
from chipdemo.settings import Settings
from chipdemo.teaching import Teacher
from chipdemo.ui.page import build_app, serve


@contextmanager
def served(
    inspector: Inspector,
    examples: tuple[Example, ...] = (),
    ablation: Path | None = None,
    load: Callable[[Path], Inspector] | None = None,
    journal: Journal | None = None,
    metrics: Metrics | None = None,
    teacher: Callable[[], Teacher] | None = None,
    **settings,
) -> Iterator[str]:
    """The address of the app while it runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chosen = Settings(port=port, **settings)
    app = build_app(inspector, chosen, examples, ablation, load, journal, metrics=metrics, teacher=teacher)
    # _frontend: gradio's look at itself gives up after 3 s, which a busy machine may need
    serve(app, chosen, metrics, prevent_thread_lock=True, quiet=True, _frontend=False)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        app.close(verbose=False)
