"""A folder served over HTTP on the loopback address, with a user's name and password where wanted."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Site:
    """Address of the folder, and the paths that were asked for with the right password."""

    url: str
    requests: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@contextmanager
def site(folder: Path, user: str = "", password: str = "") -> Iterator[Site]:
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    served = Site("")

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self._admitted():
                super().do_GET()

        def do_HEAD(self) -> None:
            if self._admitted():
                super().do_HEAD()

        def _admitted(self) -> bool:
            if user and self.headers.get("authorization") != wanted:
                served.refused.append(self.path)
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="a repository"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return False
            served.requests.append(self.path)
            return True

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
