"""Why a run does not go on: the run itself, then each of its tasks that is not done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from forebay.lake.branch import Json
from forebay.stack.airflow_api import AirflowApi, ApiError
from forebay.stack.runs import KnownRun
from forebay.stack.why import Level, Link, Reason, full, known, moment, ordered, paused, platform, under_way

Engine = Callable[[Json], tuple[str, str] | None]
"""Asks a task's engine about its query: how it stands there and where; None where there is none.

Of a task that has not begun, or has failed, it asks Kubernetes about its pod, where it has one.
"""

_LONG = 60.0
_POOLS = 100
"""How many of Airflow's pools are looked at."""
_DETAILS = 20
"""Of how many tasks Airflow is asked what keeps them."""
_DONE = ("success", "skipped", "removed")
_NO_LOG = "Could not read served logs"
"""What Airflow says in place of a log that nobody has written, or that went with its machine."""
_KILLED = "Process terminated by signal. Likely out of memory"
"""The last that Airflow says of a task whose process was killed, and not by Airflow."""
_MEMORY = (
    "its process was killed, most likely because memory ran out: let it hold less at once, or give it more; on a platform "
    "workers.kubernetes.resources (tasks in pods of their own) or workers.celery.resources in site/airflow.yaml"
)


def of_run(
    api: AirflowApi, run: KnownRun, *, parallelism: int | None = None, engine: Engine = lambda task: None
) -> list[Reason]:
    """Why a run is not done, problems first; of one that has ended, how it ended.

    `parallelism` is how many tasks Airflow works on at once, where that is known.
    """
    if not run.document:
        return []
    job = run.run.job
    tasks = api.task_instances(quote(job, safe=""), quote(run.run.airflow, safe=""))
    look = _Look(api, run, tasks, parallelism, engine)
    if run.ended:
        return ordered(look.ended())
    dag = known(api, job)
    found = [*platform(api), *(paused(dag) if dag else [])]
    if run.airflow == "queued":
        return ordered([*found, *_queued(api, run, dag, blocked=bool(found))])
    return ordered([*found, *look.at_work(dag or {})])


def _queued(api: AirflowApi, run: KnownRun, dag: Json | None, *, blocked: bool) -> list[Reason]:
    document, job = run.document, run.run.job
    after = datetime.fromisoformat(str(document["run_after"]))
    if after > datetime.now(UTC):
        return [
            Reason(
                "schedule", "wait", f"The run is to begin at {moment(document['run_after'])}.", "run_after"
            )
        ]
    working = [each for each in under_way(api, job) if each["state"] == "running"]
    most = (dag or {}).get("max_active_runs")
    if most and len(working) >= most:
        return [full(job, int(most), working)]
    since = _age(document.get("queued_at"))
    level: Level = "warn" if since > _LONG and not blocked else "wait"
    command = "forebay logs scheduler" if level == "warn" else ""
    return [
        Reason("queued", level, "The run is queued; the scheduler starts it next.", f"queued for {_long(since)}", (), command)
    ]  # fmt: skip


