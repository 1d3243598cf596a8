"""The training panel as HTML. Every text that comes from outside is escaped here."""

from datetime import datetime
from html import escape

from chipdemo.comparison import BETTER, NOT_DISTINGUISHABLE, WORSE
from chipdemo.inspection import ModelInfo
from chipdemo.jobs import DONE, FAILED, INTERRUPTED, RUNNING, STOPPED
from chipdemo.labeling.training import MODEL, REVISION, Progress, Result

METRICS = {"auroc": "AUROC", "accuracy": "accuracy"}
TITLES = {
    RUNNING: "Training",
    STOPPED: "Stopped",
    INTERRUPTED: "Interrupted: the app ended while it trained",
    FAILED: "Training failed",
}
VERDICTS = {
    BETTER: "The new model is better",
    NOT_DISTINGUISHABLE: "The new model is not distinguishable from the model before it",
    WORSE: "The new model is worse",
}


def intro_html(model: ModelInfo, dataset: str) -> str:
    """Before the first training. dataset: owner/name that labels are published to, or ""."""
    labels = f"the labels published to {escape(dataset)}" if dataset else "the labels in this journal"
    return (
        f"<p>Training goes on from the model in use, {_model(model.name, model.revision)}, with {labels}. It "
        "runs on this machine, also while no page is open, and ends in a comparison with that model.</p>"
    )


def missing_html(reason: str, commands: list[str]) -> str:
    """Why no model can be trained here, with the commands to run elsewhere."""
    return f"<p>{escape(reason)}</p><pre><code>{escape(chr(10).join(commands))}</code></pre>"


def progress_html(progress: Progress, restart_command: str) -> str:
    """How the last training stands, or how it ended. restart_command: for where its model is in use."""
    if progress.result:
        return _result(progress, progress.result, restart_command)
    job, meter, text = progress.job, "", ""
    if progress.epochs:
        text = f"{progress.epoch} of {progress.epochs} epochs are finished. "
    if job.status == RUNNING:
        step = "" if len(job.steps) == job.step + 1 else "The labels are being exported. "
        text = step or text or "The images are being prepared. "
        share = progress.epoch / progress.epochs if progress.epochs else 0
        meter = f"<span class='meter'><span style='width: {share:.0%}'></span></span>"
    else:
        if job.status == FAILED:
            text = f"<span class='refused'>{escape(progress.error)}</span> {text}"
        text += "Resume goes on from there." if progress.keeps else "Resume begins the training again."
        text += " A new training removes this one."
    began = f"started {_time(job.started_at)}, from {_started_from(progress)}"
    return (
        f"<div class='training-card' data-status='{job.status}'>{meter}<p role='status'>"
        f"<strong>{TITLES[job.status]}</strong> <small>{began}</small></p><p>{text}</p></div>"
    )


def log_html(progress: Progress | None) -> str:
    """The last lines of the log; open while the training runs."""
    if progress is None or not progress.log:
        return ""
    is_open = "" if progress.job.status == DONE else " open"
    # Its lines are in a box that is scrolled to the end
    return (
        f"<details class='training-log'{is_open}><summary>Log</summary><div tabindex='0'><pre>"
        f"{escape(progress.log)}</pre></div></details>"
    )


def note_html(text: str) -> str:
    """What an export or a publication did."""
    return f"<p role='status'>{escape(text)}</p>"


def _result(progress: Progress, result: Result, restart_command: str) -> str:
    job, comparison = progress.job, result.comparison
    rows = "".join(
        _row(images, found["count"], METRICS[key], found[key])
        for images, found in result.sets.items()
        for key in METRICS
        if key in found
    )
    used = ""
    if progress.in_use:
        used = (
            "<p><strong>It is in use</strong> until the app stops. To start the app with it:</p>"
            f"<pre><code>{escape(restart_command)}</code></pre>"
        )
    elif not comparison.takes_over:
        used = "<p>The model in use stays, unless you decide otherwise.</p>"
    return (
        f"<div class='training-card' data-status='{DONE}' data-verdict='{comparison.verdict}'>"
        f"<p role='status'><strong>{VERDICTS[comparison.verdict]}</strong> <small>{_time(job.started_at)} to "
        f"{_time(job.ended_at)}, from {_started_from(progress)}</small></p>"
        "<div class='training-table'><table><thead><tr><th scope='col'>test images</th><td></td>"
        "<th scope='col'>before</th><th scope='col'>now</th>"
        "<th scope='col'>difference, 95&nbsp;% interval</th><td></td></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{used}</div>"
    )


def _row(images: str, count: int, metric: str, figures: dict) -> str:
    low, high = figures["interval_95"]
    difference = f"{figures['difference']:+.3f} ({low:+.3f} to {high:+.3f})".replace("-", "−")
    return (
        f"<tr><th scope='row'>{escape(images)}, {count:,}</th><td>{metric}</td>"
        f"<td>{figures['before']:.3f}</td><td>{figures['now']:.3f}</td><td>{difference}</td>"
        f"<td>{escape(figures['verdict'])}</td></tr>"
    )


def _started_from(progress: Progress) -> str:
    return _model(progress.job.about[MODEL], progress.job.about[REVISION])


def _model(name: str, revision: str) -> str:
    return f"{escape(name)} <code>{escape(revision)}</code>"


def _time(iso: str) -> str:
    """In the time zone of this machine, whose user reads it."""
    return f"{datetime.fromisoformat(iso).astimezone():%b %d, %H:%M}"
