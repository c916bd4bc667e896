"""The Airflow bundle that jobs come from: it notices changed YAML files and shows the mistakes in broken ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.dag_processing.bundles.local import LocalDagBundle
from airflow.dag_processing.importers import (
    AbstractDagImporter,
    DagImportError,
    DagImportResult,
    get_importer_registry,
)

from forebay import watch
from forebay.errors import JobSpecError
from forebay.project import LoadedJob


class JobsBundle(LocalDagBundle):
    """A `dags/` folder of workspaces.

    Airflow 3.3 looks at the modification time of Python files only: a workspace whose YAML files changed has its
    `jobs.py` touched, which the dag-processor sees within a second.

    An import error of `jobs.py` would make Airflow hide every job of the workspace. So the loader leaves broken
    jobs out, and each broken YAML is handed to the dag-processor as a file of its own, which has nothing but errors.
    """

    def refresh(self) -> None:
        """Reads what changed in every workspace. Only the dag-processor calls this."""
        look(self.path)


def loaders(folder: Path) -> list[Path]:
    """The `jobs.py` of each workspace in a `dags/` folder, or in the folder of one workspace."""
    own = folder / "jobs.py"
    return [own] if own.is_file() else sorted(folder.glob("*/jobs.py"))


def look(folder: Path, *, moved: bool = False) -> None:
    """Has the dag-processor parse what changed below a bundle's folder, all of it if it `moved`, and show what is broken."""
    _show_broken_files()
    for loader in loaders(folder):
        _, changed = watch.refresh(loader.parent)
        if changed or moved:
            os.utime(loader)


class OwnBundle(LocalDagBundle):
    """The dags that Forebay itself needs, which are no jobs of anybody's."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(path=str(Path(__file__).parent / "internal"), **kwargs)


class BrokenJob(AbstractDagImporter):
    """Turns the mistakes of one YAML file into Airflow import errors; a file without mistakes gives nothing."""

    @classmethod
    def supported_extensions(cls) -> list[str]:
        return [".yaml", ".yml"]

    def import_file(
        self,
        file_path: str | Path,
        *,
        bundle_path: Path | None = None,
        bundle_name: str | None = None,
        safe_mode: bool = True,
    ) -> DagImportResult:
        path = Path(file_path)
        name = self.get_relative_path(path, bundle_path)
        result = DagImportResult(file_path=name)
        mistakes = watch.refresh(path.parent)[0].broken.get(path.name)
        if mistakes:
            text = str(JobSpecError(mistakes))
            result.errors.append(
                DagImportError(
                    file_path=name,
                    message=text,
                    error_type="job",
                    stacktrace=text,
                    line_number=mistakes[0].line,
                )
            )
        return result


def _show_broken_files() -> None:
    """Lets the dag-processor find broken YAML files beside Python files.

    Airflow 3.3 has a registry of importers and no setting that feeds other files to them; in 3.4 this becomes
    `[dag_processor] dag_importer_configs`.
    """
    import airflow.dag_processing.manager as manager

    found = manager.list_py_file_paths  # type: ignore[attr-defined]
    if getattr(found, "with_broken_jobs", False):
        return

    def list_files(directory: Any, *arguments: Any, **options: Any) -> list[str]:
        broken = (str(path) for path in watch.broken_files(Path(directory)))
        return [*found(directory, *arguments, **options), *broken]

    list_files.with_broken_jobs = True  # type: ignore[attr-defined]
    manager.list_py_file_paths = list_files  # type: ignore[attr-defined]
    watch.verify_with(_notifiers_exist)
    get_importer_registry().register(BrokenJob())


def _notifiers_exist(job: LoadedJob) -> None:
    """Builds the dag of a job that names notifier classes: only that shows whether they can be imported."""
    spec = job.spec
    if spec.notifications or spec.deadline or any(task.notifications for task in spec.tasks):
        from forebay.dag import build_dag

        build_dag(job)
