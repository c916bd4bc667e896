"""What somebody does on the first day, on the example: find a table, ask it, break a connection, roll back, look it up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import FrameLocator, Page, expect
from stack_of_tests import eventually

from forebay.stack.connections import connections

if TYPE_CHECKING:
    from stack_of_tests import Lab

JOB = TABLE = "flights.daily_delays"
NEXT = "flights.carrier_months"
ENDED = ("success", "failed")
WORKER = 60_000
"""In milliseconds: what a run of Airflow's may take on a small machine."""


@pytest.fixture(scope="module")
def demo(filled: Lab) -> Iterator[Lab]:
    """What `make demo` leaves: the example's job has run, and once more for another month. Spark keeps its history."""
    events = filled.stack.state / "events"
    events.mkdir()
    spark = next(each for each in connections(filled.stack) if each["connection_id"] == "lake_spark")
    extra = json.loads(str(spark["extra"]))
    more = {"events": f"file://{events}", "history": f"{filled.stack.url('airflow')}/the-history-server/"}
    filled.api.put_connections([{**spark, "extra": json.dumps({**extra, **more})}])
    for until in ("2013-01-31", "2013-02-28"):
        run = filled.forebay("run", JOB, "--param", f"until={until}")
        assert run.returncode == 0, run.stdout + run.stderr
    # The job that waits for the table has been started by it, and is built on it.
    eventually(
        90, lambda: all(each["airflow"] in ENDED for each in filled.json("runs", NEXT)), f"{NEXT} ends"
    )
    yield filled
    filled.api.put_connections([spark])


@pytest.fixture
def mended(demo: Lab) -> Iterator[dict[str, Any]]:
    """A connection as it is stored; put back in the end, whatever became of it."""
    stored = next(each for each in connections(demo.stack) if each["connection_id"] == "lake_s3")
    yield stored
    demo.api.put_connections([stored])


def lake(page: Page) -> FrameLocator:
    return page.frame_locator("iframe[title=Lake]")


@pytest.mark.parametrize("options", [{"storage_state": None}])
def test_a_first_day(demo: Lab, mended: dict[str, Any], page: Page, options: dict[str, Any]) -> None:
    rows = [int(demo.json("sql", f"SELECT count(*) FROM {TABLE}")["rows"][0][0])]
    first, last = [each["run_id"] for each in reversed(demo.json("runs", JOB, "--limit", "2"))]

    # Logs in by Airflow's own form.
    page.goto("/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password", exact=True).fill(demo.stack.secrets["admin_password"])
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Lake").or_(page.get_by_role("button", name="Lake")).first.click()
    expect(lake(page).get_by_role("heading", name="Health")).to_be_visible()

    # Finds a table of flights by a word in it.
    find = lake(page).get_by_role("searchbox", name="Find a table or column")
    find.fill("daily delays")
    find.press("Enter")
    # Health lists the table as well: what is clicked has to be on the page of what was found.
    expect(page).to_have_url(re.compile(r"q=daily"))
    table = lake(page).get_by_role("link", name=TABLE, exact=True).first
    if not table.is_visible():
        # The first to look since the stack was started is told to reload in a moment.
        lake(page).get_by_role("button", name="Search").click()
    table.click()
    expect(lake(page).get_by_role("heading", name=TABLE)).to_be_visible()

    # Sees which run made it, and all that this run did.
    lake(page).get_by_role("link", name="all that this run did").first.click()
    expect(lake(page).get_by_role("heading", level=1)).to_contain_text("Published")
    expect(page).to_have_url(re.compile(re.escape(f"/runs/{JOB}/manual__")))
    assert last in page.evaluate("decodeURIComponent(location.href)")
    # From there to the engine's own page of a task, which opens beside Airflow: its frame may open no window.
    with page.context.expect_page() as beside:
        lake(page).get_by_role("link", name="Spark's history").first.click()
    beside.value.wait_for_url(re.compile(r"/the-history-server/history/local-\d+/$"))
    beside.value.close()
    page.go_back()

    # Asks it.
    lake(page).get_by_role("link", name="Query", exact=True).click()
    expect(lake(page).locator(".code")).to_be_visible()
    lake(page).get_by_role("textbox", name="SQL", exact=True).click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(f"SELECT count(*) AS days, sum(flights) AS flights FROM {TABLE}")
    page.keyboard.press("Control+Enter")
    expect(lake(page).locator("#status")).to_contain_text(re.compile("done.*1 row"), timeout=WORKER)
    expect(lake(page).get_by_role("cell", name=f"{rows[0]:,}", exact=True)).to_be_visible()

    # Breaks a connection, and is told exactly what is wrong.
    broken = page.request.patch(
        "/api/v2/connections/lake_s3?update_mask=password",
        data={"connection_id": "lake_s3", "conn_type": "aws", "password": "not-the-secret"},
    )
    assert broken.ok, broken.text()
    lake(page).get_by_role("link", name="Connections").click()
    lake(page).get_by_role("link", name="lake_s3", exact=True).click()
    lake(page).get_by_role("button", name="Check now").click()
    # From the API server, and from where tasks run.
    expect(lake(page).get_by_text("The secret key is wrong.")).to_have_count(2, timeout=WORKER)
    expect(lake(page).get_by_text("does not work")).to_have_count(2)

    # Rolls the table back to what it was after the run before.
    page.goto(f"/plugin/lake/forebay/catalog/{TABLE.replace('.', '/')}")
    lake(page).get_by_role("link", name="Roll back…").click()
    lake(page).get_by_label("To what it was after").select_option(value=left_by(demo, first))
    lake(page).get_by_role("button", name="Show what goes with it").click()
    expect(lake(page).get_by_text(re.compile("runs? taken out"))).to_be_visible()
    lake(page).get_by_label("to confirm").fill(TABLE)
    lake(page).get_by_role("button", name=re.compile("^Roll back [0-9]+ table")).click()
    expect(lake(page).get_by_role("status")).to_contain_text("is rolled back to snapshot")
    rows.append(int(demo.json("sql", f"SELECT count(*) FROM {TABLE}")["rows"][0][0]))
    assert 0 < rows[1] < rows[0]

    # Finds all of it in the audit.
    lake(page).get_by_role("link", name="Audit", exact=True).click()
    for what, about in (
        ("started a run", JOB),
        ("query", TABLE),
        ("changed a connection", "lake_s3"),
        ("checked a connection", "lake_s3"),
        ("rolled a table back", TABLE),
    ):
        row = lake(page).get_by_role("row").filter(has_text=what).filter(has_text=about).first
        expect(row).to_contain_text("admin")
    assert "not-the-secret" not in json.dumps(page.request.get("/forebay/api/v1/audit?kind=all").json())


def left_by(lab: Lab, run: str) -> str:
    """The snapshot at which a run left the table."""
    made = lab.lake.pyiceberg().load_table(TABLE).snapshots()
    stamped = [
        each for each in made if each.summary and each.summary.additional_properties.get("forebay.run") == run
    ]
    return str(stamped[-1].snapshot_id)
