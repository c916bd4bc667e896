"""The connection doctor on real parts: SeaweedFS, the lens, PostgreSQL with TLS, Trino, DuckDB, Spark's parts."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from store import free_ports
from trino_server import TrinoServer

from forebay.connections import doctor
from forebay.connections.model import Connection, Report, Step
from forebay.connections.network import resolve
from forebay.engines.spark import spark_home
from forebay.lake.connection import CatalogConfig
from forebay.lake.rest import Rest
from forebay.machine import java
from forebay.stack.services import postgres_program

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from broken import DAY, Authority, speaking


def check(connection: Connection, timeout: float = 20, **more: Any) -> Report:
    events = list(doctor.check_all([connection], timeout=timeout, **more))
    report = events[-1].report
    assert report is not None
    return report


def step(report: Report, key: str) -> Step:
    return next(each for each in report.steps if each.key == key)


def states(report: Report) -> dict[str, str]:
    return {each.key: each.state for each in report.steps}


def store(config: CatalogConfig, bucket: str = "lake", **fields: Any) -> Connection:
    extra = {"endpoint_url": config.s3_endpoint, "service_config": {"s3": {"bucket_name": bucket}}}
    values = {"login": config.access_key, "password": config.secret_key, "extra": extra, **fields}
    return Connection.of("lake_s3", "aws", **values)


def catalog(config: CatalogConfig, lens: str = "", **fields: Any) -> Connection:
    extra = {
        "warehouse": config.warehouse, "s3.endpoint": config.s3_endpoint, "s3.region": "us-east-1",
        "s3.path-style-access": "true", **({"lens": lens} if lens else {}), **fields.pop("extra", {}),
    }  # fmt: skip
    values = {"host": config.uri, "login": config.access_key, "password": config.secret_key, **fields}
    return Connection.of("lake_catalog", "iceberg", extra=extra, **values)


def test_a_store_that_works(config: CatalogConfig) -> None:
    report = check(store(config))
    assert report.state == "ok", report
    assert states(report) == {
        "resolve": "ok", "connect": "ok", "tls": "skipped", "authenticate": "ok", "list": "ok", "read": "skipped",
        "write": "ok",
    } or step(report, "read").state == "ok"  # fmt: skip
    assert step(report, "write").found == "written, read back, deleted"
    assert "SeaweedFS" in report.facts["server"]
    assert report.facts["style"] == "path"
    assert report.facts["clock"].startswith("as here")
    # The probe is gone: nothing of it is listed.
    again = check(store(config))
    assert step(again, "list").found == step(report, "list").found


def test_a_store_with_a_wrong_key_or_bucket(config: CatalogConfig) -> None:
    unknown = check(store(config, login="nobody"))
    assert "knows no access key 'nobody'" in step(unknown, "authenticate").found
    wrong = check(store(config, password="not-the-secret"))
    assert step(wrong, "authenticate").found == "the secret key is wrong"
    missing = check(store(config, "laek"))
    assert step(missing, "list").found == "there is no bucket 'laek'"
    assert "Did you mean 'lake'?" in step(missing, "list").hint
    assert states(missing)["write"] == "skipped"
    nobody = check(store(config, login="", password=""))
    assert "holds no key" in step(nobody, "authenticate").found
    swapped = check(store(replace(config, s3_endpoint=config.uri)))
    assert step(swapped, "authenticate").state == "bad"


def test_a_catalog_that_works(config: CatalogConfig, lens: str, namespace: str) -> None:
    made = config.pyiceberg()
    made.create_namespace(namespace)
    made.create_table(f"{namespace}.rows", schema=pa.schema([("x", pa.int64())]))
    with Rest(config) as rest:
        before = rest.namespaces()
        report = check(catalog(config, lens))
        assert report.state == "ok", report
        assert set(states(report).values()) <= {"ok", "skipped"}
        assert states(report)["read"] == "ok"
        assert states(report)["write"] == "ok"
        assert states(report)["lens"] == "ok"
        assert rest.namespaces() == before
    assert report.facts["warehouse"] == config.warehouse


def test_a_catalog_with_something_wrong(config: CatalogConfig, lens: str) -> None:
    wrong = check(catalog(config, password="not-the-secret"))
    assert "refuses the credential of" in step(wrong, "authenticate").found
    assert states(wrong)["list"] == "skipped"
    (closed,) = free_ports(1)
    down = check(catalog(config, f"http://127.0.0.1:{closed}"))
    assert "the lens does not answer" in step(down, "lens").found
    assert states(down)["list"] == "ok"
    apart = check(catalog(config, lens, extra={"s3.endpoint": f"http://127.0.0.1:{closed}"}))
    assert "its store does not" in step(apart, "read").found
    store_not_catalog = check(catalog(config, host=config.s3_endpoint))
    assert store_not_catalog.state == "bad"


def test_duckdb_and_spark_ask_the_catalog_they_name(config: CatalogConfig) -> None:
    others = {"lake_catalog": catalog(config), "broken": catalog(config, password="wrong-secret")}
    for conn_type, key in (("duckdb", "read"), ("spark", "start")):
        good = Connection.of("engine", conn_type, extra={"catalog": "lake_catalog"})
        report = check(good, lookup=others.get)
        assert report.state == "ok", report
        assert step(report, key).state == "ok"
        assert "answers" in step(report, "list").found
        bad = Connection.of("engine", conn_type, extra={"catalog": "broken"})
        assert "broken: the catalog refuses" in step(check(bad, lookup=others.get), "list").found
        none = Connection.of("engine", conn_type, extra={"catalog": "nothing"})
        assert "there is no connection 'nothing'" in step(check(none, lookup=others.get), "list").found


@dataclass
class Postgres:
    """A PostgreSQL of the tests' own, with a password."""

    port: int
    folder: Path

    def connection(self, **fields: Any) -> Connection:
        values = {
            "host": "127.0.0.1",
            "port": self.port,
            "schema": "postgres",
            "login": "admin",
            "password": "right-one",
        }
        return Connection.of("db", "postgres", **{**values, **fields})  # fmt: skip


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    folder = tmp_path_factory.mktemp("postgres")
    password, data = folder / "password", folder / "data"
    password.write_text("right-one")
    options = (
        "--username=admin",
        "--auth=scram-sha-256",
        f"--pwfile={password}",
        "--no-sync",
        "--locale=C.UTF-8",
    )
    subprocess.run(
        [*postgres_program("initdb"), *options, "-D", str(data)], check=True, capture_output=True, cwd=folder
    )
    (port,) = free_ports(1)
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": f'"{folder}"',
                "shared_buffers": "16MB", "max_connections": 20, "fsync": "off"}  # fmt: skip
    given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*postgres_program("postgres"), "-D", str(data), *given], stdout=log, stderr=log, cwd=folder
        )
    try:
        found = Postgres(port, folder)
        for _ in range(600):
            assert process.poll() is None, (folder / "log").read_text()
            if step(check(found.connection(), timeout=5), "authenticate").state == "ok":
                break
            time.sleep(0.1)
        else:
            raise AssertionError((folder / "log").read_text())
        yield found
    finally:
        process.send_signal(2)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def with_tls(port: int, *certificates: Path) -> Callable[[socket.socket], None]:
    """What a PostgreSQL with TLS does with a line; the one from the wheel has none, so this stands before it.

    Several certificates are those of several servers behind one address: each line gets to the next one.
    """
    contexts = []
    for certificate in certificates:
        contexts.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        contexts[-1].load_cert_chain(certificate)
    turns = itertools.cycle(contexts)

    def talk(line: socket.socket) -> None:
        context = next(turns)
        assert line.recv(8) == struct.pack("!ii", 8, 80877103)
        line.sendall(b"S")
        with (
            context.wrap_socket(line, server_side=True) as safe,
            socket.create_connection(("127.0.0.1", port)) as real,
        ):
            safe.setblocking(False)
            while True:
                ready, _, _ = select.select([safe, real], [], [], 10)
                if not ready:
                    return
                for one, other in ((safe, real), (real, safe)):
                    with contextlib.suppress(ssl.SSLWantReadError, BlockingIOError):
                        if one in ready:
                            data = one.recv(65536)
                            if not data:
                                return
                            other.sendall(data)

    return talk


