"""Our chart, as helm makes it: what is documented, who may reach whom, how Trino is shared, what databases begin from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendered import CHART, VALUES, named, render, template

from forebay.engines.trino import SOURCE
from forebay.lake.identity import TaskTry
from forebay.placement import placement
from forebay.stack import trino_access
from forebay.stack.trino_groups import Share, resource_groups, session_limits

SIZES = ("s", "m", "l")
WORKSPACES: dict[str, Any] = {
    "flights": {"trino": {"queries": 6, "jobQueries": 2, "maxRunTime": "2h", "maxMemory": "20GB"}},
    "night_shift": {
        "scheduling": "interactive",
        "executor": "KubernetesExecutor",
        "trino": {"memoryPercent": 30, "queued": 7},
    },
}
MADE = [
    Share(6, 200, 2, 50, 1, "2h", "20GB"),
    Share(10, 7, None, 30, 10),
]
PLUGIN = {"enabled": True, "method": "plugin", "store": {"destination": "s3://b/f"}}


def test_every_value_is_documented_and_in_the_schema() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert list(_undocumented(CHART / "values.yaml")) == []
    assert list(_differences(values, schema, schema, "")) == []


def test_trino_is_shared_as_the_embedded_one_is() -> None:
    """One shape for both: tests/engines loads it into a Trino and asks it as tasks do."""
    data = named(render({"workspaces": WORKSPACES}), "ConfigMap", "forebay-trino")["data"]
    shares = dict(zip(("flights", "night_shift"), MADE, strict=True))
    assert json.loads(data["resource-groups.json"]) == resource_groups(shares, trino_access.WORKSHEET, 20)
    assert json.loads(data["session-limits.json"]) == session_limits(shares)


@pytest.mark.parametrize(
    ("user", "source", "group"),
    [
        ("forebay", SOURCE + TaskTry("flights.daily_delays", "r").job, "forebay.batch.flights.daily_delays"),
        ("forebay", SOURCE + TaskTry("night_shift.a", "r").job, "forebay.batch.night_shift.a"),
        # No workspace of the platform, and what says nothing of itself.
        ("forebay", SOURCE + "others.job", "forebay.interactive"),
        ("admin", "", "forebay.interactive"),
        ("worksheet", SOURCE + "flights.daily_delays", "forebay.interactive"),
    ],
)
def test_what_a_task_sends_finds_its_group(user: str, source: str, group: str) -> None:
    data = named(render({"workspaces": WORKSPACES}), "ConfigMap", "forebay-trino")["data"]
    found = _chosen(json.loads(data["resource-groups.json"])["selectors"], user, source)
    assert found == group
    limits = [
        each["sessionProperties"]
        for each in json.loads(data["session-limits.json"])
        if re.fullmatch(each["group"], group)
    ]
    assert limits == (
        [{"query_max_run_time": "2h", "query_max_memory": "20GB"}] if ".flights." in group else []
    )


def _chosen(selectors: list[dict[str, str]], user: str, source: str) -> str:
    """The group that Trino takes: that of the first selector that fits."""
    for selector in selectors:
        pattern = selector.get("source", ".*").replace("(?<", "(?P<")
        match = re.fullmatch(pattern, source)
        if match and re.fullmatch(selector.get("user", ".*"), user):
            return selector["group"].replace("${job}", match.groupdict().get("job", ""))
    raise AssertionError("no selector fits")


def test_airflow_hears_where_each_workspaces_work_goes() -> None:
    values = {
        "workspaces": WORKSPACES,
        "workspaceDefaults": {"namespacePrefix": "lake-", "nodeSelector": {"forebay/role": "worker"}},
    }
    found = render(values)
    told = named(found, "ConfigMap", "forebay-workspaces")["data"]
    flights, night = (placement(name, told) for name in WORKSPACES)
    assert (flights.pool, flights.priority_class) == ("flights", "forebay-batch")
    assert (night.pool, night.priority_class) == ("night_shift", "forebay-interactive")
    assert night.node_selector == {"forebay/role": "worker"}
    assert (flights.executor, night.executor) == ("", "KubernetesExecutor")
    # What they name is there.
    kinds = {(each["kind"], each["metadata"]["name"]) for each in found}
    assert {("Namespace", flights.namespace), ("Namespace", night.namespace)} <= kinds
    assert flights.namespace == "lake-flights"
    assert {("PriorityClass", "forebay-batch"), ("PriorityClass", "forebay-interactive")} <= kinds
    pools = json.loads(named(found, "ConfigMap", "forebay-pools")["data"]["pools.json"])
    assert {flights.pool, night.pool} == set(pools)
    airflow = yaml.safe_load((VALUES / "airflow.yaml").read_text())
    assert {"configMapRef": {"name": "forebay-workspaces", "optional": True}} in yaml.safe_load(
        airflow["extraEnvFrom"]
    )
    # An executor that Airflow does not have would be an import error of all its jobs.
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert {"", *airflow["executor"].split(",")} == set(schema["definitions"]["executor"]["enum"])


def test_without_the_job_that_makes_pools_no_task_waits_for_one() -> None:
    told = named(
        render({"workspaces": WORKSPACES, "airflow": {"pools": False}}), "ConfigMap", "forebay-workspaces"
    )
    assert placement("flights", told["data"]).pool == ""


Pod = tuple[str, dict[str, str]]
"""Its namespace and its labels."""
NAME, COMPONENT, INSTANCE = (f"app.kubernetes.io/{each}" for each in ("name", "component", "instance"))
SPARK: Pod = ("forebay-flights", {"spark-role": "driver"})
OTHER_SPARK: Pod = ("forebay-night-shift", {"spark-role": "executor"})
STRANGER: Pod = ("default", {})
PROMETHEUS: Pod = ("monitoring", {})
AIRFLOW: Pod = ("forebay", {"tier": "airflow", "component": "worker", "release": "airflow"})
TRINO: Pod = ("forebay", {NAME: "trino", COMPONENT: "coordinator"})
LENS: Pod = ("forebay", {NAME: "lens", INSTANCE: "forebay"})
CATALOG: Pod = ("forebay", {NAME: "lakekeeper", INSTANCE: "lakekeeper", COMPONENT: "catalog"})
POSTGRES: Pod = ("forebay", {"cnpg.io/cluster": "forebay-postgres"})
POSTGRES_OPERATOR: Pod = ("forebay", {NAME: "cloudnative-pg"})
POOLS: Pod = ("forebay", {NAME: "pools", INSTANCE: "forebay"})


def seaweedfs(component: str) -> Pod:
    return "forebay", {NAME: "seaweedfs", INSTANCE: "seaweedfs", COMPONENT: component}


S3, FILER, MASTER, VOLUME = map(seaweedfs, ("s3", "filer", "master", "volume"))


@pytest.mark.parametrize(
    ("source", "target", "port", "may"),
    [
        (SPARK, LENS, 8182, True), (SPARK, S3, 8333, True), (SPARK, SPARK, 7078, True),
        (SPARK, FILER, 8888, False), (SPARK, FILER, 18888, False), (SPARK, MASTER, 9333, False),
        (SPARK, VOLUME, 8080, False), (SPARK, S3, 18333, False), (SPARK, CATALOG, 8181, False),
        (SPARK, POSTGRES, 5432, False), (SPARK, TRINO, 8443, False), (SPARK, AIRFLOW, 8080, False),
        (SPARK, OTHER_SPARK, 7078, False), (SPARK, LENS, 22, False),
        (TRINO, LENS, 8182, True), (TRINO, S3, 8333, True), (TRINO, CATALOG, 8181, False), (TRINO, FILER, 8888, False),
        (AIRFLOW, LENS, 8182, True), (AIRFLOW, CATALOG, 8181, True), (AIRFLOW, POSTGRES, 5432, True),
        (AIRFLOW, S3, 8333, True), (AIRFLOW, FILER, 8888, False), (AIRFLOW, SPARK, 4040, True),
        (LENS, CATALOG, 8181, True), (CATALOG, POSTGRES, 5432, True), (POOLS, POSTGRES, 5432, True),
        (CATALOG, S3, 8333, True), (LENS, POSTGRES, 5432, False), (TRINO, POSTGRES, 5432, False),
        (POSTGRES, POSTGRES, 5432, True), (POSTGRES_OPERATOR, POSTGRES, 8000, True), (FILER, POSTGRES, 5432, True),
        (S3, FILER, 18888, True), (FILER, MASTER, 19333, True), (VOLUME, MASTER, 9333, True), (FILER, VOLUME, 8080, True),
        (("forebay", {INSTANCE: "seaweedfs"}), MASTER, 9333, True),
        (STRANGER, LENS, 8182, False), (STRANGER, S3, 8333, False), (STRANGER, FILER, 8888, False),
        (STRANGER, CATALOG, 8181, False), (STRANGER, POSTGRES, 5432, False), (STRANGER, SPARK, 4040, False),
        (PROMETHEUS, LENS, 8182, True), (PROMETHEUS, FILER, 9327, True), (PROMETHEUS, FILER, 8888, False),
        (PROMETHEUS, CATALOG, 9000, True), (PROMETHEUS, CATALOG, 8181, False), (PROMETHEUS, POSTGRES, 9187, True),
    ],
)  # fmt: skip
def test_who_reaches_whom(source: Pod, target: Pod, port: int, may: bool) -> None:
    assert _reaches(_objects(), source, target, port) is may


def test_a_catalog_that_gives_tokens_is_reached_by_those_who_ask_for_them() -> None:
    objects = render({"workspaces": WORKSPACES, "networkPolicies": {"catalog": {"givesTokens": True}}})
    assert _reaches(objects, SPARK, CATALOG, 8181)
    assert _reaches(objects, TRINO, CATALOG, 8181)
    assert not _reaches(objects, SPARK, CATALOG, 9000)
    assert not _reaches(objects, STRANGER, CATALOG, 8181)


def test_another_store_and_catalog_are_named_by_their_labels() -> None:
    own = {"store": {"podLabels": {"app": "rgw"}, "port": 80}, "catalog": {"podLabels": {"app": "polaris"}}}
    objects = render({"workspaces": WORKSPACES, "networkPolicies": own})
    rgw, polaris = ("forebay", {"app": "rgw"}), ("forebay", {"app": "polaris"})
    assert _reaches(objects, SPARK, rgw, 80)
    assert not _reaches(objects, SPARK, S3, 8333)
    assert _reaches(objects, LENS, polaris, 8181)
    assert not _reaches(objects, TRINO, polaris, 8181)


def test_stores_and_tokens_outside_of_the_cluster_are_reached_by_their_ports() -> None:
    values = {
        "storeCidrs": ["10.20.0.0/16"], "storePorts": [9000], "tokenCidrs": ["10.30.0.1/32"], "apiServerCidrs": ["10.96.0.1/32"],
    }  # fmt: skip
    objects = render({"workspaces": WORKSPACES, "networkPolicies": values})
    policy = next(
        each
        for each in objects
        if each["kind"] == "NetworkPolicy" and each["metadata"]["namespace"] == "forebay-flights"
    )
    outside = {
        peer["ipBlock"]["cidr"]: [port["port"] for port in rule["ports"]]
        for rule in policy["spec"]["egress"]
        for peer in rule.get("to", ())
        if "ipBlock" in peer
    }
    assert outside == {"10.20.0.0/16": [9000], "10.30.0.1/32": [443], "10.96.0.1/32": [443, 6443]}
    # No rule opens every port to everybody.
    assert all(rule.get("to") or rule.get("ports") for rule in policy["spec"]["egress"])


_RENDERED: list[list[dict[str, Any]]] = []


def _objects() -> list[dict[str, Any]]:
    if not _RENDERED:
        _RENDERED.append(render({"workspaces": WORKSPACES}))
    return _RENDERED[0]


def _reaches(objects: list[dict[str, Any]], source: Pod, target: Pod, port: int) -> bool:
    """What a network plug-in makes of the policies: a pod that one selects is reached, and reaches, by its rules only."""
    spaces = {
        each["metadata"]["name"]: each["metadata"]["labels"]
        for each in objects
        if each["kind"] == "Namespace"
    }
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]

    def open_to(pod: Pod, other: Pod, direction: str, key: str) -> bool:
        mine = [
            each["spec"]
            for each in policies
            if each["metadata"]["namespace"] == pod[0]
            and direction in each["spec"]["policyTypes"]
            and _selects(each["spec"]["podSelector"], pod[1])
        ]
        if not mine:
            return True
        return any(
            (not rule.get("ports") or any(each["port"] == port for each in rule["ports"]))
            and any(_peer(peer, pod[0], other, spaces) for peer in rule.get(key, [{"ipBlock": {}}]))
            for spec in mine
            for rule in spec.get(direction.lower(), ())
        )

    return open_to(source, target, "Egress", "to") and open_to(target, source, "Ingress", "from")


def _peer(peer: dict[str, Any], here: str, other: Pod, spaces: dict[str, dict[str, str]]) -> bool:
    if "ipBlock" in peer:
        # A rule for any address is one for ports of the API server, which no pod here answers on.
        return False
    if "namespaceSelector" in peer:
        labels = {**spaces.get(other[0], {}), "kubernetes.io/metadata.name": other[0]}
        if not _selects(peer["namespaceSelector"], labels):
            return False
    elif other[0] != here:
        return False
    return _selects(peer.get("podSelector", {}), other[1])


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    exact = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return exact and all(
        each["operator"] == "Exists" and each["key"] in labels
        for each in selector.get("matchExpressions", ())
    )


def test_a_backup_outlives_its_databases() -> None:
    objects = render({"databases": {"backup": {"enabled": True}}})
    assert named(objects, "ScheduledBackup", "forebay-postgres")["spec"]["backupOwnerReference"] == "none"


@pytest.mark.parametrize(
    ("databases", "expected"),
    [
        ({}, {"initdb": {"database": "airflow", "owner": "airflow"}}),
        (
            {"restore": {"backup": "by-hand-1"}},
            {"recovery": {"database": "airflow", "owner": "airflow", "backup": {"name": "by-hand-1"}}},
        ),
        (
            {
                "restore": {"server": "forebay-postgres", "until": "2026-11-28 08:00:00+00"},
                "backup": {**PLUGIN, "store": {"destination": "s3://b/f", "server": "forebay-postgres-2"}},
            },
            {
                "recovery": {
                    "database": "airflow", "owner": "airflow", "source": "forebay-postgres",
                    "recoveryTarget": {"targetTime": "2026-11-28 08:00:00+00"},
                }
            },
        ),
    ],
    ids=["new", "snapshot", "plugin"],
)  # fmt: skip
def test_databases_begin_in_one_way(databases: dict[str, Any], expected: dict[str, Any]) -> None:
    """CloudNativePG refuses a cluster with two."""
    objects = render({"databases": databases})
    spec = named(objects, "Cluster", "forebay-postgres")["spec"]
    assert spec["bootstrap"] == expected
    source = expected.get("recovery", {}).get("source")
    names = [each["name"] for each in spec.get("externalClusters", ())]
    assert names == ([source] if source else [])
    if source:
        (archive,) = spec["plugins"]
        # Archiving into what it is restored from is refused: "Expected empty archive".
        assert archive["parameters"]["serverName"] != source
        assert named(objects, "ObjectStore", "forebay-postgres")
    # Before the upgrade that restores there is nothing to back up.
    assert not source or not [each for each in objects if each["kind"] == "Backup"]


@pytest.mark.parametrize(
    ("databases", "said"),
    [
        ({"restore": {"backup": "a", "server": "b"}}, "take one of them out"),
        ({"restore": {"server": "forebay-postgres"}}, "databases.backup.method has to be plugin"),
        (
            {"restore": {"server": "forebay-postgres"}, "backup": PLUGIN},
            "give databases.backup.store.server another name",
        ),
        ({"seaweedfs": True, "backup": PLUGIN}, "name another S3 store"),
        ({"restore": {"until": "yesterday"}}, "/databases/restore/until"),
    ],
)
def test_a_restore_that_cannot_be_is_refused(databases: dict[str, Any], said: str) -> None:
    done = template({"databases": databases})
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize(
    ("image", "taken"),
    [
        (f"registry.example.com:5000/postgresql:18.1-system-trixie@sha256:{'0' * 64}", True),
        ("registry.example.com:5000/postgresql:18.1", True),
        ("registry.example.com:5000/postgresql", False),
        ("postgresql:latest", False),
        ("postgresql:18.1@sha256:0", False),
    ],
)
def test_an_image_of_postgresql_says_its_version_and_may_say_its_digest(image: str, taken: bool) -> None:
    """Its operator reads the version from the tag."""
    assert (template({"databases": {"image": image}}).returncode == 0) is taken


@pytest.mark.parametrize("size", SIZES)
def test_each_size_pins_what_its_bill_of_materials_says(size: str) -> None:
    spec = render({"workspaces": WORKSPACES}, VALUES / size / "forebay.yaml")
    told = named(spec, "ConfigMap", "forebay-workspaces")["data"]
    trino = yaml.safe_load((VALUES / size / "trino.yaml").read_text())
    selectors = [
        trino["coordinator"].get("nodeSelector"),
        trino["worker"].get("nodeSelector"),
        placement("flights", told).node_selector or None,
    ]
    assert selectors == [None if size == "s" else {"forebay/role": "worker"}] * 3


@pytest.mark.parametrize("size", SIZES)
def test_filers_agree_at_any_moment(size: str) -> None:
    """More than one filer needs a store that all of them write, and the chart makes the database of it."""
    common, own = (
        yaml.safe_load(path.read_text())
        for path in (VALUES / "seaweedfs.yaml", VALUES / size / "seaweedfs.yaml")
    )
    filer = {**common["filer"], **own.get("filer", {})}
    shared = (filer.get("extraEnvironmentVars") or {}).get("WEED_POSTGRES2_ENABLED") == "true"
    assert shared or filer["replicas"] == 1
    objects = render({}, VALUES / size / "forebay.yaml")
    made = [each["spec"]["name"] for each in objects if each["kind"] == "Database"]
    assert ("seaweedfs" in made) is shared
    if shared:
        assert filer["extraEnvironmentVars"]["WEED_LEVELDB2_ENABLED"] == "false"
        roles = named(objects, "Cluster", "forebay-postgres")["spec"]["managed"]["roles"]
        secret = next(each["passwordSecret"]["name"] for each in roles if each["name"] == "seaweedfs")
        assert {each["secretKeyRef"]["name"] for each in filer["secretExtraEnvironmentVars"].values()} == {
            secret
        }


def test_values_for_other_charts_leave_no_door_open() -> None:
    airflow, lakekeeper, trino = (
        yaml.safe_load((VALUES / f"{name}.yaml").read_text()) for name in ("airflow", "lakekeeper", "trino")
    )
    # The chart's own default is admin with the password admin; `defaultUser.enabled` is one of its webserver's only.
    assert airflow["createUserJob"] == {"enabled": False}
    # A replica is behind: what was just committed would not be read.
    database = lakekeeper["externalDatabase"]
    assert database["host_read"] == database["host_write"] == "forebay-postgres-rw"
    # One place says Trino's image.
    (before,) = trino["initContainers"]["coordinator"]
    assert before["image"] == '{{ include "trino.image" . }}'
    mounted = named(render({}), "ConfigMap", "forebay-trino")["data"]
    for kind in ("accessControl", "resourceGroups", "sessionProperties"):
        (path,) = re.findall(r"/etc/trino/forebay/(\S+)", trino[kind]["properties"])
        assert path in mounted


def test_addresses_are_whole_wherever_the_chart_is_installed() -> None:
    objects = render({"databases": {"backup": PLUGIN}}, namespace="lakehouse")
    data = named(objects, "ConfigMap", "forebay-trino")["data"]
    catalog = dict(line.split("=", 1) for line in data["lake.properties"].splitlines())
    assert catalog["s3.endpoint"] == "http://seaweedfs-s3.lakehouse:8333"
    assert catalog["iceberg.rest-catalog.uri"] == "http://forebay-lens.lakehouse:8182/published"
    (container,) = named(objects, "Deployment", "forebay-lens")["spec"]["template"]["spec"]["containers"]
    assert "http://lakekeeper.lakehouse:8181/catalog" in container["args"]
    store = named(objects, "ObjectStore", "forebay-postgres")["spec"]["configuration"]
    assert store["endpointURL"] == "http://seaweedfs-s3.lakehouse:8333"


def _undocumented(path: Path) -> Iterator[str]:
    """Keys of a values file without a comment above them; keys on one line with others are its examples."""
    before = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        key = re.match(r" *([A-Za-z]+):", line)
        # Resources are Kubernetes' own.
        if key and key[1] not in ("requests", "limits") and not before.lstrip().startswith("# -- "):
            yield f"{number}: {line}"
        if not (line.lstrip().startswith("#") and before.lstrip().startswith("# -- ")):
            before = line


def _differences(values: Any, schema: Any, top: Any, where: str) -> Iterator[str]:
    """Where values and schema do not have the same keys, or the schema is open."""
    if "$ref" in schema:
        schema = top["definitions"][schema["$ref"].rsplit("/", 1)[1]]
    if not isinstance(values, dict) or "properties" not in schema:
        return
    if schema.get("additionalProperties") is not False:
        yield f"{where}: open"
    missing = set(schema["properties"]) ^ set(values)
    if where.endswith(("requests", "limits")):
        missing &= set(values)
    yield from (f"{where}.{name}" for name in sorted(missing - {"global"}))
    for name in set(values) & set(schema["properties"]):
        yield from _differences(values[name], schema["properties"][name], top, f"{where}.{name}")
