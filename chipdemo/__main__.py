"""Chip Inspector from the command line; see python -m chipdemo --help."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from chipdemo.cli import EXIT_ERROR, EXIT_FOUND, accept, api_key, export, inspect, labels, teach, watch
from chipdemo.errors import ChipDemoError
from chipdemo.settings import Settings

EXIT_STOPPED = 130  # by Ctrl-C, as shells have it
EXITS = (
    "Exit status: 0 when all went well; "
    f"{EXIT_FOUND} when inspect found what --fail-on names; {EXIT_ERROR} for an error."
)


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chipdemo",
        description="Inspect images of chips, watch a folder, teach a new chip, keep labels, export and "
        "accept models.",
        epilog=f"COMMAND --help shows the flags of a command. {EXITS}",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (inspect, watch, labels, teach, export, accept, api_key):
        command.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    flags = command_line().parse_args(arguments)
    try:
        return flags.run(flags, Settings.from_env(os.environ).with_flags(flags)) or 0
    except ChipDemoError as error:
        print(f"chipdemo: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("chipdemo: stopped.", file=sys.stderr)
        return EXIT_STOPPED


if __name__ == "__main__":
    sys.exit(main())
