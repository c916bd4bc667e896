"""Which workspace owns a namespace: as the workspaces' own files say, or by its name."""

import os
import time
from collections.abc import Collection
from pathlib import Path

from airflow.configuration import conf

from forebay.errors import ForebayError
from forebay.project import Project, WorkspaceFile, claim
from forebay_ui.checkouts import checkouts

_FRESH = 3.0


class Owners:
    """The workspaces whose files this machine has; where it has none, names decide alone."""

    _known: "tuple[float, Owners] | None" = None

    def __init__(self, root: Path, before: "Owners | None" = None) -> None:
        self.root = root
        project = Project(root)
        self.names = tuple(project.workspace_names())
        self.files: dict[str, WorkspaceFile] = {}
        self._listed: dict[str, Collection[str]] = {}
        self._of: dict[str, str] = {}
        for name in self.names:
            try:
                self.files[name] = project.load_workspace_file(name)
            except ForebayError:
                # As before the mistake: a namespace of theirs is nobody else's until it is mended.
                self._listed[name] = before._listed.get(name, ()) if before is not None else ()
            else:
                self._listed[name] = self.files[name].spec.namespaces

    @classmethod
    def now(cls) -> "Owners":
        """As the files are now, or were a moment ago."""
        if cls._known is None or time.monotonic() - cls._known[0] > _FRESH:
            before = cls._known[1] if cls._known is not None else None
            cls._known = (time.monotonic(), cls(root(), before))
        return cls._known[1]

    def of(self, namespace: str) -> str:
        """The workspace that owns a namespace. One that nobody owns is a workspace of its own name, with no jobs."""
        if namespace not in self._of:
            self._of[namespace] = self._find(namespace)
        return self._of[namespace]

    def _find(self, namespace: str) -> str:
        def strength(name: str) -> int:
            return claim(namespace, name, self._listed[name])

        best = max(self.names, key=strength, default=namespace)
        return best if strength(best) else namespace


def root() -> Path:
    """The repository that the jobs come from, or a folder with those of all Git bundles."""
    named = os.environ.get("FOREBAY_ROOT")
    if named:
        return Path(named)
    if fetched := checkouts():
        return fetched.root()
    return Path(conf.get_mandatory_value("core", "dags_folder")).parent
