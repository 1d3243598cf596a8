"""Scores every image of the journal with the models, in the background; the scores order the queue."""

import logging
import threading
import time
from collections.abc import Sequence

from chipdemo.errors import ImageError, LabelError
from chipdemo.images import MAX_MEGAPIXELS
from chipdemo.inspection import Model
from chipdemo.judge import Judge
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import ModelPrediction
from chipdemo.labeling.ranking import Score, rank, set_scores
from chipdemo.models import revision_of

log = logging.getLogger(__name__)

BATCH = 16  # images whose scores are kept together
REST = 4  # for each second of ranking, so many without


class Scorer:
    """Asks the models about images that they have not scored, and puts the queue in order.

    What they have scored is in the journal: after a restart it goes on. A newer revision of one
    scores all anew; until it has come to an image, that keeps its place. The order is made anew
    when there are new scores or labels.
    """

    def __init__(
        self,
        journal: Journal,
        judge: Judge,
        every_s: float = 5.0,
        max_megapixels: float = MAX_MEGAPIXELS,
    ):
        """every_s: between two looks for new images, labels and models, seconds."""
        self.journal, self.judge = journal, judge
        self.every_s, self.max_megapixels = every_s, max_megapixels
        self._revision, self._after = "", 0  # of all models, and the last id they were asked about
        self._scored = 0  # images, since the start
        self._ranked: tuple | None = None  # what the order rests on as it is
        self._rank_at = 0.0  # not before this, time.monotonic()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Work from now on, in a thread of its own that does not keep the process alive."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="scores for the queue", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Work no more; waits for the image or the ranking that is under way."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        more = True
        while not self._stopping.wait(0 if more else self.every_s):
            try:
                more = self.work()
            except Exception as error:  # noqa: BLE001 - the thread outlives a full disk or a bad model
                log.warning("the queue keeps its order, tried again in %g s: %s", self.every_s, error)
                more = False

    def work(self) -> bool:
        """Score a few images, and rank if it is time and something changed. False if none was left."""
        models = self.judge.models.every
        revision = revision_of(models)
        if revision != self._revision:
            self._revision, self._after = revision, 0
        more = self._score_some(models)
        basis = (revision, self._scored, self.journal.counts().events)
        if basis != self._ranked and time.monotonic() >= self._rank_at and not self._stopping.is_set():
            started = time.monotonic()
            rank(self.journal, revision)
            took = time.monotonic() - started
            self._ranked, self._rank_at = basis, started + took + max(self.every_s, REST * took)
        return more

    def _score_some(self, models: Sequence[Model]) -> bool:
        """Ask about the next BATCH that this revision has not scored, each once; False if none is left."""
        with self.journal.read() as database:
            newest = database.execute("SELECT MAX(id) FROM images").fetchone()[0] or 0
            rows = database.execute(
                "SELECT id, sha256 FROM images WHERE id > ? AND id <= ? AND NOT EXISTS "
                "(SELECT 1 FROM scores WHERE image_sha256 = sha256 AND revision = ? "
                "AND out_of_distribution IS NOT NULL) ORDER BY id LIMIT ?",
                (self._after, newest, self._revision, BATCH),
            ).fetchall()
        scores, after = [], self._after if rows else newest
        for row in rows:
            if self._stopping.is_set():
                break
            scores += self._score(models, row["sha256"])
            after = row["id"]
        if scores:
            set_scores(self.journal, self._revision, scores)
        self._scored, self._after = self._scored + len(scores), after
        return bool(rows)

    def _score(self, models: Sequence[Model], sha256: str) -> list[Score]:
        """One, or none where the image cannot be read."""
        try:
            decoded = self.journal.picture(sha256, self.max_megapixels)
        except (ImageError, LabelError) as error:
            log.info("an image of the queue is not scored: %s", error)
            return []
        found = self.judge.inspect(decoded, models=models)
        prediction = ModelPrediction(found.model_name, found.model_revision, found.abnormal_probability)
        return [Score(sha256, prediction, found.threshold, found.embedding, bool(found.out_of_distribution))]
