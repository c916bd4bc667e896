"""Connections come from an OpenBao, whose secrets nobody else is shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import psycopg2
import pytest

from forebay.stack.services import database_url

if TYPE_CHECKING:
    from platform_of_tests import Platform
    from servers import Server


def test_a_jobs_catalog_is_in_the_vault_and_nowhere_else(lab: Platform, openbao: Server) -> None:
    assert "AIRFLOW_CONN_LAKE_CATALOG" not in lab.settings
    with psycopg2.connect(database_url(lab.stack, "postgresql")) as database, database.cursor() as cursor:
        cursor.execute("SELECT conn_id FROM connection")
        assert "lake_catalog" not in [row[0] for row in cursor.fetchall()]
    run, tasks = lab.run("other.rows", seconds=600)
    assert run["state"] == "success", tasks
    assert [each["run_id"] for each in lab.json("runs", "other.rows", "--limit", "1")] == [run["dag_run_id"]]


def test_a_job_without_its_secret_says_which_one(lab: Platform, openbao: Server) -> None:
    path = "airflow/connections/lake_catalog"
    kept = openbao.ask("GET", f"secret/data/{path}")["data"]["data"]
    openbao.ask("DELETE", f"secret/metadata/{path}")
    try:
        run, _ = lab.run("other.rows", seconds=600)
        assert run["state"] == "failed"
        content = lab.api.get(f"/dags/other.rows/dagRuns/{run['dag_run_id']}/taskInstances/rows/logs/1")[
            "content"
        ]
        assert "The conn_id `lake_catalog` isn't defined" in json.dumps(content)
    finally:
        openbao.ask("POST", f"secret/data/{path}", {"data": kept})
    run, tasks = lab.run("other.rows", seconds=600)
    assert run["state"] == "success", tasks


def test_airflows_role_reads_its_own_secrets_and_writes_none(lab: Platform, openbao: Server) -> None:
    arguments = json.loads(lab.settings["AIRFLOW__SECRETS__BACKEND_KWARGS"])
    with httpx.Client(base_url=f"{arguments['url']}/v1", timeout=60, trust_env=False) as client:
        login = {name: arguments[name] for name in ("role_id", "secret_id")}
        token = client.post("/auth/approle/login", json=login).json()["auth"]["client_token"]
        client.headers["x-vault-token"] = token
        assert client.get("/secret/data/airflow/connections/lake_catalog").status_code == 200
        assert client.get("/secret/data/other/connections/lake_catalog").status_code == 403
        assert client.post("/secret/data/airflow/connections/new", json={"data": {}}).status_code == 403


@pytest.mark.parametrize("where", ["the parts' logs", "Airflow's database"])
def test_secrets_are_not_told(lab: Platform, hidden: list[str], where: str) -> None:
    if where == "the parts' logs":
        said = lab.said()
    else:
        with psycopg2.connect(database_url(lab.stack, "postgresql")) as database, database.cursor() as cursor:
            said = ""
            for table in ("log", "xcom", "rendered_task_instance_fields", "serialized_dag", "connection"):
                cursor.execute(f"SELECT t::text FROM {table} t")
                said += "\n".join(str(row[0]) for row in cursor.fetchall())
    assert said
    assert not [number for number, each in enumerate(hidden) if each in said]
