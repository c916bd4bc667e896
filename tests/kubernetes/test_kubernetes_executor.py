"""Tasks of a workspace with `executor: KubernetesExecutor`: pods of the image of Airflow, on a real kubelet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airflow_chart as chart
import executor_platform as platforms
import images
import pytest
from executor_platform import NAMESPACE, NODES, Platform, until
from node import Node

from forebay.engines.duckdb import DuckDBEngine


@pytest.fixture(scope="module")
def platform(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platforms.running(tmp_path_factory.mktemp("platform"), node) as running:
        yield running


@pytest.fixture(scope="module")
def done(platform: Platform) -> tuple[str, list[Any]]:
    """A run that ended well, and its tasks."""
    run = platform.start("lab.rows")
    state, tasks = platform.finish("lab.rows", run)
    assert state == "success", [platform.log("lab.rows", run, str(each["task_id"])) for each in tasks]
    return run, tasks


def test_each_task_has_a_pod_and_what_it_wrote_names_the_commit(
    platform: Platform, done: tuple[str, list[Any]]
) -> None:
    _, tasks = done
    assert {each["task_id"] for each in tasks} == {"rows", "publish"}
    assert {each["executor"] for each in tasks} == {"KubernetesExecutor"}
    # The host of a task is its pod.
    assert all(each["hostname"].startswith(f"lab-rows-{each['task_id']}-") for each in tasks)
    with DuckDBEngine(platform.lake) as engine:
        assert engine.query("SELECT n FROM lake.lab.rows ORDER BY n").column("n").to_pylist() == [1, 2, 3]
    snapshot = platform.lake.pyiceberg().load_table("lab.rows").current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.additional_properties["forebay.commit"] == platform.commit


def test_a_log_is_read_when_its_pod_is_gone(platform: Platform, done: tuple[str, list[Any]]) -> None:
    run, _ = done
    until(lambda: not platform.pods(run))
    said = platform.log("lab.rows", run, "rows")
    assert "s3://logs/airflow/" in said
    assert "lab.rows: 3 rows" in said


def test_a_task_that_is_cleared_or_marked_failed_takes_its_pod_along(platform: Platform) -> None:
    run = platform.start("lab.waits")
    at_work(platform, run, 1)
    (first,) = platform.pods(run)
    # Nothing is in the store yet.
    until(lambda: "it waits" in (platform.log("lab.waits", run, "wait")))
    assert f"from pod {first} through kube API" in platform.log("lab.waits", run, "wait")
    platform.api.request(
        "POST", "/api/v2/dags/lab.waits/clearTaskInstances",
        json={"dry_run": False, "dag_run_id": run, "task_ids": ["wait"], "only_failed": False},
    )  # fmt: skip
    at_work(platform, run, 2)
    assert first not in platform.pods(run)
    fail(platform, "lab.waits", run, "wait")
    until(lambda: not platform.pods(run))
    assert platform.finish("lab.waits", run)[0] == "failed"


def test_a_task_whose_pod_is_put_off_its_node_ends_its_work(platform: Platform) -> None:
    run = platform.start("lab.waits")
    at_work(platform, run, 1)
    until(lambda: "it waits" in platform.log("lab.waits", run, "wait"))
    platform.cluster.kubectl("delete", "pod", *platform.pods(run), "-n", NAMESPACE, "--wait=false")
    assert platform.finish("lab.waits", run)[0] == "failed"
    (reason,) = [each for each in platform.why("lab.waits", run) if each["kind"] == "failed"]
    # Not that its last metrics had nobody to go to.
    assert reason["evidence"] == "AirflowTaskTerminated: The task was killed."


def at_work(platform: Platform, run: str, number: int) -> None:
    """Returns when a try of the task that waits is at work."""

    def found() -> bool:
        task = platform.task("lab.waits", run, "wait")
        return task["state"] == "running" and task["try_number"] == number

    until(found)


def fail(platform: Platform, job: str, run: str, task: str) -> None:
    """Marks a task failed, as people do in Airflow's UI."""
    path = f"/api/v2/dags/{job}/dagRuns/{run}/taskInstances/{task}"
    platform.api.request("PATCH", path, json={"new_state": "failed"})


def test_a_pod_that_no_node_takes_is_told(platform: Platform) -> None:
    platforms.write_template(platform.template, cpu="1000")
    try:
        run = platform.start("lab.rows")
        until(lambda: platform.pods(run))
    finally:
        platforms.write_template(platform.template)
    reason = no_node(platform, run)
    assert "no node takes its pod: 0/1 nodes are available: 1 Insufficient cpu." in reason["evidence"]
    fail(platform, "lab.rows", run, "rows")
    platform.finish("lab.rows", run)
    platform.cluster.kubectl("delete", "pod", *platform.pods(run), "-n", NAMESPACE, "--now")


