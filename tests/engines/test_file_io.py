"""How PyIceberg's files reach the store."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from lake import Lake

from forebay.lake.connection import CatalogConfig
from forebay.lake.file_io import LakeFileIO

ASKED: list[str] = []


class Counting(BaseHTTPRequestHandler):
    """A store that takes whatever comes."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        ASKED.append(f"{self.command} {self.path}")
        self.rfile.read(
            int(self.headers.get("x-amz-decoded-content-length") or self.headers["content-length"])
        )
        self.send_response(200)
        self.send_header("content-length", "0")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True

    do_POST = do_PUT

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def counting() -> Iterator[str]:
    ASKED.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_small_file_is_one_request(config: CatalogConfig, counting: str) -> None:
    files = LakeFileIO(replace(config, s3_endpoint=counting).pyiceberg_properties())
    for each in (files, pickle.loads(pickle.dumps(files))):
        with each.new_output("s3://warehouse/ns/t/metadata/m0.avro").create(overwrite=True) as file:
            file.write(b"some")
            file.write(b"thing")
    assert [each.partition("?")[0] for each in ASKED] == ["PUT /warehouse/ns/t/metadata/m0.avro"] * 2


@pytest.mark.parametrize("size", [0, 1, 12_000_000])
def test_a_file_of_any_size(lake: Lake, size: int) -> None:
    lake.directly("t", "(1)")
    table = lake.config.pyiceberg().load_table(lake.name("t"))
    assert isinstance(table.io, LakeFileIO)
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    address = f"{table.location()}/data/any-{size}"
    with table.io.new_output(address).create(overwrite=True) as file:
        file.write(content)
    with table.io.new_input(address).open() as found:
        assert found.read() == content
