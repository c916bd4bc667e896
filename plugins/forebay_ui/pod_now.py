"""Asks Kubernetes about the pod of a task that runs on KubernetesExecutor: what keeps it from starting, or how it ended."""

import json
from typing import Any

from airflow.configuration import conf

from forebay.engines.spark_reasons import ended_badly, held
from forebay.lake.branch import Json

_EXECUTOR = "KubernetesExecutor"
_PATIENCE = 2.0


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
        return None
    # One that could not start is made once more for the same try.
    pod = max(pods, key=lambda each: str(each["metadata"]["creationTimestamp"]))
    phase, said = str(pod["status"].get("phase")).lower(), held(pod) or ended_badly(pod)
    return (
        f"Kubernetes: {phase}",
        f"pod {pod['metadata']['name']} in {namespace}{f': {said}' if said else ''}",
    )
