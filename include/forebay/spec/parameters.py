"""Values a run is given: typed, checked, shown as Airflow's trigger form."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Literal

from pydantic import Field

from forebay.errors import ForebayError
from forebay.spec.base import Closed, Many, Number, Scalar, ScalarValue

ParameterType = Literal["string", "integer", "number", "boolean", "date", "datetime"]
RELATIVE_DATES = ("today", "yesterday")


class ParameterError(ForebayError):
    """A value does not fit its parameter."""


class Parameter(Closed):
    """One value a run is given; without a default it must be given when the job is triggered."""

    type: ParameterType = Field(
        default="string", description="Type of the value; in SQL it is a typed literal of this type."
    )
    default: Scalar = Field(
        default=None,
        description="Value of a run that is given none; a job that starts by itself needs one. A date may be today or "
        "yesterday, seen at the run's start.",
    )
    description: str = Field(default="", description="What the value is for; shown in the trigger form.")
    options: Many[Scalar] = Field(default=(), description="The only values allowed.")
    minimum: Number | None = Field(default=None, description="Smallest value allowed (integer, number).")
    maximum: Number | None = Field(default=None, description="Largest value allowed (integer, number).")
    pattern: str | None = Field(
        default=None, description="Regular expression that must match the whole value (string)."
    )

    @property
    def required(self) -> bool:
        """Whether a run must be given this value."""
        return self.default is None

    def problem(self, value: object) -> str | None:
        """Why `value` does not fit, as the end of a sentence; None when it does."""
        if (reason := _type_problem(self.type, value)) is not None:
            return reason
        if self.options and value not in self.options:
            return f"must be one of {', '.join(map(str, self.options))}, not {value!r}"
        if isinstance(value, int | float) and not isinstance(value, bool):
            if self.minimum is not None and value < self.minimum:
                return f"must be at least {self.minimum}, not {value}"
            if self.maximum is not None and value > self.maximum:
                return f"must be at most {self.maximum}, not {value}"
        if self.pattern is not None and isinstance(value, str) and not re.fullmatch(self.pattern, value):
            return f"must match {self.pattern}, not {value!r}"
        return None

    def own_problem(self) -> tuple[str, str] | None:
        """The field of the definition itself that makes no sense, and why; None when all do."""
        for name in ("minimum", "maximum"):
            if getattr(self, name) is not None and self.type not in ("integer", "number"):
                return name, f"applies to integer and number, not to {self.type}"
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            return "minimum", f"is above maximum {self.maximum}"
        if self.pattern is not None:
            if self.type != "string":
                return "pattern", f"applies to string, not to {self.type}"
            try:
                re.compile(self.pattern)
            except re.error as error:
                return "pattern", f"is no regular expression: {error}"
        for option in self.options:
            if (reason := _type_problem(self.type, option)) is not None:
                return "options", reason
        if self.default is not None and (reason := self.problem(self.default)) is not None:
            return "default", reason
        return None

    def from_text(self, text: str) -> ScalarValue:
        """The value a person typed, e.g. after --param; raises ParameterError when it does not fit."""
        value: ScalarValue = text
        try:
            if self.type == "integer":
                value = int(text)
            elif self.type == "number":
                value = float(text)
            elif self.type == "boolean":
                value = {"true": True, "false": False}[text.lower()]
        except (ValueError, KeyError) as error:
            raise ParameterError(f"must be of type {self.type}, not {text!r}") from error
        if (reason := self.problem(value)) is not None:
            raise ParameterError(reason)
        return value

    def resolve(self, value: object, today: date) -> str | int | float | bool | date | datetime:
        """The typed value for a run that starts on `today`; raises ParameterError when it does not fit."""
        if (reason := self.problem(value)) is not None:
            raise ParameterError(reason)
        if self.type == "date":
            if value in RELATIVE_DATES:
                return today if value == "today" else today - timedelta(days=1)
            return date.fromisoformat(str(value))
        if self.type == "datetime":
            return datetime.fromisoformat(str(value))
        if self.type == "number" and isinstance(value, int):
            return float(value)
        assert isinstance(value, str | int | float | bool)
        return value


def _type_problem(kind: ParameterType, value: object) -> str | None:
    if kind == "boolean":
        return None if isinstance(value, bool) else f"must be true or false, not {value!r}"
    if kind in ("integer", "number"):
        wanted = int if kind == "integer" else (int, float)
        fits = isinstance(value, wanted) and not isinstance(value, bool)
        article = "an integer" if kind == "integer" else "a number"
        return None if fits else f"must be {article}, not {value!r}"
    if not isinstance(value, str):
        return f"must be text, not {value!r}. Put it in quotes"
    if kind == "date" and value not in RELATIVE_DATES:
        try:
            if len(value) != 10:
                raise ValueError
            date.fromisoformat(value)
        except ValueError:
            return f"must be a date such as 2013-01-31, today or yesterday, not {value!r}"
    if kind == "datetime":
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return f"must be a date and time such as 2013-01-31T05:00:00+00:00, not {value!r}"
    return None
