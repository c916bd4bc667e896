"""The console as people meet it: through Airflow's own UI, in a browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import FrameLocator, Page, expect

if TYPE_CHECKING:
    from stack_of_tests import Lab


def lake(page: Page) -> FrameLocator:
    return page.frame_locator("iframe[title=Lake]")


def test_from_the_bar_to_a_table_and_back(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Lake").or_(page.get_by_role("button", name="Lake")).first.click()
    expect(lake(page).get_by_role("heading", name="Health")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/plugin/lake/forebay/health"))
    lake(page).get_by_role("link", name="Catalog", exact=True).click()
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


def test_the_theme_changes_with_airflows(page: Page) -> None:
    page.goto("/plugin/lake/forebay/health")
    body = lake(page).locator("body")
    expect(lake(page).get_by_role("heading", name="Health")).to_be_visible()
    lake(page).locator("body").evaluate("each => { each.dataset.kept = 'yes'; }")
    for mode, background in (
        ("Dark Mode", "rgb(17, 21, 28)"),
        ("Light Mode", "rgb(247, 248, 250)"),
        ("Dark Mode", "rgb(17, 21, 28)"),
    ):
        page.get_by_role("button", name="User").click()
        page.get_by_role("menuitem", name="Appearance").click()
        page.get_by_role("menuitemradio", name=mode).click()
        page.keyboard.press("Escape")
        expect(body).to_have_css("background-color", background)
    # It is the page that was there all along, not one that was loaded anew.
    expect(body).to_have_attribute("data-kept", "yes")


@pytest.mark.parametrize("options", [{"java_script_enabled": False}])
def test_every_page_works_without_javascript(page: Page, options: dict[str, Any]) -> None:
    page.goto("/forebay/health")
    page.get_by_role("searchbox", name="Find a table or column").fill("console_rows")
    page.get_by_role("searchbox", name="Find a table or column").press("Enter")
    page.get_by_role("link", name="lab.console_rows").click()
    for tab in ("Sample", "History", "Files", "Checks", "Lineage", "Open from…", "Overview"):
        page.get_by_role("link", name=tab, exact=True).click()
        expect(page.get_by_role("link", name=tab, exact=True)).to_have_attribute("aria-current", "page")


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


FOCUSED = """
() => {
  let found = document.activeElement;
  while (found?.tagName === "IFRAME") found = found.contentDocument?.activeElement;
  const label = found?.labels?.[0]?.textContent ?? "";
  return [found?.ariaLabel || label || found?.textContent || "", found?.tagName ?? ""].map((each) => each.trim());
}
"""


def tab_to(page: Page, name: str) -> None:
    """Presses Tab until something of this name has the focus, in Airflow's page or in its frame."""
    seen = []
    for _ in range(120):
        page.keyboard.press("Tab")
        said, kind = page.evaluate(FOCUSED)
        if said.startswith(name):
            return
        seen.append(f"{said[:30]} ({kind})")
    raise AssertionError(f"Tab does not come to {name}: {seen}")


def test_a_table_is_rolled_back_with_the_keyboard_alone(filled: Lab, page: Page) -> None:
    """From Airflow's own page to a confirmed roll back; the mouse is not touched."""
    for amount in (3, 4):
        run = filled.forebay("run", "lab.ledger", "--param", f"amount={amount}")
        assert run.returncode == 0, run.stdout + run.stderr
    before = filled.json("sql", "SELECT max(amount) FROM lab.ledger")["rows"]
    page.goto("/")
    page.get_by_role("link", name="Lake").or_(page.get_by_role("button", name="Lake")).first.wait_for()
    for name, heading in (
        ("Lake", "Health"),
        ("Catalog", "Catalog"),
        ("lab", "lab"),
        ("ledger", "lab.ledger"),
        ("Roll back…", "lab.ledger"),
    ):
        tab_to(page, name)
        page.keyboard.press("Enter")
        expect(lake(page).get_by_role("heading", name=heading, exact=True).first).to_be_visible()
    expect(page).to_have_url(re.compile(r"/catalog/lab/ledger/rollback"))
    tab_to(page, "To what it was after")
    # What the run before left stands there; the last choice is before all runs.
    for key in ("End", "Home"):
        page.keyboard.press(key)
    tab_to(page, "Show what goes with it")
    page.keyboard.press("Enter")
    expect(lake(page).get_by_text("tables go back")).to_be_visible()
    tab_to(page, "Type lab.ledger to confirm")
    page.keyboard.type("lab.ledger")
    tab_to(page, "Roll back 2 tables")
    page.keyboard.press("Enter")
    expect(lake(page).get_by_role("status")).to_contain_text("is rolled back to snapshot")
    after = filled.json("sql", "SELECT max(amount) FROM lab.ledger")["rows"]
    assert (before, after) == ([[4]], [[3]])
