"""The Airflow bundle of jobs in a Git repository: each run keeps the commit that it began with."""

from __future__ import annotations

from airflow.providers.git.bundles.git import GitDagBundle

from forebay.bundle import look


class GitJobsBundle(GitDagBundle):
    """Airflow's bundle of a Git repository, with changed and broken YAML files as in `forebay.bundle.JobsBundle`.

    `subdir` is the folder of all workspaces, `dags`, or that of one, `dags/<workspace>`. Their SQL and programs are
    beside it in the same repository.
    """

    def refresh(self) -> None:
        """Fetches the branch, and reads what changed in every workspace."""
        super().refresh()
        look(self.path)
