"""What an Iceberg REST catalog says it can do: its answer to `GET /v1/config`, before anything is asked of it.

Only what the Iceberg REST specification has is used, of any catalog. https://iceberg.apache.org/rest-catalog-spec/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

_NAMESPACES = "/v1/{prefix}/namespaces"
_TABLES = f"{_NAMESPACES}/{{namespace}}/tables"
NEEDED = (
    f"GET {_NAMESPACES}",
    f"POST {_NAMESPACES}",
    f"GET {_TABLES}",
    f"POST {_TABLES}",
    f"GET {_TABLES}/{{table}}",
    f"POST {_TABLES}/{{table}}",
    f"DELETE {_TABLES}/{{table}}",
)
"""Without these no run writes: namespaces are listed and made; tables are listed, made, loaded, committed to, dropped."""
TRANSACTIONS = "POST /v1/{prefix}/transactions/commit"
"""Publishes all tables of a run at once. Without it they are published one by one, and finished after a crash."""


@dataclass(frozen=True)
class Capabilities:
    """A catalog's configuration, as far as it matters here."""

    prefix: str
    """What its paths have after `v1/`, with the slash at its end."""
    told: bool
    """Whether it lists its endpoints; where it does not, the specification's own list counts, which has all of ours."""
    transactions: bool
    missing: tuple[str, ...]
    """Those of NEEDED that it says it has not."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Capabilities:
        """From the answer's JSON."""
        values = {**(document.get("defaults") or {}), **(document.get("overrides") or {})}
        # Nessie's holds a bar. What is encoded already is not encoded twice.
        prefix = quote(str(values.get("prefix") or ""), safe="/%")
        there = {_plain(str(each)) for each in document.get("endpoints") or ()}
        missing = tuple(each for each in NEEDED if _plain(each) not in there) if there else ()
        transactions = not there or _plain(TRANSACTIONS) in there
        return cls(f"{prefix}/" if prefix else "", bool(there), transactions, missing)


def _plain(endpoint: str) -> str:
    """An endpoint by its shape: catalogs name the parts of a path differently, and some write no slash before it."""
    method, _, path = endpoint.partition(" ")
    parts = ["{}" if part.startswith("{") else part for part in path.strip("/").split("/")]
    return f"{method.upper()} {'/'.join(parts)}"
