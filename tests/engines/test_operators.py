"""Operators in a process of their own: they do the work, and stop it when Airflow kills the task."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from operator_process import Start, wait_for

from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.lake.tables import load

# Short sequences: DuckDB folds them while it plans, and planning cannot be interrupted.
ENDLESS = (
    "WITH s AS (SELECT n FROM UNNEST(sequence(1, 50000)) t(n)) "
    "SELECT sum(a.n * b.n + c.n) AS s FROM s a, s b, s c"
)


def test_sql_operator_writes_and_reports(
    start: Start, config: CatalogConfig, lens: str, namespace: str
) -> None:
    arguments = {
        "conn_id": "lake_sql",
        "sql": "SELECT :day AS day, :run_id AS run, :logical_date AS due",
        "table": f"{namespace}.t",
        "parameters": {"day": {"type": "date", "default": "yesterday"}},
    }
    out, _ = start("sql", arguments).communicate(timeout=60)
    result = json.loads(out.split("RESULT ", 1)[1])["tables"][f"{namespace}.t"]
    assert (result["rows"], result["inserted"]) == (1, 1)
    assert f"{namespace}.t: 1 rows (overwrite: 1 inserted), created, snapshot {result['snapshot_id']}" in out
    seen = replace(config, lens=lens).seen_by(TaskTry("lab.job", "r"))
    table = load(seen, f"{namespace}.t")
    assert table is not None
    assert str(table.scan().to_arrow()["day"][0]) == "2020-01-01"


def test_killed_sql_stops_at_once(start: Start, config: CatalogConfig, namespace: str) -> None:
    process = start("sql", {"conn_id": "lake_sql", "sql": ENDLESS, "table": f"{namespace}.t"})
    wait_for(process, "READY")
    time.sleep(3)
    assert process.poll() is None
    killed = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=5)
    assert time.monotonic() - killed < 5
    assert "Cancelled" in out
    assert load(config, f"{namespace}.t") is None


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGKILL]], ids=["sigterm", "sigkill"])
def test_killed_spark_leaves_no_process(start: Start, tmp_path: Path, signals: list[signal.Signals]) -> None:
    application = tmp_path / "forever.py"
    # The program shrugs SIGTERM off, as one stuck in native code would.
    application.write_text(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('RUNNING', flush=True)\ntime.sleep(600)\n"
    )
    process = start("spark", {"application": str(application)})
    wait_for(process, "RUNNING")
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 3
    assert all("cr3t" not in " ".join(one.cmdline()) for one in family)
    killed = time.monotonic()
    for one in signals:
        process.send_signal(one)
    _gone, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    assert time.monotonic() - killed < 5.5
    process.wait(5)
    if process.stdout is not None:
        process.stdout.close()
