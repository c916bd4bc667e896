"""A second API server on a copy of the stack's database, for workspaces that are not everybody's.

Airflow's simple auth manager tells workspaces apart only by teams, which the stack of one person does not use; its FAB
auth manager by permissions on each job.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import jwt
import psycopg2

from forebay.stack.services import database_url, environment, postgres_program

if TYPE_CHECKING:
    from conftest import Lab

DATABASE = "teams"
OWN, OTHER = "lab", "other"
"""The workspace of the tests' visitors, and one that is somebody else's."""
LISTED = f"{OWN}_secret"
"""A namespace that is named like the first and listed by the second, which therefore owns it."""


def two_workspaces(lab: Lab) -> None:
    """Has a run of each on the stack: of lab.console, and of other.rows."""
    first = lab.forebay("run", f"{OWN}.console")
    assert first.returncode == 0, first.stdout + first.stderr
    folder = lab.root / "dags" / OTHER
    if not folder.exists():
        folder.mkdir()
        (folder / "jobs.py").write_text((lab.root / "dags" / OWN / "jobs.py").read_text())
        (folder / "workspace.yaml").write_text(f"owner: others\nnamespaces: [{LISTED}]\n")
        (folder / "rows.yaml").write_text(
            f"tasks:\n  - {{key: rows, type: sql, sql: SELECT 1 AS n, table: {OTHER}.rows, mode: overwrite}}\n"
            f"  - {{key: listed, type: sql, sql: SELECT 1 AS n, table: {LISTED}.rows, mode: overwrite}}\n"
        )
    run, tasks = lab.run(f"{OTHER}.rows")
    assert run["state"] == "success", tasks


@contextlib.contextmanager
def server(lab: Lab, teams: tuple[str, ...]) -> Iterator[str]:
    """Its address; each workspace named is a team, whose dags are in a bundle of its own."""
    copy_database(lab, DATABASE)
    _split(lab, teams)
    settings = {"AIRFLOW__CORE__MULTI_TEAM": "True", "AIRFLOW_CONN_NOWHERE": "http://outside.example"}
    with another(lab, DATABASE, settings) as url:
        yield url


@contextlib.contextmanager
def another(lab: Lab, database: str, settings: dict[str, str]) -> Iterator[str]:
    """The address of another API server of the stack, with settings and a database of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    own = settings_on(lab, database) | settings
    own |= {"AIRFLOW__API__PORT": str(port), "AIRFLOW__API__BASE_URL": url}
    log = lab.stack.logs / f"api-server-of-{database}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("airflow")), "api-server"],
            env=own, cwd=lab.root, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
        try:
            _wait(process, url, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def settings_on(lab: Lab, database: str) -> dict[str, str]:
    """The environment of the stack's processes, on a copy of its database."""
    copy = _of_copy(database_url(lab.stack), database)
    return environment(lab.stack, os.environ) | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": copy}


def session(lab: Lab, role: str, teams: tuple[str, ...]) -> str:
    """A session of somebody with a role in some teams, as SimpleAuthManager signs them."""
    now = int(time.time())
    claims = {
        "sub": f"{role}-of-{'-'.join(teams)}", "role": role, "teams": list(teams), "jti": uuid.uuid4().hex,
        "aud": "apache-airflow", "iat": now, "nbf": now, "exp": now + 3600,
    }  # fmt: skip
    return jwt.encode(claims, lab.stack.secrets["jwt_secret"], algorithm="HS512", headers={"kid": "not-used"})


def _of_copy(url: str, database: str) -> str:
    return url.replace("/postgres?", f"/{database}?")


def copy_database(lab: Lab, database: str) -> None:
    """Airflow's database as it is now, under another name."""
    connection = psycopg2.connect(database_url(lab.stack, "postgresql"))
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {database}")
        cursor.execute(f"CREATE DATABASE {database}")
    # The last word is the program itself: it may run as anybody.
    dump, psql = (postgres_program(name)[-1] for name in ("pg_dump", "psql"))
    sent = subprocess.Popen([dump, database_url(lab.stack, "postgresql")], stdout=subprocess.PIPE)
    into = _of_copy(database_url(lab.stack, "postgresql"), database)
    subprocess.run(
        [psql, "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null", into],
        stdin=sent.stdout,
        check=True,
        timeout=60,
    )
    assert sent.wait(60) == 0


def _split(lab: Lab, teams: tuple[str, ...]) -> None:
    connection = psycopg2.connect(_of_copy(database_url(lab.stack, "postgresql"), DATABASE))
    with contextlib.closing(connection), connection, connection.cursor() as cursor:
        for team in teams:
            cursor.execute("INSERT INTO team (name) VALUES (%s)", (team,))
            cursor.execute("INSERT INTO dag_bundle (name, active) VALUES (%s, true)", (team,))
            cursor.execute(
                "INSERT INTO dag_bundle_team (dag_bundle_name, team_name) VALUES (%s, %s)", (team, team)
            )
            cursor.execute(
                "UPDATE dag SET bundle_name = %s WHERE split_part(dag_id, '.', 1) = %s", (team, team)
            )


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/forebay/api/v1/health", trust_env=False).status_code == 200:
                return
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.2)
    raise AssertionError(f"the API server did not answer: {log.read_text()[-3000:]}")
