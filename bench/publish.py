"""1,000 jobs of 5 tasks: until Airflow knows them, and one run among them. Against a Python loop and dag-factory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from forebay.stack import supervisor
from forebay.stack.airflow_api import AirflowApi
from harness import LOADER, Row, folder, median, run_once, running, say, wait_for_dags, write

JOBS, TASKS, RUNS = 1000, 5, 9
DAG_FACTORY = "dag-factory==1.1.0"


def ours(root: Path) -> None:
    write(root / "dags/bench/jobs.py", LOADER)
    write(root / "dags/bench/workspace.yaml", "owner: bench\n")
    write(root / "include/bench/__init__.py", "")
    write(root / "include/bench/noop.py", "def nothing():\n    pass\n")
    for job in range(JOBS):
        text = "schedule: none\ntasks:\n"
        for task in range(TASKS):
            text += f"  - key: task_{task}\n    type: python\n    function: noop.nothing\n"
            text += f"    depends_on: [task_{task - 1}]\n" if task else ""
        write(root / f"dags/bench/job_{job:04}.yaml", text)


def by_hand(root: Path) -> None:
    text = f'''"""Airflow dags in a loop."""
from datetime import UTC, datetime
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

def nothing():
    pass

for job in range({JOBS}):
    with DAG(f"bench.job_{{job:04}}", schedule=None, start_date=datetime(2020, 1, 1, tzinfo=UTC), catchup=False, tags=["bench"], max_active_runs=1) as dag:
        previous = None
        for task in range({TASKS}):
            operator = PythonOperator(task_id=f"task_{{task}}", python_callable=nothing)
            if previous:
                previous >> operator
            previous = operator
    globals()[dag.dag_id] = dag
'''
    write(root / "dags/bench/loader.py", text)
    # For the run: the same dag in a file of its own, which a task's process reads without the other thousand.
    alone = text.replace(f"range({JOBS})", "[9999]").replace("bench.job_", "bench.alone_")
    write(root / "dags/bench/alone.py", alone)


def dag_factory(root: Path) -> None:
    target = root / "include"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(target),
        DAG_FACTORY,
    ]
    subprocess.run(command, check=True)
    write(target / "noop.py", "def nothing():\n    pass\n")
    write(
        root / "dags/bench/loader.py",
        "# airflow dags from YAML\nfrom pathlib import Path\nfrom dagfactory import load_yaml_dags\n"
        "load_yaml_dags(globals_dict=globals(), dags_folder=str(Path(__file__).parent))\n",
    )
    for job in range(JOBS):
        text = f"bench.job_{job:04}:\n  default_args: {{start_date: 2020-01-01, owner: bench}}\n  schedule: null\n"
        text += "  catchup: false\n  max_active_runs: 1\n  tags: [bench]\n  tasks:\n"
        for task in range(TASKS):
            text += f"    - task_id: task_{task}\n      operator: airflow.providers.standard.operators.python.PythonOperator\n"
            text += "      python_callable: noop.nothing\n"
            text += f"      dependencies: [task_{task - 1}]\n" if task else ""
        write(root / f"dags/bench/job_{job:04}.yml", text)


VARIANTS = {"forebay": ours, "by hand": by_hand, "dag-factory": dag_factory}


def measure(rounds: int) -> list[Row]:
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["DAG_FACTORY_NO_TELEMETRY"] = "1"
    publish: dict[str, list[float]] = {name: [] for name in VARIANTS}
    runs: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in range(rounds):
        for name, build in VARIANTS.items():
            with folder() as root, running(root) as stack:
                # The jobs arrive while the dag-processor is down; the time counts from its start.
                supervisor.stop_process(stack, "dag-processor")
                build(root)
                began = time.monotonic()
                supervisor.start_process(stack, "dag-processor")
                wait_for_dags(stack, JOBS)
                publish[name].append(time.monotonic() - began)
                say(f"round {number + 1}, {name}: {JOBS} jobs published in {publish[name][-1]:.1f} s")
                if number == 0:
                    with AirflowApi.of_stack(stack) as api:
                        # dag-factory builds all jobs in each task's process, minutes a run where this loops more.
                        count = RUNS if name != "dag-factory" else 1
                        dag_id = "bench.alone_9999" if name == "by hand" else "bench.job_0500"
                        wait_for_dags(stack, JOBS + (name == "by hand"))
                        if count > 1:
                            run_once(api, dag_id)
                        runs[name] = [run_once(api, dag_id)[1] for _ in range(count)]
                    say(f"{name}: a {TASKS}-task run takes {median(runs[name]):.2f} s")
    figures = {name: median(values) for name, values in publish.items()}
    loop, factory = figures["forebay"] / figures["by hand"], figures["dag-factory"] / figures["forebay"]
    run = {name: median(values) for name, values in runs.items()}
    return [
        (
            "publish 1,000 jobs: forebay / by hand",
            f"{figures['forebay']:.1f} / {figures['by hand']:.1f} s = {loop:.2f}",
            "≤ 1.10",
            loop <= 1.10,
        ),
        (
            "publish 1,000 jobs: dag-factory / forebay",
            f"{figures['dag-factory']:.1f} / {figures['forebay']:.1f} s = {factory:.2f}",
            "≥ 1.2",
            factory >= 1.2,
        ),
        (
            "5-task run among 1,000 jobs: forebay / by hand",
            f"{run['forebay']:.2f} / {run['by hand']:.2f} s = {run['forebay'] / run['by hand']:.2f}",
            "≤ 1.10",
            run["forebay"] <= 1.10 * run["by hand"],
        ),
        (
            "5-task run among 1,000 jobs: dag-factory / by hand",
            f"{run['dag-factory']:.1f} / {run['by hand']:.2f} s = {run['dag-factory'] / run['by hand']:.1f}",
            "(about 14)",
            True,
        ),
    ]
