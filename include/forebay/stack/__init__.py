"""The embedded stack: object store, catalog, Airflow and its database on one machine."""
