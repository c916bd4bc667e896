"""Workspaces, audit and a table's pages as people meet them; and every page for people who see or use it differently."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import FrameLocator, Page, expect

if TYPE_CHECKING:
    from stack_of_tests import Lab

PHONE = {"viewport": {"width": 375, "height": 740}}
TABLE = "catalog/lab/console_rows"
PAGES = (
    "health", "workspaces", "workspaces/lab", "catalog", "catalog?q=label", "catalog/lab", TABLE, f"{TABLE}/sample",
    f"{TABLE}/history", f"{TABLE}/files", f"{TABLE}/checks", "catalog/lab/console_copy/lineage", f"{TABLE}/diff",
    f"{TABLE}/rollback?snapshot=0", f"{TABLE}/open", "connections", "connections/lake_catalog", "sql", "jobs", "runs",
    "jobs/lab.console", "jobs/lab.console/why", "audit", "audit?kind=all", "api/v1/docs", "nothing",
)  # fmt: skip
SERIOUS = ("serious", "critical")


def lake(page: Page) -> FrameLocator:
    return page.frame_locator("iframe[title=Lake]")


def faults(page: Page) -> list[str]:
    """What axe-core finds that keeps somebody from using the page."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {each['help']}\n  "
        + "\n  ".join(
            f"{node['html'][:160]} {json.dumps(node.get('failureSummary', ''))[:300]}"
            for node in each["nodes"][:4]
        )
        for each in found
        if each["impact"] in SERIOUS
    ]


@pytest.mark.parametrize(
    "options", [{"color_scheme": "light"}, {"color_scheme": "dark"}], ids=("light", "dark")
)
def test_nobody_is_kept_out(page: Page, options: dict[str, Any]) -> None:
    wrong = {}
    for path in PAGES:
        page.goto(f"/forebay/{path}")
        if found := faults(page):
            wrong[path] = found
    assert not wrong, "\n".join(f"{path}\n" + "\n".join(found) for path, found in wrong.items())


@pytest.mark.parametrize("options", [{"storage_state": None}])
def test_the_way_in_has_a_style_and_no_faults(page: Page, options: dict[str, Any]) -> None:
    answer = page.goto("/forebay/catalog")
    assert answer is not None
    assert answer.status == 401
    expect(page.locator("body")).to_have_css("background-color", "rgb(247, 248, 250)")
    expect(page.get_by_role("link", name="Log in")).to_have_css("background-color", "rgb(11, 98, 184)")
    assert faults(page) == []


@pytest.mark.parametrize("options", [PHONE])
def test_no_page_is_wider_than_a_phone(page: Page, options: dict[str, Any]) -> None:
    wide = {}
    for path in PAGES:
        page.goto(f"/forebay/{path}")
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 375:
            wide[path] = width
    assert not wide


@pytest.mark.parametrize("options", [{"java_script_enabled": False}])
def test_it_all_works_without_javascript(filled: Lab, page: Page, options: dict[str, Any]) -> None:
    """From the list of workspaces to a table, to another table by the picture, compared and rolled back, to the audit."""
    for amount in (1, 2):
        run = filled.forebay("run", "lab.ledger", "--param", f"amount={amount}")
        assert run.returncode == 0, run.stdout + run.stderr
    page.goto("/forebay/workspaces")
    page.get_by_role("link", name="lab", exact=True).click()
    expect(page.get_by_role("heading", name="lab", exact=True)).to_be_visible()
    page.get_by_role("link", name="lab.ledger_total").first.click()
    page.get_by_role("link", name="Lineage", exact=True).click()
    page.locator("svg a").filter(has_text="ledger").first.click()
    expect(page.get_by_role("heading", name="lab.ledger", exact=True)).to_be_visible()
    page.get_by_role("link", name="Compare", exact=True).click()
    expect(page.get_by_text("rows added")).to_be_visible()
    page.get_by_role("link", name="Sample", exact=True).click()
    page.get_by_label("As of").select_option(index=2)
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("as of snapshot")).to_be_visible()
    page.get_by_role("link", name="Roll back…").click()
    page.get_by_role("button", name="Show what goes with it").click()
    expect(page.get_by_text("tables go back")).to_be_visible()
    page.get_by_label("to confirm").fill("lab.ledgers")
    page.get_by_role("button", name="Roll back 2 tables").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done: type lab.ledger to confirm it.")
    page.get_by_label("to confirm").fill("lab.ledger")
    page.get_by_role("button", name="Roll back 2 tables").click()
    expect(page.get_by_role("status")).to_contain_text("is rolled back to snapshot")
    page.get_by_role("link", name="audit log").click()
    expect(page.get_by_role("row").filter(has_text="rolled a table back")).to_contain_text("admin")


def test_the_audit_in_airflows_own_window(page: Page) -> None:
    page.goto("/plugin/lake/forebay/audit")
    lake(page).get_by_label("Job").fill("lab.console")
    lake(page).get_by_role("button", name="Show").click()
    expect(lake(page).get_by_role("row").filter(has_text="started a run").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"/plugin/lake/forebay/audit\?.*job=lab\.console"))
    with page.expect_download() as sheet:
        lake(page).get_by_role("link", name="CSV").click()
    assert sheet.value.suggested_filename.endswith(".csv")
    lake(page).get_by_role("link", name="all of it in Airflow").click()
    expect(page.get_by_role("heading", name=re.compile("Audit Log"))).to_be_visible()
