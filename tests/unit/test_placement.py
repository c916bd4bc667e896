"""Where a workspace's work goes on a platform, and that nothing is placed on one machine."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from forebay.engines.background import EngineError
from forebay.engines.spark_application import manifest
from forebay.engines.spark_settings import Cluster, Program
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.placement import PlacementError, placement

if TYPE_CHECKING:
    from airflow.sdk import DAG

ROOT = Path(__file__).resolve().parents[2]
IMAGE = {"image": "registry.example.com/forebay-spark:0.1.0"}
TOLD = json.dumps(
    {
        "flights": {
            "namespace": "lake-flights",
            "pool": "flights",
            "executor": "KubernetesExecutor",
            "priorityClass": "forebay-interactive",
            "nodeSelector": {"forebay/role": "worker"},
        }
    }
)


def test_nobody_says_it_on_one_machine() -> None:
    found = placement("night_shift", {})
    assert (found.namespace, found.pool, found.executor) == ("forebay-night-shift", "", "")
    assert found.priority_class == ""
    assert found.node_selector == {}
    # Nor of a workspace that the platform does not name.
    assert placement("others", {"FOREBAY_WORKSPACES": TOLD}).pool == ""


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"flights": "pool"}', '{"flights": {"nodeSelector": "worker"}}']
)
def test_what_the_chart_did_not_write_is_refused(text: str) -> None:
    with pytest.raises(PlacementError, match="FOREBAY_WORKSPACES"):
        placement("flights", {"FOREBAY_WORKSPACES": text})


def test_sparks_pods_are_where_the_platform_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_WORKSPACES", TOLD)
    config = CatalogConfig("http://catalog", "lake", "key", "secret", "http://s3", lens="http://lens")
    who = TaskTry("flights.daily_delays", "run", "clean", 1)
    program = Program("clean.py", {"clean.py": ""})
    made = manifest(who, Cluster.from_extra(IMAGE, "flights"), program, config.seen_by(who))
    assert made["metadata"]["namespace"] == "lake-flights"
    for role in ("driver", "executor"):
        pod = made["spec"][role]["template"]["spec"]
        assert pod["priorityClassName"] == "forebay-interactive"
        assert pod["nodeSelector"] == {"forebay/role": "worker"}


def test_the_connection_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_WORKSPACES", TOLD)
    own = {"namespace": "elsewhere", "priority_class": "ours", "node_selector": {"disk": "fast"}}
    cluster = Cluster.from_extra({**IMAGE, **own}, "flights")
    assert (cluster.namespace, cluster.priority_class) == ("elsewhere", "ours")
    assert cluster.node_selector == {"disk": "fast"}
    with pytest.raises(EngineError, match="node_selector: 'fast' in the Spark connection's extra"):
        Cluster.from_extra({**IMAGE, "node_selector": "fast"}, "flights")


@pytest.mark.parametrize(
    ("told", "pool", "executor"), [("", "default_pool", None), (TOLD, "flights", "KubernetesExecutor")]
)
def test_every_task_of_a_job_uses_its_workspaces_pool_and_executor(
    monkeypatch: pytest.MonkeyPatch, told: str, pool: str, executor: str | None
) -> None:
    from forebay.dag import build_dag
    from forebay.project import Project

    monkeypatch.setenv("FOREBAY_WORKSPACES", told)
    dag = build_dag(Project(ROOT).load_job("flights", "daily_delays"))
    assert len(dag.tasks) > 5
    assert {task.pool for task in dag.tasks} == {pool}
    assert {task.executor for task in dag.tasks} == {executor}


@pytest.mark.parametrize(
    ("said", "spec"),
    [
        ({}, {"priorityClassName": "forebay-interactive", "nodeSelector": {"forebay/role": "worker"}}),
        ({"nodeSelector": {}}, {"priorityClassName": "forebay-interactive"}),
        ({"priorityClass": "", "nodeSelector": {}}, None),
        ({"executor": "CeleryExecutor"}, None),
        ({"executor": ""}, None),
    ],
)
def test_tasks_in_pods_of_their_own_are_placed_as_sparks_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: dict[str, Any], spec: dict[str, Any] | None
) -> None:
    """Each of them, as the scheduler reads it back."""
    from airflow.serialization.serialized_objects import DagSerialization
    from kubernetes.client import ApiClient

    monkeypatch.setenv("FOREBAY_WORKSPACES", json.dumps({"lab": json.loads(TOLD)["flights"] | said}))
    kept = json.dumps(DagSerialization.to_dict(_job(tmp_path)))
    tasks = DagSerialization.from_dict(json.loads(kept)).tasks
    assert {task.task_id for task in tasks} == {"one", "each", "publish"}
    pods = [
        ApiClient().sanitize_for_serialization(task.executor_config.get("pod_override")) for task in tasks
    ]
    assert pods == [spec and {"spec": {"containers": [{"name": "base"}], **spec}}] * 3


def test_for_a_task_itself_no_pod_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FOREBAY_WORKSPACES", json.dumps({"lab": json.loads(TOLD)["flights"]}))
    assert all(task.executor_config for task in _job(tmp_path).tasks)
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "lab.job")
    assert not any(task.executor_config for task in _job(tmp_path).tasks)


def _job(root: Path) -> DAG:
    """A job with a task, one that is repeated for each value, and that of publishing."""
    from forebay.dag import build_dag
    from forebay.project import Project

    folder = root / "dags" / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "workspace.yaml").write_text("owner: me\n")
    (folder / "job.yaml").write_text(
        "tasks:\n"
        "  - {key: one, type: sql, sql: SELECT 1 AS n, table: lab.one}\n"
        "  - {key: each, type: sql, sql: 'SELECT :item AS n', table: lab.each, for_each: [1, 2]}\n"
    )
    return build_dag(Project(root).load_job("lab", "job"))


@pytest.mark.parametrize(("pools", "kind"), [(["default_pool"], "no pool"), (["flights"], "scheduled")])
def test_a_pool_that_is_missing_is_told(pools: list[str], kind: str) -> None:
    from forebay.stack import why_run

    class Api:
        """What Airflow answers."""

        def get(self, path: str, **_: object) -> dict[str, object]:
            open_slots = {"open_slots": 3, "running_slots": 0, "queued_slots": 0}
            return {"pools": [{"name": name, **open_slots} for name in pools], "dependencies": []}

    task = {
        "task_id": "clean", "map_index": -1, "state": "scheduled", "pool": "flights", "pool_slots": 1, "try_number": 1,
        "scheduled_when": "2026-11-29T05:00:00Z", "queued_when": None, "dag_id": "flights.daily_delays", "dag_run_id": "r",
    }  # fmt: skip
    run = SimpleNamespace(
        run=SimpleNamespace(job="flights.daily_delays", airflow="r"), document={}, airflow="running"
    )
    look = why_run._Look(cast(Any, Api()), cast(Any, run), [task], None, lambda _: None)
    (reason,) = look.at_work({})
    assert reason.kind == kind
    if kind == "no pool":
        assert reason.what == "clean waits for the pool flights, which is not there."
        assert "forebay-pools" in reason.evidence


class Logged:
    """What Airflow answers where it is asked for a log."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    def log(self, *_: object) -> list[str]:
        return self.lines


