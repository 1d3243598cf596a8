"""Numbers of the running app for Prometheus; nothing of any image is among them."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from chipdemo.inspection import Inspection
from chipdemo.labeling.journal import Journal

SECONDS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5)  # upper ends of the latency's buckets


class Metrics:
    """Counted as they happen, or asked for when Prometheus asks."""

    def __init__(self, journal: Journal | None = None):
        """journal: open, for how far the labeling is."""
        self._registry = CollectorRegistry()
        self._inspections = Counter(
            "chipdemo_inspections", "Images inspected.", ["outcome"], registry=self._registry
        )
        self._seconds = Histogram(
            "chipdemo_inspection_seconds",
            "Time of one image, from the decoded picture to heat and regions.",
            buckets=SECONDS,
            registry=self._registry,
        )
        if journal:
            self.ask("chipdemo_labels_pending", "Labels not yet published.", lambda: journal.counts().pending)
            self.ask("chipdemo_images", "Images known.", lambda: journal.counts().images)
            self.ask("chipdemo_images_labeled", "Images labeled.", lambda: journal.counts().labeled)

    def add(self, inspection: Inspection) -> None:
        self._inspections.labels(inspection.outcome).inc()
        self._seconds.observe(sum(inspection.timing_ms.values()) / 1000)

    def ask(self, name: str, help: str, value: Callable[[], float]) -> None:
        """A number that is asked for."""
        Gauge(name, help, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
