"""Two filers of SeaweedFS as the chart's values for sizes m and l have them: on one PostgreSQL, and agreed at any moment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
import yaml
from store import free_ports

from forebay.stack.services import postgres_program, program

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "of-the-tests"
HERE = "127.0.0.1"
WRITES = 50


@contextlib.contextmanager
def running(
    folder: Path, name: str, command: list[str], environment: Mapping[str, str] | None = None, stop: int = signal.SIGTERM
) -> Iterator[Path]:  # fmt: skip
    """A program in a folder of its own, stopped by its process id; yields its log."""
    work = folder / name
    work.mkdir()
    log = work / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=work,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield log
    finally:
        process.send_signal(stop)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a PostgreSQL with a user and an empty database `seaweedfs`, as the chart has them made."""
    import psycopg2

    folder = tmp_path_factory.mktemp("postgres")
    password = folder / "password"
    password.write_text(PASSWORD)
    made = subprocess.run(
        [*postgres_program("initdb"), "-U", "seaweedfs", "--auth=scram-sha-256", f"--pwfile={password}", "-D", "data"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    (port,) = free_ports(1)
    options = ["-c", f"listen_addresses={HERE}", "-c", f"port={port}", "-c", "unix_socket_directories="]
    command = [*postgres_program("postgres"), "-D", str(folder / "data"), *options]
    with running(folder, "server", command, stop=signal.SIGINT) as log:
        for _ in range(600):
            with contextlib.suppress(psycopg2.OperationalError):
                connection = psycopg2.connect(
                    host=HERE, port=port, user="seaweedfs", password=PASSWORD, dbname="postgres"
                )
                break
            time.sleep(0.1)
        else:
            raise AssertionError(log.read_text()[-2000:])
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE seaweedfs")
        connection.close()
        yield port


def environment(size: str, port: int) -> dict[str, str]:
    """What the values give a filer, but for where PostgreSQL is here."""
    filer = yaml.safe_load((ROOT / "helm" / "values" / size / "seaweedfs.yaml").read_text())["filer"]
    assert filer["replicas"] == 2
    secrets = {"username": "seaweedfs", "password": PASSWORD}
    given = {
        name: secrets[each["secretKeyRef"]["key"]]
        for name, each in filer["secretExtraEnvironmentVars"].items()
    }
    here = {"HOSTNAME": HERE, "PORT": str(port), "SSLMODE": "disable"}
    return {
        **filer["extraEnvironmentVars"],
        **given,
        **{f"WEED_POSTGRES2_{name}": value for name, value in here.items()},
    }


@pytest.mark.parametrize("size", ["m", "l"])
def test_what_one_filer_wrote_the_other_one_has(tmp_path: Path, database: int, size: str) -> None:
    weed = program("weed")
    master, master_grpc, volume, volume_grpc, *filers = free_ports(8)
    at = [f"-ip={HERE}", f"-ip.bind={HERE}"]
    asked = f"-master={HERE}:{master}.{master_grpc}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            running(
                tmp_path,
                "master",
                [weed, "master", "-mdir=.", *at, f"-port={master}", f"-port.grpc={master_grpc}"],
            )
        )
        stack.enter_context(
            running(
                tmp_path,
                "volume",
                [
                    weed,
                    "volume",
                    "-dir=.",
                    *at,
                    f"-port={volume}",
                    f"-port.grpc={volume_grpc}",
                    asked,
                    "-max=5",
                ],
            )
        )
        client = stack.enter_context(httpx.Client(trust_env=False, timeout=20))
        logs = []
        # One after the other: of two that make the table in one moment the database refuses one, which a pod is
        # started again for.
        for port, grpc in (filers[:2], filers[2:]):
            logs.append(
                stack.enter_context(
                    running(
                        tmp_path,
                        f"filer-{port}",
                        [weed, "-logtostderr", "filer", *at, f"-port={port}", f"-port.grpc={grpc}", asked, "-defaultReplicaPlacement=000"],
                        environment(size, database),
                    )
                )
            )  # fmt: skip
            _await(client, f"http://{HERE}:{port}", logs[-1])
        first, second = (f"http://{HERE}:{port}" for port in filers[::2])
        for number in range(WRITES):
            path = f"/{size}/object-{number}"
            client.put(first + path, content=b"here").raise_for_status()
            assert client.get(second + path).content == b"here"
            client.delete(second + path).raise_for_status()
            assert client.get(first + path).status_code == 404
        assert all("configured filer store to postgres2" in log.read_text() for log in logs)


def _await(client: httpx.Client, address: str, log: Path) -> None:
    """Waits until a filer takes an object: it has a store, and a volume to write to."""
    said = ""
    for _ in range(600):
        with contextlib.suppress(httpx.HTTPError):
            answer = client.put(f"{address}/begin", content=b"x")
            if answer.status_code < 300:
                return
            said = answer.text
        time.sleep(0.2)
    raise AssertionError(f"{said}\n{log.read_text()[-3000:]}")
