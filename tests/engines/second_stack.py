"""MinIO, and Iceberg's reference catalog over it: the second store and the second catalog of the tests.

MinIO is built from its Go module, the catalog from Iceberg's test jars. Both listen on loopback only.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import programs
import pyspark
from store import KEY, SECRET, free_ports, wait_for_catalog, wait_until

from forebay.buckets.client import Store as Client
from forebay.connections.s3 import S3
from forebay.lake.connection import CatalogConfig
from forebay.machine import jars, java

HERE = Path(__file__).parent
CLIENT, CLIENT_SECRET = "forebay-client", "another'secret"
"""The catalog's login, which is not the store's key."""
PREFIX = "main%7Clake"
"""Where the catalog has its tables, in Nessie's way: with a character that has to stay as it was written."""


class Process:
    """A program that writes to a log and ends by SIGTERM."""

    process: subprocess.Popen[bytes]

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"

    def begin(self, command: list[str], **environment: str) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()


class Minio(Process):
    """A MinIO over a folder, without a bucket."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._port, self._console = free_ports(2)
        self.s3 = S3(f"http://127.0.0.1:{self._port}", "us-east-1", KEY, SECRET)

    def start(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        self.begin(
            [
                programs.minio(), "server", "--quiet", "--address", f"127.0.0.1:{self._port}",
                "--console-address", f"127.0.0.1:{self._console}", str(self.folder / "data"),
            ],
            MINIO_ROOT_USER=KEY, MINIO_ROOT_PASSWORD=SECRET, MINIO_BROWSER="off", MINIO_UPDATE="off",
        )  # fmt: skip

        def healthy() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return httpx.get(f"{self.s3.endpoint}/minio/health/ready").status_code == 200
            return False

        wait_until(healthy, self.process, self.log)

    def client(self) -> Client:
        return Client(self.s3, "minio")


class ReferenceCatalog(Process):
    """Iceberg's catalog over SQLite, with its tables in the bucket `lake` of a store."""

    def __init__(self, folder: Path, s3: S3, *, transactions: bool = True, vended: bool = False) -> None:
        super().__init__(folder)
        self._transactions, self._vended, self._port = transactions, vended, free_ports(1)[0]
        self.config = CatalogConfig(
            uri=f"http://127.0.0.1:{self._port}",
            warehouse="lake",
            access_key=KEY,
            secret_key=SECRET,
            s3_endpoint=s3.endpoint,
            client_id=CLIENT,
            client_secret=CLIENT_SECRET,
        )

    def moved_to(self, s3: S3) -> None:
        """The same tables in another store, from the next start on."""
        self.config = replace(self.config, s3_endpoint=s3.endpoint)

    def start(self) -> None:
        config = self.config
        options = {
            "port": str(self._port),
            "prefix": PREFIX,
            "client": CLIENT,
            "secret": CLIENT_SECRET,
            "transactions": str(self._transactions).lower(),
            "include-credentials": str(self._vended).lower(),
            "catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
            "uri": f"jdbc:sqlite:{self.folder}/catalog.db?busy_timeout=20000",
            "jdbc.schema-version": "V1",
            "warehouse": "s3://lake/tables",
            "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "s3.endpoint": config.s3_endpoint,
            "s3.path-style-access": "true",
            "s3.access-key-id": config.access_key,
            "s3.secret-access-key": config.secret_key,
            "client.region": config.s3_region,
        }
        file = self.folder / "catalog.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in options.items()))
        file.chmod(0o600)
        flags = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Djava.io.tmpdir={self.folder}"]
        command = [
            *java_program(),
            *flags,
            "-cp",
            _class_path(),
            "org.apache.iceberg.rest.Catalog",
            str(file),
        ]
        self.begin(command)
        wait_for_catalog(config, self.process, self.log)


class SecondStack:
    """Both, started."""

    def __init__(self, minio: Minio, catalog: ReferenceCatalog) -> None:
        self.minio, self.catalog, self.config = minio, catalog, catalog.config


@contextlib.contextmanager
def running_second_stack(folder: Path, *, transactions: bool = True) -> Iterator[SecondStack]:
    for name in ("minio", "catalog"):
        (folder / name).mkdir()
    with contextlib.ExitStack() as stack:
        minio = Minio(folder / "minio")
        minio.start()
        stack.callback(minio.stop)
        with minio.client() as client:
            client.make("lake")
        catalog = ReferenceCatalog(folder / "catalog", minio.s3, transactions=transactions)
        catalog.start()
        stack.callback(catalog.stop)
        yield SecondStack(minio, catalog)


def java_program() -> list[str]:
    return [str(java.require() / "bin" / "java")]


def pinned(file: str) -> list[jars.Jar]:
    """The jars that a file beside this one names."""
    with (HERE / file).open("rb") as content:
        return [jars.Jar(**entry) for entry in tomllib.load(content)["jar"]]


def of_spark(*names: str) -> list[str]:
    """Jars that come with PySpark."""
    folder = Path(pyspark.__file__).parent / "jars"
    return [str(next(folder.glob(f"{name}-[0-9]*.jar"))) for name in names]


def _class_path() -> str:
    kit = [jar for jar in pinned("rest_compatibility_kit.toml") if jar.group == "org.apache.iceberg"]
    sdk = [jar for jar in jars.pinned() if jar.artifact == "iceberg-aws-bundle"]
    needed = [*kit, *pinned("reference_catalog/jars.toml"), *sdk]
    jars.fetch(print, needed)
    libraries = [
        *(str(jars.folder() / jar.file_name) for jar in needed),
        *of_spark("hadoop-client-api", "hadoop-client-runtime", "scala-library", "avro", "RoaringBitmap"),
        *of_spark(
            "aircompressor", "jackson-annotations", "jackson-core", "jackson-databind", "commons-compress"
        ),
        *of_spark("commons-io", "commons-lang3", "slf4j-api", "log4j-api", "log4j-core", "log4j-slf4j2-impl"),
    ]
    source = HERE / "reference_catalog" / "Catalog.scala"

    def build(folder: Path) -> None:
        # By the compiler inside PySpark: a Java without one will do.
        spark = str(Path(pyspark.__file__).parent / "jars" / "*")
        compiler = [*java_program(), "-cp", spark, "scala.tools.nsc.Main", "-nowarn"]
        programs.run(
            [*compiler, "-cp", os.pathsep.join(libraries), "-d", str(folder), str(source)], timeout=300
        )

    classes = programs.kept("reference-catalog", source.read_text() + " ".join(map(str, needed)), build)
    return os.pathsep.join([str(classes), *libraries])
