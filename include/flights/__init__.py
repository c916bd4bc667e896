"""Python of the workspace `flights`."""
