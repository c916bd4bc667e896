"""Forebay's chart: what helm makes of it, and what a real API server says to that."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cluster as clusters
import programs
import pytest
import yaml

from conftest import ROOT
from forebay.cli.platform import PlatformError, lend
from forebay.stack import trino_access, trino_rules

CHART = ROOT / "helm" / "forebay"
SIZES = ("s", "m", "l")
WORKSPACES = {"workspaces": {"flights": {"poolSlots": 8}, "night_shift": {"scheduling": "interactive"}}}
EVERYTHING: dict[str, Any] = {
    **WORKSPACES,
    "lake": {"tokenUrl": "https://login.example.com/token"},
    "lens": {"holdDrain": True},
    "networkPolicies": {"storeCidrs": ["10.20.0.0/16"], "apiServerCidrs": ["10.96.0.1/32"]},
    "databases": {"backup": {"enabled": True, "snapshotClass": "fast"}},
    "monitoring": {"alerts": {"operator": True, "labels": {"release": "prometheus"}}},
}
PLUGIN: dict[str, Any] = {
    "databases": {"backup": {"enabled": True, "method": "plugin", "store": {"destination": "s3://b/f"}}}
}
RESTORED: dict[str, Any] = {
    "databases": {
        "restore": {"server": "forebay-postgres", "until": "2026-11-28 08:00:00+00"},
        "backup": {
            "enabled": True,
            "method": "plugin",
            "store": {"destination": "s3://b/f", "server": "forebay-postgres-2"},
        },
    }
}


def render(tmp_path: Path, values: dict[str, Any], *more: str, check: bool = True) -> list[dict[str, Any]]:
    """What helm sends to the API server."""
    done = template(tmp_path, values, *more)
    assert not check or done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def template(tmp_path: Path, values: dict[str, Any], *more: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    command = [
        programs.helm(),
        "template",
        "forebay",
        str(CHART),
        "--kube-version",
        programs.KUBERNETES.lstrip("v"),
    ]
    return subprocess.run(
        [*command, "-n", "platform", *more, "-f", str(path)], capture_output=True, text=True, timeout=60
    )


def named(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    return next(each for each in documents if each["kind"] == kind and each["metadata"]["name"] == name)


def test_helm_lint_is_content() -> None:
    done = subprocess.run([programs.helm(), "lint", "--strict", str(CHART)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"lenss": {}}, "additional properties 'lenss' not allowed"),
        ({"workspaces": {"flights": {"quota": {"cpus": 1}}}}, "additional properties 'cpus' not allowed"),
        ({"workspaces": {"Flights": {}}}, "'Flights' does not match pattern"),
        ({"images": {"lens": {"tag": "latest"}}}, "/images/lens/tag"),
        ({"lens": {"resources": {"limits": {"memory": "1Gb"}}}}, "/lens/resources/limits/memory"),
        ({"databases": {"backup": {"method": "tar"}}}, "must be one of 'volumeSnapshot', 'plugin'"),
        ({"lens": {"catalog": "lakekeeper:8181"}}, "/lens/catalog"),
        ({"databases": {"backup": {"enabled": True, "method": "plugin"}}}, "say where backups go"),
        (
            {
                "workspaces": {
                    "flights": {"git": {"repository": "https://me:secret@git.example.com/flights.git"}}
                }
            },
            "/workspaces/flights/git/repository",
        ),
    ],
)
def test_a_mistake_in_the_values_is_named(tmp_path: Path, values: dict[str, Any], said: str) -> None:
    done = template(tmp_path, values)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize("size", SIZES)
def test_each_size_is_taken_by_the_api_server(
    tmp_path: Path, cluster: clusters.Cluster, size: str, kinds: None
) -> None:
    # Not the names that the chart is installed with below.
    own = {"workspaceDefaults": {"namespacePrefix": f"dry-{size}-"}}
    documents = render(
        tmp_path, {**EVERYTHING, **own}, "-f", str(ROOT / "helm/values" / size / "forebay.yaml")
    )
    namespaces = [each for each in documents if each["kind"] == "Namespace"]
    assert len(namespaces) == 2
    platform = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "platform"}}
    some = {"apiVersion": "v1", "kind": "List"}
    cluster.kubectl("apply", "-f", "-", given={**some, "items": [*namespaces, platform]})
    cluster.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-f", "-", given={**some, "items": documents}
    )


def test_the_api_server_sees_a_mistake_that_helm_does_not(
    tmp_path: Path, cluster: clusters.Cluster, kinds: None
) -> None:
    documents = render(tmp_path, WORKSPACES)
    postgres = named(documents, "Cluster", "forebay-postgres")
    postgres["metadata"]["namespace"] = "default"
    postgres["spec"]["instancess"] = 3
    done = cluster.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-f", "-", given=postgres, check=False
    )
    assert done.returncode != 0
    assert 'unknown field "spec.instancess"' in done.stderr


@pytest.mark.parametrize("values", [PLUGIN, RESTORED], ids=["backup", "restore"])
def test_backups_by_the_plugin_are_taken_too(
    tmp_path: Path, cluster: clusters.Cluster, kinds: None, values: dict[str, Any]
) -> None:
    """But for the plugin's own kind, ObjectStore: its module is on no proxy that the checksum database vouches for."""
    taken = []
    for document in render(tmp_path, values):
        if document["apiVersion"].startswith("postgresql.cnpg.io/"):
            document["metadata"]["namespace"] = "default"
            cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", given=document)
            taken.append(document["kind"])
    assert {"Cluster", "Database", "ScheduledBackup"} <= set(taken)


