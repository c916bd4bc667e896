"""A query made a job: the names it may have, since they become paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebay.errors import ForebayError
from forebay.query import job_text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "repository/dags/sales"
    folder.mkdir(parents=True)
    (folder / "workspace.yaml").write_text("owner: sales-team\n")
    (folder / "jobs.py").write_text((Path(__file__).parents[2] / "dags/flights/jobs.py").read_text())
    return tmp_path / "repository"


def test_a_query_becomes_two_files(root: Path) -> None:
    made = job_text.files(root, "sales", "a" * 60, "sales.daily", "SELECT 1 AS n", {})
    assert sorted(made) == [f"dags/sales/{'a' * 60}.yaml", f"sql/sales/{'a' * 60}.sql"]


@pytest.mark.parametrize(
    "job",
    [
        "../../../planted", "../sales/planted", "/planted", "{outside}/planted", "a/b", "a\\b", "..", ".", "", "A", "1a",
        "a.b", "a-b", "a b", "a\n", "ä", "a" * 61, "workspace",
    ],
)  # fmt: skip
def test_a_name_that_is_none_writes_nothing(
    root: Path, tmp_path: Path, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "a/b/c/d/scratch"
    scratch.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ForebayError, match="A job cannot be called"):
        job_text.files(root, "sales", job.format(outside=tmp_path), "sales.daily", "SELECT 1 AS n", {})
    assert sorted(tmp_path.rglob("*")) == before


def test_no_file_is_written_outside_the_folder(root: Path, tmp_path: Path) -> None:
    from forebay.project import Project

    with pytest.raises(ForebayError, match="outside the repository"):
        job_text._mistakes(Project(root), "sales", {str(tmp_path / "planted.yaml"): "tasks: []\n"})
    assert not (tmp_path / "planted.yaml").exists()
