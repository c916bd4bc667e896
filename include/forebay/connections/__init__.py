"""The connection doctor: goes through a connection step by step and says which step fails, why, and what mends it.

One file per type of connection, in `types/`, found by its name. But `worker` and `sealed`, which carry checks to where
tasks run, nothing here knows Airflow: whoever calls brings the
connections. Nothing here loads code or opens a file because a connection says so.
"""
