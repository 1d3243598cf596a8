"""Trains the next model from the labels, as a job beside the journal, and puts it in use."""

import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from chipdemo.comparison import Comparison, comparison_of
from chipdemo.errors import JobError
from chipdemo.inspection import CLASSES, Model, ModelInfo
from chipdemo.jobs import DONE, ROOT, Job, Jobs
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.status import status_of
from chipdemo.models import ModelInUse
from chipdemo.settings import Settings

SCRIPT = ROOT / "training" / "train.py"
PACKAGES = ("torch", "timm", "accelerate", "torchmetrics", "matplotlib", "pandas")  # that it imports
EPOCH = re.compile(r"^epoch (\d+)/(\d+) ", re.MULTILINE)  # a line of the log of train.py
MODEL, REVISION, OUT = "model", "revision", "out"  # keys of Job.about


@dataclass(frozen=True)
class Result:
    """comparison: with the model that training started from. sets: its figures, as in metrics.json."""

    comparison: Comparison
    sets: dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """The last training. epoch, epochs: finished, and in all; 0 where the log names none.

    keeps: resuming it goes on from the last epoch. error: the last line of a training that failed. result:
    of one that is done. in_use: its model is.
    """

    job: Job
    log: str
    epoch: int
    epochs: int
    keeps: bool
    error: str
    result: Result | None
    in_use: bool


class Training:
    """The training jobs of an app. in_use: the model to go on from, and the one to replace.

    load: a checkpoint folder that somebody chose -> its model; raises ChipDemoError. keeps: a folder of
    train.py's --out -> whether --resume goes on from what is there.
    """

    def __init__(
        self,
        journal: Journal,
        settings: Settings,
        in_use: ModelInUse,
        load: Callable[[Path], Model],
        keeps: Callable[[Path], bool],
        script: Path = SCRIPT,
    ):
        self.jobs = Jobs(journal.path.with_name(f"{journal.path.name}.jobs"))
        self._journal, self._settings, self._in_use = journal, settings, in_use
        self._load, self._keeps, self._script = load, keeps, script

    @property
    def model(self) -> ModelInfo:
        """The one that the next training goes on from."""
        return self._in_use.model.info

    @property
    def source(self) -> str:
        """What loads it."""
        return self._in_use.source or self._settings.model_source

    def missing(self) -> str:
        """Why no model can be trained here, and what to do; "" where one can."""
        if not self._script.is_file():
            return (
                "This app was installed without its training scripts. Run these commands where they are, in "
                "a copy of the repository:"
            )
        if absent := [name for name in PACKAGES if find_spec(name) is None]:
            return (
                f"Training needs {', '.join(absent)}: python -m pip install -e '.[train]'. Then restart the "
                "app, or run:"
            )
        return ""

    def start(self) -> None:
        """Train from the model in use, on all labels. Raises JobError, JournalError."""
        if self.missing():
            raise JobError("No model can be trained here.")
        agreed = status_of(self._journal).agreed
        if not (self._settings.dataset or any(agreed[label] for label in CLASSES)):
            raise JobError("There is nothing to train from yet. Label some images normal and some abnormal.")
        about = {MODEL: self.model.name, REVISION: self.model.revision, OUT: Path(self.model.name).name}
        self.jobs.start(lambda folder: self._steps(folder / about[OUT], folder / "labels"), about)

    def _steps(self, out: Path, labels: Path) -> list[list[str]]:
        """The commands of status.training_commands, with the model in a folder of the job."""
        python, dataset = [sys.executable], self._settings.dataset
        source = Path(self.source).expanduser()
        init = str(source.resolve()) if source.is_dir() else self.source
        data = f"hf:{dataset}" if dataset else str(labels)
        train = [*python, str(self._script), "--data", data, "--init", init, "--out", str(out)]
        train += ["--cache", str(self.jobs.folder / "cache")]
        if dataset:
            return [train]
        export = [*python, "-m", "chipdemo", "labels", "export", data, "--journal", str(self._journal.path)]
        return [export, train]

    def resume(self) -> None:
        """Go on with a training that did not reach its end. Raises JobError."""
        job = self.jobs.last()
        self.jobs.resume(["--resume"] if job and self._keeps(_out(job)) else [])

    def progress(self) -> Progress | None:
        """None where nothing was trained here yet. Raises JobError."""
        job = self.jobs.last()
        if job is None:
            return None
        log = job.tail()
        epochs = EPOCH.findall(log)
        return Progress(
            job,
            log,
            *(map(int, epochs[-1]) if epochs else (0, 0)),
            keeps=self._keeps(_out(job)),
            error=log.strip().rpartition("\n")[2].removeprefix("error: "),
            result=_result(_out(job)) if job.status == DONE else None,
            in_use=self._in_use.source == str(_out(job)),
        )

    def use(self) -> None:
        """Put the model of the last training in use. Raises JobError, CheckpointError, TargetError."""
        job = self.jobs.last()
        if job is None or job.status != DONE:
            raise JobError("There is no trained model to use. Train one first.")
        self._in_use.choose(self._load(_out(job)), str(_out(job)))

    def restart_command(self) -> str:
        """What starts the app with the model that is in use now."""
        sources = [self.source, *self._settings.model_sources[1:]]
        flags = [word for source in sources for word in ("--model", source)]
        return shlex.join(["python", "app.py", *flags])


def _out(job: Job) -> Path:
    return job.folder / job.about[OUT]


def _result(folder: Path) -> Result:
    """Raises JobError."""
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        comparison = comparison_of(metrics)
        if comparison is None:
            raise ValueError("it has no comparison")
        return Result(comparison, metrics["comparison"]["sets"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError(f"The result in {folder} cannot be read: {error}. Train again.") from error
