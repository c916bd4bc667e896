"""A thousand levels of nesting."""

from pathlib import Path


def make(root: Path) -> None:
    (root / "dags/sales/orders.yaml").write_text("tags: " + "[" * 1000 + "]" * 1000)