def test_databases_from_a_snapshot_are_taken_too(
    tmp_path: Path, cluster: clusters.Cluster, kinds: None
) -> None:
    made = named(
        render(tmp_path, {"databases": {"restore": {"backup": "by-hand-1"}}}), "Cluster", "forebay-postgres"
    )
    made["metadata"]["namespace"] = "default"
    cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", given=made)


@pytest.fixture(scope="module")
def installed(
    cluster: clusters.Cluster, kinds: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[clusters.Cluster]:
    """The chart, installed by helm as `forebay platform` does it, but for waiting: there is no node."""
    path = tmp_path_factory.mktemp("values") / "values.yaml"
    path.write_text(yaml.safe_dump(EVERYTHING))
    cluster.helm(
        "install",
        "forebay",
        str(CHART),
        "-n",
        "lakehouse",
        "--create-namespace",
        "--no-hooks",
        "-f",
        str(path),
    )
    yield cluster
    cluster.helm("uninstall", "forebay", "-n", "lakehouse", "--no-hooks")


def test_it_may_be_upgraded_and_taken_back(installed: clusters.Cluster) -> None:
    installed.helm(
        "upgrade", "forebay", str(CHART), "-n", "lakehouse", "--no-hooks", "--reuse-values",
        "--set", "workspaces.flights.quota.pods=7",
    )  # fmt: skip
    pods = ("resourcequota", "workspace", "-n", "forebay-flights")
    assert installed.get(*pods)["spec"]["hard"]["pods"] == "7"
    installed.helm("rollback", "forebay", "1", "-n", "lakehouse", "--no-hooks")
    assert installed.get(*pods)["spec"]["hard"]["pods"] == "50"


@pytest.mark.parametrize(
    ("account", "verb", "resource", "namespace", "may"),
    [
        ("forebay-flights:spark", "create", "pods", "forebay-flights", True),
        ("forebay-flights:spark", "deletecollection", "pods", "forebay-flights", True),
        ("forebay-flights:spark", "create", "configmaps", "forebay-flights", True),
        ("forebay-flights:spark", "create", "pods", "forebay-night-shift", False),
        ("forebay-flights:spark", "get", "pods", "lakehouse", False),
        ("forebay-flights:spark", "get", "secrets", "forebay-flights", False),
        ("forebay-flights:spark", "create", "sparkapplications.sparkoperator.k8s.io", "forebay-flights", False),
        ("forebay-flights:default", "get", "pods", "forebay-flights", False),
        ("lakehouse:airflow-worker", "create", "sparkapplications.sparkoperator.k8s.io", "forebay-flights", True),
        ("lakehouse:airflow-triggerer", "get", "sparkapplications.sparkoperator.k8s.io", "forebay-night-shift", True),
        ("lakehouse:airflow-worker", "get", "pods/log", "forebay-flights", True),
        ("lakehouse:airflow-worker", "list", "events", "forebay-flights", True),
        ("lakehouse:airflow-worker", "get", "secrets", "forebay-flights", False),
        ("lakehouse:airflow-worker", "create", "sparkapplications.sparkoperator.k8s.io", "default", False),
        ("lakehouse:airflow-api-server", "create", "sparkapplications.sparkoperator.k8s.io", "forebay-flights", False),
        ("lakehouse:forebay-lens", "get", "secrets", "lakehouse", False),
        ("lakehouse:forebay-lens", "list", "pods", "lakehouse", False),
    ],
)  # fmt: skip
def test_who_may_do_what(
    installed: clusters.Cluster, account: str, verb: str, resource: str, namespace: str, may: bool
) -> None:
    assert installed.may(account, verb, resource, namespace) is may


def test_workspaces_get_the_lakes_credentials_and_keep_their_own(installed: clusters.Cluster) -> None:
    kubectl = [str(programs.kubernetes() / "kubectl"), "--kubeconfig", str(installed.kubeconfig)]
    with pytest.raises(PlatformError, match='secrets "forebay-lake" not found'):
        lend("lakehouse", kubectl)

    def key(namespace: str) -> str:
        data = installed.get("secret", "forebay-lake", "-n", namespace)["data"]
        return base64.b64decode(data["access-key"]).decode()

    def make(namespace: str, value: str) -> None:
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "forebay-lake", "namespace": namespace},
        }
        installed.kubectl("apply", "-f", "-", given={**secret, "stringData": {"access-key": value}})

    make("lakehouse", "first")
    make("forebay-night-shift", "own")
    # There are namespaces of other tests, too.
    assert {"forebay-flights", "forebay-night-shift"} & set(lend("lakehouse", kubectl)) == {"forebay-flights"}
    assert lend("lakehouse", kubectl) == []
    make("lakehouse", "second")
    assert "forebay-flights" in lend("lakehouse", kubectl)
    assert (key("forebay-flights"), key("forebay-night-shift")) == ("second", "own")


