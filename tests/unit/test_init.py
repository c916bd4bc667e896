"""What `forebay init` writes passes `forebay check`, and it never overwrites."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from forebay.check import check
from forebay.cli.init import command
from forebay.errors import ForebayError
from forebay.starter import new_job, new_workspace


def test_a_new_workspace_and_job_pass_check(tmp_path: Path) -> None:
    assert new_workspace(tmp_path, "sales") == [
        "dags/sales/workspace.yaml",
        "dags/sales/jobs.py",
        "dags/sales/example.yaml",
        "sql/sales/example.sql",
        "spark_jobs/sales/example.py",
    ]
    assert len(new_job(tmp_path, "sales", "returns")) == 3
    assert check(tmp_path) == []
    loader = (tmp_path / "dags/sales/jobs.py").read_text()
    assert loader.splitlines()[1:] == [
        "from forebay.dag import load_dags",
        "globals().update(load_dags(__file__))",
    ]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    new_workspace(tmp_path, "sales")
    (tmp_path / "sql/sales/returns.sql").write_text("SELECT 1")
    with pytest.raises(ForebayError, match=r"sql/sales/returns\.sql"):
        new_job(tmp_path, "sales", "returns")
    assert not (tmp_path / "dags/sales/returns.yaml").exists()
    with pytest.raises(ForebayError, match="already there"):
        new_workspace(tmp_path, "sales")


@pytest.mark.parametrize("name", ["Sales", "../x", "a-b", "", "forebay", "a/b"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ForebayError, match="cannot be"):
        new_workspace(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_job_needs_its_workspace(tmp_path: Path) -> None:
    new_workspace(tmp_path, "sales")
    with pytest.raises(ForebayError, match="Did you mean 'sales'"):
        new_job(tmp_path, "sale", "x")
    with pytest.raises(ForebayError, match="cannot be a job's name"):
        new_job(tmp_path, "sales", "workspace")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FOREBAY_ROOT", raising=False)
    result = CliRunner().invoke(command, ["workspace", "sales"])
    assert result.exit_code == 0
    assert "wrote dags/sales/workspace.yaml" in result.output
    assert CliRunner().invoke(command, ["job", "sales"]).exit_code == 2
