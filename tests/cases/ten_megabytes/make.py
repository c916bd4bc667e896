"""A file too large to commit."""

from pathlib import Path


def make(root: Path) -> None:
    (root / "dags/sales/orders.yaml").write_bytes(b"tasks:\n" + b"  - key: a\n" * 1_000_000)
