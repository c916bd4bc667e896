"""The connection doctor on a real API server: who the cluster sees, and what it lets them do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cluster import Cluster

from forebay.connections import doctor
from forebay.connections.model import Connection, Report, Step

SPACE = "doctor"
PODS: dict[str, Any] = {
    "apiGroups": [""],
    "resources": ["pods", "pods/log"],
    "verbs": ["get", "list", "watch"],
}
MAPS: dict[str, Any] = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}
APPLICATIONS: dict[str, Any] = {
    "apiGroups": ["sparkoperator.k8s.io"], "resources": ["sparkapplications"], "verbs": ["create", "get", "delete"],
}  # fmt: skip


def check(connection: Connection) -> Report:
    report = list(doctor.check_all([connection], timeout=20))[-1].report
    assert report is not None
    return report


def step(report: Report, key: str) -> Step:
    return next(each for each in report.steps if each.key == key)


@pytest.fixture(scope="module", autouse=True)
def space(cluster: Cluster) -> None:
    cluster.kubectl("create", "namespace", SPACE)


def account(cluster: Cluster, name: str, *rules: dict[str, Any]) -> Connection:
    """A connection that logs in as a service account with these rights."""
    cluster.kubectl("create", "serviceaccount", name, "-n", SPACE)
    here = {"name": name, "namespace": SPACE}
    kind = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{kind}/v1", "kind": "Role", "metadata": here, "rules": list(rules)}
    bound = {
        "apiVersion": f"{kind}/v1", "kind": "RoleBinding", "metadata": here,
        "roleRef": {"apiGroup": kind, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", **here}],
    }  # fmt: skip
    for each in (role, bound):
        cluster.kubectl("apply", "-f", "-", given=each)
    token = cluster.kubectl("create", "token", name, "-n", SPACE).stdout.strip()
    config = json.loads(cluster.kubeconfig.read_text())
    config["users"] = [{"name": "admin", "user": {"token": token}}]
    return Connection.of(
        "cluster", "kubernetes", extra={"namespace": SPACE, "kube_config": json.dumps(config)}
    )


def test_an_account_that_may_run_spark(cluster: Cluster) -> None:
    maps = {**MAPS, "verbs": ["create", "delete"]}
    report = check(account(cluster, "jobs", PODS, maps, APPLICATIONS))
    assert report.state == "ok", report
    assert [each.state for each in report.steps] == ["ok"] * 6
    assert step(report, "authenticate").found == f"the cluster sees system:serviceaccount:{SPACE}:jobs"
    assert report.facts["server"].startswith("Kubernetes v1.")
    assert report.facts["may start Spark"] == "yes"
    assert report.facts["namespace"] == SPACE
    assert "issued by" in step(report, "tls").found
    # The probe is gone; what is there is the cluster's own.
    names = [each["metadata"]["name"] for each in cluster.get("configmaps", "-n", SPACE)["items"]]
    assert names == ["kube-root-ca.crt"]


def test_accounts_that_lack_a_right(cluster: Cluster) -> None:
    report = check(account(cluster, "nothing"))
    assert step(report, "list").found == f"pods in {SPACE} may not be listed"
    assert step(report, "write").found == f"may not make a ConfigMap in {SPACE}"
    assert (report.state, report.facts["may start Spark"]) == ("bad", "no")
    report = check(account(cluster, "keeps", PODS, MAPS, APPLICATIONS))
    assert (report.state, step(report, "list").state) == ("warn", "ok")
    assert "and may not delete it" in step(report, "write").found
    report = check(account(cluster, "no-spark", PODS, {**MAPS, "verbs": ["create", "delete"]}))
    assert (report.state, step(report, "write").found) == ("warn", "may not make SparkApplications")


def test_a_wrong_token_namespace_and_authority(cluster: Cluster) -> None:
    config = json.loads(cluster.kubeconfig.read_text())
    admin = Connection.of("cluster", "kubernetes", extra={"namespace": SPACE, "kube_config": config})
    assert check(admin).state == "ok"
    elsewhere = replace(admin, extra={**admin.extra, "namespace": "nowhere"})
    assert step(check(elsewhere), "write").found == "there is no namespace nowhere"
    wrong = {**config, "users": [{"name": "admin", "user": {"token": "not-a-token"}}]}
    report = check(replace(admin, extra={"kube_config": wrong}))
    assert step(report, "authenticate").found == "the cluster does not take the token"
    assert step(report, "write").state == "skipped"
    server = {"server": cluster.url}
    strange = {**config, "clusters": [{"name": "test", "cluster": server}]}
    report = check(replace(admin, extra={"kube_config": strange}))
    assert (
        "does not trust" in step(report, "tls").found or "vouched for by itself" in step(report, "tls").found
    )


def test_spark_on_the_cluster(cluster: Cluster) -> None:
    """A Spark connection whose master is the cluster: the cluster's steps, then those of Spark here."""
    config = json.loads(cluster.kubeconfig.read_text())
    extra = {"namespace": SPACE, "kube_config": config, "catalog": "lake_catalog"}
    report = check(Connection.of("lake_spark", "spark", host=f"k8s://{cluster.url}", extra=extra))
    assert [each.key for each in report.steps] == [
        "resolve", "connect", "tls", "authenticate", "read", "write", "start", "list",
    ]  # fmt: skip
    assert step(report, "read").found == "allowed"
    assert {each.state for each in report.steps[:-1]} == {"ok"}
    assert step(report, "list").found == "there is no connection 'lake_catalog'"
