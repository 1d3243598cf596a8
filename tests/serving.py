"""A launched app on a free port, for tests that need a real server."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from chipdemo.batch.service import InspectionService
from chipdemo.examples import ExampleSet
from chipdemo.inspection import Model
from chipdemo.judge import Judge
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.training import Training
from chipdemo.metrics import Metrics
from chipdemo.models import Models
from chipdemo.monitoring import Recent, log_inspection
from chipdemo.settings import Settings
from chipdemo.teaching import Teacher
from chipdemo.ui.inspect.first_example import FirstExample
from chipdemo.ui.label.logic import Publisher, desk_of
from chipdemo.ui.page import build_app, serve


@contextmanager
def served(
    model: Model | Models,
    examples: tuple[ExampleSet, ...] = (),
    ablation: Path | None = None,
    load: Callable[[Path], Model] | None = None,
    journal: Journal | None = None,
    metrics: Metrics | None = None,
    teacher: Callable[[], Teacher] | None = None,
    training: Training | None = None,
    publisher: Publisher | None = None,
    opens: bool = False,
    **settings,
) -> Iterator[str]:
    """The address of the app while it runs. model: the one in use, or what holds it for a hot reload.

    opens: with an example on the page.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chosen, recent = Settings(port=port, **settings), Recent()
    models = model if isinstance(model, Models) else Models(model)
    judge = Judge(models, [log_inspection, recent.add, *([metrics.add] if metrics else [])])
    desk = desk_of(journal, judge, chosen, publisher, training) if journal else None
    first = FirstExample(judge, examples, chosen.max_megapixels) if opens else None
    app = build_app(
        judge, chosen, recent, examples, ablation, load, desk, metrics, teacher, first_example=first
    )
    service = InspectionService(judge, chosen.max_megapixels, chosen.queue_size, chosen.concurrency)
    service.start()
    serve(app, chosen, service, metrics, prevent_thread_lock=True, quiet=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        service.stop()
        app.close(verbose=False)
        if desk:
            desk.close()
