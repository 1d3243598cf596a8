"""python -m chipdemo watch: images that arrive in a folder -> a folder of results, until it is stopped."""

import argparse
import logging
import signal
from pathlib import Path

from chipdemo.cli import EXIT_ERROR, add_command
from chipdemo.cli.inspect import SETTINGS, add_judging, loader, task_of
from chipdemo.settings import Settings

POLL_S = 1.0
MAX_POLL_S = 3600


def add_to(commands: argparse._SubParsersAction) -> None:
    about = "judge each image that arrives in a folder, until Ctrl-C or SIGTERM"
    take = add_command(commands, "watch", watch, about, *SETTINGS)
    take.epilog = (
        "The same command again goes on where it was stopped, or killed. Exit status: 0 when it was stopped, "
        f"or --once has ended, {EXIT_ERROR} for an error."
    )
    take.add_argument(
        "folder", type=Path, metavar="FOLDER", help="where images arrive; subfolders are included"
    )
    take.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="new folder, or that of an earlier watch"
    )
    add_judging(take)
    take.add_argument(
        "--poll",
        type=_seconds,
        default=POLL_S,
        metavar="SECONDS",
        help="time between looks at the folder, in which a file must stay unchanged before it is judged; "
        "5 on a network share (default: %(default)g)",
    )
    take.add_argument(
        "--webhook",
        type=_address,
        metavar="URL",
        help="post the JSON of each image that is not normal to this address, again until it is taken",
    )
    take.add_argument("--webhook-all", action="store_true", help="post the JSON of normal images too")
    take.add_argument("--once", action="store_true", help="judge what is there, then end")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_POLL_S:
        raise argparse.ArgumentTypeError(
            f"{text} is not a number of seconds, above 0 and up to {MAX_POLL_S:,}"
        )
    return seconds


def _address(text: str) -> str:
    import httpx

    try:
        address = httpx.URL(text)
    except httpx.InvalidURL:
        address = httpx.URL("")
    if address.scheme not in ("http", "https") or not address.host:
        raise argparse.ArgumentTypeError(f"{text} is not an address such as https://plant.example/verdicts")
    return text


def watch(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.batch.arrivals import check_folder
    from chipdemo.batch.watch import watching
    from chipdemo.files import Limits

    logging.getLogger("chipdemo").setLevel(logging.INFO)
    check_folder(flags.folder, flags.out)  # before the models are loaded
    task = task_of(flags, loader(flags, settings)(), Limits(megapixels=settings.max_megapixels))
    with watching(task, flags.folder, flags.out, flags.poll, flags.webhook, flags.webhook_all) as watch:

        def stop(number: int, frame: object) -> None:
            signal.signal(number, signal.SIG_DFL)  # the second time it ends at once
            watch.stop()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            watch.run(flags.once)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
