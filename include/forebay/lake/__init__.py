"""Iceberg tables behind the REST catalog: connect, describe, create, write and commit."""
