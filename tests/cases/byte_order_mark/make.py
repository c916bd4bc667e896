"""A byte order mark: editors would drop it from a committed file."""

from pathlib import Path


def make(root: Path) -> None:
    (root / "dags/sales/orders.yaml").write_bytes(b"\xef\xbb\xbfdescription: x\n")
