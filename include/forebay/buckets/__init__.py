"""Buckets of an S3 store: what they should be as code, and their move to another store."""
