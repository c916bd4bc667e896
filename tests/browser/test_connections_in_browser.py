"""The connections' pages as people meet them: checked in place, streamed, without JavaScript, on a phone."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, expect

if TYPE_CHECKING:
    from stack_of_tests import Lab

WORKER = 60_000
"""In milliseconds: what a run of Airflow's may take on a small machine."""
PHONE = {"viewport": {"width": 375, "height": 740}}


@pytest.fixture(scope="module", autouse=True)
def broken(filled: Lab) -> None:
    """A connection whose bucket is not there."""
    extra = {"endpoint_url": filled.stack.url("s3"), "service_config": {"s3": {"bucket_name": "laek"}}}
    filled.api.put_connections(
        [
            {
                "connection_id": "landing", "conn_type": "aws", "login": filled.stack.secrets["access_key"],
                "password": filled.stack.secrets["secret_key"], "extra": json.dumps(extra),
            }
        ]
    )  # fmt: skip


def test_a_broken_one_is_told_exactly_what_is_wrong(page: Page) -> None:
    page.goto("/plugin/lake/forebay/connections")
    frame = page.frame_locator("iframe[title=Lake]")
    frame.get_by_role("link", name="landing", exact=True).click()
    frame.get_by_role("button", name="Check now").click()
    # Once from the API server, once from where tasks run.
    said = frame.get_by_text("There is no bucket 'laek'.")
    expect(said).to_have_count(2, timeout=WORKER)
    expect(frame.get_by_text("Did you mean 'lake'?").first).to_be_visible()
    expect(frame.get_by_text("does not work")).to_have_count(2)
    expect(frame.get_by_role("heading", name="From the API server")).to_be_visible()
    expect(frame.get_by_role("heading", name="From a worker")).to_be_visible()
    # The address is one that can be opened again, and shows the kept result.
    expect(page).to_have_url(re.compile(r"/plugin/lake/forebay/connections/landing$"))
    page.reload()
    expect(said).to_have_count(2)
    expect(frame.get_by_text(re.compile("by admin, from the API server")).first).to_be_visible()
    expect(frame.get_by_text(re.compile("by admin, from the worker on")).first).to_be_visible()


def test_all_are_checked_in_place(page: Page) -> None:
    page.goto("/forebay/connections")
    page.get_by_role("button", name="Check all").click()
    expect(page.get_by_role("button", name="Check all again")).to_be_visible(timeout=WORKER)
    row = page.locator("tr[data-connection=lake_s3]")
    expect(row.get_by_text("works")).to_be_visible()
    expect(row.get_by_text("just now")).to_be_visible()
    expect(
        page.locator("tr[data-connection=landing]").get_by_text("there is no bucket 'laek'")
    ).to_be_visible()
    expect(page.locator("#tally")).to_contain_text("checked:")
    expect(page).to_have_url(re.compile("/forebay/connections$"))


@pytest.mark.parametrize("options", [{"java_script_enabled": False}])
def test_all_of_it_without_javascript(page: Page, options: dict[str, Any]) -> None:
    page.goto("/forebay/connections")
    page.get_by_role("button", name="Check all").click()
    expect(page.get_by_text("Done. The results are kept")).to_be_visible(timeout=WORKER)
    page.get_by_role("link", name="lake_catalog", exact=True).first.click()
    page.get_by_role("button", name="Check now").click()
    expect(page.get_by_text("works", exact=True)).to_have_count(2, timeout=WORKER)
    page.get_by_role("link", name="Open from…").click()
    expect(page.get_by_role("heading", name="Flink")).to_be_visible()


@pytest.mark.parametrize("options", [PHONE])
@pytest.mark.parametrize("path", ["", "/landing", "/lake_catalog", "/lake_catalog/open"])
def test_nothing_is_cut_off_on_a_phone(page: Page, options: dict[str, Any], path: str) -> None:
    page.goto(f"/forebay/connections{path}")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 375, f"{path} is {wide} px wide"
