"""The JSON API under requests that nobody wrote by hand: whatever is sent, it never breaks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from console_client import PREFIX, browser, session

if TYPE_CHECKING:
    from conftest import Lab

# The last file on this stack: what is sent starts whatever jobs there are.
# What waits for engines or for other machines would take the time of all others.
SLOW = r"/(connections/check|connections/\{connection\}/check|query)$"
KNOWN: dict[str, list[Any]] = {
    "namespace": ["lab"], "table": ["console_rows"], "workspace": ["lab"], "job": ["lab.console"],
}  # fmt: skip
"""Names that are there, so that requests come further than to a 404."""
HASTY: dict[str, list[Any]] = {
    "connection": ["lake_catalog", "lake_s3", "no_such"],
    "from": ["server"],
    "timeout": [0.5, 31],
}
"""What does not make slow routes slower than they are: a worker's check has tests of its own."""


@pytest.mark.parametrize(
    ("which", "examples", "seconds", "only"),
    [("--exclude-path-regex", 25, 60, {}), ("--include-path-regex", 15, 25, HASTY)],
)
def test_no_request_breaks_the_api(
    lab: Lab, tmp_path: Path, which: str, examples: int, seconds: int, only: dict[str, list[Any]]
) -> None:
    run = lab.forebay("run", "lab.console")
    assert run.returncode == 0, run.stdout + run.stderr
    with browser(lab, "admin") as admin:
        document = admin.get("/api/v1/openapi.json").json()
    for path in document["paths"].values():
        for operation in path.values():
            for each in operation.get("parameters", ()):
                if each["in"] == "path" and each["name"] in KNOWN:
                    each["example"] = KNOWN[each["name"]][0]
                if each["name"] in only:
                    each["schema"] = {"enum": only[each["name"]]}
    asked = document["components"]["schemas"]["Ask"]["properties"]
    asked["workspace"] = {"enum": ["lab", "no_such"]}
    asked["sql"]["example"] = "SELECT id, label FROM lab.console_rows WHERE id > :n"
    schema = tmp_path / "openapi.json"
    schema.write_text(httpx.Response(200, json=document).text)
    log = lab.stack.logs / "api-server.log"
    begin = log.stat().st_size
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "run", str(schema),
            "--url", f"{lab.stack.url('airflow')}{PREFIX}",
            "--header", f"Authorization: Bearer {session(lab, 'admin')}",
            "--checks", "not_a_server_error", which, SLOW, "--max-examples", str(examples), "--seed", "1",
            "--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--max-time", str(seconds), "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    with log.open("rb") as said:
        said.seek(begin)
        assert b"Traceback" not in said.read()
