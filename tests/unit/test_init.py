"""What `forebay init` writes passes `forebay check`, and it never overwrites."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from forebay.check import check
from forebay.cli.init import TYPES, command
from forebay.errors import ForebayError
from forebay.project import Project
from forebay.starter import new_job, new_workspace


def test_a_new_workspace_and_job_pass_check(tmp_path: Path) -> None:
    assert new_workspace(tmp_path, "sales") == [
        "dags/sales/workspace.yaml",
        "dags/sales/jobs.py",
        "dags/sales/example.yaml",
        "sql/sales/example.sql",
        "docs/schema/workspace.schema.json",
        "docs/schema/job.schema.json",
    ]
    assert new_job(tmp_path, "sales", "returns") == ["dags/sales/returns.yaml", "sql/sales/returns.sql"]
    assert check(tmp_path) == []
    loader = (tmp_path / "dags/sales/jobs.py").read_text()
    assert loader.splitlines()[1:] == [
        "from forebay.dag import load_dags",
        "globals().update(load_dags(__file__))",
    ]


@pytest.mark.parametrize("type_name", TYPES)
def test_a_job_of_each_type_passes_check(tmp_path: Path, type_name: str) -> None:
    new_workspace(tmp_path, "sales")
    yaml, needed = new_job(tmp_path, "sales", "returns", type_name)
    assert (yaml, (tmp_path / needed).is_file()) == ("dags/sales/returns.yaml", True)
    assert check(tmp_path) == []
    job = Project(tmp_path).load_job("sales", "returns")
    assert [task.type for task in job.spec.tasks] == [type_name]


@pytest.mark.parametrize("name", ["a", "a_rather_long_name_of_a_team"])
def test_comments_stand_in_one_column(tmp_path: Path, name: str) -> None:
    new_workspace(tmp_path, name)
    for type_name in TYPES:
        yaml, _ = new_job(tmp_path, name, f"job_{type_name}", type_name)
        rows = [row for row in (tmp_path / yaml).read_text().splitlines() if not row.lstrip().startswith("#")]
        assert len({row.index("# ") for row in rows if "# " in row}) == 1


def test_schemas_that_are_there_stay(tmp_path: Path) -> None:
    (tmp_path / "docs/schema").mkdir(parents=True)
    (tmp_path / "docs/schema/job.schema.json").write_text("{}")
    assert "docs/schema/job.schema.json" not in new_workspace(tmp_path, "sales")
    assert (tmp_path / "docs/schema/job.schema.json").read_text() == "{}"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    new_workspace(tmp_path, "sales")
    (tmp_path / "sql/sales/returns.sql").write_text("SELECT 1")
    with pytest.raises(ForebayError, match=r"sql/sales/returns\.sql"):
        new_job(tmp_path, "sales", "returns")
    assert not (tmp_path / "dags/sales/returns.yaml").exists()
    with pytest.raises(ForebayError, match="already there"):
        new_workspace(tmp_path, "sales")


@pytest.mark.parametrize("name", ["Sales", "../x", "a-b", "", "forebay", "a/b", "email"])
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
    assert "then `forebay run sales.example`" in result.output
    assert CliRunner().invoke(command, ["job", "sales"]).exit_code == 2
    result = CliRunner().invoke(command, ["job", "sales.clean", "--type", "spark"])
    assert "wrote spark_jobs/sales/clean.py" in result.output
