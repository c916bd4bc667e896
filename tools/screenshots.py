"""Takes the README's pictures of the console, docs/screenshots/: each light and dark, on the stack that is running.

It needs what tools/screenshot.py needs: a Chromium on PATH and a run of flights.daily_delays that succeeded.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode

from playwright.sync_api import FrameLocator, Page
from screenshot import JOB, ROOT, last_run, logged_in

from forebay.errors import ForebayError
from forebay.project import find_root
from forebay.stack.layout import Stack

FOLDER = ROOT / "docs" / "screenshots"
LARGEST = 200_000
"""In bytes, so that the README stays quick to open."""
THEMES = ("light", "dark")
CONNECTION = "lake_s3"
SQL = """SELECT airline, sum(departed) AS departed, sum(cancelled) AS cancelled
FROM flights.daily_delays
GROUP BY airline
ORDER BY departed DESC"""
HERE = "/plugin/lake/forebay"


def main() -> int:
    try:
        for picture in take(Stack.of(find_root(os.environ.get("FOREBAY_ROOT") or ROOT)), FOLDER):
            print(f"wrote {picture.relative_to(ROOT)}, {picture.stat().st_size:,} bytes")
    except ForebayError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def take(stack: Stack, folder: Path) -> list[Path]:
    """Writes the pictures; raises ForebayError when something is missing, or a picture is too large."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with logged_in(stack) as (api, open_page):
        run = f"{HERE}/runs/{JOB}/{quote(last_run(api), safe='')}"
        for theme in THEMES:
            page = open_page(theme)
            for name, path, ready in (
                ("table", f"{HERE}/catalog/flights/daily_delays", _table),
                ("run", run, _run),
                ("connection", f"{HERE}/connections/{CONNECTION}", _connection),
                ("sql", f"{HERE}/sql?{urlencode({'workspace': 'flights', 'sql': SQL})}", _sql),
            ):
                made.append(_one(page, path, ready, folder / f"{name}-{theme}.png"))
    return made


def _one(page: Page, path: str, ready: Callable[[FrameLocator], None], picture: Path) -> Path:
    page.goto(path)
    ready(page.frame_locator("iframe[title=Lake]"))
    page.mouse.move(0, 0)
    # Airflow's own bar fades in.
    page.wait_for_timeout(1_000)
    page.screenshot(path=picture)
    if (size := picture.stat().st_size) > LARGEST:
        raise ForebayError(f"{picture.name} has {size:,} bytes, and may have {LARGEST:,}.")
    return picture


def _table(frame: FrameLocator) -> None:
    frame.get_by_role("link", name="Lineage").wait_for()
    frame.get_by_text("carrier", exact=True).first.wait_for()


def _run(frame: FrameLocator) -> None:
    frame.get_by_text("publish", exact=True).first.wait_for()


def _connection(frame: FrameLocator) -> None:
    frame.get_by_role("button", name="Check now").click()
    # The worker's come last.
    # The results of before go away first; the worker's come last.
    frame.get_by_text("A worker is asked…").wait_for()
    frame.locator(".verdict").nth(1).wait_for()


def _sql(frame: FrameLocator) -> None:
    frame.get_by_role("button", name="Run", exact=True).click()
    frame.get_by_text("United Air Lines Inc.").first.wait_for()


if __name__ == "__main__":
    sys.exit(main())
