"""Takes docs/images/run.png: the finished flights run in Airflow, on the stack that is running.

It needs a Chromium on PATH (Debian: apt install chromium) and a run of flights.daily_delays that succeeded.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from forebay.errors import ForebayError
from forebay.project import find_root
from forebay.stack import supervisor
from forebay.stack.airflow_api import AirflowApi
from forebay.stack.layout import Stack

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "run.png"
JOB = "flights.daily_delays"
SIZE = (1280, 800)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


def main() -> int:
    try:
        take(Stack.of(find_root(os.environ.get("FOREBAY_ROOT") or ROOT)), PICTURE)
    except ForebayError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {PICTURE.relative_to(ROOT)}")
    return 0


def take(stack: Stack, picture: Path) -> None:
    """Writes the picture; raises ForebayError when the stack, the run or a browser is missing."""
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        raise ForebayError("no Chromium on PATH. Install one (Debian: apt install chromium).")
    if not supervisor.running(stack):
        raise ForebayError("the stack is not running. Start it: make demo")
    with AirflowApi.of_stack(stack) as api:
        runs = api.get(f"/dags/{JOB}/dagRuns", state="success", order_by="-run_after", limit=1)["dag_runs"]
        if not runs:
            raise ForebayError(f"no run of {JOB} has succeeded yet. Run it: forebay run {JOB}")
        credentials = {"username": "admin", "password": stack.secrets["admin_password"]}
        token = api.request("POST", "/auth/token", json=credentials)["access_token"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(FLAGS))
        context = browser.new_context(
            viewport={"width": SIZE[0], "height": SIZE[1]},
            color_scheme="light",
            timezone_id="UTC",
            locale="en-GB",
        )
        context.add_cookies([{"name": "_token", "value": str(token), "url": stack.url("airflow")}])
        context.add_init_script("localStorage.setItem('theme', 'light')")
        page = context.new_page()
        page.goto(f"{stack.url('airflow')}/dags/{JOB}/runs/{runs[0]['dag_run_id']}")
        show_graph(page)
        picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=picture)
        browser.close()


def show_graph(page: Page) -> None:
    """Turns from the grid to the graph and waits until it is drawn and has stopped moving."""
    page.get_by_role("button", name="Show Graph").click(timeout=60_000)
    page.locator(".react-flow__node").filter(has_text="routes").first.wait_for(timeout=60_000)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1_500)


if __name__ == "__main__":
    sys.exit(main())
