"""Where the files a task names may be: inside its workspace's own folders, and nowhere else."""

from __future__ import annotations

import os
import subprocess
from functools import cached_property
from pathlib import Path

from forebay.errors import suggestion

SQL_FOLDER = "sql"
SPARK_FOLDER = "spark_jobs"
PYTHON_FOLDER = "include"


class WorkspaceFiles:
    """The SQL, Spark and Python files of one workspace, listed once."""

    def __init__(self, root: Path, workspace: str) -> None:
        self.root = os.path.realpath(root)
        self.workspace = workspace

    def problem(self, folder: str, name: str) -> str | None:
        """Why `name` cannot be used as a file of `folder`/<workspace>/, as a sentence; None when it can."""
        listed = self._listed[folder]
        if name in listed:
            return None
        shown = f"{folder}/{self.workspace}/"
        if os.path.isabs(name) or name.startswith("~"):
            return f"'{name}' is an absolute path. Write the file's name below {shown}"
        base = os.path.join(self.root, folder, self.workspace)
        path = os.path.normpath(os.path.join(base, name))
        if not path.startswith(base + os.sep):
            return f"'{name}' leads outside {shown}. Put the file there"
        if not os.path.lexists(path):
            return f"there is no file {shown}{name}.{suggestion(name, listed)}"
        if not os.path.realpath(path).startswith(base + os.sep):
            return f"'{name}' is a link that leads outside {shown}. Put the file itself there"
        if not os.path.isfile(path):
            return f"{shown}{name} is not a file"
        return None

    @cached_property
    def _listed(self) -> dict[str, frozenset[str]]:
        return {folder: self._list(folder) for folder in (SQL_FOLDER, SPARK_FOLDER, PYTHON_FOLDER)}

    def _list(self, folder: str) -> frozenset[str]:
        """Plain files (no links, in no linked folder), so that a name found here needs no further look."""
        base = os.path.join(self.root, folder, self.workspace)
        if os.path.realpath(base) != base:
            return frozenset()
        names: list[str] = []
        folders = [""]
        while folders:
            below = folders.pop()
            try:
                with os.scandir(os.path.join(base, below)) as entries:
                    for entry in entries:
                        if entry.is_file(follow_symlinks=False):
                            names.append(below + entry.name)
                        elif entry.is_dir(follow_symlinks=False) and not entry.name.startswith((".", "__")):
                            folders.append(f"{below}{entry.name}/")
            except OSError:
                continue
        return frozenset(names)


def git_commit(folder: str | Path | None) -> str:
    """The Git commit of the folder, with -dirty where files were changed since; empty where there is none."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
