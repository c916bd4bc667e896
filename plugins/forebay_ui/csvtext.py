"""CSV that a spreadsheet opens without running anything: what would be a formula is made a text."""

import csv
import io
from collections.abc import Iterable, Iterator

# What spreadsheets take for the beginning of a formula, also behind blanks (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def harmless(value: object) -> object:
    """A cell's value; a text that would be a formula gets an apostrophe before it. Numbers stay numbers."""
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def lines(rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Each row as a line of CSV (RFC 4180)."""
    kept = io.StringIO()
    writer = csv.writer(kept)
    for row in rows:
        writer.writerow([harmless(value) for value in row])
        yield kept.getvalue()
        kept.seek(0)
        kept.truncate()
