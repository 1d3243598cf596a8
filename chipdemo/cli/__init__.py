"""The commands of python -m chipdemo, a module for each.

A command is a function of the parsed flags and the settings. It imports what it needs inside, so that
--help and mistakes answer at once.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from chipdemo.errors import SettingsError
from chipdemo.settings import Settings, add_flags

EXIT_FOUND, EXIT_ERROR = 1, 2

Command = Callable[[argparse.Namespace, Settings], int | None]


def add_command(
    commands: argparse._SubParsersAction, name: str, run: Command, help: str, *settings: str
) -> argparse.ArgumentParser:
    """A command, with the flags of the settings that it needs."""
    parser = commands.add_parser(name, help=help, description=help)
    add_flags(parser, settings)
    parser.set_defaults(run=run)
    return parser


def fraction(text: str) -> float:
    """The value of a flag that is a number from 0 to 1."""
    from chipdemo.threshold import checked_threshold

    try:
        return checked_threshold(float(text))
    except (ValueError, SettingsError):
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1") from None


def amount(count: int, what: str) -> str:
    """ "1 label", "2 labels"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())


def show_refused(lines: Sequence[str]) -> None:
    show_lines("Not taken", lines)


def show_lines(what: str, lines: Sequence[str]) -> None:
    if lines:
        print(f"{what}: {len(lines):,}")
    for line in lines:
        print(f"  {line}")


def show_progress(done: int) -> None:
    if sys.stderr.isatty() and done % 100 == 0:
        print(f"\r{done:,} images", end="\r", file=sys.stderr)


def show_share(done: float, what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{what}: {done:.0%}   ", end="\r", file=sys.stderr)
