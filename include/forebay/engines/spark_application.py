"""A Spark task as the Spark operator's SparkApplication (sparkoperator.k8s.io/v1beta2): data in, manifest out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from forebay.engines.spark import LOG4J, parameters
from forebay.engines.spark_settings import Cluster, Program
from forebay.lake.connection import CATALOG, CatalogConfig
from forebay.lake.identity import TaskTry

GROUP, VERSION, PLURAL = "sparkoperator.k8s.io", "v1beta2", "sparkapplications"
SPARK = "4.1.4"
"""The version in our image."""

LABEL = "forebay/"
"""What our labels and annotations begin with."""

DIGEST, BEFORE, COLLECTED = f"{LABEL}digest", f"{LABEL}before", f"{LABEL}collected"
"""Annotations: what the application is to do; the tables' snapshots before it; that its task has its result."""

AIRFLOW, FOLLOWED = f"{LABEL}airflow", f"{LABEL}followed-by"
"""Annotations: which Airflow made it; the try that went on with it last."""

TASKS = f"{LABEL}try"
"""Selects what tasks made, of whichever workspace."""

PROGRAMS = "/opt/forebay/programs"
"""Where a pod finds the workspace's programs."""

_LOGGING = "log4j2.properties"
"""Beside the programs: how Spark logs."""

GRACE_SECONDS = 2
"""How long a pod has to end: a killed task's engine is idle within five seconds."""

DRIVER, EXECUTOR = "spark-kubernetes-driver", "spark-kubernetes-executor"
_SECRETS = {
    "AWS_ACCESS_KEY_ID": "access-key",
    "AWS_SECRET_ACCESS_KEY": "secret-key",
    "LAKE_CATALOG_CREDENTIAL": "catalog-credential",
}
"""What Iceberg asks of a pod's environment, and the key of the lake's Secret that it comes from."""

_BY_REFERENCE = {
    "credential": "env:LAKE_CATALOG_CREDENTIAL",
    "s3.access-key-id": "env:AWS_ACCESS_KEY_ID",
    "s3.secret-access-key": "env:AWS_SECRET_ACCESS_KEY",
}
"""Iceberg's REST catalog fills these in from the environment."""


def label(text: str) -> str:
    """Any text as a label's value: itself where it may be, else its legal part and a digest."""
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", text):
        return text
    legal = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:44].rstrip("-")
    return f"{legal}-{hashlib.sha256(text.encode()).hexdigest()[:16]}".lstrip("-")


def labels(who: TaskTry) -> dict[str, str]:
    """By these an application and its pods are found again."""
    named = {
        "workspace": who.workspace,
        "job": who.job.partition(".")[2] or who.job,
        "run": who.run,
        "task": who.task,
        "try": str(who.number),
    }
    return {f"{LABEL}{key}": label(value) for key, value in named.items()}


def selector(who: TaskTry) -> str:
    """Finds the applications of all tries of a task."""
    return ",".join(f"{key}={value}" for key, value in labels(who).items() if key != f"{LABEL}try")


def application_name(who: TaskTry) -> str:
    """The same for the same try, so that it can be made once only."""
    slug = re.sub(r"[^a-z0-9]+", "-", f"{who.job.partition('.')[2]}-{who.task}".lower())[:24].strip("-")
    unique = hashlib.sha256("\n".join((who.job, who.run, who.task)).encode()).hexdigest()[:10]
    # A service is named after it, and that begins with a letter.
    return f"spark-{slug}-{unique}-{who.number}"


def digest(program: Program, cluster: Cluster, pins: Sequence[str] = ()) -> str:
    """What an application is to do, apart from whose try it is: the same work may be gone on with."""
    what = [
        program.main, dict(program.files), program.arguments, dict(program.conf),
        parameters(program.values), repr(cluster), list(pins),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]


