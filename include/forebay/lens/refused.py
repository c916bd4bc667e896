"""What the lens does not pass on, with the answer that Iceberg's clients understand."""

from __future__ import annotations


class Refused(Exception):
    """A commit the lens does not pass on: HTTP status, the error type of the REST specification, and why."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


def forbidden(message: str) -> Refused:
    return Refused(403, "ForbiddenException", message)


def conflict(message: str) -> Refused:
    """For the client to look again and repeat its commit, as Iceberg's clients do."""
    return Refused(409, "CommitFailedException", message)
