"""The JSON API under requests that nobody wrote by hand: whatever is sent, it never breaks."""

from __future__ import annotations

import re
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


@pytest.fixture(scope="module")
def rows(lab: Lab) -> None:
    """The tables of lab.console. Once: what is sent queues so many runs of it that another would wait for minutes."""
    run = lab.forebay("run", "lab.console")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("which", "examples", "seconds", "only"),
    [("--exclude-path-regex", 25, 60, {}), ("--include-path-regex", 15, 25, HASTY)],
)
def test_no_request_breaks_the_api(
    lab: Lab, rows: None, tmp_path: Path, which: str, examples: int, seconds: int, only: dict[str, list[Any]]
) -> None:
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


ODD = (
    "", "\0", "²", "NaN", "-1", "1e18", "1e3000000000", "[" * 3000, '{"a":' * 3000, "'\"<b>=1+1", "..", "a.b", "9" * 5000,
    "1969-01-01", "SELECT 1 FROM a.b" + " JOIN a.b" * 900, "SELECT :n + 1", "SELECT " + "ARRAY[" * 90,
)  # fmt: skip
GETS = {
    "/sql": ("workspace", "sql", "query", "saved", "value.n", "type.n"), "/sql/history": ("q", "everyone"), "/catalog": ("q",),
    "/audit": ("kind", "by", "event", "job", "about", "since", "until", "before"), "/jobs": ("q", "workspace"),
    "/runs": ("job", "state"), "/connections": ("q",), "/catalog/lab": ("page",),
    "/catalog/lab/console_rows/sample": ("snapshot",), "/catalog/lab/console_rows/history": ("back",),
    "/catalog/lab/console_rows/diff": ("from", "to", "old", "new"), "/catalog/lab/console_rows/rollback": ("to", "snapshot"),
}  # fmt: skip
POSTS = {
    "/sql": ("workspace", "sql", "title", "job", "table", "schedule", "do", "value.n", "type.n"),
    "/jobs/lab.console/runs": ("parameters",), "/catalog/lab/console_rows/rollback": ("to", "snapshot", "confirm"),
}  # fmt: skip
USUAL = {"workspace": "lab", "sql": "SELECT :n", "value.n": "1", "type.n": "automatic", "do": "explain"}


def test_no_page_breaks_whatever_its_form_says(lab: Lab, rows: None) -> None:
    log = lab.stack.logs / "api-server.log"
    begin = log.stat().st_size
    with browser(lab, "admin") as admin:
        token = re.findall(r'name="csrf" value="(.+?)"', admin.get("/sql").text)[0]
        for odd in ODD:
            for path, names in GETS.items():
                for name in names:
                    answer = admin.get(path, params={name: odd[:4000]})
                    assert answer.status_code < 500, (path, name, odd[:40], answer.status_code)
            for path, names in POSTS.items():
                for name in names:
                    usual = USUAL if path == "/sql" else {}
                    answer = admin.post(path, data={**usual, "csrf": token, name: odd})
                    assert answer.status_code < 500, (path, name, odd[:40], answer.status_code)
    with log.open("rb") as said:
        said.seek(begin)
        assert b"Traceback" not in said.read()
