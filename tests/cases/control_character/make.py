"""A NUL byte."""

from pathlib import Path


def make(root: Path) -> None:
    (root / "dags/sales/orders.yaml").write_bytes(b"description: a\0b\n")
