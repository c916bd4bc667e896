"""The page about ports, environment variables, connections and Airflow's settings, made from the stack's code."""

from __future__ import annotations

import re
from pathlib import Path

from forebay.stack.connections import connections
from forebay.stack.layout import INNER_PORTS, PARTS, PORTS, Stack
from forebay.stack.services import airflow_configuration, services

HIDDEN = "***"
PORT_WORDS = {
    "airflow": "Airflow's UI and REST API; asks for a login",
    "lens": "the catalog as a run sees it; passes on the credential of who asks",
    "trino": "Trino's UI and API, with `forebay up --with trino`; asks for a login, over TLS",
    "s3": "object store, S3's protocol; asks for the stack's key",
    "catalog": "Iceberg REST catalog; asks for the stack's key",
}
SERVICE_WORDS = {
    "lens": "the catalog as each run sees it: a run writes its own branch, published at its end",
    "store": "SeaweedFS: object store and Iceberg REST catalog in one process",
    "trino": "the SQL engine of `lake_sql`, with `forebay up --with trino`; at most 1 GB of heap",
    "postgres": "Airflow's database; answers on a Unix socket only",
    "api-server": "Airflow's UI and REST API",
    "scheduler": "starts runs and, with WarmLocalExecutor, their tasks",
    "dag-processor": "reads the jobs",
    "triggerer": "waits for deferred tasks and deadlines",
}
VARIABLES = {
    "FOREBAY_STATE": "folder of the stack's state instead of `.forebay/` in the repository; one folder is one stack",
    "FOREBAY_ROOT": "repository to work on instead of the one around the current folder; set in tasks",
    "FOREBAY_LOGS": "folder of the services' logs; set in tasks by the stack, so that they can say why Trino went away",
    "FOREBAY_JARS": "folder of the pinned jars; set in tasks by the stack, read by spark tasks",
    "FOREBAY_PARAMETERS": "the run's values as JSON; set for the program of a spark task",
    "FOREBAY_WORKSPACES": "set by the chart in Airflow's pods: each workspace's pool, namespace, priority class and nodes, as JSON",
    "FOREBAY_CATALOG_URI": "address of the catalog, for tests and programs that have no Airflow connection",
    "FOREBAY_S3_ENDPOINT": "address of the object store, likewise",
    "FOREBAY_WAREHOUSE": "warehouse in the catalog, likewise; `warehouse` as default",
    "AWS_ACCESS_KEY_ID": "key of catalog and store, likewise",
    "AWS_SECRET_ACCESS_KEY": "its secret, likewise",
    "AWS_REGION": "region, likewise; `us-east-1` as default",
    "JAVA_HOME": "Java 17 or 21 for Spark; before the `java` on PATH and the one from PyPI",
    "TRINO_JAVA_HOME": "Java 24 or later for Trino; before JAVA_HOME, the `java` on PATH and those in `/usr/lib/jvm`",
    "SSL_CERT_FILE": "PEM file of certificate authorities, for downloads by Python, uv, pip and Java",
    "PIP_CERT": "the same for pip alone; taken from SSL_CERT_FILE or the system where pip has no setting",
    "PIP_INDEX_URL": "package index of pip; its configuration files count too. Handed on to uv",
    "UV_DEFAULT_INDEX": "package index of uv; `UV_INDEX_URL` and `UV_INDEX` count too",
    "PIP_CONFIG_FILE": "pip's configuration file, also read for uv",
    "UV_CONFIG_FILE": "uv's configuration file; an index in it comes before pip's",
    "XDG_CONFIG_HOME": "parent of `pip/pip.conf` and `uv/uv.toml`; `~/.config` as default",
    "PYTHON": "the Python that `.venv` is made with: `make PYTHON=/path/to/python3 install`",
    "DEFAULT_ARTIFACT_REPOSITORY": "Maven repository for the jars, before `settings.xml`",
    "MAVEN_HOME": "a Maven installation whose `conf/settings.xml` is read after the one in `~/.m2`",
    "M2_HOME": "the same, under its older name",
    "XDG_CACHE_HOME": "parent of the jars' folder `forebay/jars`; `~/.cache` as default",
    "DISPLAY": "whether `forebay demo` opens a browser",
    "WAYLAND_DISPLAY": "the same",
}
ORDINARY = {"PATH", "HOME", "NO_PROXY", "XDG_CONFIG_DIRS"}
"""Variables that mean here what they mean everywhere."""
FILES = {
    "secrets.json": "passwords and keys, made at the first start; for its owner only (0600)",
    "ports.json": "the ports as last started",
    "parts.json": "what `forebay up --with` added",
    "trino": "Trino's configuration, written anew at each start, and its working files; `certificate.pem` is for its clients",
    "supervisord.conf": "written anew at each start",
    "airflow/airflow.cfg": "written anew at each start, holds secrets (0600)",
    "airflow/passwords.json": "password of Airflow's user admin (0600)",
    "airflow/logs": "the tasks' logs",
    "logs": "the services' logs: `forebay logs`",
    "store": "the object store and the catalog: the lake's data",
    "postgres": "Airflow's database",
    "bundles": "Airflow's own notes about where jobs come from",
    "run": "Unix sockets; below the temporary folder where the path would be too long for one",
    "migrated": "Airflow's version that the database was last prepared for",
    "connections.sha256": "what connections were last stored: a connection you change stays yours",
    "lock": "held while one command starts or stops the stack",
}

