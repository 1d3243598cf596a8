"""Numbers of the running app for Prometheus; nothing of any image is among them."""

from collections.abc import Callable, Mapping
from typing import Any

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
        self._seconds = self._histogram(
            "chipdemo_inspection_seconds", "Time of one image, from its file to heatmaps and regions."
        )
        self._steps = self._histogram("chipdemo_step_seconds", "Time of each step of an inspection.", "step")
        self._requests = self._histogram("chipdemo_request_seconds", "Time of each request to /v1.", "path")
        self._wait = self._histogram(
            "chipdemo_wait_seconds", "Time that an image of /v1 waits for the model."
        )
        self._answers = Counter(
            "chipdemo_answers", "Answers of /v1 by status.", ["path", "status"], registry=self._registry
        )
        self._rejected = Counter(
            "chipdemo_rejected",
            "Requests to /v1 that got a problem instead.",
            ["problem"],
            registry=self._registry,
        )
        if journal:
            self.ask("chipdemo_labels_pending", "Labels not yet published.", lambda: journal.counts().pending)
            self.ask("chipdemo_images", "Images known.", lambda: journal.counts().images)
            self.ask("chipdemo_images_labeled", "Images labeled.", lambda: journal.counts().labeled)

    def add(self, inspection: Inspection) -> None:
        self._inspections.labels(inspection.outcome).inc()
        self._seconds.observe(sum(inspection.timing_ms.values()) / 1000)
        for step, ms in inspection.timing_ms.items():
            self._steps.labels("tiles" if step[0].isdecimal() else step).observe(ms / 1000)

    def add_request(self, fields: Mapping[str, Any]) -> None:
        """A request to /v1, by what the log gets of it."""
        self._answers.labels(fields["path"], fields["status"]).inc()
        self._requests.labels(fields["path"]).observe(fields["ms"] / 1000)
        if "wait_ms" in fields:
            self._wait.observe(fields["wait_ms"] / 1000)
        if "problem" in fields:
            self._rejected.labels(fields["problem"]).inc()

    def ask(self, name: str, help: str, value: Callable[[], float]) -> None:
        """A number that is asked for."""
        Gauge(name, help, registry=self._registry).set_function(value)

    def _histogram(self, name: str, help: str, *labels: str) -> Histogram:
        return Histogram(name, help, labels, buckets=SECONDS, registry=self._registry)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
