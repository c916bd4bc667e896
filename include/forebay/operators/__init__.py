"""Airflow operators: thin, they turn a task's fields into a call of an engine."""
