"""Date patterns: MySQL's (date_format, date_parse) and Joda's (format_datetime …) to DuckDB's."""

from __future__ import annotations

import re

_MYSQL = {
    "a": "%a",
    "b": "%b",
    "c": "%-m",
    "d": "%d",
    "e": "%-d",
    "f": "%f",
    "H": "%H",
    "h": "%I",
    "I": "%I",
    "i": "%M",
    "j": "%j",
    "k": "%-H",
    "l": "%-I",
    "M": "%B",
    "m": "%m",
    "p": "%p",
    "r": "%I:%M:%S %p",
    "S": "%S",
    "s": "%S",
    "T": "%H:%M:%S",
    "v": "%V",
    "W": "%A",
    "x": "%G",
    "Y": "%Y",
    "y": "%y",
    "%": "%%",
}
_JODA = {
    "yyyy": "%Y",
    "YYYY": "%Y",
    "y": "%-Y",
    "yy": "%y",
    "MM": "%m",
    "M": "%-m",
    "MMM": "%b",
    "MMMM": "%B",
    "dd": "%d",
    "d": "%-d",
    "HH": "%H",
    "H": "%-H",
    "hh": "%I",
    "h": "%-I",
    "mm": "%M",
    "m": "%-M",
    "ss": "%S",
    "s": "%-S",
    "SSS": "%g",
    "a": "%p",
    "E": "%a",
    "EEE": "%a",
    "EEEE": "%A",
    "DDD": "%j",
    "ww": "%V",
    "xxxx": "%G",
}
_JODA["y"] = "%Y"
_NOT_PARSED = {"%V", "%G", "%a", "%A", "%j", "%-Y"}


def from_mysql(pattern: str, parsing: bool) -> str:
    """Raises ValueError with the specifier that has no equal."""
    out: list[str] = []
    for match in re.finditer(r"%(.?)|([^%]+)", pattern, re.DOTALL):
        if match[2] is not None:
            out.append(match[2])
        elif (found := _MYSQL.get(match[1])) is None or (parsing and found in _NOT_PARSED):
            raise ValueError(match[0])
        else:
            out.append(found)
    return "".join(out)


def from_joda(pattern: str, parsing: bool) -> str:
    """Raises ValueError with the letters that have no equal."""
    out: list[str] = []
    for match in re.finditer(r"'((?:[^']|'')*)'|([A-Za-z])\2*|([^A-Za-z']+)", pattern):
        text = match[0]
        if text == "''":
            out.append("'")
        elif match[1] is not None:
            out.append(match[1].replace("''", "'").replace("%", "%%"))
        elif match[3] is not None:
            out.append(match[3].replace("%", "%%"))
        elif parsing and text in ("Z", "ZZ"):
            out.append("%z")
        elif (found := _JODA.get(text)) is None or (parsing and found in _NOT_PARSED):
            raise ValueError(text)
        else:
            out.append(found)
    if pattern.count("'") % 2:
        raise ValueError("'")
    return "".join(out)
