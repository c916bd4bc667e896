"""A `spark` task on Kubernetes: what it runs there, and whether an earlier try's application still does it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forebay.engines.background import EngineError
from forebay.engines.spark_kubernetes import SparkOnKubernetes
from forebay.engines.spark_settings import Cluster, Executors, Program, Resources, modules, plain
from forebay.lake.identity import Run
from forebay.spec.text import fill

if TYPE_CHECKING:
    from airflow.sdk import Connection, Context

    from forebay.lake.identity import TaskTry
    from forebay.operators.spark import SparkOperator

_OVER = ("success", "failed", "skipped", "upstream_failed", "removed")
"""Airflow's states of a task that nobody comes back for."""


def opened(operator: SparkOperator, connection: Connection, context: Context) -> SparkOnKubernetes:
    """The cluster of a connection of type `kubernetes`, and the task's program for it.

    How the cluster is reached is said by the connection as Airflow's provider for Kubernetes has it.
    """
    try:
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
    except ImportError:
        raise EngineError(
            f"connection {operator.conn_id} is of type kubernetes, and Airflow's provider for it is not installed: "
            "pip install 'forebay[kubernetes]'."
        ) from None
    extra = connection.extra_dejson
    cluster = Cluster.from_extra(extra, operator.dag_id.partition(".")[0])
    return SparkOnKubernetes(
        KubernetesHook(conn_id=operator.conn_id).api_client,
        asked(operator, cluster),
        program(operator, context),
        log=lambda line: operator.log.info("%s", line),
        start_seconds=float(extra.get("start_seconds") or 600),
        airflow=this_airflow(operator.catalog(main=True).lens),
        on_application=operator.keep_application(context),
    )


def go_on(operator: SparkOperator, engine: SparkOnKubernetes, context: Context) -> TaskTry | None:
    """The try whose application this one goes on with; None where it begins.

    The program then writes as the try that began it, so that is who this task is in the lake.
    """
    from forebay.operators.transaction import named

    who = named(operator, context)
    engine.sweep(lambda job, run, task: over(context["ti"], job, run, task))
    number = engine.earlier(who)
    if number is None:
        return None
    operator.log.info("The application of try %s does this work: this try follows it", number)
    return replace(who, number=number)


def this_airflow(lens: str) -> str:
    """A name for the Airflow that this task is of: several may share a cluster, and one knows nothing of another's runs."""
    from airflow.sdk.configuration import conf

    said = [
        conf.get("api", "base_url", fallback=""),
        conf.get("core", "execution_api_server_url", fallback=""),
        lens,
    ]
    return hashlib.sha256("\n".join(map(str, said)).encode()).hexdigest()[:16]


def over(ti: Any, job: str, run: str, task: str) -> bool:
    """Whether a task, as it is named in the lake, is over for good: it ended, or it is gone with its run.

    What Airflow does not tell is not over.
    """
    task_id, _, index = task.rstrip("]").partition("[")
    airflow = Run(job, run).airflow
    try:
        states = ti.get_task_states(
            dag_id=job, run_ids=[airflow], task_ids=[task_id], map_index=int(index) if index else -1
        )
    except Exception:  # noqa: BLE001  whatever kept it from answering
        return False
    found = list((states.get(airflow) or {}).values())
    return all(str(getattr(state, "value", state)) in _OVER for state in found)


def asked(operator: SparkOperator, cluster: Cluster) -> Cluster:
    """The connection's resources with the task's own in their place."""
    own, usual = operator.executors, cluster.executors
    least = int(own.get("min") or usual.minimum)
    most = own.get("max") or (least if "min" in own else max(usual.maximum, least))
    return replace(
        cluster,
        driver=Resources(cluster.driver.cores, operator.driver_memory or cluster.driver.memory),
        executors=Executors(
            cores=int(own.get("cores") or usual.cores),
            memory=str(own.get("memory") or usual.memory),
            minimum=min(least, int(most)),
            maximum=int(most),
        ),
    )


def program(operator: SparkOperator, context: Context) -> Program:
    """The task's program with everything that it may import."""
    values = operator.values(context)
    if not Path(operator.application).is_file():
        raise EngineError(f"There is no program {operator.application}.")
    return Program(
        main=Path(operator.application).relative_to(operator.folders[0]).as_posix(),
        files=modules(operator.folders),
        arguments=tuple(fill(text, values) for text in operator.arguments),
        conf={key: plain(value) for key, value in operator.conf.items()},
        values=values,
    )