def test_a_workspace_takes_no_more_than_its_share(installed: clusters.Cluster) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "big", "namespace": "forebay-night-shift"},
        "spec": {
            "containers": [
                {
                    "name": "spark",
                    "image": "forebay-spark:0.1.0",
                    "resources": {"requests": {"cpu": "40", "memory": "8Gi"}, "limits": {"memory": "8Gi"}},
                }
            ]
        },
    }
    done = installed.kubectl("create", "--dry-run=server", "-f", "-", given=pod, check=False)
    assert "exceeded quota: workspace" in done.stderr
    assert "requests.cpu" in done.stderr
    pod["spec"]["containers"][0]["resources"] = {"requests": {"memory": "40Gi"}, "limits": {"memory": "40Gi"}}
    done = installed.kubectl("create", "--dry-run=server", "-f", "-", given=pod, check=False)
    assert "maximum memory usage per Container is 32Gi" in done.stderr
    del pod["spec"]["containers"][0]["resources"]
    made = json.loads(
        installed.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", given=pod).stdout
    )
    assert made["spec"]["containers"][0]["resources"] == {
        "limits": {"memory": "1Gi"},
        "requests": {"cpu": "500m", "memory": "1Gi"},
    }


def test_the_lens_is_allowed_where_the_strictest_rules_are(installed: clusters.Cluster) -> None:
    """Pod Security's level `restricted` takes our pods as they are."""
    strict = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "strict", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    installed.kubectl("apply", "-f", "-", given=strict)
    deployment = installed.get("deployment", "forebay-lens", "-n", "lakehouse")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": "strict"}}
    spec = {
        key: value
        for key, value in deployment["spec"]["template"]["spec"].items()
        if "serviceAccount" not in key
    }
    installed.kubectl("create", "--dry-run=server", "-f", "-", given={**pod, "spec": spec})
    spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    done = installed.kubectl(
        "create", "--dry-run=server", "-f", "-", given={**pod, "spec": spec}, check=False
    )
    assert "allowPrivilegeEscalation != false" in done.stderr


