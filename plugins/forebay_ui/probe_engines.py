"""Asks the engines how they are: the SQL engine and Spark, wherever their connections say that they are."""

import socket
import ssl
from importlib.metadata import version
from typing import Any

import httpx

from forebay.connections import network
from forebay.connections.model import Connection
from forebay.connections.network import Wrong
from forebay.connections.types import kubernetes
from forebay.connections.types.spark import masters
from forebay.engines.spark_application import GROUP, VERSION
from forebay.engines.trino_client import Server
from forebay.errors import ForebayError
from forebay.lake.rest import trust
from forebay.machine import hadoop
from forebay_ui.component import PATIENCE, NotAsked, Starting, Unwell
from forebay_ui.connections import stored


def sql() -> str:
    """The version of what `lake_sql` names."""
    found = _required("lake_sql")
    if found.conn_type == "trino":
        return _trino(found)
    if found.conn_type != "duckdb":
        raise ForebayError(
            f"the connection 'lake_sql' is of type {found.conn_type}; SQL runs on duckdb and trino"
        )
    import duckdb

    with duckdb.connect() as engine:
        engine.execute("SELECT 1").fetchone()
    return f"DuckDB {duckdb.__version__}, in each task"


def spark() -> str:
    """The version of what `lake_spark` names."""
    found = _required("lake_spark")
    master = found.host or "local[*]"
    if found.conn_type == "kubernetes":
        return _cluster(found, found.host, operator=True)
    if master.startswith("k8s://"):
        return _cluster(found, master.removeprefix("k8s://"), operator=False)
    if master.startswith("spark://") or master == hadoop.MASTER:
        return _takes_connections(found, master)
    if not master.startswith("local"):
        raise NotAsked(f"it is not known how to ask the master {master}")
    from forebay.machine import java

    java.require()
    return f"{version('pyspark')}, {master}"


def _required(conn_id: str) -> Connection:
    found = stored(conn_id)
    if found is None:
        raise ForebayError(f"Airflow has no connection '{conn_id}'")
    return found


def _trino(found: Connection) -> str:
    server = Server.from_connection(found.host, found.port, found.login, found.password, found.extra)
    # It tells this to anybody, so no password goes there.
    said = _said(f"{server.address}/v1/info", server.trust())
    number = said.get("nodeVersion")
    if not isinstance(number, dict):
        raise Unwell(f"{server.address} answers, and is no Trino. Correct host and port of 'lake_sql'.")
    if said.get("starting"):
        raise Starting("Trino is still starting: it takes half a minute")
    return f"Trino {number.get('version', '')}"


def _takes_connections(found: Connection, master: str) -> str:
    try:
        places = masters(found)
    except hadoop.HadoopError as error:
        raise NotAsked(str(error)) from None
    except ValueError:
        raise ForebayError(f"'{master}' is no address. Write it as spark://host:7077.") from None
    for number, place in enumerate(places, 1):
        try:
            socket.create_connection((place.host.strip("[]"), place.port), PATIENCE / len(places)).close()
        except OSError:
            # One of several is the leader; the others may be away.
            if number == len(places):
                raise
        else:
            break
    return f"{master} takes connections"


def _cluster(found: Connection, server: str, *, operator: bool) -> str:
    try:
        access = kubernetes.access_of(found, server)
    except Wrong as wrong:
        raise NotAsked(f"{wrong.found}. {wrong.hint}") from None
    try:
        verify = network.trusting(access.authorities) if access.authorities else trust(access.server)
    except ssl.SSLError:
        raise Unwell("the authorities' certificates in 'lake_spark' cannot be read") from None
    headers = {"authorization": f"Bearer {access.token}"} if access.token else {}
    number = str(_said(f"{access.server}/version", verify, headers).get("gitVersion") or "")
    if not number:
        raise Unwell(f"{access.server} answers, and is no Kubernetes. Correct 'lake_spark'.")
    if operator and not _said(f"{access.server}/apis/{GROUP}/{VERSION}", verify, headers).get("resources"):
        raise Unwell("the cluster knows no SparkApplication. Install the Spark operator.")
    return f"Kubernetes {number}"


def _said(url: str, verify: ssl.SSLContext | bool, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    answer = httpx.get(url, headers=headers, verify=verify, timeout=PATIENCE, trust_env=False)
    if answer.status_code == 401 and headers:
        raise Unwell("it does not take the login (HTTP 401)")
    if answer.status_code in (401, 403):
        raise NotAsked(
            f"it does not tell {'this login' if headers else 'without a login'} (HTTP {answer.status_code})"
        )
    if answer.status_code >= 500:
        raise Unwell(f"it answers with HTTP {answer.status_code}")
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) and answer.is_success else {}