def config_map(name: str, who: TaskTry, program: Program) -> dict[str, Any]:
    """The workspace's programs, as the pods mount them."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels(who)},
        "immutable": True,
        "data": {_LOGGING: LOG4J, **{_key(path): text for path, text in sorted(program.files.items())}},
    }


def manifest(
    who: TaskTry,
    cluster: Cluster,
    program: Program,
    config: CatalogConfig,
    before: Mapping[str, int | None] | None = None,
    airflow: str = "",
) -> dict[str, Any]:
    """The SparkApplication of one try of a task. Nothing in it is secret.

    `config` is the lake as this try sees it; `before` the snapshots of the tables it writes; `airflow` a name for the
    Airflow whose task it is.
    """
    named = labels(who)
    name = application_name(who)
    annotations = {
        f"{LABEL}job": who.job,
        f"{LABEL}run": who.run,
        f"{LABEL}task": who.task,
        f"{LABEL}user": who.user,
        DIGEST: digest(program, cluster, who.pins),
        BEFORE: json.dumps(dict(before or {})),
        AIRFLOW: airflow,
    }
    environment = _environment(cluster, program)
    executors = cluster.executors
    spec: dict[str, Any] = {
        "type": "Python",
        "mode": "cluster",
        "sparkVersion": SPARK,
        "image": cluster.image,
        "imagePullPolicy": cluster.pull_policy,
        "mainApplicationFile": f"local://{PROGRAMS}/{program.main}",
        "arguments": list(program.arguments),
        "sparkConf": {**_settings(), **cluster.conf, **program.conf, **_catalog(config)},
        # Trying again is Airflow's, which takes the rows of the first try off the branch before.
        "restartPolicy": {"type": "Never"},
        "timeToLiveSeconds": cluster.keep_seconds,
        "driver": {
            "cores": cluster.driver.cores,
            "memory": cluster.driver.memory,
            "labels": named,
            "serviceAccount": cluster.service_account,
            "template": _template(DRIVER, name, cluster, program, environment),
        },
        "executor": {
            "cores": executors.cores,
            "memory": executors.memory,
            "instances": executors.minimum,
            "labels": named,
            "template": _template(EXECUTOR, name, cluster, program, environment),
        },
    }
    if cluster.pull_secrets:
        spec["imagePullSecrets"] = list(cluster.pull_secrets)
    if executors.dynamic:
        spec["dynamicAllocation"] = {
            "enabled": True,
            "minExecutors": executors.minimum,
            "initialExecutors": executors.minimum,
            "maxExecutors": executors.maximum,
            "shuffleTrackingEnabled": True,
        }
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "SparkApplication",
        "metadata": {
            "name": name,
            "namespace": cluster.namespace,
            "labels": named,
            "annotations": annotations,
        },
        "spec": spec,
    }


def _settings() -> dict[str, str]:
    """As on one machine, so that a job gives the same."""
    return {
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.showConsoleProgress": "false",
        "spark.executorEnv.PYTHONPATH": PROGRAMS,
        # An executor's pod, and with it its log, stays until the application is deleted.
        "spark.kubernetes.executor.deleteOnTermination": "false",
    }


def _catalog(config: CatalogConfig) -> dict[str, str]:
    prefix = f"spark.sql.catalog.{CATALOG}."
    by_reference = {f"{prefix}{key}": value for key, value in _BY_REFERENCE.items()}
    return {**config.spark_conf(), **by_reference}


def _environment(cluster: Cluster, program: Program) -> list[dict[str, Any]]:
    fixed = {
        "FOREBAY_PARAMETERS": parameters(program.values),
        "LOG4J_CONFIGURATION_FILE": f"{PROGRAMS}/{_LOGGING}",
        "PYTHONUNBUFFERED": "1",
        "TZ": "UTC",
    }
    return [
        *({"name": name, "value": value} for name, value in fixed.items()),
        *(
            {"name": name, "valueFrom": {"secretKeyRef": {"name": cluster.secret, "key": key}}}
            for name, key in _SECRETS.items()
        ),
    ]


def _template(
    container: str, name: str, cluster: Cluster, program: Program, environment: list[dict[str, Any]]
) -> dict[str, Any]:
    """The pod, but for what Spark adds. As a template it does not need the operator's webhook."""
    files = [{"key": _LOGGING, "path": _LOGGING}]
    files += [{"key": _key(path), "path": path} for path in sorted(program.files)]
    spec: dict[str, Any] = {
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 185,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": container,
                "env": environment,
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "programs", "mountPath": PROGRAMS, "readOnly": True}],
            }
        ],
        "volumes": [{"name": "programs", "configMap": {"name": name, "items": files}}],
    }
    if cluster.priority_class:
        spec["priorityClassName"] = cluster.priority_class
    if cluster.node_selector:
        spec["nodeSelector"] = dict(cluster.node_selector)
    return {"metadata": {}, "spec": spec}


def _key(path: str) -> str:
    """A path as a ConfigMap's key, which has no slash; two paths never share one."""
    plain_path = re.fullmatch(r"[A-Za-z0-9._-]{1,200}", path)
    return path if plain_path else f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.py"
