"""python -m chipdemo accept: a revision that is worse takes over all the same."""

import argparse

from chipdemo.cli import add_command
from chipdemo.settings import Settings


def add_to(commands: argparse._SubParsersAction) -> None:
    about = "let a newer revision of a model take over although its comparison calls it worse"
    take = add_command(commands, "accept", accept_revision, about, "model")
    take.add_argument("revision", metavar="REVISION", help="the newest one, as the page or the log names it")


def accept_revision(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.vision.revisions import accept

    accept(settings.model_source, flags.revision)
    print(
        f"Revision {flags.revision} of {settings.model_source} is accepted. Apps with --hot-reload put it in "
        "use by themselves, others when they start."
    )
