"""The connection doctor: goes through a connection step by step and says which step fails, why, and what mends it.

One file per type of connection, in `types/`, found by its name. Nothing here knows Airflow: whoever calls brings the
connections. Nothing here loads code or opens a file because a connection says so.
"""
