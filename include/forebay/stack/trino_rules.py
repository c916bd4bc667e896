"""What each user of the embedded Trino may do: tasks and admins everything, the SQL page's queries only read the lake."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_ASKED_WITH = ("query_max_run_time",)
"""The session properties that the SQL page's own processes set."""


def access_rules(owners: Sequence[str], reader: str, catalog: str) -> dict[str, Any]:
    """Content of the file of Trino's access control: `owners` may do everything, `reader` SELECT in `catalog`.

    The first rule that fits decides, and where none fits Trino refuses; so nobody else may do anything. A section that
    is left out would allow everything in it. Catalogs of runs come and go: for `reader` none of them is there.
    """
    all_of, one = "|".join(map(re.escape, owners)), re.escape(reader)
    owned: dict[str, Any] = {"user": all_of}
    read: dict[str, Any] = {"user": one, "catalog": re.escape(catalog)}
    return {
        "catalogs": [{**owned, "allow": "owner"}, {**read, "allow": "read-only"}, {"allow": "none"}],
        "queries": [
            {**owned, "allow": ["execute", "kill", "view"]},
            {"user": one, "allow": ["execute"]},
        ],
        "schemas": [{**owned, "owner": True}],
        "tables": [
            {**owned, "privileges": ["SELECT", "INSERT", "DELETE", "UPDATE", "OWNERSHIP", "GRANT_SELECT"]},
            # Beside a table are its files, snapshots and branches ("t$files"), which say where the data are.
            {**read, "table": ".*\\$.*", "privileges": []},
            {**read, "privileges": ["SELECT"]},
        ],
        "functions": [{**owned, "privileges": ["EXECUTE", "GRANT_EXECUTE", "OWNERSHIP"]}],
        "procedures": [{**owned, "privileges": ["EXECUTE", "GRANT_EXECUTE"]}],
        "system_information": [{**owned, "allow": ["read", "write"]}],
        "system_session_properties": [
            {**owned, "allow": True},
            {"user": one, "property": "|".join(_ASKED_WITH), "allow": True},
        ],
        "catalog_session_properties": [{**owned, "allow": True}],
        "authorization": [],
        "impersonation": [],
    }


def files(etc: str, owners: Sequence[str], reader: str, catalog: str) -> dict[str, str]:
    """The two files of Trino's access control, by their names; `etc` is the folder that they are in."""
    properties = {"access-control.name": "file", "security.config-file": f"{etc}/access-rules.json"}
    return {
        "access-control.properties": "".join(f"{name}={value}\n" for name, value in properties.items()),
        "access-rules.json": json.dumps(access_rules(owners, reader, catalog), indent=1),
    }
