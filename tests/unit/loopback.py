"""A folder served over HTTP on the loopback address: as a site or as a proxy, with a password, with TLS."""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Site:
    """Address of the folder, and the paths that were asked for with the right password and with none or a wrong one."""

    url: str
    requests: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def url_with(self, user: str, password: str) -> str:
        return self.url.replace("://", f"://{user}:{password}@")


@contextmanager
def site(
    folder: Path, user: str = "", password: str = "", *, proxy: bool = False, certificate: Path | None = None
) -> Iterator[Site]:
    """Serves `folder`; as a proxy it answers for every host. `certificate` is a PEM file with its key."""
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
            asked = self.path
            if proxy:
                self.path = urlsplit(self.path).path
            given = self.headers.get("Proxy-Authorization" if proxy else "Authorization")
            if not user or given == wanted:
                served.requests.append(asked)
                return True
            served.refused.append(asked)
            self.send_response(407 if proxy else 401)
            self.send_header(
                "Proxy-Authenticate" if proxy else "WWW-Authenticate", 'Basic realm="a repository"'
            )
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "http" if certificate is None else "https"
        served.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
