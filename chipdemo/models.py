"""The models of the app, and their replacement by newer ones while it runs. No torch, no gradio."""

import logging
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from chipdemo.comparison import Refused, kept_folder
from chipdemo.errors import CheckpointError, CheckpointOutOfReachError, SettingsError
from chipdemo.inspection import Model, ModelInfo
from chipdemo.threshold import checked_threshold

log = logging.getLogger(__name__)


class ModelInUse:
    """A model of the app, which a newer revision may replace.

    source: what loads it, for the training of the next one. refused: the newest revision, where that is
    worse; the page says so.
    """

    def __init__(self, model: Model, source: str = "", refused: Refused | None = None):
        self._model, self.source, self.refused = model, source, refused

    @property
    def model(self) -> Model:
        return self._model

    def replace(self, model: Model) -> None:
        """Use this model from now on. Work that has begun ends with the model it began with."""
        self._model = model

    def choose(self, model: Model, source: str) -> None:
        """The same for a model that somebody chose, and that source loads. Raises CheckpointError."""
        try_out(model)
        self.refused, self.source = None, source
        self.replace(model)


class Models:
    """The models of the app, in the order in which they were named. The first is the one that labels train.

    Whoever works on an image asks for them once and keeps to them. Raises SettingsError where two have one
    name: the page, the API and the labels tell them apart by it.
    """

    def __init__(self, *models: ModelInUse | Model):
        self.in_use = tuple(one if isinstance(one, ModelInUse) else ModelInUse(one) for one in models)
        names = [info.name for info in self.infos]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise SettingsError(f"Two models are called {twice}. Rename the folder of one.")

    @property
    def every(self) -> tuple[Model, ...]:
        return tuple(one.model for one in self.in_use)

    @property
    def infos(self) -> tuple[ModelInfo, ...]:
        return tuple(model.info for model in self.every)

    @property
    def first(self) -> ModelInUse:
        return self.in_use[0]

    @property
    def revision(self) -> str:
        return revision_of(self.every)


def revision_of(models: Sequence[Model]) -> str:
    """Of all of them together: another one where any was replaced."""
    return "+".join(model.info.revision for model in models)


class HotReload:
    """Looks for a newer revision of the model every few seconds and puts it in use.

    A newer one is loaded and tried on a gray image beside the one in use. One that cannot be used, or that
    is worse by its own comparison, is refused for good, and the model in use stays.
    """

    def __init__(
        self,
        in_use: ModelInUse,
        source: str,
        every_s: float,
        load: Callable[[str, str | None], Model],
        latest_revision: Callable[[str], str],
    ):
        """source: the checkpoint folder or Hub id. load: of a source and a revision. latest_revision: of a
        source; raises CheckpointOutOfReachError while it cannot tell."""
        folder = Path(source).expanduser()
        # Absolute, so that a folder that goes missing is never asked for on the Hub as owner/name
        self.source = str(folder.resolve()) if folder.is_dir() else source
        self.in_use, self.every_s = in_use, every_s
        self._load, self._latest_revision = load, latest_revision
        self._settled = ""  # the revision that was last taken or refused
        self._first: ModelInfo | None = in_use.model.info  # until a newer one took over
        self._seen = ""  # the revision at the last look
        self._in_reach = True
        self._stopping = threading.Event()

    def start(self) -> None:
        """Look from now on, in a thread that does not keep the process alive."""
        threading.Thread(target=self._run, name="hot reload", daemon=True).start()

    def stop(self) -> None:
        """Stop looking. A download in progress ends with the process."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self.every_s):
            self.look()

    def look(self) -> None:
        """Look once. Never raises: errors are logged, and the model in use stays."""
        try:
            revision = self._latest_revision(self.source)
            if revision != self._settled and self._is_whole(revision):
                self._take_or_refuse(revision)
            self._seen = revision
        except Exception as error:  # noqa: BLE001 - mostly out of reach; the thread outlives any answer
            if self._in_reach:  # logged once, not at every look
                log.warning("cannot look for a newer model; next try in %g s: %s", self.every_s, error)
            self._in_reach = False
        else:
            self._in_reach = True

    def _is_whole(self, revision: str) -> bool:
        """Commits are whole. A folder may still be being copied: it is whole when two looks agree."""
        return not Path(self.source).is_dir() or revision == self._seen

    def _take_or_refuse(self, revision: str) -> None:
        """Raises CheckpointOutOfReachError where it cannot be fetched now; it is tried again."""
        used = self.in_use.model.info
        try:
            newer = self._load(self.source, revision)
            try_out(newer)
            if self._latest_revision(self.source) != revision:
                return  # the folder changed while it was read: the next look sees it as new
        except CheckpointOutOfReachError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a file holds, the model in use must go on
            log.warning(
                "refused revision %s of %s; %s stays in use: %s", revision, self.source, used.revision, error
            )
        else:
            self._decide(newer, revision)
        self._settled = revision

    def _decide(self, newer: Model, revision: str) -> None:
        """Put a model that works in use, unless it is worse."""
        in_use, info, used = self.in_use, newer.info, self.in_use.model.info
        folder = Path(self.source) if Path(self.source).is_dir() else None
        if info.comparison and not info.comparison.may_replace(used.revision):
            refused = Refused(self.source, info.revision if folder else revision, info.comparison)
            if folder and kept_folder(folder, used.revision).is_dir():
                in_use.source = str(kept_folder(folder, used.revision))
            if refused != in_use.refused:  # perhaps known since the start
                log.warning("%s %s stays in use. %s", refused.text, used.revision, refused.advice)
            in_use.refused = refused
            return
        if info == self._first != used:
            return  # it is not newer: somebody chose another model since the start
        in_use.refused, in_use.source = None, self.source if folder else f"{self.source}@{revision}"
        if info != used:  # a commit may change the card alone
            in_use.replace(newer)
            self._first = None
            log.info(
                "%s: revision %s (%s) is in use, before %s; %s",
                self.source,
                info.revision,
                revision,
                used.revision,
                _compared(info, used),
            )


def _compared(info: ModelInfo, used: ModelInfo) -> str:
    """What is known of a newer model beside the one that it replaces."""
    if info.comparison is None:
        return "not compared with that one"
    other = "" if info.comparison.revision == used.revision else "compared with another one: "
    return other + info.comparison.text


def try_out(model: Model) -> None:
    """Judge a gray image, which also warms the network up. Raises CheckpointError where it cannot."""
    side = model.info.image_size
    (prediction,) = model.predict([model.prepare(Image.new("RGB", (side, side), (128,) * 3))])
    model.info.validation.at(checked_threshold(model.info.threshold))
    if not math.isfinite(prediction.log_odds):
        raise CheckpointError(f"The model gives {prediction.log_odds} for a gray image. Train it again.")
