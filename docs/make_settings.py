"""Write the table of docs/settings.md from chipdemo/settings.py.

python docs/make_settings.py
"""

from dataclasses import fields
from pathlib import Path

from chipdemo.settings import Settings, flag, variable

PAGE = Path(__file__).parent / "settings.md"
START, END = "<!-- table -->\n", "<!-- end of table -->"


def table() -> str:
    """A Markdown table with a row for each setting."""
    lines = ["| flag | variable | default | what |", "|---|---|---|---|"]
    for setting in fields(Settings):
        about = setting.metadata
        value = "" if setting.type is bool else f" {about.get('metavar', setting.name.upper())}"
        shown = about.get("shown", setting.default)
        shown = {True: "yes", False: "no"}[shown] if setting.type is bool else shown
        shown = shown if shown not in ("", ()) else "none"
        default = shown if setting.default in ("", (), None) else f"`{shown}`"
        cells = f"`{flag(setting.name)}{value}`", f"`{variable(setting.name)}`", default, about["help"]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def page(old: str) -> str:
    """The page with its table made anew."""
    before, _, rest = old.partition(START)
    return before + START + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
