"""The console: the lake's pages inside Airflow's UI. Imported by the API server only."""
