"""The `forebay` command: one file per command, found by its name."""