def no_node(platform: Platform, run: str) -> Any:
    """What is told of a task whose pod no node takes."""
    (reason,) = until(
        lambda: [each for each in platform.why("lab.rows", run) if "no node takes" in each["evidence"]]
    )
    assert (reason["kind"], reason["what"]) == ("pod", "rows waits for its pod to start.")
    return reason


def test_a_pod_has_its_workspaces_priority_and_waits_for_its_nodes(platform: Platform) -> None:
    platforms.label(platform.node, dict.fromkeys(NODES))
    try:
        run = platform.start("lab.rows")
        evidence = no_node(platform, run)["evidence"]
        (name,) = platform.pods(run)
        spec = platform.cluster.get("pod", name, "-n", NAMESPACE)["spec"]
    finally:
        platforms.label(platform.node, NODES)
    assert "didn't match Pod's node affinity/selector" in evidence
    assert "It asks for a node labelled forebay-tasks=here" in evidence
    assert (spec["priorityClassName"], spec["nodeSelector"]) == ("forebay-interactive", NODES)
    # All else is the template's.
    assert [each["name"] for each in spec["containers"]] == ["base"]
    assert spec["serviceAccountName"] == "airflow-worker"
    # And Airflow can tell its jobs with it.
    assert platform.api.get("/dags/lab.rows/details")["dag_id"] == "lab.rows"
    assert platform.finish("lab.rows", run)[0] == "success"


def test_a_pod_that_the_api_server_does_not_take_is_told(platform: Platform) -> None:
    name = "forebay-interactive"
    there = platform.cluster.get("priorityclass", name)
    kept = {each: there[each] for each in ("apiVersion", "kind", "value", "preemptionPolicy")}
    platform.cluster.kubectl("delete", "priorityclass", name)
    try:
        run = platform.start("lab.rows")
        state, _ = platform.finish("lab.rows", run)
    finally:
        platform.cluster.kubectl("create", "-f", "-", given=kept | {"metadata": {"name": name}})
    assert state == "failed"
    assert not platform.pods(run)
    (reason,) = [each for each in platform.why("lab.rows", run) if each["kind"] == "failed"]
    assert reason["evidence"].startswith(f"Kubernetes: no pod; There is no priority class {name}.")


# In cgroups of version 1 the kernel kills the process that eats, and the pod ends well.
@pytest.mark.parametrize(
    ("job", "whole"),
    [("lab.eats", Path("/sys/fs/cgroup/cgroup.controllers").exists()), ("lab.eats_all", True)],
)
def test_a_task_without_enough_memory_is_told(platform: Platform, job: str, whole: bool) -> None:
    platforms.write_template(platform.template, memory="1Gi")
    try:
        run = platform.start(job)
        state, _ = platform.finish(job, run)
    finally:
        platforms.write_template(platform.template)
    assert state == "failed"
    (reason,) = [each for each in platform.why(job, run) if each["kind"] == "failed"]
    said = (
        "it ran out of memory and was killed (OOMKilled, exit code 137): it had 1Gi. Give tasks' pods more,"
    )
    assert (said if whole else "most likely because memory ran out") in reason["evidence"]
    assert "workers.kubernetes.resources" in reason["evidence"]


def test_an_image_that_is_not_there_is_told(platform: Platform) -> None:
    kept = images.AIRFLOW.replace(":0.1.0", ":kept")
    platform.node.ctr("images", "tag", images.AIRFLOW, kept)
    platform.node.ctr("images", "rm", images.AIRFLOW)
    try:
        run = platform.start("lab.rows")
        state, _ = platform.finish("lab.rows", run)
    finally:
        platform.node.ctr("images", "tag", kept, images.AIRFLOW)
    assert state == "failed"
    (reason,) = [each for each in platform.why("lab.rows", run) if each["kind"] == "failed"]
    assert f"the image {images.AIRFLOW} cannot be fetched" in reason["evidence"]
    # With the image they start after all, are told that their task is over, and go with the chart's clean-up.
    until(lambda: set(platform.pods(run).values()) == {"Failed"})
    assert platform.task("lab.rows", run, "rows")["state"] == "failed"
    made = chart.cleanup(images.AIRFLOW, NAMESPACE)
    platform.cluster.kubectl("create", "-f", "-", given=made)
    until(lambda: not platform.pods(run))


@pytest.mark.parametrize(
    ("account", "verb", "resource", "may"),
    [
        ("airflow-scheduler", "create", "pods", True),
        ("airflow-scheduler", "delete", "pods", True),
        ("airflow-api-server", "list", "pods", True),
        ("airflow-api-server", "get", "pods/log", True),
        ("airflow-api-server", "create", "pods", False),
        ("airflow-scheduler", "get", "secrets", False),
    ],
)
def test_who_may_do_what(platform: Platform, account: str, verb: str, resource: str, may: bool) -> None:
    assert platform.cluster.may(f"{NAMESPACE}:{account}", verb, resource, NAMESPACE) is may
    assert not platform.cluster.may(f"{NAMESPACE}:{account}", verb, resource, "default")
