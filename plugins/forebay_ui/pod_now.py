"""Asks Kubernetes about the pod of a task that runs on KubernetesExecutor: what keeps it from starting, or how it ended."""

import json
import re
from typing import Any

from airflow.configuration import conf
from airflow.models.log import Log
from airflow.utils.session import create_session
from sqlalchemy import select

from forebay.engines.spark_reasons import ended_badly, held, refusal
from forebay.lake.branch import Json

_EXECUTOR = "KubernetesExecutor"
_PATIENCE = 2.0
_ANSWER = re.compile(r"\((\d{3})\)\nReason: .*\nHTTP response body: (.*)", re.DOTALL)
"""How the client writes down what the API server answered."""


def pod_now(task: Json) -> tuple[str, str] | None:
    """How the pod of a task's try stands, and what that is taken from. None where there is none to ask about."""
    if str(task.get("executor") or conf.get("core", "executor").partition(",")[0]) != _EXECUTOR:
        return None
    # Airflow's own way to its pods: where they are, and with which login.
    from airflow.providers.cncf.kubernetes.kube_client import get_kube_client
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config import ConfigException
    from urllib3.exceptions import HTTPError

    namespace = conf.get("kubernetes_executor", "namespace")
    generator: Any = PodGenerator
    chosen = generator.build_selector_for_k8s_executor_pod(
        dag_id=task["dag_id"], task_id=task["task_id"], run_id=task["dag_run_id"], map_index=task["map_index"],
        try_number=task["try_number"],
    )  # fmt: skip
    try:
        answer = get_kube_client().list_namespaced_pod(
            namespace, label_selector=chosen, _preload_content=False, _request_timeout=_PATIENCE
        )
        pods: list[Any] = json.loads(answer.data)["items"]
    except ApiException as error:
        return "Kubernetes does not tell", f"pods in {namespace}: HTTP {error.status}"
    except (HTTPError, ConfigException) as error:
        return "Kubernetes does not answer", f"pods in {namespace}: {type(error).__name__}"
    if not pods:
        return _refused(task, namespace)
    # One that could not start is made once more for the same try.
    pod = max(pods, key=lambda each: str(each["metadata"]["creationTimestamp"]))
    phase = str(pod["status"].get("phase")).lower()
    said = held(pod) or _out_of_memory(pod) or ended_badly(pod)
    return (
        f"Kubernetes: {phase}",
        f"pod {pod['metadata']['name']} in {namespace}{f': {said}' if said else ''}",
    )


def _out_of_memory(pod: Any) -> str:
    """That a pod's memory was not enough, and what to do; empty where it was."""
    for container in pod["status"].get("containerStatuses") or ():
        over = (container.get("state") or {}).get("terminated") or {}
        if over.get("reason") == "OOMKilled":
            limit = (pod["spec"]["containers"][0].get("resources") or {}).get("limits", {}).get("memory")
            return (
                f"it ran out of memory and was killed (OOMKilled, exit code {over['exitCode']}): it had "
                f"{limit or 'what its node has'}. Give tasks' pods more, workers.kubernetes.resources in "
                "site/airflow.yaml, or let the task hold less at once."
            )
    return ""


def _refused(task: Json, namespace: str) -> tuple[str, str] | None:
    """Why the API server did not take a task's pod: Airflow keeps what it said among its events, and nowhere else."""
    of_task = {each: task[each] for each in ("dag_id", "task_id", "map_index", "try_number")}
    asked = select(Log.extra).filter_by(event="state mismatch", run_id=task["dag_run_id"], **of_task)
    with create_session() as session:
        noted = session.scalar(asked.order_by(Log.id.desc()).limit(1))
    answer = _ANSWER.search(noted or "")
    if answer is None:
        return None
    return "Kubernetes: no pod", refusal(int(answer[1]), answer[2].strip(), "create", "pods", namespace)
