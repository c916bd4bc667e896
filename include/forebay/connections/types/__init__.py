"""One file per type of connection, named like Airflow's `conn_type`, with the steps of its check.

Each has TITLE, PLAN (the steps it goes through), EXAMPLE (a connection of this type, without secrets) and
`async def check(check)`. A file may list ALSO: other names of the same type.
"""
