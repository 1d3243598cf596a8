"""Texts of strangers in a CSV: cells that no spreadsheet takes for a formula, and back."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")  # how a cell begins that a spreadsheet would run; and '


def escaped(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def unescaped(cell: str | None) -> str:
    """The text again."""
    cell = cell or ""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell
