"""A Spark task as a SparkApplication, and what is said of one that waits, fails or is refused."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from forebay.engines import spark_reasons as reasons
from forebay.engines.background import EngineError
from forebay.engines.spark import LOG4J
from forebay.engines.spark_application import (
    BEFORE,
    SPARK,
    application_name,
    config_map,
    digest,
    label,
    labels,
    manifest,
    selector,
)
from forebay.engines.spark_keep import folder
from forebay.engines.spark_settings import Cluster, Executors, Program
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry

WHO = TaskTry(
    "flights.daily_delays", "manual__2026-11-21T16:53:31.282050+00:00", "clean", 2, writes=("flights.silver",)
)
CONFIG = CatalogConfig("http://catalog", "lake", "the-key", "the-secret", "http://s3", lens="http://lens")
CLUSTER = Cluster.from_extra(
    {
        "image": "registry.example.com/forebay-spark:0.1.0",
        "driver_cores": 2,
        "executors": {"min": 1, "max": 8, "cores": 3, "memory": "4g"},
        "conf": {"spark.eventLog.enabled": True},
    },
    "night_shift",
)
PROGRAM = Program(
    "clean.py", {"clean.py": "import shared.days", "shared/days.py": "DAYS = 7"}, ("--day", "2013-01-01"),
    {"spark.sql.shuffle.partitions": "8"}, {"run_id": "x"},
)  # fmt: skip


def made(cluster: Cluster = CLUSTER, **changes: Any) -> dict[str, Any]:
    return manifest(WHO, cluster, dataclasses.replace(PROGRAM, **changes), CONFIG.seen_by(WHO), {"a.b": 7})


def test_it_asks_for_what_connection_and_task_say() -> None:
    spec = made()["spec"]
    assert spec["image"] == "registry.example.com/forebay-spark:0.1.0"
    assert (spec["driver"]["cores"], spec["driver"]["memory"]) == (2, "1g")
    assert (spec["executor"]["cores"], spec["executor"]["memory"], spec["executor"]["instances"]) == (
        3,
        "4g",
        1,
    )
    assert spec["dynamicAllocation"]["maxExecutors"] == 8
    assert spec["sparkConf"]["spark.sql.shuffle.partitions"] == "8"
    assert spec["sparkConf"]["spark.eventLog.enabled"] == "true"
    assert spec["arguments"] == ["--day", "2013-01-01"]
    assert spec["restartPolicy"] == {"type": "Never"}
    assert spec["timeToLiveSeconds"] == 3600
    fixed = dataclasses.replace(CLUSTER, executors=Executors(minimum=4, maximum=4))
    assert made(fixed)["spec"]["executor"]["instances"] == 4
    assert "dynamicAllocation" not in made(fixed)["spec"]


def test_no_secret_is_in_it() -> None:
    text = json.dumps(made())
    assert "the-secret" not in text
    assert "the-key" not in text
    conf = made()["spec"]["sparkConf"]
    assert conf["spark.sql.catalog.lake.credential"] == "env:LAKE_CATALOG_CREDENTIAL"
    for part in ("driver", "executor"):
        environment = made()["spec"][part]["template"]["spec"]["containers"][0]["env"]
        by_name = {each["name"]: each for each in environment}
        assert by_name["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"] == {
            "name": "forebay-lake",
            "key": "secret-key",
        }
        assert by_name["LAKE_CATALOG_CREDENTIAL"]["valueFrom"]["secretKeyRef"]["key"] == "catalog-credential"


def test_the_program_sees_the_runs_branch_and_its_values() -> None:
    spec = made()["spec"]
    address = spec["sparkConf"]["spark.sql.catalog.lake.uri"]
    assert TaskTry.parse(address.removeprefix("http://lens/run/")) == WHO
    environment = spec["driver"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "FOREBAY_PARAMETERS", "value": '{"run_id": "x"}'} in environment


def test_it_is_found_again_by_its_task_and_made_once_per_try() -> None:
    first = dataclasses.replace(WHO, number=1)
    assert application_name(first) != application_name(WHO)
    assert selector(first) == selector(WHO)
    assert labels(WHO)["forebay/try"] == "2"
    assert selector(dataclasses.replace(WHO, task="clean[3]")) != selector(WHO)
    long = dataclasses.replace(WHO, job="9." + "x" * 200, task="9 Ü" * 50, number=20)
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,46}", application_name(long))
    for value in labels(long).values():
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value)
    assert label("a:b") != label("a+b")
    assert json.loads(made()["metadata"]["annotations"][BEFORE]) == {"a.b": 7}


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": ()},
        {"files": {"clean.py": "import other"}},
        {"conf": {}},
        {"values": {"run_id": "y"}},
    ],
)
def test_other_work_is_not_gone_on_with(change: dict[str, Any]) -> None:
    assert digest(PROGRAM, CLUSTER) == digest(dataclasses.replace(PROGRAM), CLUSTER)
    assert digest(dataclasses.replace(PROGRAM, **change), CLUSTER) != digest(PROGRAM, CLUSTER)


def test_programs_are_where_the_pods_look() -> None:
    data = config_map("name", WHO, PROGRAM)["data"]
    for part in ("driver", "executor"):
        pod = made()["spec"][part]["template"]["spec"]
        files = {each["path"]: data[each["key"]] for each in pod["volumes"][0]["configMap"]["items"]}
        # With them lies how Spark logs: as on one machine.
        assert files.pop("log4j2.properties") == LOG4J
        assert files == PROGRAM.files
    assert made()["spec"]["mainApplicationFile"] == "local:///opt/forebay/programs/clean.py"
    assert made()["spec"]["sparkConf"]["spark.executorEnv.PYTHONPATH"] == "/opt/forebay/programs"


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({}, "names no image"),
        ({"image": "x", "executors": {"instances": 0}}, "executors.instances: 0"),
        ({"image": "x", "driver_cores": "two"}, "driver_cores: 'two'"),
        (
            {"image": "x", "logs": "/var/log"},
            "logs: '/var/log' in the Spark connection's extra is no folder on S3",
        ),
    ],
)
def test_a_mistake_in_the_connection_is_named(extra: dict[str, Any], said: str) -> None:
    with pytest.raises(EngineError, match=re.escape(said)):
        Cluster.from_extra(extra, "flights")


def test_where_logs_are_kept_is_no_other_work() -> None:
    assert digest(PROGRAM, dataclasses.replace(CLUSTER, logs="s3://logs")) == digest(PROGRAM, CLUSTER)


def test_logs_lie_below_their_try() -> None:
    assert folder("s3://logs/spark/", WHO) == (
        "s3://logs/spark/flights/daily_delays/manual__2026-11-21T16:53:31.282050+00:00/clean/2/"
    )
    odd = dataclasses.replace(WHO, run="..", task="../../up[3]")
    assert folder("s3://logs", odd) == "s3://logs/flights/daily_delays/%2E%2E/..%2F..%2Fup[3]/2/"


def test_what_would_only_run_there_is_refused() -> None:
    with pytest.raises(EngineError, match=r"spark\.kubernetes\.namespace is set by the connection"):
        dataclasses.replace(PROGRAM, conf={"spark.kubernetes.namespace": "x"})
    with pytest.raises(EngineError, match="a ConfigMap takes 900,000"):
        dataclasses.replace(PROGRAM, files={"clean.py": "x" * 1_000_000})


def test_sparks_version_is_that_of_the_image() -> None:
    lock = (Path(__file__).parents[2] / "images/spark.txt").read_text()
    assert re.search(r"^pyspark==(\S+)", lock, re.MULTILINE)[1] == SPARK  # type: ignore[index]


def application(state: str, message: str = "") -> dict[str, Any]:
    return {"status": {"applicationState": {"state": state, "errorMessage": message}}}


def pod(role: str = "driver", name: str = "x-driver", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"spark-role": role}}, "status": status}


def container(**state: Any) -> list[dict[str, Any]]:
    return [{"image": "forebay-spark:0.1.0", "state": state}]


@pytest.mark.parametrize(
    ("pods", "said"),
    [
        ([], ""),
        (
            [pod(conditions=[{"type": "PodScheduled", "status": "False", "message": "Insufficient memory"}])],
            "no node takes its driver: Insufficient memory",
        ),
        (
            [
                pod(
                    conditions=[
                        {"type": "PodScheduled", "status": "False", "message": "didn't match node selector."}
                    ]
                )
                | {"spec": {"nodeSelector": {"disk": "fast", "zone": "a"}}}
            ],
            "no node takes its driver: didn't match node selector. It asks for a node labelled disk=fast, "
            "zone=a: label one, or change workspaces.<name>.nodeSelector.",
        ),
        (
            [
                pod(
                    containerStatuses=container(
                        waiting={"reason": "ImagePullBackOff", "message": "not found"}
                    )
                )
            ],
            "the image forebay-spark:0.1.0 cannot be fetched: not found",
        ),
        ([pod(containerStatuses=container(waiting={"reason": "ContainerCreating"}))], ""),
    ],
)
def test_why_it_waits(pods: list[dict[str, Any]], said: str) -> None:
    assert reasons.waiting(application("SUBMITTED"), pods, 60) == said


@pytest.mark.parametrize(
    ("status", "body", "served", "said"),
    [
        (404, "404 page not found", [], "CRDs are not installed. Install the version of ours"),
        (404, "404 page not found", None, "CRDs are not installed, or are of another version."),
        (404, "404 page not found", ["x/v1"], "CRDs are of another version, x/v1."),
        (
            400, '{"message": "strict decoding error: unknown field \\"spec.driver.template\\", unknown field \\"spec.x\\""}',
            None, "which does not know spec.driver.template, spec.x. Install",
        ),
        (
            500, '{"message": "Internal error occurred: failed calling webhook \\"pods.policy\\": connection refused"}',
            None, "The webhook pods.policy does not answer, so nothing can be made in the namespace n: Internal",
        ),
        (
            403, '{"message": "admission webhook \\"pods.policy\\" denied the request: no labels"}',
            None, "The webhook pods.policy does not allow things in the namespace n: no labels",
        ),
        (
            403, '{"message": "pods \\"x\\" is forbidden: no PriorityClass with name ours was found"}',
            None, "There is no priority class ours. forebay platform --only forebay makes those of the chart;",
        ),
        (
            403, '{"message": "x is forbidden: status unknown for quota: workspace, resources: count/x"}',
            None, "The quota in the namespace n has not been counted yet",
        ),
    ],
)  # fmt: skip
def test_why_it_was_refused(status: int, body: str, served: list[str] | None, said: str) -> None:
    assert said in reasons.refusal(status, body, "create", "things", "n", served)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"phase": "Succeeded", "containerStatuses": container(terminated={"exitCode": 0})}, ""),
        ({"phase": "Running", "containerStatuses": container(running={})}, ""),
        ({"phase": "Failed", "reason": "Evicted"}, "was ended (Evicted)"),
        (
            {
                "phase": "Failed",
                "containerStatuses": container(terminated={"exitCode": 1, "reason": "Error"}),
            },
            "ended with exit code 1",
        ),
        (
            {"containerStatuses": container(terminated={"exitCode": 137, "reason": "OOMKilled"})},
            "ended with exit code 137 (OOMKilled)",
        ),
    ],
)
def test_how_an_executor_ended(status: dict[str, Any], said: str) -> None:
    assert reasons.ended_badly(pod("executor", "x-exec-1", **status)) == said


def test_a_driver_without_a_pod_is_gone() -> None:
    assert [reasons.driver_ended(each) for each in ([], [pod(phase="Running")], [pod(phase="Failed")])] == [
        "gone", "", "Failed",
    ]  # fmt: skip
    assert "pod is gone" in reasons.failure(application("RUNNING"), [])


def test_an_operator_that_is_down_is_named() -> None:
    assert "Is it running" in reasons.waiting({}, [], 60)
    assert reasons.waiting({}, [], 5) == ""


@pytest.mark.parametrize(
    ("state", "pods", "said"),
    [
        (
            application("FAILED", "driver container failed with ExitCode: 137, Reason: OOMKilled"),
            [pod(containerStatuses=container(terminated={"exitCode": 137, "reason": "OOMKilled"}))],
            "The driver ran out of memory",
        ),
        (
            application("FAILED", "driver container failed with ExitCode: 137, Reason: OOMKilled"),
            [],
            "driver_memory",
        ),
        (
            application("FAILED"),
            [pod(containerStatuses=container(terminated={"exitCode": 2, "reason": "Error"}))],
            "The program ended with code 2.",
        ),
        (
            application("FAILED"),
            [pod(reason="Evicted", message="low on memory")],
            "put off its node (Evicted): low",
        ),
        (
            application("FAILED", "driver container failed"),
            [pod("executor", "x-exec-1", containerStatuses=container(terminated={"reason": "OOMKilled"}))],
            "executors ran out of memory (x-exec-1",
        ),
        (
            application(
                "SUBMISSION_FAILED",
                'Exception in thread "main": pods "x" is forbidden: exceeded quota: workspace, requested: '
                "limits.memory=2Gi, used: limits.memory=63Gi, limited: limits.memory=64Gi.",
            ),
            [],
            "the quota is used up: limits.memory=2Gi asked, limits.memory=63Gi in use, limits.memory=64Gi allowed",
        ),
        (
            application(
                "SUBMISSION_FAILED",
                'Exception in thread "main": pods "x" is forbidden: no PriorityClass with name ours was found.',
            ),
            [],
            "The driver could not be started: there is no priority class ours. forebay platform",
        ),
    ],
)
def test_why_it_failed(state: dict[str, Any], pods: list[dict[str, Any]], said: str) -> None:
    assert said in reasons.failure(state, pods)
