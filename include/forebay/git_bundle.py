"""The Airflow bundle of jobs in a Git repository: each run keeps the commit that it began with."""

from __future__ import annotations

from airflow.providers.git.bundles.git import GitDagBundle
from airflow.sdk.exceptions import AirflowException

from forebay.bundle import look


class GitJobsBundle(GitDagBundle):
    """Airflow's bundle of a Git repository, with changed and broken YAML files as in `forebay.bundle.JobsBundle`.

    `subdir` is the folder of all workspaces, `dags`, or that of one, `dags/<workspace>`. Their SQL and programs are
    beside it in the same repository.
    """

    def initialize(self) -> None:
        """Checks the files out; of a run the commit that it began with, or that of the run that it does again."""
        try:
            super().initialize()
        except AirflowException as error:
            if not self.version or "not found in the repository" not in str(error):
                raise
            raise AirflowException(
                f"commit {self.version} is not in the repository of the bundle '{self.name}' any more: no branch or tag "
                "leads to it, as after a forced push. Push a tag on it from a clone that has it, and clear this task: "
                f"git push origin {self.version}:refs/tags/keep-{self.version[:12]}. Without it the job runs on newer "
                "code only: forebay run, or forebay rerun without --as-of"
            ) from error

    def refresh(self) -> None:
        """Fetches the branch, and reads what changed in every workspace."""
        before = self.get_current_version()
        super().refresh()
        # A run begins with the commit at which its job was last parsed, whichever file the newest one changed.
        look(self.path, moved=self.get_current_version() != before)
