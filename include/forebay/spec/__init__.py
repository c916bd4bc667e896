"""What workspace.yaml and a job's YAML may say: closed, frozen models that know no Airflow.

One noun per module: a whole job is `forebay.spec.job.JobSpec`, a workspace
`forebay.spec.workspace.WorkspaceSpec`.
"""
