"""Our scripts as from the command line, in this process: a new one would import torch for seconds."""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run_script(monkeypatch, script: str, *arguments) -> str:
    """Run a script, by its path in the repository; "" where it ended well, or what it would have said."""
    monkeypatch.setattr(sys, "argv", [str(ROOT / script), *map(str, arguments)])
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as end:
        return str(end.code or "")
    return ""
