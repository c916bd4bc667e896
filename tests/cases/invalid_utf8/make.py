"""Latin-1 where UTF-8 belongs: editors would repair a committed file."""

from pathlib import Path


def make(root: Path) -> None:
    (root / "dags/sales/orders.yaml").write_bytes(b"owner: x\ndescription: Gr\xf6\xdfe\n")
