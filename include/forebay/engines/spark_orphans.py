"""What tasks left in a namespace and nobody will come back for: applications, and programs without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from forebay.engines.spark_api import SparkApi
from forebay.engines.spark_application import AIRFLOW, LABEL, TASKS
from forebay.engines.spark_reasons import ENDED, state_of

_LEFT_ALONE = ("NEW", *ENDED)
"""What has not begun may be gone on with unseen, see `SparkOnKubernetes.earlier`; what has ended goes by itself."""

OLD = timedelta(hours=1)
"""How old programs without an application are before they go: a start that is under way is younger."""


def sweep(
    api: SparkApi,
    airflow: str,
    over: Callable[[str, str, str], bool],
    log: Callable[[str], None],
    old: timedelta = OLD,
) -> None:
    """Delete the applications of this Airflow whose tasks are over, and old programs that nothing runs.

    `over` is asked for a job, run and task. An application that was touched since it was listed stays: its task may just
    have gone on with it.
    """
    found = api.applications(TASKS)
    for each in found:
        annotations = each["metadata"].get("annotations") or {}
        task = [str(annotations.get(f"{LABEL}{part}") or "") for part in ("job", "run", "task")]
        if (
            not airflow
            or annotations.get(AIRFLOW) != airflow
            or not all(task)
            or state_of(each) in _LEFT_ALONE
        ):
            continue
        if over(task[0], task[1], task[2]) and api.delete_unchanged(each):
            log(
                f"deleted the application {each['metadata']['name']}: its task {task[2]} in the run {task[1]} of "
                f"{task[0]} is over, and its worker did not end it"
            )
    running = {str(each["metadata"]["name"]) for each in found}
    now = datetime.now(UTC)
    for each in api.programs():
        if (
            str(each["metadata"]["name"]) not in running
            and _left(each, now - old)
            and api.delete_unchanged(each)
        ):
            log(f"deleted the ConfigMap {each['metadata']['name']}: programs of a task that never began")


def _left(config_map: Mapping[str, Any], before: datetime) -> bool:
    named = config_map["metadata"]
    made = datetime.fromisoformat(str(named["creationTimestamp"]))
    return not named.get("ownerReferences") and made < before
