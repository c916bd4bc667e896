"""A whole try of a sql task, as a process that tests kill; the task's state is a file: `sql_try.py JSON`."""

from __future__ import annotations

import json
import logging
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow.sdk
from given_connection import connection


class FileStore:
    """What Airflow keeps of a task from one try to the next."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _all(self) -> dict[str, Any]:
        return dict(json.loads(self._path.read_text())) if self._path.exists() else {}

    def get(self, key: str, default: Any = None) -> Any:
        return self._all().get(key, default)

    def set(self, key: str, value: Any) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps({**self._all(), key: value}))
        fresh.replace(self._path)

    def delete(self, key: str) -> None:
        left = {name: value for name, value in self._all().items() if name != key}
        self._path.write_text(json.dumps(left))


def main(order: dict[str, Any]) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    said: dict[str, Any] = {}

    def get_connection(conn_id: str) -> SimpleNamespace:
        return connection(order["connections"][conn_id])

    airflow.sdk.BaseHook.get_connection = get_connection  # type: ignore[method-assign,assignment]
    from forebay.operators.sql import SqlOperator

    operator = SqlOperator(task_id="t", tables=[order["arguments"]["table"]], **order["arguments"])
    signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
    moment = datetime(2020, 1, 2, tzinfo=UTC)
    ti = SimpleNamespace(
        dag_id=order["job"], run_id="r", task_id="t", map_index=-1, try_number=order["number"],
        bundle_instance=None, xcom_push=said.__setitem__, xcom_pull=lambda **_: None,
    )  # fmt: skip
    run = SimpleNamespace(
        run_id="r", start_date=moment, logical_date=None, run_after=moment, conf={}, run_type="manual",
        triggering_user_name="somebody",
    )  # fmt: skip
    context: Any = {
        "ti": ti,
        "dag_run": run,
        "params": {},
        "task_state_store": FileStore(Path(order["state"])),
    }
    operator.pre_execute(context)
    result = operator.execute(context)
    operator.post_execute(context, result)
    print("RESULT", json.dumps({"result": result, "said": said}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
