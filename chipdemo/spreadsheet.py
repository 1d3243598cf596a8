"""Texts of strangers in a CSV: cells that no spreadsheet takes for a formula, and back."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")  # how a cell begins that a spreadsheet would run; and '
NUL = "\u2400"  # stands for the character 0, which Python 3.10 puts into no CSV and reads from none


def escaped(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = text.replace("\0", NUL)
    return f"'{text}" if text.startswith(FORMULA) else text


def unescaped(cell: str | None) -> str:
    """The text again."""
    cell = (cell or "").replace(NUL, "\0")
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell
