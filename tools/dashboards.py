"""The Grafana dashboards of helm/forebay, made from what each panel asks for."""

from __future__ import annotations

import json

Panel = tuple[str, str, dict[str, str]]
"""Title, unit in Grafana's words, and queries by legend."""

_RATE = "[$__rate_interval]"

LENS: list[Panel] = [
    ("Requests", "reqps", {"{{view}}": f"sum by (view) (rate(forebay_lens_requests_total{_RATE}))"}),
    (
        "Failed, by status",
        "reqps",
        {"{{status}}": f'sum by (status) (rate(forebay_lens_requests_total{{status=~"[45].."}}{_RATE}))'},
    ),
    (
        "Time of a request",
        "s",
        {
            f"{share} %": f"histogram_quantile({share / 100}, sum by (le) (rate(forebay_lens_request_seconds_bucket{_RATE})))"
            for share in (50, 95, 99)
        },
    ),
    (
        "Of that, the catalog",
        "s",
        {
            f"{share} %": f"histogram_quantile({share / 100}, sum by (le) (rate(forebay_lens_catalog_seconds_bucket{_RATE})))"
            for share in (50, 95, 99)
        },
    ),
    (
        "Commits",
        "reqps",
        {"{{status}}": f'sum by (status) (rate(forebay_lens_requests_total{{method="POST"}}{_RATE}))'},
    ),
    (
        "Tables read, by runs and by people",
        "reqps",
        {"{{view}}": f'sum by (view) (rate(forebay_lens_requests_total{{method="GET"}}{_RATE}))'},
    ),
]

AIRFLOW: list[Panel] = [
    (
        "Tasks that ended",
        "short",
        {
            "success": "sum(increase(airflow_ti_successes_total[5m]))",
            "failure": "sum(increase(airflow_ti_failures_total[5m]))",
        },
    ),
    (
        "Tasks of the executors",
        "short",
        {
            "running": "sum(airflow_executor_running_tasks)",
            "queued": "sum(airflow_executor_queued_tasks)",
        },
    ),
    ("Slots in use, by pool", "short", {"{{pool_name}}": "max by (pool_name) (airflow_pool_running_slots)"}),
    (
        "Tasks that wait for a slot",
        "short",
        {"{{pool_name}}": "max by (pool_name) (airflow_pool_starving_tasks)"},
    ),
    (
        "Heartbeats",
        "cps",
        {
            "scheduler": f"sum(rate(airflow_scheduler_heartbeat_total{_RATE}))",
            "dag-processor": f"sum(rate(airflow_dag_processor_heartbeat_total{_RATE}))",
            "triggerer": f"sum(rate(airflow_triggerer_heartbeat_total{_RATE}))",
        },
    ),
    ("Job files with mistakes", "short", {"files": "max(airflow_dag_processing_import_errors)"}),
    ("Runs under way", "short", {"runs": "max(airflow_scheduler_dagruns_running)"}),
    (
        "Tasks that fell silent",
        "short",
        {"tasks": "sum(increase(airflow_task_instances_without_heartbeats_killed_total[5m]))"},
    ),
]


def files() -> dict[str, str]:
    """The dashboards' texts by path from the root."""
    made = {"lens": ("Forebay: lens", LENS), "airflow": ("Forebay: jobs and Airflow", AIRFLOW)}
    return {
        f"helm/forebay/files/dashboards/{name}.json": json.dumps(_dashboard(name, *what), indent=1) + "\n"
        for name, what in made.items()
    }


def _dashboard(name: str, title: str, panels: list[Panel]) -> dict[str, object]:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "uid": f"forebay-{name}",
        "title": title,
        "tags": ["forebay"],
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [
            {
                "id": number + 1,
                "type": "timeseries",
                "title": panel,
                "datasource": source,
                "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "targets": [
                    {
                        "refId": chr(65 + index),
                        "datasource": source,
                        "expr": expression,
                        "legendFormat": legend,
                    }
                    for index, (legend, expression) in enumerate(queries.items())
                ],
            }
            for number, (panel, unit, queries) in enumerate(panels)
        ],
    }
