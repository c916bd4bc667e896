"""Forebay: a lakehouse around Apache Airflow; jobs are YAML files, tables are Apache Iceberg."""
