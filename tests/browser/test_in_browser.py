"""The console as people meet it: through Airflow's own UI, in a browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import FrameLocator, Page, expect

PHONE = {"viewport": {"width": 375, "height": 740}}
PAGES = (
    "health", "catalog", "catalog?q=label", "catalog/lab", "catalog/lab/console_rows",
    "catalog/lab/console_rows/sample", "catalog/lab/console_rows/history", "catalog/lab/console_rows/files",
    "catalog/lab/console_rows/checks", "catalog/lab/console_copy/lineage", "catalog/lab/console_rows/open",
    "api/v1/docs", "nothing",
)  # fmt: skip


def lake(page: Page) -> FrameLocator:
    return page.frame_locator("iframe[title=Lake]")


def test_from_the_bar_to_a_table_and_back(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Lake").or_(page.get_by_role("button", name="Lake")).first.click()
    expect(lake(page).get_by_role("heading", name="Health")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/plugin/lake/forebay/health"))
    lake(page).get_by_role("link", name="Catalog").click()
    lake(page).get_by_role("link", name="lab", exact=True).click()
    lake(page).get_by_role("link", name="console_rows").click()
    expect(lake(page).get_by_role("heading", name="lab.console_rows")).to_be_visible()
    # The address bar follows, so it can be sent to a colleague.
    expect(page).to_have_url(re.compile(r"/plugin/lake/forebay/catalog/lab/console_rows$"))
    page.go_back()
    expect(lake(page).get_by_role("heading", name="lab", exact=True)).to_be_visible()


def test_an_address_opens_where_it_was_copied(page: Page) -> None:
    page.goto("/plugin/lake/forebay/catalog/lab/console_rows/history")
    expect(lake(page).get_by_role("link", name="lab.console", exact=True).first).to_be_visible()
    expect(lake(page).get_by_role("link", name="History")).to_have_attribute("aria-current", "page")


def test_a_run_opens_in_airflow_itself(page: Page) -> None:
    page.goto("/plugin/lake/forebay/catalog/lab/console_rows/history")
    lake(page).get_by_role("link", name=re.compile("^manual ")).first.click()
    expect(page).to_have_url(re.compile(r"/dags/lab\.console/runs/manual__"))
    expect(page.locator("iframe[title=Lake]")).to_have_count(0)


@pytest.mark.parametrize(
    ("theme", "background"), [("dark", "rgb(17, 21, 28)"), ("light", "rgb(247, 248, 250)")]
)
def test_the_theme_is_airflows(page: Page, theme: str, background: str) -> None:
    page.add_init_script(f"localStorage.setItem('theme', '{theme}')")
    page.goto("/plugin/lake/forebay/health")
    expect(lake(page).locator("body")).to_have_css("background-color", background)


@pytest.mark.parametrize("options", [{"java_script_enabled": False}])
def test_every_page_works_without_javascript(page: Page, options: dict[str, Any]) -> None:
    page.goto("/forebay/health")
    page.get_by_role("searchbox", name="Find a table or column").fill("console_rows")
    page.get_by_role("searchbox", name="Find a table or column").press("Enter")
    page.get_by_role("link", name="lab.console_rows").click()
    for tab in ("Sample", "History", "Files", "Checks", "Lineage", "Open from…", "Overview"):
        page.get_by_role("link", name=tab, exact=True).click()
        expect(page.get_by_role("link", name=tab, exact=True)).to_have_attribute("aria-current", "page")


@pytest.mark.parametrize("options", [PHONE])
@pytest.mark.parametrize("path", PAGES)
def test_nothing_is_cut_off_on_a_phone(page: Page, options: dict[str, Any], path: str) -> None:
    page.goto(f"/forebay/{path}")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 375, f"{path} is {wide} px wide"


def test_search_as_one_types(page: Page) -> None:
    page.goto("/forebay/catalog")
    page.keyboard.press("/")
    page.keyboard.type("how it is called")
    expect(page.get_by_role("link", name="lab.console_rows")).to_be_visible()
    expect(page).to_have_url(re.compile(r"q=how"))
    page.reload()
    expect(page.get_by_role("link", name="lab.console_rows")).to_be_visible()


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.goto("/forebay/catalog/lab/console_rows")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    reached = []
    for _ in range(17):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert {"Health", "Catalog", "lab", "Overview", "Sample", "History"} <= set(reached)
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
