"""Tasks' logs are in the store: they are read back when the worker that wrote them has no file any more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyarrow.fs import FileSelector
from stack_of_tests import eventually

if TYPE_CHECKING:
    from platform_of_tests import Platform


def stored(lab: Platform) -> list[str]:
    return [
        each.path
        for each in lab.store.get_file_info(FileSelector("logs/airflow", recursive=True))
        if each.is_file
    ]


def lines(lab: Platform, job: str, run: str, task: str, number: int = 1) -> list[Any]:
    """A task's log as Airflow's UI asks for it."""
    content: list[Any] = lab.api.get(f"/dags/{job}/dagRuns/{run}/taskInstances/{task}/logs/{number}")[
        "content"
    ]
    return content


def test_a_log_is_read_from_the_store_after_its_file_is_gone(lab: Platform) -> None:
    run_id = lab.start("lab.console")
    run, _ = lab.finish("lab.console", run_id, 600)
    assert run["state"] == "success"
    kept = eventually(
        60,
        lambda: [each for each in stored(lab) if run_id in each and "task_id=look" in each],
        "the log is stored",
    )
    # The chart's settings have workers delete their own copy, the last task's a moment after the run has ended.
    local = Path(lab.settings["AIRFLOW__LOGGING__BASE_LOG_FOLDER"])
    eventually(
        60, lambda: not [path for path in local.rglob("*.log") if run_id in str(path)], "the files are gone"
    )
    content = lines(lab, "lab.console", run_id, "look")
    assert "lab.console_rows: 1 passed" in str(content)
    assert f"s3://{kept[0]}" in str(content[:3]), content[:3]


def test_no_log_in_the_store_holds_a_secret(lab: Platform, hidden: list[str]) -> None:
    texts = {path: lab.store.open_input_stream(path).read().decode() for path in stored(lab)}
    assert texts
    assert not [path for path, text in texts.items() if any(each in text for each in hidden)]
