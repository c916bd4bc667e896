"""A connection of Airflow's that a test gives: what operators look at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def connection(fields: dict[str, Any]) -> SimpleNamespace:
    """These fields, and nothing in the others."""
    empty = dict.fromkeys(("host", "port", "login", "password"))
    return SimpleNamespace(**{"conn_type": "", "extra_dejson": {}, **empty, **fields})