KUBERNETES = {
    "image": "the Spark image; has to be there",
    "catalog": "the connection of the catalog; the workspace's where there is none",
    "namespace": "where applications are made; the workspace's own (`forebay-<workspace>`) as default",
    "driver_memory": "Java's memory of a driver, `1g` as default; `driver_cores` its cores, 1",
    "executors": "`instances`, or `min` and `max` for as many as there is work for; `cores`, `memory` of each",
    "secret": "the namespace's Secret with the lake's keys, `forebay-lake`",
    "service_account": "of drivers, `spark`",
    "image_pull_policy": "`IfNotPresent` as default; `image_pull_secrets` are names of Secrets",
    "priority_class": "of all pods; that of the workspace's `scheduling` as default",
    "node_selector": 'labels of the nodes that the pods may run on, such as `{"forebay/role": "worker"}`; the workspace\'s as default',
    "conf": "Spark's own settings",
    "start_seconds": "how long a driver may take to start, 600",
    "keep_seconds": "how long an application that has ended is kept, 3600; its pods and their logs stay as long",
    "events": "where Spark keeps what its history server shows, a folder that drivers and it reach, such as `file:///shared/events`; "
    "`history` is that server's address, which runs' pages then link to",
    "logs": "where executors' logs and Kubernetes' events are kept, such as `s3://logs/spark`: below it "
    "`<workspace>/<job>/<run>/<task>/<try>/`, written with the catalog connection's keys. Without it the last lines of them "
    "are in the task's log",
}
"""Keys of a connection of type `kubernetes`."""


