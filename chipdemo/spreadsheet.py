"""Escapes text for a CSV, so that no spreadsheet reads a cell as a formula."""

# A cell that starts so is a formula; the last one is what escaped() puts before it
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
NUL = "\u2400"  # replaces the character 0, which csv of Python 3.10 neither writes nor reads


def escaped(text: str) -> str:
    """The text as a cell that is not read as a formula."""
    text = text.replace("\0", NUL)
    return f"'{text}" if text.startswith(FORMULA) else text


def unescaped(cell: str | None) -> str:
    """The text of an escaped cell."""
    cell = (cell or "").replace(NUL, "\0")
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell
