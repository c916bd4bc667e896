"""From trigger to the first task's start, and to the end of a small SQL job."""

from __future__ import annotations

from forebay.stack.airflow_api import AirflowApi
from harness import LOADER, Row, folder, median, run_once, running, say, wait_for_dags, write

RUNS = 20


def measure(rounds: int) -> list[Row]:
    with folder() as root:
        write(root / "dags/bench/jobs.py", LOADER)
        write(root / "dags/bench/workspace.yaml", "owner: bench\n")
        write(
            root / "dags/bench/small.yaml",
            "tasks:\n  - key: one\n    type: sql\n    sql: SELECT x, x * 2 AS y FROM unnest(sequence(1, 100)) AS t(x)\n"
            "    table: bench.small\n",
        )
        with running(root) as stack, AirflowApi.of_stack(stack) as api:
            wait_for_dags(stack, 1)
            for _ in range(2):
                run_once(api, "bench.small")
            times = [run_once(api, "bench.small") for _ in range(RUNS)]
    start, done = median([t[0] for t in times]), median([t[1] for t in times])
    say(f"start {sorted(round(t[0], 2) for t in times)}")
    say(f"done {sorted(round(t[1], 2) for t in times)}")
    return [
        ("trigger → first task starts, p50", f"{start:.2f} s", "≤ 0.25 s", start <= 0.25),
        ("trigger → small SQL job done, p50", f"{done:.2f} s", "≤ 1.0 s", done <= 1.0),
    ]
