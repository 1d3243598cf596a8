"""What the models predict for the images of the journal."""

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from chipdemo.inspection import Inspection, ModelInfo
from chipdemo.judge import Judge
from chipdemo.labeling import history
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import ModelPrediction
from chipdemo.models import revision_of

CACHED = 256  # inspections


class Predictions:
    """Prefetched and cached predictions. One image and one revision of the model have one prediction,
    whether it is shown to the annotator, stored with the label or used to order the queue: all of them
    come from Judge.inspect. Thread-safe.
    """

    def __init__(self, journal: Journal, judge: Judge, max_megapixels: float, threads: int):
        """threads: that inspect images before somebody asks for them."""
        self._journal, self._judge, self._max_megapixels = journal, judge, max_megapixels
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="predictions")
        self._inspections: OrderedDict[tuple[str, str], Future[Inspection]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def model(self) -> ModelInfo:
        """Of the first model, which labels train."""
        return self._judge.models.first.model.info

    @property
    def model_source(self) -> str:
        """What loads the first model; "" if unknown."""
        return self._judge.models.first.source

    def prefetch(self, sha256: str) -> None:
        """Inspect it in the background, unless it has a score already."""
        if history.scored(self._journal, sha256, self._judge.models.revision) is None:
            self._pool.submit(self.inspection, sha256)

    def of(self, sha256: str) -> ModelPrediction:
        """The score in the journal, or an inspection if there is none. Raises ChipDemoError."""
        score = history.scored(self._journal, sha256, self._judge.models.revision)
        if score is not None:
            return score
        found = self.inspection(sha256)
        return ModelPrediction(found.model_name, found.model_revision, found.abnormal_probability)

    def inspection(self, sha256: str) -> Inspection:
        """Inspect it in this thread, or wait for the thread that does so now.

        Raises ChipDemoError where the image cannot be read; the next call tries again.
        """
        models = self._judge.models.every
        key, job = (sha256, revision_of(models)), Future()
        with self._lock:
            found = self._inspections.setdefault(key, job)
            self._inspections.move_to_end(key)
            if len(self._inspections) > CACHED:
                self._inspections.popitem(last=False)
        if found is not job:
            return found.result()
        try:
            image = self._journal.picture(sha256, self._max_megapixels)
            job.set_result(self._judge.inspect(image, models=models))
        except BaseException as error:  # noqa: BLE001 - raised below, and to every thread that waits
            with self._lock:
                self._inspections.pop(key, None)
            job.set_exception(error)
        return job.result()

    def close(self) -> None:
        """Drop what waits to be prefetched, and wait for the inspections that have begun."""
        self._pool.shutdown(cancel_futures=True)
