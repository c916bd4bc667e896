"""Errors of Trino: what they say, what to do about them, and whether another try might end otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from forebay.engines.background import EngineError
from forebay.engines.trino_end import ran_out_of_memory

if TYPE_CHECKING:
    from trino.exceptions import HttpError, TrinoQueryError


class TrinoError(EngineError):
    """Trino could not do the work; `name` is its own word for why, `place` the line and column in
    `sql`, as it was sent."""

    def __init__(
        self,
        message: str,
        name: str = "",
        kind: str = "",
        place: tuple[int, int] | None = None,
        sql: str = "",
        refused: bool = False,
    ) -> None:
        super().__init__(message)
        self.name, self.kind, self.place, self.sql, self.refused = name, kind, place, sql, refused

    @property
    def transient(self) -> bool:
        """Whether it may be over by the next try: a server that was away, a queue that was full, a lost race.

        Not so where the SQL, the data, a right or a limit is the cause, nor where a person ended the query.
        """
        if self.name in _TRANSIENT:
            return True
        return (
            self.kind in ("INTERNAL_ERROR", "EXTERNAL") and not self.refused and self.name not in _BY_PERSON
        )


# What Trino itself calls an error of the user, of the connection or of too few resources, though it passes.
_TRANSIENT = {
    "DOWN", "QUERY_GONE", "SERVER_STARTING_UP", "SERVER_SHUTTING_DOWN", "CATALOG_NOT_FOUND", "CATALOG_NOT_AVAILABLE",
    "CLUSTER_OUT_OF_MEMORY", "QUERY_QUEUE_FULL", "NO_NODES_AVAILABLE", "ADMINISTRATIVELY_PREEMPTED", "ABANDONED_QUERY",
    "TRANSACTION_CONFLICT",
}  # fmt: skip
_BY_PERSON = {"USER_CANCELED", "ADMINISTRATIVELY_KILLED"}

_ADVICE: Sequence[tuple[str, str]] = (
    (
        "EXCEEDED_TIME_LIMIT",
        "Another try takes as long: select less, or raise the timeout in workspace.yaml or query_max_run_time in the "
        "connection's extra (session).",
    ),
    (
        "EXCEEDED",
        "Another try needs as much: select less, or raise the limit in Trino's configuration or the connection's extra "
        "(session).",
    ),
    (
        "ADMINISTRATIVELY_KILLED",
        "An administrator of Trino ended it, so it is not tried again by itself: ask there, then clear the task in "
        "Airflow.",
    ),
    ("ADMINISTRATIVELY_PREEMPTED", "Trino made room for something more urgent: run the task again later."),
    ("CLUSTER_OUT_OF_MEMORY", "Others took the memory: run the task again later, or give Trino more."),
    (
        "QUERY_QUEUE_FULL",
        "Run the task again later; if it happens often, raise max_concurrent_tasks in workspace.yaml or start fewer "
        "runs at once.",
    ),
    ("NO_NODES_AVAILABLE", "No worker of Trino is up: look at its nodes."),
    ("SERVER_STARTING_UP", "Trino is still starting: run the task again in a minute."),
    ("CATALOG_NOT_FOUND", "The run's catalog was dropped while the task worked: run the task again."),
    (
        "USER_CANCELED",
        "Somebody cancelled the query in Trino, so it is not tried again by itself: clear the task in Airflow to run it.",
    ),
    ("ABANDONED_QUERY", "Trino heard nothing of the task for too long: run the task again."),
    (
        "PERMISSION_DENIED",
        "Trino's access control refuses it to the connection's user: have the right given, or name another connection "
        "as conn_id.",
    ),
)

# What the lens or the catalog decided, and would decide again.
_REFUSALS = re.compile(
    r"org\.apache\.iceberg\.exceptions\.(Forbidden|BadRequest|NotAuthorized|UnprocessableEntity|Validation|AlreadyExists)"
    r"Exception"
)


def of_query(error: TrinoQueryError, sql: str) -> TrinoError:
    """What Trino says of a query that failed."""
    name = str(error.error_name or "")
    causes = _causes(error.failure_info)
    refused = any(_REFUSALS.match(str(cause.get("type") or "")) for cause in causes)
    message, deepest = str(error.message), str(causes[-1].get("message") or "") if causes else ""
    # Trino keeps to itself what the catalog or the store answered.
    if deepest and deepest not in message:
        message = f"{message.rstrip('.')}: {deepest}"
    advice = next((words for begin, words in _ADVICE if name.startswith(begin)), "")
    message = f"{message.rstrip('.')}. {advice}" if advice else message
    return TrinoError(message, name, str(error.error_type or ""), error.error_location, sql, refused)


def of_http(error: HttpError, address: str, user: str) -> TrinoError:
    """What an HTTP status other than success means."""
    said = str(error)
    if "404" in said or "410" in said:
        return TrinoError(
            f"Trino at {address} no longer knows the query: it was restarted in between. What the query had not "
            f"committed is lost; run the task again.{ran_out_of_memory(address, gone=True)}",
            "QUERY_GONE",
        )
    if "401" in said:
        return TrinoError(
            f"Trino at {address} refuses user {user}: correct login and password of the connection.", "LOGIN"
        )
    if "403" in said:
        return TrinoError(
            f"Trino at {address} does not let {user} ask: {said[:300]}. Look at its access control, and at http_scheme of "
            "the connection: a password goes over https only.",
            "LOGIN",
        )
    if "authenticators were not loaded" in said:
        return TrinoError(
            f"Trino at {address} is still starting: run the task again in a minute.{ran_out_of_memory(address)}",
            "SERVER_STARTING_UP",
        )
    away = re.search(r"\b(429|502|503|504)\b", said) is not None
    return TrinoError(f"Trino at {address} answers {said[:300]}", "DOWN" if away else "HTTP")


def of_connection(error: Exception, address: str) -> TrinoError:
    """What it means that there was no answer."""
    import requests

    if isinstance(error, requests.exceptions.SSLError):
        return TrinoError(
            f"Trino at {address} shows a certificate that is not trusted. Name the file of its authority as verify in the "
            "connection's extra; that of the embedded Trino is .forebay/trino/certificate.pem.",
            "CERTIFICATE",
        )
    return TrinoError(
        f"Trino at {address} does not answer ({type(error).__name__}). Is it up? See forebay status."
        f"{ran_out_of_memory(address)}",
        "DOWN",
    )


def _causes(failure: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    found = []
    while failure:
        found.append(failure)
        failure = failure.get("cause")
    return found
