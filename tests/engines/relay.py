"""A relay of TCP connections that can be cut: a server that is away, while what is behind it is not."""

from __future__ import annotations

import contextlib
import socket
import threading
from urllib.parse import urlsplit


class Relay:
    """Stands before one address. `cut` makes it as if nobody listened there, until `mend`."""

    def __init__(self, upstream: str) -> None:
        found = urlsplit(upstream)
        self._upstream = (str(found.hostname), found.port or 80)
        self._port = 0
        self.mend()
        self.address = f"{found.scheme}://127.0.0.1:{self._port}"

    def mend(self) -> None:
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", self._port))
        self._port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def cut(self) -> None:
        for each in (self._server, *self._open):
            # A thread that waits in it is woken by this, not by its closing.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.create_connection(self._upstream)
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_copy, args=(one, other), daemon=True).start()


def _copy(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)
