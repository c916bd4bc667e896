"""Fills `{name}` in a job's text fields with the run's values; `{{` and `}}` are the braces themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping

from forebay.errors import ForebayError

# Values every run has besides the job's parameters; `item` exists in a task with for_each only.
RUN_VALUES = ("run_id", "logical_date", "data_interval_start", "data_interval_end")

_PART = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}|[{}]")


class TextError(ForebayError):
    """A text field holds a brace that is no value, or names a value that is not there."""


def names_in(text: str) -> list[str]:
    """The names of the values a text asks for, in order; raises TextError at a brace that stands alone."""
    names = []
    for found in _PART.finditer(text):
        if found[1]:
            names.append(found[1])
        elif found[0] in ("{", "}"):
            raise TextError(
                f"'{found[0]}' begins no value such as {{day}}. Write '{found[0] * 2}' for the brace itself"
            )
    return names


def fill(text: str, values: Mapping[str, object]) -> str:
    """`text` with every `{name}` replaced; dates are written in ISO form, true and false in lower case."""

    def replace(found: re.Match[str]) -> str:
        name = found[1]
        if not name:
            return found[0][0]
        if name not in values:
            raise TextError(f"there is no value '{name}'; known are {', '.join(sorted(values))}")
        value = values[name]
        if isinstance(value, bool):
            return str(value).lower()
        isoformat = getattr(value, "isoformat", None)
        return isoformat() if isoformat else "" if value is None else str(value)

    names_in(text)
    return _PART.sub(replace, text)