def test_a_database_that_works(postgres: Postgres) -> None:
    report = check(postgres.connection())
    assert report.state == "ok", report
    assert report.facts["server"].startswith("PostgreSQL 18")
    assert step(report, "tls").found == "not used"
    assert "rolled back" in step(report, "write").found
    by_socket = postgres.connection(host=str(postgres.folder))
    report = check(by_socket)
    assert report.state == "ok", report
    assert step(report, "connect").found == "a Unix socket"


def test_a_database_behind_tls(postgres: Postgres, tmp_path: Path) -> None:
    without = check(postgres.connection(extra={"sslmode": "require"}))
    assert step(without, "tls").found == "the server has no TLS, and sslmode is require"
    authority = Authority.new()
    with speaking(with_tls(postgres.port, authority.issue(tmp_path))) as port:
        report = check(postgres.connection(port=port))
        assert report.state == "ok", report
        assert "not verified (sslmode prefer)" in step(report, "tls").found
        full = postgres.connection(port=port, extra={"sslmode": "verify-full"})
        assert "does not trust" in step(check(full), "tls").found
        assert check(full, authorities=authority.pem).state == "ok"
    with speaking(with_tls(postgres.port, authority.issue(tmp_path, until=-1 * DAY))) as port:
        report = check(postgres.connection(port=port))
        assert "has expired" in step(report, "tls").found
        assert report.state == "warn"
    with speaking(with_tls(postgres.port, authority.issue(tmp_path, until=3 * DAY))) as port:
        for mode in ("prefer", "verify-full"):
            report = check(postgres.connection(port=port, extra={"sslmode": mode}), authorities=authority.pem)
            assert step(report, "tls").state == "warn", mode
            assert "ends in 3 days: store.example" in step(report, "tls").found


