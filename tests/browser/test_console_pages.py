"""Workspaces, audit and a table's pages as people meet them; and every page for people who see or use it differently."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from places import faults, shown_by
from playwright.sync_api import FrameLocator, Page, expect

from console_client import routes

if TYPE_CHECKING:
    from stack_of_tests import Lab

PHONE = {"viewport": {"width": 375, "height": 740}}


def lake(page: Page) -> FrameLocator:
    return page.frame_locator("iframe[title=Lake]")


def test_the_list_of_pages_is_all_of_them(filled: Lab, every_page: list[str]) -> None:
    forms = ("/static/", "/api/", "/audit/export.", "/{rest")
    wanted = [path for path, methods, _ in routes(filled) if "GET" in methods and not path.startswith(forms)]
    # These lead on to another page, or are a part of one.
    no_pages = ("/", "/runs/{name}", "/sql/tables/{namespace}")
    missing = [path for path in wanted if path not in no_pages and not shown_by(path, every_page)]
    assert len(wanted) > 25
    assert missing == []


def test_nobody_is_kept_out(page: Page, every_page: list[str]) -> None:
    """In light; what differs in dark is the contrast, which test_text_can_be_read_in_both_themes looks at."""
    wrong = {}
    for path in every_page:
        page.goto(f"/forebay/{path}")
        if found := faults(page):
            wrong[path] = found
    assert not wrong, "\n".join(f"{path}\n" + "\n".join(found) for path, found in wrong.items())


@pytest.mark.parametrize(
    "options", [{"color_scheme": "light"}, {"color_scheme": "dark"}], ids=("light", "dark")
)
def test_nobody_is_kept_out_of_what_comes_up(page: Page, options: dict[str, Any]) -> None:
    """What is there only when somebody asked for it: rows, a chart, a plan, files, a finished check."""
    wrong = {}
    page.goto("/forebay/sql?workspace=lab")
    page.get_by_role("textbox", name="SQL", exact=True).click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("SELECT id, label FROM lab.console_rows ORDER BY id")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("cell", name="two")).to_be_visible()
    wrong["rows"] = faults(page)
    page.get_by_role("button", name="Chart").click()
    expect(page.locator("#chart svg rect").first).to_be_visible()
    wrong["chart"] = faults(page)
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#status")).to_contain_text("done", timeout=60_000)
    wrong["plan"] = faults(page)
    page.goto("/forebay/connections/lake_catalog")
    page.get_by_role("button", name="Check now").click()
    expect(page.get_by_text("works", exact=True)).to_have_count(2, timeout=60_000)
    wrong["check"] = faults(page)
    page.goto("/forebay/connections")
    page.get_by_role("button", name="Check all").click()
    expect(page.get_by_role("button", name="Check all again")).to_be_visible(timeout=60_000)
    wrong["all checks"] = faults(page)
    assert not any(wrong.values()), "\n".join(f"{what}\n" + "\n".join(found) for what, found in wrong.items())


@pytest.mark.parametrize("options", [{"storage_state": None}])
def test_the_way_in_has_a_style_and_no_faults(page: Page, options: dict[str, Any]) -> None:
    answer = page.goto("/forebay/catalog")
    assert answer is not None
    assert answer.status == 401
    expect(page.locator("body")).to_have_css("background-color", "rgb(247, 248, 250)")
    expect(page.get_by_role("link", name="Log in")).to_have_css("background-color", "rgb(11, 98, 184)")
    assert faults(page) == []


@pytest.mark.parametrize("options", [PHONE])
def test_no_page_is_wider_than_a_phone(page: Page, every_page: list[str], options: dict[str, Any]) -> None:
    wide = {}
    for path in every_page:
        page.goto(f"/forebay/{path}")
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 375:
            wide[path] = width
    assert not wide


@pytest.mark.parametrize("options", [{"java_script_enabled": False}])
def test_every_page_opens_without_javascript(
    page: Page, every_page: list[str], options: dict[str, Any]
) -> None:
    for path in every_page:
        answer = page.goto(f"/forebay/{path}")
        assert answer is not None
        assert answer.status == (404 if path == "nothing" else 200), path
        expect(page.get_by_role("heading", level=1), path).to_be_visible()


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
