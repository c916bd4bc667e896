"""The driver's log, line by line as it is written."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from forebay.engines.spark_api import Refused, SparkApi, Unreachable
from forebay.engines.spark_reasons import role_of


class DriverLog:
    """Hands each line of the driver to `log`; after a lost connection it goes on from where it was."""

    def __init__(self, api: SparkApi, log: Callable[[str], None]) -> None:
        self._api, self._log = api, log
        self.tail: deque[str] = deque(maxlen=400)
        self.began = False
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._seen = 0

    def look(self, pods: Sequence[Mapping[str, Any]]) -> None:
        """Begin to read when the driver has begun to write."""
        for pod in pods:
            phase = (pod.get("status") or {}).get("phase")
            if role_of(pod) == "driver" and phase in ("Running", "Succeeded", "Failed"):
                self.began = True
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._read,
                        args=(str(pod["metadata"]["name"]),),
                        name="forebay-log",
                        daemon=True,
                    )
                    self._thread.start()

    def finish(self, seconds: float = 10.0) -> None:
        if self._thread is not None:
            self._thread.join(seconds)
        self._over.set()

    def _read(self, pod: str) -> None:
        while not self._over.is_set():
            try:
                for number, line in enumerate(self._api.log(pod), 1):
                    # A connection that broke begins at the first line again.
                    if number > self._seen:
                        self._seen = number
                        self.tail.append(line)
                        self._log(line)
            except Unreachable:
                time.sleep(1.0)
            except Refused as error:
                if error.status != 400:
                    self._log(f"The driver's log cannot be read: {error}")
                    return
                time.sleep(1.0)
            else:
                return
