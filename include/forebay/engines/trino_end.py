"""Why the embedded Trino went away: its own last words, where it ran out of memory."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

LOGS = "FOREBAY_LOGS"
"""Names the folder of the logs of the services on this machine."""

_LOCAL = ("127.0.0.1", "localhost", "::1")
_READ = 1 << 20
_RECENT = 900.0
_TIME = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)")
_STARTED = "SERVER STARTED"
# What the JVM prints before it ends, with -XX:+ExitOnOutOfMemoryError.
_WORDS = re.compile(r"^Terminating due to (java\.lang\.OutOfMemoryError.*)$")


def ran_out_of_memory(address: str, *, gone: bool = False, now: float | None = None) -> str:
    """A sentence for an error: that Trino ended for want of memory a short while ago, and what helps; else nothing.

    `gone`: it answers again, and has lost a query. Only of a Trino on this machine whose log can be read here.
    """
    folder = os.environ.get(LOGS)
    if not folder or urlsplit(address).hostname not in _LOCAL:
        return ""
    found = _last(Path(folder) / "trino.log")
    if found is None:
        return ""
    at, words, again = found
    # Once it was there again, that is no reason for its being away now.
    if (again and not gone) or (time.time() if now is None else now) - at > _RECENT:
        return ""
    when = datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
    return (
        f" Trino ran out of memory and ended after {when} UTC ({words}); it is started anew, and a task with retries is "
        "tried again. Should that happen again with the same work, select less at a time, or use a larger Trino."
    )


def _last(log: Path) -> tuple[float, str, bool] | None:
    """When Trino last ended so, as its log dates the line before, its words, and whether it has started since."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _READ))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    at, found = 0.0, None
    for line in lines:
        if found and _STARTED in line:
            found = (found[0], found[1], True)
        if dated := _TIME.match(line):
            at = datetime.fromisoformat(dated[1]).replace(tzinfo=UTC).timestamp()
        elif ended := _WORDS.match(line):
            found = (at, ended[1], False)
    return found
