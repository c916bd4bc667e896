"""The SQL page as people meet it: the editor, rows as they come, cancel, files, and the same without JavaScript."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import FrameLocator, Page, expect
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, StringType
from stack_of_tests import eventually

if TYPE_CHECKING:
    from stack_of_tests import Lab

MANY = (
    "SELECT x * 1000 + y AS n, concat('row ', CAST(x AS varchar)) AS word "
    "FROM unnest(sequence(1, {tens})) AS a (x) CROSS JOIN unnest(sequence(1, 1000)) AS b (y)"
)
LONG = (
    "WITH a AS (SELECT x FROM unnest(sequence(1, 10000)) AS t (x)) "
    "SELECT count(*) AS n FROM a CROSS JOIN a AS b CROSS JOIN a AS c WHERE sqrt(a.x * b.x + c.x) < 0"
)


def editor(page: Page | FrameLocator) -> Any:
    return page.get_by_role("textbox", name="SQL", exact=True)


def write(page: Page, sql: str) -> None:
    editor(page).click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(sql)


def done(page: Page | FrameLocator, words: str) -> None:
    expect(page.locator("#status")).to_contain_text(re.compile(rf"done.*{words}"), timeout=60_000)


def test_from_airflows_bar_to_rows(page: Page) -> None:
    page.goto("/plugin/lake/forebay/sql?workspace=lab")
    lake = page.frame_locator("iframe[title=Lake]")
    expect(lake.locator(".code")).to_be_visible()
    editor(lake).click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("SELECT id, label FROM lab.console_rows ORDER BY id")
    page.keyboard.press("Control+Enter")
    done(lake, "3 rows")
    expect(lake.get_by_role("cell", name="two")).to_be_visible()


def test_from_a_table_to_its_rows(page: Page) -> None:
    page.goto("/forebay/catalog/lab/console_rows")
    page.get_by_role("link", name="Query", exact=True).click()
    expect(page.locator(".code")).to_contain_text("lab.console_rows")
    editor(page).focus()
    page.keyboard.press("Control+Enter")
    done(page, "3 rows")


def test_the_editor_completes_tables_columns_and_functions(page: Page) -> None:
    with page.expect_response("**/query/tables"):
        page.goto("/forebay/sql?workspace=lab")
    write(page, "SELECT  FROM lab.")
    page.keyboard.press("Control+Space")
    expect(page.locator(".cm-tooltip-autocomplete")).to_contain_text("console_rows")
    write(page, "SELECT * FROM lab.console_rows WHERE lab")
    page.keyboard.press("Control+Space")
    expect(page.locator(".cm-tooltip-autocomplete")).to_contain_text("label")
    write(page, "SELECT date_tr")
    page.keyboard.press("Control+Space")
    expect(page.locator(".cm-tooltip-autocomplete")).to_contain_text("date_trunc")


def test_of_very_many_tables_those_are_completed_that_one_types(page: Page) -> None:
    # As if one table were all that an answer may hold.
    page.route("**/query/tables*", lambda route: route.continue_(url=_with_one(route.request.url)))
    page.goto("/forebay/sql?workspace=lab")
    write(page, "SELECT  FROM lab.console_r")
    page.keyboard.press("Control+Space")
    expect(page.locator(".cm-tooltip-autocomplete")).to_contain_text("console_rows")
    write(page, "SELECT * FROM lab.console_rows AS r WHERE lab")
    page.keyboard.press("Control+Space")
    expect(page.locator(".cm-tooltip-autocomplete")).to_contain_text("label")
    write(page, "SELECT * FROM lab.console_rows AS r WHERE r.")
    page.keyboard.press("Control+Space")
    expect(page.locator(".cm-tooltip-autocomplete")).to_contain_text("label")


def _with_one(url: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}limit=1"


def test_another_namespaces_tables_come_when_it_is_unfolded(page: Page, filled: Lab) -> None:
    catalog = filled.lake.pyiceberg()
    catalog.create_namespace_if_not_exists("apart")
    field = NestedField(1, "thing", StringType(), required=False)
    catalog.create_table_if_not_exists("apart.things", Schema(field))
    apart = page.locator(".tree > details", has=page.get_by_text("apart", exact=True))

    def there() -> bool:
        page.goto("/forebay/sql?workspace=lab")
        return apart.count() == 1

    eventually(30, there, "the index has the table")
    expect(apart.get_by_role("link")).to_be_hidden()
    apart.locator("summary").first.click()
    write(page, "SELECT count(*) AS n FROM ")
    page.keyboard.press("Control+End")
    apart.get_by_role("button", name="Insert apart.things").click()
    page.keyboard.press("Control+Enter")
    done(page, "1 row")
    apart.get_by_text("things", exact=True).click()
    expect(apart.get_by_text("thing", exact=True)).to_be_visible()


def test_only_what_is_selected_runs(page: Page) -> None:
    page.goto("/forebay/sql?workspace=lab")
    write(page, "SELECT 1 AS one;\nSELECT 2 AS two")
    page.keyboard.press("Shift+Home")
    page.get_by_role("button", name="Run", exact=True).click()
    done(page, "1 row")
    expect(page.get_by_role("columnheader", name="two")).to_be_visible()


def test_a_hundred_thousand_rows_do_not_freeze_the_page(page: Page) -> None:
    page.goto("/forebay/sql?workspace=lab")
    write(page, MANY.format(tens=100))
    page.evaluate(
        "() => { let last = performance.now(); window.longest = 0; const see = () => { const now = performance.now();"
        " window.longest = Math.max(window.longest, now - last); last = now; requestAnimationFrame(see); }; see(); }"
    )
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator(".grid tbody tr:not(.fill)").first).to_be_visible(timeout=60_000)
    done(page, "100,000 rows")
    assert page.evaluate("window.longest") < 2000
    assert page.locator(".grid tbody tr").count() < 200
    page.locator(".grid").evaluate("each => each.scrollTop = each.scrollHeight")
    expect(page.get_by_role("cell", name="100,000", exact=True)).to_be_visible()
    page.get_by_role("button", name="Chart").click()
    expect(page.locator("#chart svg rect").first).to_be_visible()


def test_cancel_stops_it(page: Page) -> None:
    page.goto("/forebay/sql?workspace=lab")
    write(page, LONG)
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#status")).to_contain_text("running")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).to_contain_text("cancelled")


def test_parameters_appear_as_one_types(page: Page) -> None:
    page.goto("/forebay/sql?workspace=lab")
    write(page, "SELECT :first AS a, CAST(:day AS date) AS b")
    page.get_by_label(":first").fill("hello")
    page.get_by_label(":day").fill("2026-01-01")
    page.get_by_role("button", name="Run", exact=True).click()
    done(page, "1 row")
    expect(page.get_by_role("cell", name="2026-01-01")).to_be_visible()
    page.get_by_role("link", name="Link to this query").click()
    expect(page.get_by_label(":first")).to_have_value("hello")


def test_a_mistake_is_underlined_where_it_is(page: Page) -> None:
    page.goto("/forebay/sql?workspace=lab")
    write(page, "SELECT nosuch(1)")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#failed")).to_contain_text("nosuch")
    expect(page.locator(".cm-lintRange-error")).to_have_text("nosuch")


def test_hostile_values_stay_text(page: Page) -> None:
    page.goto("/forebay/sql?workspace=lab")
    write(page, "SELECT '<img src=x onerror=alert(1)>' AS \"<script>alert(2)</script>\"")
    page.get_by_role("button", name="Run", exact=True).click()
    done(page, "1 row")
    expect(page.get_by_role("cell", name="<img src=x onerror=alert(1)>")).to_be_visible()
    assert page.locator("#result img, #result script").count() == 0


@pytest.mark.parametrize("options", [{"accept_downloads": True}])
def test_csv_is_kept_as_a_file(page: Page, options: dict[str, Any]) -> None:
    page.goto("/forebay/sql?workspace=lab")
    write(page, "SELECT '=1+1' AS formula")
    with page.expect_download() as found:
        page.get_by_role("button", name="CSV").click()
    path = found.value.path()
    assert Path(path).read_text() == '"formula"\n"\'=1+1"\n'


@pytest.mark.parametrize("options", [{"java_script_enabled": False}])
def test_the_page_works_without_javascript(page: Page, options: dict[str, Any]) -> None:
    page.goto("/forebay/sql?workspace=lab")
    page.get_by_label("SQL", exact=True).fill("SELECT :n + 1 AS n, label FROM lab.console_rows ORDER BY id")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_label(":n").fill("41")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("cell", name="42").first).to_be_visible()
    page.get_by_role("link", name="History").click()
    page.get_by_role("link", name=re.compile("SELECT :n")).first.click()
    expect(page.get_by_label(":n")).to_have_value("41")


def test_without_the_built_editor_the_field_does_its_work(page: Page) -> None:
    page.route("**/static/editor.js*", lambda route: route.abort())
    page.goto("/forebay/sql?workspace=lab")
    page.get_by_label("SQL", exact=True).fill("SELECT 5 AS five")
    page.keyboard.press("Control+Enter")
    done(page, "1 row")


def test_the_keyboard_gets_in_and_out_of_the_editor(page: Page) -> None:
    page.goto("/forebay/sql?workspace=lab")
    editor(page).focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_focused()
