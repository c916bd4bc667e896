"""Shows the lake in Airflow's own UI: adds Forebay's console to the API server, under **Lake** in the left bar.

Every scheduler, triggerer and task process imports this file too. Nothing of the web is imported before somebody
asks for it, and only the API server does.
"""

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/forebay"


class Forebay(AirflowPlugin):
    """The console's pages and its JSON API, below /forebay."""

    name = "forebay"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        from forebay_ui.app import application

        return [{"app": application(), "url_prefix": PREFIX, "name": "Forebay"}]

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]
        # Without a leading slash, so that it holds behind a proxy with a path of its own.
        place = PREFIX.removeprefix("/")
        return [
            {
                "name": "Lake",
                "href": f"{place}/health",
                "destination": "nav",
                "url_route": "lake",
                "nav_top_level": True,
                "icon": f"{place}/static/lake.svg",
                "icon_dark_mode": f"{place}/static/lake-dark.svg",
            },
            {
                # A tab of Airflow's page of a run, and no page of its own.
                "name": "Lake",
                "href": f"{place}/runs/{{DAG_ID}}/{{RUN_ID}}?tab=1",
                "destination": "dag_run",
                "url_route": "lake-run",
                "icon": f"{place}/static/lake.svg",
                "icon_dark_mode": f"{place}/static/lake-dark.svg",
            },
        ]
