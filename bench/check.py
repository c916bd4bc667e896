"""`forebay check` on 1,000 jobs of 5 SQL tasks each."""

from __future__ import annotations

import subprocess
import sys
import time

from harness import LOADER, Row, folder, median, write

JOBS, TASKS = 1000, 5


def measure(rounds: int) -> list[Row]:
    with folder() as root:
        write(root / "dags/bench/jobs.py", LOADER)
        write(root / "dags/bench/workspace.yaml", "owner: bench\n")
        for job in range(JOBS):
            text = "schedule: none\nparameters: {day: {type: date, default: yesterday}}\ntasks:\n"
            for task in range(TASKS):
                text += f"  - key: task_{task}\n    type: sql\n    file: job_{job:04}_{task}.sql\n    table: bench.t_{job:04}_{task}\n"
                text += f"    depends_on: [task_{task - 1}]\n" if task else ""
                sql = f"SELECT carrier, count(*) AS n, avg(delay) AS mean FROM bench.source_{job}\nWHERE day = :day AND delay > {task}\nGROUP BY carrier\n"
                write(root / f"sql/bench/job_{job:04}_{task}.sql", sql)
            write(root / f"dags/bench/job_{job:04}.yaml", text)
        times = []
        for _ in range(rounds + 1):
            began = time.monotonic()
            run = subprocess.run(
                [sys.executable, "-m", "forebay.cli.main", "check"], cwd=root, capture_output=True, text=True
            )
            times.append(time.monotonic() - began)
            if run.returncode:
                raise SystemExit(run.stdout + run.stderr)
    seconds = median(times[1:])
    return [(f"forebay check, {JOBS:,} jobs × {TASKS} SQL tasks", f"{seconds:.2f} s", "≤ 3 s", seconds <= 3)]
