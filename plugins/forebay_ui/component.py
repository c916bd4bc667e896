"""How one part of the platform is, in one word and a sentence."""

from dataclasses import dataclass
from typing import Literal

from forebay.errors import ForebayError

State = Literal["ok", "warn", "bad", "unknown"]

PATIENCE = 2.0
"""Seconds that a component is waited for."""


@dataclass(frozen=True)
class Component:
    """How one part of the platform is. `seconds` is how long it took to answer, `since` when this state began."""

    name: str
    state: State
    """`unknown` is what was not asked: neither well nor unwell."""
    word: str
    version: str = ""
    seconds: float | None = None
    since: float | None = None
    detail: str = ""
    remedy: str = ""
    """The command that shows more or mends it; empty where all is well."""
    service: str = ""
    """Its process in the embedded stack."""
    runbook: str = ""
    """The page of the runbooks that helps, on a platform; empty where all is well."""


class Unwell(ForebayError):
    """A component is there, and not well."""


class Starting(ForebayError):
    """A component is there, and not ready yet."""


class NotAsked(ForebayError):
    """There is nobody to ask, or no way to."""
