"""The JSON API under requests that nobody wrote by hand: whatever is sent, it never breaks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from console_client import PREFIX, browser, session

if TYPE_CHECKING:
    from conftest import Lab

# The last file on this stack: what is sent starts whatever jobs there are.
SECONDS = 60
# What waits for engines or for other machines: each has tests of its own, and would take the time of all others.
SLOW = r"/(connections/check|connections/\{connection\}/check|query)$"


def test_no_request_breaks_the_api(lab: Lab, tmp_path: Path) -> None:
    run = lab.forebay("run", "lab.console")
    assert run.returncode == 0, run.stdout + run.stderr
    with browser(lab, "admin") as admin:
        document = admin.get("/api/v1/openapi.json").json()
    # Names that are there, so that requests come further than to a 404.
    for path in document["paths"].values():
        for operation in path.values():
            for each in operation.get("parameters", ()):
                known = {
                    "namespace": "lab",
                    "table": "console_rows",
                    "workspace": "lab",
                    "job": "lab.console",
                }
                if each["in"] == "path" and each["name"] in known:
                    each["example"] = known[each["name"]]
    schema = tmp_path / "openapi.json"
    schema.write_text(httpx.Response(200, json=document).text)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "run", str(schema),
            "--url", f"{lab.stack.url('airflow')}{PREFIX}",
            "--header", f"Authorization: Bearer {session(lab, 'admin')}",
            "--checks", "not_a_server_error", "--exclude-path-regex", SLOW, "--max-examples", "25", "--seed", "1",
            "--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--max-time", str(SECONDS), "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS * 3,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    log = (lab.stack.logs / "api-server.log").read_text()
    assert "Traceback" not in log.partition("schemathesis")[2]
