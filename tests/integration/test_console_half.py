"""The console where something is missing: a store that is away, a file that is gone, a workspace that runs all the time."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pyarrow as pa
import pytest

from conftest import eventually
from console_client import text
from forebay.stack.connections import connections

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from broken import nobody

if TYPE_CHECKING:
    from conftest import Lab

TABLE = "/catalog/lab/console_rows"
BUSY, RUNS = "tale.slow", 101


@pytest.fixture(scope="module", autouse=True)
def ran(lab: Lab) -> None:
    run = lab.forebay("run", "lab.console")
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture
def dead_store(lab: Lab) -> Iterator[str]:
    """The catalog's connection names a store where nobody is."""
    stored = next(each for each in connections(lab.stack) if each["connection_id"] == "lake_catalog")
    with nobody() as port:
        address = f"http://127.0.0.1:{port}"
        extra = {**json.loads(str(stored["extra"])), "s3.endpoint": address}
        lab.api.put_connections([{**stored, "extra": json.dumps(extra)}])
        try:
            yield address
        finally:
            lab.api.put_connections([stored])


def test_without_the_store_the_rest_of_a_page_is_there(
    lab: Lab, admin: httpx.Client, dead_store: str
) -> None:
    sentence = f"The store at {dead_store} does not answer. Is it up?"
    diff = admin.get(f"{TABLE}/diff")
    for page, there in {
        TABLE: "Rows for the console's tests.",
        f"{TABLE}/sample": "Sample",
        f"{TABLE}/files": "The files cannot be listed",
        f"{TABLE}/checks": "The results cannot be read now",
        "/runs/lab.console/latest": "Published",
    }.items():
        shown = text(admin.get(page))
        assert there in shown, page
        # The overview has room for a figure only.
        assert ("not known" if page == TABLE else sentence) in shown, page
    assert sentence in text(diff)
    assert sentence in text(admin.get("/runs/lab.console/latest/diff"))
    for part in ("sample", "files", "checks"):
        answer = admin.get(f"/api/v1{TABLE}/{part}")
        assert (answer.status_code, sentence in answer.json()["detail"]) == (503, True), part
        assert lab.stack.secrets["secret_key"] not in answer.text
    health = text(admin.get("/health"))
    assert "Store is down" in health
    assert "Catalog healthy" in health
    log = (lab.stack.logs / "api-server.log").read_text()
    assert lab.stack.secrets["secret_key"] not in log


def test_a_file_that_is_gone_is_named(lab: Lab, admin: httpx.Client) -> None:
    catalog = lab.lake.pyiceberg()
    made = catalog.create_table("lab.holes", pa.schema([("n", pa.int64())]))
    try:
        made.append(pa.table({"n": [1, 2]}))
        (task,) = made.scan().plan_files()
        made.io.delete(task.file.file_path)
        missing = f"has no file {task.file.file_path.removeprefix('s3://')}, which the table needs."
        assert missing in text(admin.get("/catalog/lab/holes/sample"))
        assert missing in text(admin.get("/catalog/lab/holes/diff"))
        assert "1 data files" in text(admin.get("/catalog/lab/holes/files"))
        assert admin.get("/api/v1/catalog/lab/holes/sample").status_code == 503
    finally:
        catalog.drop_table("lab.holes")


def test_a_workspace_that_runs_all_the_time_hides_no_other(lab: Lab, admin: httpx.Client) -> None:
    eventually(30, lambda: lab.known(BUSY), f"{BUSY} is known")
    lab.api.request("PATCH", f"/api/v2/dags/{BUSY}", json={"is_paused": True})
    waiting: list[str] = []
    try:
        waiting += [lab.api.trigger(BUSY, {}) for _ in range(RUNS)]
        runs = {each["workspace"]: each for each in admin.get("/api/v1/health/day").json()["runs"]}
        assert runs["tale"]["runs"] >= RUNS
        assert runs["tale"]["running"] >= RUNS
        assert runs["lab"]["runs"] >= 1
        page = text(admin.get("/health"))
        assert f"{runs['tale']['runs']} runs" in page
    finally:
        for run in waiting:
            lab.api.request("DELETE", f"/api/v2/dags/{BUSY}/dagRuns/{run}")
        lab.api.request("PATCH", f"/api/v2/dags/{BUSY}", json={"is_paused": False})