class _Look:
    """Looks at the tasks of one run."""

    def __init__(
        self, api: AirflowApi, run: KnownRun, tasks: Sequence[Json], parallelism: int | None, engine: Engine
    ) -> None:
        self.api, self.run, self.tasks = api, run, tasks
        self.parallelism, self.engine = parallelism, engine
        self._pools: dict[str, Json] = {}
        self._definitions: dict[str, Json] | None = None

    def ended(self) -> list[Reason]:
        failed = [task for task in self.tasks if task["state"] == "failed"]
        never = [_key(task) for task in self.tasks if task["state"] == "upstream_failed"]
        if self.run.airflow == "success":
            return [
                Reason(
                    "done", "ok", f"The run is done, at {moment(self.run.document['end_date'])}.", "success"
                )
            ]
        found = [self._failed(task) for task in failed]
        if never:
            what = f"{_listed(never)} never ran, because {'they need' if len(never) > 1 else 'it needs'} what failed."
            found.append(Reason("dependency failed", "warn", what, "upstream_failed"))
        if not failed:
            what = f"The run was ended as {self.run.airflow} at {moment(self.run.document['end_date'])}, though no task failed."
            note = str(self.run.document.get("note") or "marked by hand, or its time ran out")
            found.append(Reason("ended", "bad", what, note))
        return found  # fmt: skip

    def at_work(self, dag: Json) -> list[Reason]:
        found = []
        for number, task in enumerate(self.tasks):
            if task["state"] in _DONE:
                continue
            reason = self._task(task, dag, asked=number < _DETAILS)
            if reason is not None:
                found.append(reason)
        if not found:
            what = "No task is to be done any more; the scheduler ends the run next."
            found.append(Reason("ending", "wait", what, f"{len(self.tasks)} tasks are done"))
        return found

    def _task(self, task: Json, dag: Json, *, asked: bool) -> Reason | None:
        key = _key(task)
        match task["state"]:
            case "failed":
                return self._failed(task)
            case "upstream_failed":
                return self._above(
                    task, "bad", f"{key} does not run: what it needs failed.", "dependency failed"
                )
            case "up_for_retry":
                return self._retry(task)
            case "awaiting_input" | "deferred":
                return self._waits(task)
            case "running" | "restarting":
                return self._running(task)
            case "queued":
                return self._pod(task) or self._slots(
                    task, dag, f"{key} waits for a free process.", "parallelism"
                )
            case "scheduled":
                return self._slots(
                    task, dag, f"{key} is ready, and waits for the scheduler to give it out.", "scheduled"
                )
            case "up_for_reschedule":
                return Reason(
                    "reschedule", "wait", f"{key} looks again later.", "up_for_reschedule", self._links(task)
                )
        return self._above(task, "wait", f"{key} waits for the tasks before it.", "depends on", asked=asked)  # fmt: skip

    def _failed(self, task: Json) -> Reason:
        lines = []
        try:
            log = self.api.log(
                quote(self.run.run.job, safe=""), quote(self.run.run.airflow, safe=""), str(task["task_id"]),
                int(task["try_number"]), int(task["map_index"]),
            )  # fmt: skip
            lines = [line.strip() for text in log for line in text.splitlines() if line.strip()]
        except ApiError:
            pass
        evidence = lines[-1][:600] if lines else "its log says nothing"
        if lines and lines[-1].startswith(_KILLED):
            evidence = _MEMORY
        elif not lines or lines[-1].startswith(_NO_LOG):
            evidence = "; ".join(self.engine(task) or [evidence])
        what = f"{_key(task)} failed in try {task['try_number']}, at {moment(task['end_date'])}."
        return Reason("failed", "bad", what, evidence, self._links(task, log=True))

    def _retry(self, task: Json) -> Reason:
        plain = self._definition(task).get("retry_delay") or {}
        delay = float(plain.get("days") or 0) * 86400 + float(plain.get("seconds") or 0)
        growth = float(self._definition(task).get("retry_exponential_backoff") or 0)
        if growth > 1:
            delay *= growth ** max(0, int(task["try_number"]) - 1)
        ended = datetime.fromisoformat(str(task["end_date"])) if task["end_date"] else datetime.now(UTC)
        what = (
            f"{_key(task)} failed in try {task['try_number']} of {int(task['max_tries']) + 1} and is tried again "
            f"{'about ' if growth > 1 else ''}at {moment((ended + timedelta(seconds=delay)).isoformat())}."
        )
        return Reason("retry delay", "warn", what, self._failed(task).evidence, self._links(task, log=True))

    def _waits(self, task: Json) -> Reason:
        path = f"/dags/{quote(self.run.run.job, safe='')}/dagRuns/{quote(self.run.run.airflow, safe='')}/taskInstances"
        try:
            asked = self.api.get(f"{path}/{task['task_id']}/{task['map_index']}/hitlDetails")
        except ApiError as error:
            if error.status != 404:
                raise
            what = f"{_key(task)} waits for an event; a trigger watches for it."
            evidence = str((task.get("trigger") or {}).get("classpath") or "deferred")
            return Reason("deferred", "wait", what, evidence, self._links(task))
        names = [str(one["name"]) for one in asked.get("assigned_users") or ()]
        what = f"{_key(task)} waits for {_listed(names) or 'somebody'} to answer: {asked['subject']}"
        link = Link("Answer in Airflow", f"{self._path(task)}/required_actions")
        evidence = f"asked {moment(asked['created_at'])}; answers: {', '.join(map(str, asked['options']))}"
        return Reason("approval", "warn", what, evidence, (link,))

    def _running(self, task: Json) -> Reason:
        since = f"since {moment(task['start_date'])}, {_long(_age(task['start_date']))}"
        what, level, links = f"{_key(task)} is at work.", "run", list(self._links(task, log=True))
        there = self.engine(task)
        if there is None:
            return Reason("at work", "run", what, since, tuple(links))
        how, where = there
        waits = "queued" in how.lower()
        if waits:
            what, level = f"{_key(task)} waits in its engine's queue.", "wait"
        kind = "engine queue" if waits else "at work"
        return Reason(
            kind, "wait" if level == "wait" else "run", what, f"{how}; {where}; {since}", tuple(links)
        )

    def _pod(self, task: Json) -> Reason | None:
        """A task that is given out to a pod of its own."""
        there = self.engine(task)
        if there is None:
            return None
        since = _age(task["queued_when"])
        evidence = "; ".join([*there, f"queued for {_long(since)}"])
        level: Level = "warn" if since > _LONG else "wait"
        return Reason("pod", level, f"{_key(task)} waits for its pod to start.", evidence, self._links(task))

    def _slots(self, task: Json, dag: Json, what: str, kind: str) -> Reason:
        """A task that could start: which of the limits keeps it."""
        key, links = _key(task), self._links(task)
        since = _age(task["queued_when"] if task["state"] == "queued" else task["scheduled_when"])
        pool, slots = str(task["pool"]), int(task["pool_slots"])
        found = self._pool(pool)
        if task["state"] == "scheduled" and found and 0 <= int(found["open_slots"]) < slots:
            what = f"{key} waits for the pool {pool}: it has no free slot."
            evidence = f"{found['occupied_slots']} of {found['slots']} slots are taken, {slots} needed"
            return Reason("pool", "wait", what, evidence, (Link(f"Pool {pool}", "pools"), *links))
        # Of more than that, the first are known only.
        if task["state"] == "scheduled" and found is None and 0 < len(self._pools) < _POOLS:
            what = f"{key} waits for the pool {pool}, which is not there."
            evidence = (
                "no such pool in Airflow; on a platform the chart's job forebay-pools makes one per workspace"
            )
            return Reason(
                "no pool", "warn", what, evidence, (Link("Pools", "pools"), *links),
                "kubectl get jobs,pods -A -l app.kubernetes.io/name=pools",
            )  # fmt: skip
        working = sum(each["state"] in ("running", "queued") for each in self.tasks)
        most = int(dag.get("max_active_tasks") or 0)
        if task["state"] == "scheduled" and most and working >= most:
            what = f"{key} waits: {working} of at most {most} tasks of this run are at work."
            return Reason("max concurrent tasks", "wait", what, f"limits.max_concurrent_tasks {most}", links)
        taken = self._taken()
        if self.parallelism and taken is not None and taken >= self.parallelism:
            what = f"{key} waits for a free process: Airflow works on {self.parallelism} tasks at once."
            evidence = f"{taken} tasks are running or queued, parallelism {self.parallelism}"
            return Reason(
                "parallelism",
                "wait",
                what,
                evidence,
                (Link("Running tasks", "task_instances?state=running"), *links),
            )
        reasons = self._dependencies(task) if task["state"] == "scheduled" else []
        evidence = "; ".join([f"{task['state']} for {_long(since)}", *reasons])
        level: Level = "warn" if since > _LONG else "wait"
        return Reason(kind, level, what, evidence, links, "forebay logs scheduler" if level == "warn" else "")  # fmt: skip

    def _above(self, task: Json, level: Level, what: str, kind: str, *, asked: bool = True) -> Reason:
        """A task that waits for others, or will never run because of them."""
        states = {each["task_id"]: str(each["state"] or "not started") for each in self.tasks}
        above = [
            f"{name} is {states.get(name, 'not started').replace('_', ' ')}"
            for name, one in self._all().items()
            if task["task_id"] in (one.get("downstream_task_ids") or ())
            and (states.get(name) not in _DONE or kind == "dependency failed")
        ]
        reasons = self._dependencies(task) if asked and level == "wait" and not above else []
        evidence = "; ".join([*above[:5], *reasons]) or "nothing keeps it that Airflow names"
        if level == "wait" and not above:
            what = f"{_key(task)} has not been looked at yet."
        return Reason(kind, level, what, evidence, self._links(task))

    def _dependencies(self, task: Json) -> list[str]:
        """What Airflow itself says keeps a task."""
        index = f"/{task['map_index']}" if int(task["map_index"]) >= 0 else ""
        path = f"/dags/{quote(self.run.run.job, safe='')}/dagRuns/{quote(self.run.run.airflow, safe='')}/taskInstances"
        try:
            return [
                f"{each['name']}: {each['reason']}"
                for each in self.api.get(f"{path}/{task['task_id']}{index}/dependencies")["dependencies"]
            ]
        except ApiError:
            return []

    def _definition(self, task: Json) -> Json:
        return self._all().get(str(task["task_id"]), {})

    def _all(self) -> dict[str, Json]:
        if self._definitions is None:
            try:
                found = self.api.get(f"/dags/{quote(self.run.run.job, safe='')}/tasks")["tasks"]
            except ApiError:
                found = []
            self._definitions = {str(each["task_id"]): each for each in found}
        return self._definitions

    def _pool(self, name: str) -> Json | None:
        if not self._pools:
            try:
                self._pools = {
                    str(each["name"]): each for each in self.api.get("/pools", limit=_POOLS)["pools"]
                }
            except ApiError:
                return None
        return self._pools.get(name)

    def _taken(self) -> int | None:
        self._pool("")
        if not self._pools:
            return None
        return sum(int(pool["running_slots"]) + int(pool["queued_slots"]) for pool in self._pools.values())

    def _path(self, task: Json) -> str:
        base = f"dags/{quote(self.run.run.job, safe='')}/runs/{quote(self.run.run.airflow, safe='')}/tasks/{quote(str(task['task_id']), safe='')}"
        return f"{base}/mapped/{task['map_index']}" if int(task["map_index"]) >= 0 else base

    def _links(self, task: Json, *, log: bool = False) -> tuple[Link, ...]:
        return (Link(f"{'Log' if log else 'Task'} of {_key(task)}", self._path(task)),)


def _key(task: Json) -> str:
    return str(task["task_id"]) + (f"[{task['map_index']}]" if int(task["map_index"]) >= 0 else "")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _age(text: object) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(str(text))).total_seconds() if text else 0.0


def _long(seconds: float) -> str:
    if seconds < 90:
        return f"{max(0.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