def test_the_operators_chart_takes_our_values(cluster: clusters.Cluster, kinds: None) -> None:
    """spark-operator's own chart, the pinned version, into the API server."""
    chart = (
        programs.module("github.com/kubeflow/spark-operator/v2@v2.5.2") / "charts" / "spark-operator-chart"
    )
    version = yaml.safe_load((chart / "Chart.yaml").read_text())["version"]
    assert version == "2.5.2"
    values = ROOT / "helm/values/spark-operator.yaml"
    cluster.helm(
        "install", "spark-operator", str(chart), "-n", "operators", "--create-namespace", "--no-hooks",
        "--skip-crds", "-f", str(values),
    )  # fmt: skip
    try:
        controller = "operators:spark-operator-controller"
        assert cluster.may(controller, "create", "pods", "forebay-flights")
        assert cluster.may(controller, "delete", "sparkapplications.sparkoperator.k8s.io", "default")
        assert cluster.may(controller, "update", "sparkapplications.sparkoperator.k8s.io/status", "default")
        roles = cluster.get("roles", "-n", "default")["items"]
        assert [role for role in roles if "spark" in role["metadata"]["name"]] == []
    finally:
        cluster.helm("uninstall", "spark-operator", "-n", "operators", "--no-hooks")


def test_trino_gets_a_catalog_without_secrets(tmp_path: Path) -> None:
    data = named(render(tmp_path, EVERYTHING), "ConfigMap", "forebay-trino")["data"]
    catalog = dict(line.split("=", 1) for line in data["lake.properties"].splitlines())
    assert catalog["iceberg.rest-catalog.uri"] == "http://forebay-lens.platform:8182/published"
    secret = {key: value for key, value in catalog.items() if re.search("secret|access-key|credential$", key)}
    assert secret
    assert all(value.startswith("${ENV:") for value in secret.values())


def test_the_sql_page_has_a_trino_user_who_only_reads(tmp_path: Path) -> None:
    """The rules are those that tests/engines/test_trino_worksheet.py attacks on a real Trino."""
    data = named(render(tmp_path, EVERYTHING), "ConfigMap", "forebay-trino")["data"]
    owners, reader = (trino_access.TASKS, trino_access.ADMIN), trino_access.WORKSHEET
    assert json.loads(data["access-rules.json"]) == trino_rules.access_rules(owners, reader, reader)
    lake, own = (
        dict(line.split("=", 1) for line in data[f"{name}.properties"].splitlines())
        for name in ("lake", reader)
    )
    assert own == {**lake, "iceberg.security": "read_only"}
    values = yaml.safe_load((ROOT / "helm/values/trino.yaml").read_text())
    assert values["server"]["config"]["authenticationType"] == "PASSWORD"
    assert values["server"]["config"]["https"]["enabled"]
    assert "access-rules.json" in values["accessControl"]["properties"]


def test_a_workspace_with_a_repository_is_a_bundle_of_airflow(tmp_path: Path) -> None:
    git = {"repository": "https://git.example.com/flights.git", "connection": "git_flights"}
    found = render(tmp_path, {"workspaces": {"flights": {"git": git}, "night_shift": {}}})
    data = named(found, "ConfigMap", "forebay-bundles")["data"]
    bundles = json.loads(data["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert [each["name"] for each in bundles] == ["forebay", "flights"]
    assert bundles[1]["classpath"] == "forebay.git_bundle.GitJobsBundle"
    assert bundles[1]["kwargs"] == {
        "repo_url": git["repository"], "git_conn_id": "git_flights", "tracking_ref": "main", "subdir": "dags/flights",
        "refresh_interval": 30,
    }  # fmt: skip
    without = render(tmp_path, {"workspaces": {"night_shift": {}}})
    assert not [each for each in without if each["metadata"]["name"] == "forebay-bundles"]
