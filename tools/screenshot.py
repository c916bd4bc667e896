"""Takes docs/images/run.png: the finished flights run in Airflow, on the stack that is running.

It needs a Chromium on PATH (Debian: apt install chromium) and a run of flights.daily_delays that succeeded.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
PATIENCE = 60_000
"""In milliseconds."""
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
    with logged_in(stack) as (api, open_page):
        run = last_run(api)
        page = open_page("light")
        page.goto(f"/dags/{JOB}/runs/{run}")
        show_graph(page)
        picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=picture)


@contextmanager
def logged_in(stack: Stack) -> Iterator[tuple[AirflowApi, Callable[[str], Page]]]:
    """Airflow's API, and what opens a page of a theme in a browser that is logged in. Raises ForebayError."""
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        raise ForebayError("no Chromium on PATH. Install one (Debian: apt install chromium).")
    if not supervisor.running(stack):
        raise ForebayError("the stack is not running. Start it: make demo")
    with AirflowApi.of_stack(stack) as api, sync_playwright() as playwright:
        credentials = {"username": "admin", "password": stack.secrets["admin_password"]}
        token = api.request("POST", "/auth/token", json=credentials)["access_token"]
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(FLAGS))

        def open_page(theme: str) -> Page:
            context = browser.new_context(
                base_url=stack.url("airflow"), viewport={"width": SIZE[0], "height": SIZE[1]}, timezone_id="UTC",
                locale="en-GB", color_scheme="dark" if theme == "dark" else "light",
            )  # fmt: skip
            context.set_default_timeout(PATIENCE)
            context.add_cookies([{"name": "_token", "value": str(token), "url": stack.url("airflow")}])
            context.add_init_script(f"localStorage.setItem('theme', '{theme}')")
            return context.new_page()

        yield api, open_page
        browser.close()


def last_run(api: AirflowApi) -> str:
    """The demo's last run that succeeded. Raises ForebayError."""
    runs = api.get(f"/dags/{JOB}/dagRuns", state="success", order_by="-run_after", limit=1)["dag_runs"]
    if not runs:
        raise ForebayError(f"no run of {JOB} has succeeded yet. Run it: forebay run {JOB}")
    return str(runs[0]["dag_run_id"])


def show_graph(page: Page) -> None:
    """Turns from the grid to the graph and waits until it is drawn and has stopped moving."""
    page.get_by_role("button", name="Show Graph").click(timeout=PATIENCE)
    page.locator(".react-flow__node").filter(has_text="routes").first.wait_for(timeout=PATIENCE)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1_500)


if __name__ == "__main__":
    sys.exit(main())
