"""Everything but the browser, from the command line: python -m chipdemo --help."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from chipdemo.cli import export, inspect, labels, teach
from chipdemo.errors import ChipDemoError
from chipdemo.settings import Settings

EXIT_USAGE = 2


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chipdemo", description="Chip Inspector from the command line."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (inspect, labels, teach, export):
        command.add_to(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    flags = command_line().parse_args(arguments)
    try:
        return flags.run(flags, Settings.from_env(os.environ).with_flags(flags)) or 0
    except ChipDemoError as error:
        print(f"chipdemo: {error}", file=sys.stderr)
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
