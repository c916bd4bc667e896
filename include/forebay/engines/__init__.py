"""What does the work of a task: DuckDB, Spark on this machine, and landing files."""
