"""python -m chipdemo api-key: a key for a program that asks the HTTP API."""

import argparse
from pathlib import Path

from chipdemo.cli import add_command
from chipdemo.errors import SettingsError
from chipdemo.settings import Settings, flag, variable


def add_to(commands: argparse._SubParsersAction) -> None:
    about = "make a key for a program that asks the HTTP API, and add its hash to a file"
    command = add_command(commands, "api-key", make, about, "api_keys_file")
    command.add_argument("name", metavar="NAME", help="who uses it, such as line-3; the log names it")


def make(flags: argparse.Namespace, settings: Settings) -> None:
    from chipdemo.keys import add_key

    if not settings.api_keys_file:
        raise SettingsError(f"Name the file with {flag('api_keys_file')} or {variable('api_keys_file')}.")
    print(add_key(flags.name, Path(settings.api_keys_file).expanduser()))
