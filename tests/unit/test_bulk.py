"""Many documents at once, from servers that end lines when nobody expects it, answer in pieces, or not at all."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from broken import DAY, Authority, answering, speaking

from forebay.lake import bulk
from forebay.lake.bulk import documents

PATHS = [f"/v1/tables/t{number}" for number in range(200)]
Answer = Callable[[str, int], bytes]
"""The bytes for a path; the number says how many the line had before."""


def in_pieces(path: str) -> bytes:
    body = orjson.dumps({"path": path, "padding": "x" * 5000})
    parts = (body[:7], body[7:4000], body[4000:])
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b"")
    )


def whole(path: str, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    body = orjson.dumps({"path": path})
    lines = (b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *headers, b"", b"")
    return b"\r\n".join(lines) + body


def server(answer: Answer, heads: list[str], ends: Callable[[int], bool] = lambda number: False) -> Callable[[socket.socket], None]:  # fmt: skip
    """Talks HTTP on a line until it has answered as many as `ends` says."""

    def talk(line: socket.socket) -> None:
        number, received = 0, b""
        while not ends(number):
            while b"\r\n\r\n" not in received:
                part = line.recv(65536)
                if not part:
                    return
                received += part
            head, _, received = received.partition(b"\r\n\r\n")
            heads.append(head.decode())
            line.sendall(answer(head.decode().split()[1], number))
            number += 1

    return talk


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=httpx.Timeout(5, connect=5), headers={"Authorization": "Bearer one"}) as made:
        yield made


def read(port: int, client: httpx.Client) -> dict[str, object]:
    found = documents(f"http://127.0.0.1:{port}/catalog", PATHS, client)
    return {PATHS[place]: document for place, document in found}


def expected() -> set[str]:
    return {f"/catalog{path}" for path in PATHS}


@pytest.mark.parametrize("body", [in_pieces, whole])
def test_each_is_given_once(client: httpx.Client, body: Callable[[str], bytes]) -> None:
    heads: list[str] = []
    with speaking(server(lambda path, number: body(path), heads)) as port:
        found = read(port, client)
    assert {path: each["path"] for path, each in found.items()} == {path: f"/catalog{path}" for path in PATHS}  # type: ignore[index]
    assert len(heads) == len(PATHS)
    assert f"\r\nhost: 127.0.0.1:{port}\r\n" in heads[0]
    assert heads[0].endswith("\r\nauthorization: Bearer one")


def test_lines_that_end(client: httpx.Client) -> None:
    """As a proxy does after so many requests: it says so, or only hangs up when the next one comes."""

    def says(path: str, number: int) -> bytes:
        return whole(path, *([b"connection: close"] if number == 4 else []))

    for answer in (says, lambda path, number: whole(path)):
        heads: list[str] = []
        with speaking(server(answer, heads, lambda number: number == 5)) as port:
            found = read(port, client)
        assert {each["path"] for each in found.values()} == expected()  # type: ignore[index]


def test_what_is_not_there(client: httpx.Client) -> None:
    def odd(path: str) -> bool:
        return int(path.rpartition("t")[2]) % 2 == 1

    def answer(path: str, number: int) -> bytes:
        return whole(path, status=b"404 Not Found" if odd(path) else b"200 OK")

    def redirected(path: str, number: int) -> bytes:
        return whole(path, b"location: http://127.0.0.1:1/", status=b"302 Found")

    with speaking(server(answer, [])) as port:
        found = read(port, client)
    assert {path for path, each in found.items() if each is None} == {path for path in PATHS if odd(path)}
    with speaking(server(redirected, [])) as port:
        assert set(read(port, client).values()) == {None}


def test_over_tls(client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority.new()
    monkeypatch.setitem(os.environ, "SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    (tmp_path / "authority.pem").write_text(authority.pem)
    certificate = authority.issue(tmp_path, until=90 * DAY)
    with answering(lambda request: (200, {}, orjson.dumps(request.path)), certificate) as served:
        found = dict(documents(served.url, PATHS, client))
        assert [found[place] for place in range(len(PATHS))] == PATHS
        (tmp_path / "authority.pem").write_text(Authority.new().pem)
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            dict(documents(served.url, PATHS, client))


def test_a_login_that_is_renewed_meanwhile(client: httpx.Client) -> None:
    heads: list[str] = []
    with speaking(server(lambda path, number: whole(path), heads)) as port:
        for _ in documents(f"http://127.0.0.1:{port}", PATHS, client):
            client.headers["Authorization"] = "Bearer two"
    # By what each asks for: the server's threads note heads in any order.
    login = {head.split()[1]: head.rpartition("\r\n")[2] for head in heads}
    assert login[PATHS[0]] == "authorization: Bearer one"
    assert login[PATHS[-1]] == "authorization: Bearer two"


def test_one_who_takes_his_time_with_what_has_come(client: httpx.Client) -> None:
    client.timeout = httpx.Timeout(0.3)
    heads: list[str] = []
    with speaking(server(lambda path, number: whole(path), heads)) as port:
        found = documents(f"http://127.0.0.1:{port}", PATHS, client)
        first = next(found)
        time.sleep(1)
        # Nothing goes on meanwhile but what had been asked for, and that is not late for it.
        assert len(heads) <= 4 * bulk._AT_ONCE
        assert len([first, *found]) == len(PATHS)


def test_a_catalog_that_goes_away(client: httpx.Client) -> None:
    with speaking(lambda line: None) as port, pytest.raises(httpx.ReadError, match="hung up"):
        read(port, client)
    with socket.socket() as nobody:
        # Taken, and nobody listens: a server that has just been closed may still take a line.
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(httpx.ConnectError):
            read(nobody.getsockname()[1], client)
    with speaking(lambda line: line.sendall(b"SSH-2.0-OpenSSH\r\n")) as port, pytest.raises(httpx.ReadError):
        read(port, client)
    client.timeout = httpx.Timeout(0.3)
    held = threading.Event()
    began = time.monotonic()
    with speaking(lambda line: bool(held.wait(5))) as port, pytest.raises(httpx.ReadTimeout):
        read(port, client)
    held.set()
    assert time.monotonic() - began < 3
