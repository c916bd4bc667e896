"""A proxy before a catalog or a lens that tells when a run is published."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_HOP = {"transfer-encoding", "content-length", "connection", "content-encoding", "host"}


class Watch:
    """What is called before and after a commit that publishes; raising there breaks the connection off."""

    def __init__(self) -> None:
        self.hook: Callable[[str], None] = lambda _: None


@contextlib.contextmanager
def proxy(upstream: str, watch: Watch, login: Callable[[], Mapping[str, str]] = dict) -> Iterator[str]:
    """The address of a proxy that hands everything to `upstream`, with the headers of `login`."""
    client = httpx.Client(base_url=upstream, timeout=60, trust_env=False)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {
                name: value for name, value in self.headers.items() if name.lower() not in _HOP
            } | dict(login())
            publishes = self.command == "POST" and b"forebay.published" in body
            try:
                if publishes:
                    watch.hook("before publish")
                answer = client.request(self.command, self.path, content=body, headers=headers)
                if publishes:
                    watch.hook("after publish")
            except (httpx.HTTPError, ConnectionAbortedError):
                self.close_connection = True
                return
            # Whoever asked may be dead by now.
            with contextlib.suppress(OSError):
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name not in _HOP:
                        self.send_header(name, value)
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.content)

        do_GET = do_HEAD = do_POST = do_DELETE = do

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        client.close()
