"""Checks of a table's rows: rules compiled into one pass of SQL, Great Expectations for the rest, quarantine."""
