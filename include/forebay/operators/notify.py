"""Sends a job's notifications through Airflow's notifiers."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module, invalidate_caches
from typing import TYPE_CHECKING, Any

from forebay.errors import ForebayError
from forebay.spec.notifications import (
    EmailNotification,
    Notifications,
    NotifierNotification,
    TaskNotifications,
)

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier

SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"


class NotifierError(ForebayError):
    """A notifier class that a job names cannot be used."""


def described(notification: EmailNotification | NotifierNotification) -> tuple[str, dict[str, Any]]:
    """Import path and arguments of the notifier that sends a notification."""
    if isinstance(notification, EmailNotification):
        return SMTP, {"to": list(notification.email)}
    return notification.notifier, dict(notification.arguments)


def notifier(path: str, arguments: dict[str, Any]) -> BaseNotifier:
    """The notifier of an import path; raises NotifierError when it is none or refuses its arguments."""
    from airflow.sdk import BaseNotifier

    module, _, name = path.rpartition(".")
    invalidate_caches()
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise NotifierError(
            f"notifier '{path}' cannot be imported ({error}). Is its provider installed?"
        ) from error
    if not (isinstance(found, type) and issubclass(found, BaseNotifier)):
        raise NotifierError(f"'{path}' is no Airflow notifier (a subclass of airflow.sdk.BaseNotifier).")
    try:
        return found(**arguments)
    except TypeError as error:
        raise NotifierError(f"notifier '{path}' refuses its arguments: {error}.") from error


def callbacks(notifications: Notifications, start: str | None) -> dict[str, list[BaseNotifier]]:
    """Callback arguments of a dag or an operator; `start` names the one for on_start of a task."""
    events: dict[str, Iterable[EmailNotification | NotifierNotification]] = {
        "on_success_callback": notifications.on_success,
        "on_failure_callback": notifications.on_failure,
    }
    if start and isinstance(notifications, TaskNotifications):
        events[start] = notifications.on_start
        events["on_retry_callback"] = notifications.on_retry
    return {
        event: [notifier(*described(one)) for one in wanted] for event, wanted in events.items() if wanted
    }


def deadline_missed(
    context: dict[str, Any] | None = None, *, path: str, arguments: dict[str, Any], **_: object
) -> None:
    """Tells people that a run missed its deadline: what Airflow's deadline alert calls, on the executor."""
    if path == SMTP and "subject" not in arguments:
        run = (context or {}).get("dag_run", {})
        name = (
            f"{run.get('dag_id', 'a job')} {run.get('dag_run_id', '')}".strip()
            if isinstance(run, dict)
            else str(run)
        )
        arguments = {
            **arguments,
            "subject": f"Deadline missed: {name}",
            "html_content": f"{name} is still running.",
        }
    notifier(path, arguments).notify(context or {})  # type: ignore[arg-type]