def test_a_database_whose_certificate_has_a_name(postgres: Postgres, tmp_path: Path) -> None:
    authority = Authority.new()
    with speaking(with_tls(postgres.port, authority.issue(tmp_path, address="localhost"))) as port:
        full = postgres.connection(host="localhost", port=port, extra={"sslmode": "verify-full"})
        report = check(full, authorities=authority.pem)
        assert report.state == "ok", report
        # The login goes to the address, and asks for the same name.
        other = postgres.connection(port=port, extra={"sslmode": "verify-full"})
        assert "is not for 127.0.0.1" in step(check(other, authorities=authority.pem), "tls").found
        # This mode asks for an authority and for no name, as PostgreSQL's own clients have it.
        some = postgres.connection(port=port, extra={"sslmode": "verify-ca"})
        assert check(some, authorities=authority.pem).state == "ok"


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_password_is_not_sent_to_another_server_than_was_looked_at(
    postgres: Postgres, tmp_path: Path, mode: str
) -> None:
    authority, stranger = Authority.new(), Authority.new()
    (tmp_path / "other").mkdir()
    shown = authority.issue(tmp_path), stranger.issue(tmp_path / "other")
    with speaking(with_tls(postgres.port, *shown)) as port:
        report = check(postgres.connection(port=port, extra={"sslmode": mode}), authorities=authority.pem)
    assert step(report, "tls").state == "ok", report
    assert step(report, "authenticate").state == "bad"
    assert "shows another certificate" in step(report, "authenticate").found


