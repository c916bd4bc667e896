"""What Airflow's chart 1.22.0 makes of helm/values/airflow.yaml, said once more here: no package registry has that chart."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import programs
import yaml

ROOT = Path(__file__).resolve().parents[2]
VALUES = ROOT / "helm" / "values" / "airflow.yaml"
SIZE = ROOT / "helm" / "values" / "s" / "airflow.yaml"
Config = dict[str, dict[str, str]]
"""Sections of airflow.cfg."""


def packages() -> Path:
    """An environment with what is in the image of Airflow, but for Forebay itself."""
    lock = ROOT / "images" / "airflow.txt"

    def install(folder: Path) -> None:
        uv = str(Path(sys.executable).with_name("uv"))
        programs.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder / "venv")], timeout=300)
        python = str(folder / "venv" / "bin" / "python")
        command = [uv, "pip", "install", "--quiet", "--require-hashes", "--python", python, "-r", str(lock)]
        programs.run(command, timeout=1800)

    return programs.kept("airflow", sys.version + lock.read_text(), install) / "venv"


def config() -> Config:
    """The sections of airflow.cfg that our values have."""
    values = yaml.safe_load(VALUES.read_text())
    core = values["config"]["core"] | {"executor": values["executor"]}
    return {
        section: {name: str(value) for name, value in settings.items()}
        for section, settings in (values["config"] | {"core": core}).items()
    }


def defaults(namespace: str, image: str) -> Config:
    """Those that the chart adds, as far as tasks' pods need them."""
    repository, _, tag = image.rpartition(":")
    pods = {
        "namespace": namespace, "multi_namespace_mode": "False", "worker_container_repository": repository,
        "worker_container_tag": tag,
    }  # fmt: skip
    api = "http://airflow-api-server:8080/execution/"
    return {"core": {"execution_api_server_url": api}, "kubernetes_executor": pods}


def merged(*all_of_them: Config) -> Config:
    """One of several; what a later one says counts."""
    made: Config = {}
    for sections in all_of_them:
        for section, settings in sections.items():
            made[section] = made.get(section, {}) | settings
    return made


def variables(sections: Config) -> dict[str, str]:
    """Settings as environment variables."""
    return {
        f"AIRFLOW__{section}__{name}".upper(): value
        for section, settings in sections.items()
        for name, value in settings.items()
    }


def written(sections: Config) -> str:
    """Settings as a file."""
    return "\n".join(
        line
        for section, settings in sections.items()
        for line in (f"[{section}]", *(f"{name} = {value}" for name, value in settings.items()), "")
    )


def pod_template(image: str) -> dict[str, Any]:
    """The pod of a task: files/pod-template-file.kubernetes-helm-yaml of the chart, with our values of size s."""
    values, size = (yaml.safe_load(path.read_text()) for path in (VALUES, SIZE))

    def secret(variable: str, name: str, key: str) -> dict[str, Any]:
        return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}

    database = values["data"]["metadataSecretName"]
    settings = (
        ("airflow.cfg", "airflow.cfg"),
        ("config/airflow_local_settings.py", "airflow_local_settings.py"),
    )
    container = {
        "name": "base",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "envFrom": yaml.safe_load(values["extraEnvFrom"]),
        "env": [
            {"name": "AIRFLOW__CORE__EXECUTOR", "value": values["executor"]},
            {"name": "AIRFLOW_HOME", "value": "/opt/airflow"},
            secret("AIRFLOW__CORE__FERNET_KEY", values["fernetKeySecretName"], "fernet-key"),
            secret("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", database, "connection"),
            secret("AIRFLOW_CONN_AIRFLOW_DB", database, "connection"),
            secret("AIRFLOW__API__SECRET_KEY", values["apiSecretKeySecretName"], "api-secret-key"),
            secret("AIRFLOW__CELERY__BROKER_URL", "airflow-broker-url", "connection"),
            *values["env"],
        ],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "resources": size["workers"]["kubernetes"]["resources"],
        "volumeMounts": [
            {"mountPath": "/opt/airflow/logs", "name": "logs"},
            *(
                {"name": "config", "mountPath": f"/opt/airflow/{path}", "subPath": key, "readOnly": True}
                for path, key in settings
            ),
            *values["volumeMounts"],
        ],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "placeholder-name",
            "labels": {"tier": "airflow", "component": "worker", "release": "airflow"},
            "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
        },
        "spec": {
            "containers": [container],
            "restartPolicy": "Never",
            "securityContext": {"runAsUser": values["uid"], "fsGroup": values["gid"]},
            "terminationGracePeriodSeconds": values["workers"]["terminationGracePeriodSeconds"],
            "serviceAccountName": "airflow-worker",
            "enableServiceLinks": values["enableServiceLinks"],
            "volumes": [
                {"name": "logs", "emptyDir": {}},
                {"name": "config", "configMap": {"name": "airflow-config"}},
                *values["volumes"],
            ],
        },
    }


def cleanup(image: str, namespace: str) -> dict[str, Any]:
    """The pod that takes other pods away: templates/cleanup of the chart, for pods of whatever age."""
    made = pod_template(image)
    made["metadata"] = {"name": "airflow-cleanup", "namespace": namespace}
    made["spec"]["serviceAccountName"] = "airflow-cleanup"
    words: list[str] = yaml.safe_load(VALUES.read_text())["cleanup"]["args"]
    command = words[-1].replace("{{ .Release.Namespace }}", namespace).replace("minutes=60", "minutes=0")
    made["spec"]["containers"][0]["args"] = [*words[:-1], command]
    del made["spec"]["containers"][0]["resources"], made["spec"]["containers"][0]["envFrom"]
    return made


def rights(namespace: str) -> list[dict[str, Any]]:
    """The accounts that the chart makes, and what they may do there: templates/rbac/pod-launcher-role and its like."""
    launcher = [
        (["pods"], ["create", "list", "get", "patch", "watch", "delete"]),
        (["pods/log"], ["get"]),
        (["pods/exec"], ["create", "get"]),
        (["events"], ["list", "watch"]),
    ]
    reader = [(["pods"], ["list", "get", "watch"]), (["pods/log"], ["get", "list"])]
    made: list[dict[str, Any]] = []
    for role, rules, parts in (
        ("airflow-pod-launcher-role", launcher, ("scheduler", "worker", "triggerer")),
        ("airflow-pod-log-reader-role", reader, ("api-server",)),
        ("airflow-cleanup-role", [(["pods"], ["list", "delete"])], ("cleanup",)),
    ):
        group, own = "rbac.authorization.k8s.io", {"name": role, "namespace": namespace}
        accounts = [{"name": f"airflow-{part}", "namespace": namespace} for part in parts]
        made += [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": each} for each in accounts]
        given = [{"apiGroups": [""], "resources": what, "verbs": verbs} for what, verbs in rules]
        made.append({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": own, "rules": given})
        made.append(
            {
                "apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": own,
                "roleRef": {"apiGroup": group, "kind": "Role", "name": role},
                "subjects": [{"kind": "ServiceAccount", **each} for each in accounts],
            }
        )  # fmt: skip
    return made
