"""A DuckDB connection that sees the lake and nothing else of this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.engines.background import EngineError
from forebay.lake.connection import CatalogConfig
from forebay.sqlquote import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EXTENSIONS = ("avro", "httpfs", "iceberg")
_SPILL = "forebay-spill-"


def connect(
    config: CatalogConfig,
    *,
    spill: str,
    memory_limit: str = "1GB",
    threads: int = 2,
    folders: Sequence[str] = (),
    secrets: Sequence[str] = (),
) -> DuckDBPyConnection:
    """An in-memory DuckDB with the catalog attached as `lake`, its settings locked.

    SQL on it reaches S3 (with the lake's own credentials), `folders`, and no other file or address; it cannot
    load extensions or change settings. `spill` takes what does not fit into memory_limit.
    """
    connection = attached(
        config, spill=spill, memory_limit=memory_limit, threads=threads, secrets=secrets, read_only=False
    )
    lock(connection, ("s3://", *folders))
    return connection


def attached(
    config: CatalogConfig,
    *,
    spill: str,
    memory_limit: str,
    threads: int,
    secrets: Sequence[str] = (),
    read_only: bool,
) -> DuckDBPyConnection:
    """A DuckDB with the catalog attached and nothing locked yet: `lock` it before it is given SQL."""
    import duckdb

    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_persistent_secrets": "false",
            # Hashing the signed files costs 0.2 s a task; their wheels are hash-checked at install.
            "allow_unsigned_extensions": "true",
            "memory_limit": memory_limit,
            "threads": str(threads),
            "temp_directory": spill,
        }
    )
    try:
        for name in EXTENSIONS:
            connection.execute(f"LOAD '{extension(name)}'")
        connection.execute("SET TimeZone = 'UTC'")
        for statement in (*config.duckdb_statements(read_only=read_only), *secrets):
            connection.execute(statement)
    except duckdb.Error as error:
        connection.close()
        raise EngineError(
            f"DuckDB cannot open the catalog at {config.uri}: {config.redact(str(error))}"
        ) from None
    return connection


def lock(connection: DuckDBPyConnection, folders: Sequence[str]) -> None:
    """From now on SQL reaches these folders and nothing else, and no setting changes any more."""
    allowed = ", ".join(map(literal, folders))
    for statement in (
        "SET allow_unsigned_extensions = false",
        f"SET allowed_directories = [{allowed}]",
        "SET enable_external_access = false",
        # The iceberg extension reaches the catalog by other means: only http addresses in SQL are lost.
        "SET disabled_filesystems = 'HTTPFileSystem'",
        "SET enable_progress_bar = false",
        "SET lock_configuration = true",
    ):
        connection.execute(statement)


def extension(name: str) -> str:
    import duckdb

    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    if spec is None or not spec.origin:
        raise EngineError(
            f"The Python package duckdb-extension-{name}=={duckdb.__version__} is not installed."
        )
    path = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not path.exists():
        raise EngineError(
            f"The package duckdb-extension-{name} does not belong to DuckDB {duckdb.__version__}: "
            "install that version of it."
        )
    return str(path).replace("'", "''")


def spill_folder() -> str:
    """A folder for this process' spilled data; those of processes that were killed are removed."""
    root = Path(tempfile.gettempdir())
    for old in root.glob(f"{_SPILL}*"):
        if (match := re.match(rf"{_SPILL}(\d+)-", old.name)) and not Path(f"/proc/{match[1]}").exists():
            shutil.rmtree(old, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{_SPILL}{os.getpid()}-")


def remove_spill(folder: str) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