def test_a_database_with_something_wrong(postgres: Postgres) -> None:
    wrong = check(postgres.connection(password="wrong-one"))
    assert "does not take the password of 'admin'" in step(wrong, "authenticate").found
    assert states(wrong)["list"] == "skipped"
    missing = check(postgres.connection(schema="nothing"))
    assert "there is no database 'nothing'" in step(missing, "authenticate").found
    import asyncio

    import asyncpg

    async def reader() -> None:
        admin = await asyncpg.connect(
            host="127.0.0.1", port=postgres.port, user="admin", password="right-one", database="postgres"
        )
        await admin.execute("CREATE ROLE reader LOGIN PASSWORD 'read-only'")
        await admin.close()

    asyncio.run(reader())
    report = check(postgres.connection(login="reader", password="read-only"))
    assert report.state == "warn", report
    assert report.word.startswith("can read, cannot make a table")


def test_a_trino_that_works(trino: TrinoServer) -> None:
    server = trino.server
    certificate = Path(str(server.verify)).read_text()
    fields = {
        "host": server.host, "port": server.port, "login": server.user, "password": server.password,
        "extra": {"http_scheme": "https", "verify": str(server.verify)},
    }  # fmt: skip
    report = check(Connection.of("lake_sql", "trino", **fields), authorities=certificate)
    assert report.state == "ok", report
    assert report.facts["server"] == "Trino 476"
    assert step(report, "read").state == "ok"
    # The file that the connection names is not opened: nobody vouches for the certificate then.
    alone = check(Connection.of("lake_sql", "trino", **fields))
    assert "opens no file that a connection names" in step(alone, "tls").hint
    wrong = check(
        Connection.of("lake_sql", "trino", **{**fields, "password": "wrong"}), authorities=certificate
    )
    assert "the login is refused" in step(wrong, "authenticate").found


@pytest.fixture
def spark_master(tmp_path: Path) -> Iterator[int]:
    """The port of a standalone master, out of PySpark's jars."""
    port, page = free_ports(2)
    command = [
        str(java.require() / "bin" / "java"), "-Xmx300m", "-cp", f"{spark_home()}/jars/*", "org.apache.spark.deploy.master.Master",
        "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page),
    ]  # fmt: skip
    with (tmp_path / "master.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"}
        )
    try:
        deadline = time.monotonic() + 60
        while "I have been elected leader" not in (tmp_path / "master.log").read_text():
            assert process.poll() is None, (tmp_path / "master.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "master.log").read_text()
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def test_a_standalone_master(config: CatalogConfig, spark_master: int) -> None:
    lookup = {"lake_catalog": catalog(config)}.get
    named = Connection.of("lake_spark", "spark", host=f"spark://127.0.0.1:{spark_master}")
    report = check(named, lookup=lookup)
    assert report.state == "ok", report
    assert states(report) == {
        "resolve": "ok", "connect": "ok", "tls": "skipped", "start": "ok", "list": "ok",
    }  # fmt: skip
    assert report.facts["master"] == f"spark://127.0.0.1:{spark_master}"
    assert report.facts["server"] == f"Spark {version('pyspark')}"
    # As tasks connect: the port may stand in the connection's own field.
    apart = Connection.of("lake_spark", "spark", host="spark://127.0.0.1", port=spark_master)
    assert check(apart, lookup=lookup).state == "ok"
    (closed,) = free_ports(1)
    gone = check(Connection.of("lake_spark", "spark", host=f"spark://127.0.0.1:{closed}"), lookup=lookup)
    assert "refuses connections" in step(gone, "connect").found
    assert states(gone)["start"] == "skipped"


def test_no_proxy_is_asked(config: CatalogConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setitem(os.environ, name, "http://127.0.0.1:1")
    assert check(store(config)).state == "ok"


def test_a_name_of_this_machine_is_resolved() -> None:
    import asyncio

    assert next(str(each) for each in asyncio.run(resolve("localhost", 80))) in ("127.0.0.1", "::1")