def page(root: Path) -> str:
    """The page as Markdown; raises ValueError when the code reads a variable that is not described."""
    check_variables(root)
    stack = example_stack()
    parts = [
        "# Settings\n",
        "## Ports\n",
        "All on 127.0.0.1. `forebay up --port NAME=N` moves one, `--free-ports` replaces those in use; both are "
        "remembered.\n",
        *_rows("name | default | what answers", [f"`{n}` | {p} | {PORT_WORDS[n]}" for n, p in PORTS.items()]),
        f"Between the services, on ports chosen free between 20000 and 32000 at the first start: "
        f"{', '.join(INNER_PORTS)}.\n",
        "## Services\n",
        *_rows(
            "service | what it is | port",
            [f"`{s.name}` | {SERVICE_WORDS[s.name]} | {s.port or ''}" for s in services(example_stack(True))],
        ),
        "## Environment variables\n",
        *_rows("variable | what it does", [f"`{name}` | {words}" for name, words in VARIABLES.items()]),
        "Also read: pip's configuration files, `~/.m2/settings.xml` (mirrors of `central`, with the credentials of the "
        "server of the same id), the system's certificate authorities. Your own `AIRFLOW__…`, `SPARK_…` and "
        "`PYTHONPATH` are kept away from the stack.\n",
        "## Connections\n",
        "Stored in Airflow by `forebay up`. A job names another one with `conn_id`.\n",
        "`lake_sql` of type `trino` stands for it after `forebay up --with trino`. Its `access_key` and `secret_key` are names\n"
        "of variables of the Trino server, which fills them in; `session` are session properties, `verify` a file of\n"
        "certificate authorities, `http_scheme` is `https` where there is a password. Queries of the SQL page log in as\n"
        "`worksheet_user` with `worksheet_password` and see Trino's catalog `worksheet_catalog`: a user whom Trino's access\n"
        "control lets read that catalog and no more. Without that catalog one that lets nobody write is made for them.\n",
        "`lake_spark` of type `spark` runs programs here (`local[*]`), on a standalone master (`spark://host:7077`) or on YARN\n"
        "(`yarn`; where that is say Hadoop's settings, in `HADOOP_CONF_DIR` of Airflow's environment). Its `extra` has `catalog`,\n"
        "`driver_memory`, `executors`, `conf` and `events` as below, and for YARN `queue`.\n",
        "`lake_spark` of type `kubernetes` runs Spark programs on a cluster, by the Spark operator. How the cluster is reached\n"
        "is said as Airflow's provider for Kubernetes has it (`in_cluster`, `kube_config`, …); besides, its `extra` has:\n",
        *_rows("key | what it does", [f"`{name}` | {words}" for name, words in KUBERNETES.items()]),
        *_rows(
            "connection | type | what it is | host | extra",
            [
                f"`{c['connection_id']}` | {c['conn_type']} | {c['description']} | {_code(c['host'])} | {_code(c['extra'])}"
                for c in [*connections(stack), *_other_sql(connections(example_stack(True)))]
            ],
        ),
        "## Files below .forebay/\n",
        *_rows("path | what it is", [f"`{name}` | {words}" for name, words in FILES.items()]),
        "## Airflow's settings that differ from its defaults\n",
        f"Secrets are shown as `{HIDDEN}`.\n",
        "```ini",
        *_configuration(stack),
        "```\n",
    ]
    return "\n".join(parts)


def example_stack(parts: bool = False) -> Stack:
    """A stack with default ports and without secrets, that is nowhere on disk; with all of PARTS or none."""
    stack = Stack(Path("<repository>"), Path("<repository>/.forebay"))
    names = (
        "admin_password",
        "postgres_password",
        "access_key",
        "secret_key",
        "store_signing_key",
        "trino_password",
        "trino_worksheet_password",
    )
    secrets = dict.fromkeys(
        (*names, "trino_inner_secret", "fernet_key", "jwt_secret", "api_secret_key"), HIDDEN
    )
    # What the stack would otherwise read from, or write to, its state folder.
    stack.__dict__.update(
        secrets=secrets,
        ports={**PORTS, **dict.fromkeys(INNER_PORTS, "<chosen>")},
        parts=PARTS if parts else (),
    )
    return stack


def _other_sql(found: list[dict[str, object]]) -> list[dict[str, object]]:
    return [one for one in found if one["conn_type"] == "trino"]


def check_variables(root: Path) -> None:
    """Raises ValueError when the code reads an environment variable that VARIABLES lacks."""
    pattern = re.compile(r"""\b(?:environ|env|environment)(?:\.get\(|\[)["']([A-Z][A-Z0-9_]+)["'](?!\] = )""")
    found = set()
    for path in (*(root / "include" / "forebay").rglob("*.py"), root / "tools" / "bootstrap.py"):
        found |= set(pattern.findall(path.read_text("utf-8")))
    if unknown := sorted(found - set(VARIABLES) - ORDINARY):
        raise ValueError(f"tools/reference_settings.py: VARIABLES does not describe {', '.join(unknown)}")


def _configuration(stack: Stack) -> list[str]:
    lines = []
    for section, values in airflow_configuration(stack).items():
        lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items()), ""]
    return lines[:-1]


def _code(value: object) -> str:
    return f"`{value}`" if value else ""


def _rows(head: str, rows: list[str]) -> list[str]:
    line = "|".join("---" for _ in head.split(" | "))
    return [f"| {head} |", f"|{line}|", *(f"| {row} |" for row in rows), ""]
