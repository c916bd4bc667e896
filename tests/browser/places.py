"""Every page of the console, for what has to hold on each of them."""

from __future__ import annotations

import json
import re
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

TABLE = "catalog/lab/console_rows"
_FIXED = (
    "health", "workspaces", "workspaces/lab", "catalog", "catalog?q=label", "catalog/lab", TABLE, f"{TABLE}/sample",
    f"{TABLE}/history", f"{TABLE}/files", f"{TABLE}/checks", "catalog/lab/console_copy/lineage", f"{TABLE}/diff",
    f"{TABLE}/rollback?snapshot=0", f"{TABLE}/open", "connections", "connections/lake_catalog",
    "connections/lake_catalog/open", "sql?workspace=lab", "sql/history", "sql/history?everyone=true", "sql/saved",
    "jobs", "jobs?q=lab", "jobs/lab.console", "jobs/lab.console/why", "runs",
    "runs?job=tale.people&state=failed", "audit", "audit?kind=all", "api/v1/docs", "nothing",
)  # fmt: skip
_OF_A_RUN = ("", "?tab=1", "/why", "/diff", "/publish", "/discard", "/rollback", "/rerun")
SERIOUS = ("serious", "critical")


def pages(failed: str, published: str) -> list[str]:
    """All pages, with those of a run that failed and of one that is published."""
    runs = [f"runs/tale.people/{run}{each}" for run in (failed, published) for each in _OF_A_RUN]
    return [*_FIXED, *runs]


def shown_by(route: str, paths: list[str]) -> bool:
    """Whether one of these pages is of this route."""
    form = re.compile(re.sub(r"\{[^}]+\}", "[^/]+", route))
    return any(form.fullmatch("/" + path.partition("?")[0]) for path in paths)


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
