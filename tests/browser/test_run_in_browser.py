"""A run's dossier as people meet it: as a tab of Airflow's page of the run, and in Lake."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import FrameLocator, Page, expect

if TYPE_CHECKING:
    from stack_of_tests import Lab

NO_SCRIPT = {"java_script_enabled": False}


def tab(page: Page) -> FrameLocator:
    return page.frame_locator("iframe[title=Lake]")


def test_a_tab_of_airflows_page_of_a_run(page: Page, bad: str) -> None:
    page.goto(f"/dags/tale.people/runs/{bad}")
    page.get_by_role("link", name="Lake").nth(1).click()
    expect(page).to_have_url(re.compile(r"/dags/tale\.people/runs/.*/plugin/lake-run"))
    expect(tab(page).get_by_role("heading", level=1)).to_contain_text("Not published")
    # It is part of that page: no bar of its own.
    expect(tab(page).get_by_role("navigation", name="Lake")).to_have_count(0)
    tab(page).get_by_role("link", name="See the difference").click()
    expect(tab(page).get_by_role("heading", level=1)).to_contain_text("What it changed")
    expect(tab(page).get_by_text("word: a → bad").first).to_be_visible()
    tab(page).get_by_role("link", name="What it did").click()
    tab(page).get_by_role("link", name="Discard…").click()
    expect(tab(page).get_by_role("button", name="Discard")).to_be_visible()
    tab(page).get_by_role("link", name="Cancel").click()
    expect(tab(page).get_by_role("heading", level=1)).to_contain_text("Not published")
    # A table is a place of its own, and opens in Lake.
    tab(page).get_by_role("link", name="tale.people", exact=True).last.click()
    expect(page).to_have_url(re.compile(r"/plugin/lake/forebay/catalog/tale/people$"))
    expect(tab(page).get_by_role("heading", name="tale.people")).to_be_visible()


def test_a_log_opens_in_airflow(page: Page, bad: str) -> None:
    page.goto(f"/dags/tale.people/runs/{bad}/plugin/lake-run")
    tab(page).get_by_role("link", name="Log").first.click()
    expect(page).to_have_url(re.compile(r"/dags/tale\.people/runs/.*/tasks/merge"))


def test_from_a_tables_history_to_all_that_a_run_did(page: Page, bad: str) -> None:
    page.goto("/plugin/lake/forebay/catalog/tale/people/history")
    tab(page).get_by_role("link", name="all that this run did").first.click()
    expect(tab(page).get_by_role("heading", level=1)).to_contain_text("Published")
    expect(page).to_have_url(re.compile(r"/plugin/lake/forebay/runs/tale\.people/manual__"))
    page.go_back()
    expect(tab(page).get_by_role("heading", name="tale.people")).to_be_visible()


def test_why_a_job_is_not_running(page: Page, bad: str) -> None:
    page.goto("/plugin/lake/forebay/runs")
    tab(page).get_by_role("link", name="Why is a job not running?").click()
    tab(page).get_by_role("searchbox", name="A part of the job's name").fill("tale.daily")
    tab(page).get_by_role("button", name="Show").click()
    tab(page).get_by_role("link", name="tale.daily").click()
    expect(tab(page).get_by_text("Its next run is due at").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"/plugin/lake/forebay/jobs/tale\.daily$"))


@pytest.mark.parametrize("options", [{"color_scheme": "dark"}, {"color_scheme": "light"}])
def test_text_can_be_read_in_both_themes(page: Page, every_page: list[str], options: dict[str, Any]) -> None:
    for path in every_page:
        page.goto(f"/forebay/{path}")
        weak = page.evaluate(CONTRAST)
        assert weak == [], f"{path}: {weak}"


@pytest.mark.parametrize("options", [NO_SCRIPT])
def test_a_run_is_started_published_and_rolled_back_without_javascript(
    page: Page, bad: str, filled: Lab, options: dict[str, Any]
) -> None:
    # A job that waits for the table would build on the run before it is rolled back.
    filled.api.request("PATCH", "/api/v2/dags/tale.totals", json={"is_paused": True})
    page.goto("/forebay/jobs/tale.people")
    page.get_by_label("Parameters, as JSON").fill('{"word": "bad"}')
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/runs/tale.people/manual__*")
    started = page.url.rpartition("/")[2].replace("%3A", ":").replace("%2B", "+")
    filled.finish("tale.people", started)
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Not published")
    page.get_by_role("link", name="Publish…").click()
    page.get_by_label("Publish what it wrote all the same").check()
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_role("status")).to_contain_text("the run was published")
    page.get_by_role("link", name="Roll back…").click()
    page.get_by_role("button", name=re.compile("^Roll back 1 table")).click()
    expect(page.get_by_role("status")).to_contain_text("the run was rolled back")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Rolled back")


CONTRAST = """
() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const found = rgba(getComputedStyle(node).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255, 255];
  };
  const weak = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !node.getClientRects().length) continue;
    const style = getComputedStyle(node);
    const one = light(rgba(style.color)), two = light(behind(node));
    const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (ratio < 4.5) weak.push(`${walk.currentNode.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return weak.slice(0, 5);
}
"""
