"""Who owns a namespace: one answer for `forebay check` and for the console's rights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins"))

from forebay.check import check
from forebay_ui.owners import Owners

WORKSPACES = {"hr": "[sales_secret, sales_eu_pay, plain]", "sales": "[]", "sales_eu": "[plain, hr, sales]"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    jobs = (Path(__file__).parents[2] / "dags/flights/jobs.py").read_text()
    for name, listed in WORKSPACES.items():
        folder = tmp_path / "dags" / name
        folder.mkdir(parents=True)
        (folder / "workspace.yaml").write_text(f"owner: team-{name}\nnamespaces: {listed}\n")
        (folder / "jobs.py").write_text(jobs)
    return tmp_path


@pytest.mark.parametrize(
    ("namespace", "owner"),
    [
        ("sales_secret", "hr"), ("sales_eu_pay", "hr"), ("plain", "hr"), ("hr", "hr"), ("sales", "sales"),
        ("sales_raw", "sales"), ("sales_eu", "sales_eu"), ("sales_eu_raw", "sales_eu"), ("nobodys", "nobodys"),
        ("salesman", "salesman"),
    ],
)  # fmt: skip
def test_a_namespace_has_one_owner(root: Path, namespace: str, owner: str) -> None:
    assert Owners(root).of(namespace) == owner
    # The same for the check: who is not the owner may not write there. That two list one is said in workspace.yaml.
    for name in WORKSPACES if namespace != "plain" else ():
        job = f"tasks:\n  - {{key: a, type: sql, sql: SELECT 1 AS n, table: {namespace}.t}}\n"
        (root / "dags" / name / "writes.yaml").write_text(job)
        wrong = [each for each in check(root) if each.file == f"dags/{name}/writes.yaml"]
        assert bool(wrong) == (name != owner), [each.message for each in wrong]
        (root / "dags" / name / "writes.yaml").unlink()


def test_a_workspace_whose_file_is_broken_keeps_what_is_named_like_it(root: Path) -> None:
    (root / "dags/sales_eu/workspace.yaml").write_text("owner: [\n")
    assert Owners(root).of("sales_eu_raw") == "sales_eu"


def test_a_mistake_in_a_workspaces_file_gives_nothing_away(root: Path) -> None:
    before = Owners(root)
    (root / "dags/hr/workspace.yaml").write_text("owner: [\n")
    after = Owners(root, before)
    assert "hr" not in after.files
    assert (after.of("sales_secret"), after.of("hr")) == ("hr", "hr")
    assert Owners(root, after).of("sales_secret") == "hr"
