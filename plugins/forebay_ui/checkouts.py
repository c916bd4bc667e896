"""The workspaces' files where jobs come from Git: of every bundle's newest commit, in one folder."""

import json
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.configuration import conf

from forebay.bundle import loaders
from forebay.files import PYTHON_FOLDER, SPARK_FOLDER, SQL_FOLDER

if TYPE_CHECKING:
    from airflow.providers.git.bundles.git import GitDagBundle

log = logging.getLogger(__name__)

_FETCH = 60.0
"""Seconds between two looks at the repositories."""
_FIRST = 20.0
"""Seconds that the first page waits for them."""


class Checkouts:
    """Fetches the bundles in the background, as the dag-processor does for itself."""

    def __init__(self, bundles: Sequence["GitDagBundle"]) -> None:
        self._bundles = bundles
        storage = bundles[0].base_dir.parent
        storage.mkdir(parents=True, exist_ok=True)
        # Gone with this object, at the latest when the API server ends.
        self._kept = tempfile.TemporaryDirectory(prefix="console-files-", dir=storage)
        self._folder = Path(self._kept.name)
        self._root = self._new()
        self._ready: dict[str, GitDagBundle] = {}
        self._versions: dict[str, str] = {}
        self._there = threading.Event()
        self._until = time.monotonic() + _FIRST
        threading.Thread(target=self._follow, name="forebay-checkouts", daemon=True).start()

    def root(self) -> Path:
        """A folder like a repository's, with all workspaces that could be fetched."""
        self._there.wait(max(0.0, self._until - time.monotonic()))
        return self._root

    def _follow(self) -> None:
        while True:
            for bundle in self._bundles:
                try:
                    bundle.refresh() if bundle.name in self._ready else bundle.initialize()
                    self._ready[bundle.name] = bundle
                except Exception:
                    # At the border: whatever Git or the connection says, the other workspaces are shown.
                    log.exception("the bundle %s cannot be fetched", bundle.name)
            try:
                self._renew()
            except Exception:
                log.exception("the files of the bundles cannot be put together")
            self._there.set()
            time.sleep(_FETCH)

    def _renew(self) -> None:
        versions = {name: str(bundle.get_current_version()) for name, bundle in self._ready.items()}
        if versions == self._versions:
            return
        before, self._root = self._root, self._together(list(self._ready.values()))
        self._versions = versions
        # Whoever reads the one before has a minute's time, until the next change.
        for old in self._folder.iterdir():
            if old not in (before, self._root):
                shutil.rmtree(old, ignore_errors=True)

    def _together(self, bundles: "Sequence[GitDagBundle]") -> Path:
        """A new folder with the files of all; where two have the same workspace, the first bundle's count."""
        root = self._new()
        for bundle in bundles:
            for loader in loaders(bundle.path):
                workspace, source = loader.parent.name, loader.parent.parent.parent
                if (root / "dags" / workspace).exists():
                    continue
                for folder in ("dags", SQL_FOLDER, SPARK_FOLDER, PYTHON_FOLDER):
                    if (source / folder / workspace).is_dir():
                        shutil.copytree(source / folder / workspace, root / folder / workspace, symlinks=True)
        return root

    def _new(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._folder))


_once = threading.Lock()


def checkouts() -> Checkouts | None:
    """Those of Airflow's bundles that come from Git; None where there is none."""
    with _once:
        return _checkouts()


@cache
def _checkouts() -> Checkouts | None:
    entries = json.loads(conf.get("dag_processor", "dag_bundle_config_list", fallback="[]") or "[]")
    from_git = [each for each in entries if each["classpath"] == "forebay.git_bundle.GitJobsBundle"]
    if not from_git:
        return None
    from airflow.providers.git.bundles.git import GitDagBundle

    # Beside the dag-processor's own, which it may not find changed by others where both share a disk.
    return Checkouts([GitDagBundle(name=f"console-{each['name']}", **each["kwargs"]) for each in from_git])
