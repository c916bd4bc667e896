"""Work that can be stopped: it runs in a thread while the caller waits where signals are heard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from forebay.errors import ForebayError

Result = TypeVar("Result")


class EngineError(ForebayError):
    """The engine could not do the work; the text says what and why."""


class Cancelled(EngineError):
    """The work was stopped on request; nothing was committed after that."""


class Background(Generic[Result]):
    """Runs one function in a thread. `cancel` may be called from a signal handler.

    Airflow calls on_kill in a signal handler of the main thread, and Python runs those between
    bytecodes only: a main thread that sits inside DuckDB or Arrow would be killed before it ever heard of it.
    """

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._done = threading.Event()
        self._cancelled = threading.Event()

    def run(self, work: Callable[[], Result]) -> Result:
        """The function's result or exception; Cancelled when it ended because of `cancel`."""
        results: list[Result] = []
        errors: list[BaseException] = []

        def body() -> None:
            try:
                self.check()
                results.append(work())
            except BaseException as error:  # noqa: BLE001  handed to the caller below
                errors.append(error)
            finally:
                self._done.set()

        self._done.clear()
        thread = threading.Thread(target=body, name="forebay-work", daemon=True)
        thread.start()
        try:
            # An interrupt that comes between two queries is lost, so it is repeated.
            while not self._done.wait(0.2 if self._cancelled.is_set() else 1.0):
                if self._cancelled.is_set():
                    self._interrupt()
        except BaseException:
            # A timeout or keyboard interrupt raised here must not leave the query running.
            self.cancel()
            self._done.wait(5.0)
            raise
        if errors:
            if self._cancelled.is_set() and not isinstance(errors[0], Cancelled):
                raise Cancelled("The work was cancelled.") from errors[0]
            raise errors[0]
        return results[0]

    def check(self) -> None:
        """Raise Cancelled once `cancel` was called; long work calls this between its steps."""
        if self._cancelled.is_set():
            raise Cancelled("The work was cancelled.")

    def cancel(self) -> None:
        """Stop the work. Takes no lock, returns at once."""
        self._cancelled.set()
        self._interrupt()
