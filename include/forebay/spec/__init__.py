"""What workspace.yaml and a job's YAML may say: closed, frozen models that know no Airflow.

One noun per module; `forebay.spec.job.JobSpec` is a whole job, `forebay.spec.workspace.WorkspaceSpec` a workspace.
"""
