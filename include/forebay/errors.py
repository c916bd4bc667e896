"""What Forebay says when something is wrong: where it is, what it is, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class ForebayError(Exception):
    """Anything Forebay refuses to do; its text is meant for a person."""


@dataclass(frozen=True, order=True, slots=True)
class Mistake:
    """One thing to correct: line and column count from 1, `where` is a path such as tasks[1].type."""

    file: str
    line: int
    column: int
    where: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: "
        return f"{place}{self.where}: {self.message}" if self.where else f"{place}{self.message}"


class JobSpecError(ForebayError):
    """A job or workspace cannot be used; `mistakes` holds everything that is wrong with it."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes: tuple[Mistake, ...] = tuple(sorted(mistakes))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))

    def __reduce__(self) -> tuple[type[JobSpecError], tuple[tuple[Mistake, ...]]]:
        return type(self), (self.mistakes,)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that an unknown one was probably meant to be; None when none is like it."""
    near = difflib.get_close_matches(word[:100].lower(), sorted(set(known)), n=1, cutoff=0.6)
    return near[0] if near else None


def suggestion(word: str, known: Iterable[str], listing: str = "Known") -> str:
    """The end of a message about an unknown name: the nearest known one, then the known ones.

    Starts with a space, or is empty when there is nothing to say. At most twelve names are listed.
    """
    names: Sequence[str] = sorted(set(known))
    near = nearest(word, names)
    text = f" Did you mean '{near}'?" if near else ""
    if names and listing:
        rest = f" and {len(names) - 12} more" if len(names) > 12 else ""
        text += f" {listing}: {', '.join(names[:12])}{rest}."
    return text
