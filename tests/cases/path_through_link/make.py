"""A link that leads outside the workspace: Git would carry it, a copy of the case would not."""

from pathlib import Path


def make(root: Path) -> None:
    (root / "secret.sql").write_text("SELECT 1 AS one")
    (root / "sql/sales").mkdir(parents=True)
    (root / "sql/sales/link.sql").symlink_to(root / "secret.sql")
    (root / "secret.yaml").write_text("password: swordfish")
    (root / "dags/sales/linked.yaml").symlink_to(root / "secret.yaml")
