"""Runs one operator as Airflow's task process does: SIGTERM calls on_kill in a handler and raises nothing."""

from __future__ import annotations

import json
import logging
import signal
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import airflow.sdk
from given_connection import connection

from forebay.lake.identity import TaskTry

if TYPE_CHECKING:
    from forebay.operators.base import ForebayOperator


def operator_of(kind: str) -> type[ForebayOperator]:
    """The operator of a type of task; the others are not loaded, as in a task's own process."""
    if kind == "sql":
        from forebay.operators.sql import SqlOperator

        return SqlOperator
    if kind == "maintain":
        from forebay.operators.maintain import MaintainOperator

        return MaintainOperator
    from forebay.operators.spark import SparkOperator

    return SparkOperator


def main(kind: str, arguments: dict[str, Any], connections: dict[str, dict[str, Any]]) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")

    def get_connection(conn_id: str) -> SimpleNamespace:
        return connection(connections[conn_id])

    airflow.sdk.BaseHook.get_connection = get_connection  # type: ignore[method-assign,assignment]
    operator = operator_of(kind)(task_id="t", **arguments)
    writes = tuple(arguments.get("writes") or arguments.get("tables") or [str(arguments.get("table"))])
    operator._who = TaskTry("lab.job", "r", task="t", writes=writes)
    signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
    moment = datetime(2020, 1, 2, tzinfo=UTC)
    run = SimpleNamespace(run_id="r", start_date=moment, logical_date=None, run_after=moment)
    print("READY", flush=True)
    print("RESULT", json.dumps(operator.execute({"dag_run": run, "params": {}})), flush=True)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
