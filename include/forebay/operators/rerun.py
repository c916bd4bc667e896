"""A run that does another one again: its dates, and where it was asked for the tables as that one read them.

It stands in the new run's `conf`, so Airflow remembers it with the run, and each try of a task reads the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from forebay.errors import ForebayError

CONF = "forebay_rerun"
"""The key in a run's conf: {of: run id, dates: {started, logical_date, …}, inputs: {task: [table@snapshot]}}."""
BACKFILL = "backfill"
"""Airflow's type of a run that a backfill does."""


@dataclass(frozen=True)
class Moments:
    """A run's dates, as SQL and parameters see them."""

    started: datetime
    """`today` is its day. Of a run that a backfill does it is the end of its interval."""
    logical_date: datetime
    data_interval_start: datetime
    data_interval_end: datetime


def moments(run: Any) -> Moments:
    """The dates of a run; of one that does another again, those of that one."""
    started = getattr(run, "start_date", None) or datetime.now(UTC)
    # A run that an asset started has no logical date: then it is the moment it was due.
    moment = getattr(run, "logical_date", None) or getattr(run, "run_after", None) or started
    run_type = getattr(run, "run_type", "")
    if getattr(run_type, "value", run_type) == BACKFILL:
        # Its today is its interval's, as if it had run then.
        started = getattr(run, "data_interval_end", None) or moment
    dates = _part(run, "dates")
    try:
        given = {name: datetime.fromisoformat(str(text)) for name, text in dates.items() if text}
    except ValueError:
        raise ForebayError(f"conf {CONF}: dates are not dates. Start the run with forebay rerun") from None
    moment = given.get("logical_date", moment)
    return Moments(
        given.get("started", started),
        moment,
        given.get("data_interval_start") or getattr(run, "data_interval_start", None) or moment,
        given.get("data_interval_end") or getattr(run, "data_interval_end", None) or moment,
    )


def pins(run: Any, task: str) -> tuple[str, ...]:
    """What a task reads as it was: what the same task read, and for a task that left no word what any of them did."""
    inputs = _part(run, "inputs")
    if not all(isinstance(listed, list) for listed in inputs.values()):
        raise ForebayError(f"conf {CONF}: inputs are not lists. Start the run with forebay rerun --as-of")
    found: dict[str, str] = {}
    for listed in (*inputs.values(), inputs.get(task, ())):
        found.update((str(pin).rpartition("@")[0], str(pin)) for pin in listed)
    return tuple(found[table] for table in sorted(found))


def _part(run: Any, name: str) -> Mapping[str, Any]:
    conf = getattr(run, "conf", None) or {}
    found = conf.get(CONF) or {}
    part = found.get(name) or {} if isinstance(found, Mapping) else None
    if not isinstance(part, Mapping):
        raise ForebayError(f"conf {CONF} is not what forebay rerun writes. Leave it out, or use that command")
    return part
