"""The Airflow bundle that a workspace's jobs come from: it notices changed YAML files."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.dag_processing.bundles.local import LocalDagBundle

Fingerprint = dict[Path, tuple[int, int, int]]


class JobsBundle(LocalDagBundle):
    """A `dags/` folder whose loaders are parsed again as soon as one of their YAML files changes.

    Airflow 3.3 looks at the modification time of Python files only. At each refresh, a workspace whose YAML
    files changed has its `jobs.py` touched, which the dag-processor sees within a second.
    """

    _seen: dict[Path, Fingerprint] | None = None

    def refresh(self) -> None:
        """Compares the YAML files of every workspace with those of the last refresh."""
        now = {loader: _fingerprint(loader.parent) for loader in self.path.glob("*/jobs.py")}
        if self._seen is not None:
            for loader, files in now.items():
                if self._seen.get(loader, files) != files:
                    os.utime(loader)
        self._seen = now


def _fingerprint(folder: Path) -> Fingerprint:
    """Name, time, size and inode of each YAML file."""
    found: Fingerprint = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((".yaml", ".yml")):
                try:
                    stat = entry.stat()
                except FileNotFoundError:
                    continue
                found[Path(entry.name)] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found
