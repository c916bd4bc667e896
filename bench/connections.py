"""200 connections checked at the same time, 20 of them black holes. Peer: the same checks one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe

from forebay.connections import doctor
from forebay.connections.model import Connection
from harness import Row, median, say

CONNECTIONS, HOLES, TIMEOUT = 200, 20, 5.0
_LISTED = (
    b"<ListAllMyBucketsResult><Buckets><Bucket><Name>lake</Name></Bucket></Buckets></ListAllMyBucketsResult>"
)


def measure(rounds: int) -> list[Row]:
    with servers() as port, black_hole() as silent:
        connections = [_connection(number, port, silent) for number in range(CONNECTIONS)]
        list(doctor.check_all(connections[HOLES : HOLES + 10], timeout=TIMEOUT))
        took, healthy, answered = [], [], []
        for _ in range(rounds):
            seconds, each, last = _round(connections)
            took.append(seconds)
            healthy.append(each[int(len(each) * 0.99)])
            answered.append(last)
            say(f"all {seconds:.2f} s; healthy p99 {healthy[-1] * 1000:.0f} ms, the last after {last:.2f} s")
        began = time.monotonic()
        for connection in connections[HOLES : HOLES + 50]:
            list(doctor.check_all([connection], timeout=TIMEOUT))
        alone = (time.monotonic() - began) / 50
    late, p99 = median(took) - TIMEOUT, median(healthy)
    peer = alone * (CONNECTIONS - HOLES) + HOLES * TIMEOUT
    what = f"{CONNECTIONS} connections checked, {HOLES} of them black holes"
    return [
        (what, f"time-out + {late:.2f} s", "time-out + 0.5 s", late <= 0.5),
        ("a healthy one among them, p99", f"{p99 * 1000:.0f} ms", "≤ 100 ms", p99 <= 0.1),
        ("the last healthy one, from the click", f"{median(answered):.2f} s", "", True),
        (f"{what}, one after the other", f"{peer:.0f} s", "", True),
    ]


def _connection(number: int, port: int, silent: int) -> Connection:
    """Black holes first; then HTTP, S3 with all steps, and TCP in turn."""
    name, at = f"c{number}", silent if number < HOLES else port
    if number % 3 == 0:
        return Connection.of(name, "http", host=f"http://127.0.0.1:{at}")
    if number % 3 == 1:
        extra = {
            "endpoint_url": f"http://127.0.0.1:{at}",
            "service_config": {"s3": {"bucket_name": "lake"}},
        }
        return Connection.of(name, "aws", login="key", password="secret-key", extra=extra)
    return Connection.of(name, "generic", host="127.0.0.1", port=at)


def _round(connections: list[Connection]) -> tuple[float, list[float], float]:
    began, last = time.monotonic(), 0.0
    healthy = []
    for event in doctor.check_all(connections, timeout=TIMEOUT):
        report = event.report
        if report is None:
            continue
        if int(report.conn_id[1:]) < HOLES:
            if report.state != "bad":
                raise SystemExit(f"the black hole answered: {report}")
        elif report.state == "bad":
            raise SystemExit(f"a healthy connection failed: {report}")
        else:
            healthy.append(report.seconds)
            last = time.monotonic() - began
    return time.monotonic() - began, sorted(healthy), last


@contextlib.contextmanager
def servers() -> Iterator[int]:
    """A small S3 and web server in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Pipe) -> None:
    stored: dict[bytes, bytes] = {}

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, path, _ = head.split(b" ", 2)
                size = next(
                    (
                        int(line[15:])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length")
                    ),
                    0,
                )
                sent = await reader.readexactly(size)
                body = _LISTED if path == b"/" else stored.get(path, b"<ListBucketResult/>")
                if method == b"PUT":
                    stored[path], body = sent, b""
                if method == b"DELETE":
                    stored.pop(path, None)
                    body = b""
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=512)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port whose packets vanish: its queue is full and nobody takes from it."""
    with contextlib.ExitStack() as lines:
        server = lines.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(2):
            line = lines.enter_context(socket.socket())
            line.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                line.connect(server.getsockname())
        yield server.getsockname()[1]
