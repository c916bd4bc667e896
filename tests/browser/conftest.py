"""A Chromium in front of the tests' own stack."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

INTEGRATION = Path(__file__).parents[1] / "integration"
sys.path.insert(0, str(INTEGRATION))
_spec = importlib.util.spec_from_file_location("stack_of_tests", INTEGRATION / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _module
_spec.loader.exec_module(_module)
lab = _module.lab
"""The stack of the integration tests, started once more for the browser."""

from places import pages  # noqa: E402  the folder is on the path by now

if TYPE_CHECKING:
    from stack_of_tests import Lab

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
PATIENCE = 20_000
"""In milliseconds: Airflow's UI takes seconds to draw on a small machine."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path, "no Chromium on PATH: install one (Debian: apt install chromium)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def filled(lab: Lab) -> Lab:
    """The stack with a table that a run wrote."""
    # By the command, which outlasts an API server that is still warming up.
    run = lab.forebay("run", "lab.console")
    assert run.returncode == 0, run.stdout + run.stderr
    return lab


@pytest.fixture(scope="session")
def bad(filled: Lab) -> str:
    """A run that failed after it had written; the one before it is published."""
    for job, word, code in (("source", "", 0), ("people", "word=a", 0), ("people", "word=bad", 1)):
        run = filled.forebay("run", f"tale.{job}", *(["--param", word] if word else []))
        assert run.returncode == code, run.stdout + run.stderr
    return str(filled.json("runs", "tale.people", "--limit", "1")[0]["run_id"])


@pytest.fixture(scope="session")
def every_page(filled: Lab, bad: str) -> list[str]:
    """The paths of all pages, with a run that failed and one that is published."""
    ran = filled.json("runs", "tale.people", "--limit", "20")
    good = next(str(each["run_id"]) for each in ran if each["state"] == "published")
    return pages(bad, good)


@pytest.fixture(scope="session")
def session(filled: Lab, chromium: Browser) -> Any:
    """What a browser keeps after somebody logged in by Airflow's own form."""
    context = chromium.new_context(base_url=filled.stack.url("airflow"))
    page = context.new_page()
    page.goto("/forebay/health")
    page.get_by_role("link", name="Log in").click(timeout=PATIENCE)
    page.get_by_label("Username").fill("admin", timeout=PATIENCE)
    page.get_by_label("Password", exact=True).fill(filled.stack.secrets["admin_password"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/forebay/health", timeout=PATIENCE)
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def context(
    filled: Lab, chromium: Browser, session: Any, request: pytest.FixtureRequest
) -> Iterator[BrowserContext]:
    """Somebody who is logged in; `@pytest.mark.parametrize("options", [{…}])` sets their window."""
    options = request.node.callspec.params.get("options", {}) if hasattr(request.node, "callspec") else {}
    made = chromium.new_context(
        **{
            "base_url": filled.stack.url("airflow"),
            "storage_state": session,
            "viewport": {"width": 1280, "height": 800},
            "locale": "en-GB",
            "timezone_id": "UTC",
            **options,
        }
    )
    made.set_default_timeout(PATIENCE)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A tab in which no error may come up and nothing may be refused by the page's own policy."""
    made = context.new_page()
    errors: list[str] = []
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.on(
        "console",
        lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None,
    )
    yield made
    assert errors == []