def _why(state: str, log: list[str], told: tuple[str, str] | None) -> Any:
    """What is told of a task in a state, with its log and what is known of its pod."""
    from forebay.stack import why_run

    task = {
        "task_id": "rows", "map_index": -1, "state": state, "try_number": 1, "queued_when": "2026-11-30T05:00:00Z",
        "end_date": "2026-11-30T05:00:10Z",
    }  # fmt: skip
    run = SimpleNamespace(run=SimpleNamespace(job="lab.rows", airflow="r"), airflow="running")
    look = why_run._Look(cast(Any, Logged(log)), cast(Any, run), [task], None, lambda _: told)
    (reason,) = look.at_work({})
    return reason


@pytest.mark.parametrize("log", [[], ["Could not read served logs: Hostname not available for worker."]])
@pytest.mark.parametrize(
    ("state", "evidence"),
    [("queued", "Kubernetes: pending; pod a in p: no node; queued for "), ("failed", "Kubernetes: ")],
)
def test_what_keeps_a_tasks_pod_is_told(state: str, evidence: str, log: list[str]) -> None:
    """Also when it has failed, and there is no log of it."""
    reason = _why(state, log, ("Kubernetes: pending", "pod a in p: no node"))
    assert reason.kind == ("pod" if state == "queued" else "failed")
    assert reason.evidence.startswith(evidence)


def test_that_a_tasks_process_was_killed_is_told() -> None:
    said = (
        "Process terminated by signal. Likely out of memory error (OOM). For more information, see https://x."
    )
    evidence = _why("failed", ["It eats.", said], None).evidence
    assert evidence.startswith("its process was killed, most likely because memory ran out:")
    assert _why("failed", [said, "ValueError: no"], None).evidence == "ValueError: no"
