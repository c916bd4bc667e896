"""Trino's server as the embedded stack runs it: put together from its parts on Maven Central, without what it never uses."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from forebay.machine import jars
from forebay.machine.jars import Jar, JarError

# Both archives and what is unpacked from them, for a moment.
_FREE_DISK = 1200 << 20

_KEPT = (
    "lib", "plugin/password-authenticators", "plugin/resource-group-managers", "plugin/session-property-managers",
)  # fmt: skip
"""What the server has: no launcher (Java is started directly), no plugins for other stores."""

_DROPPED = (
    # Catalogs of other kinds, clients of other clouds, and libraries for other machines than Linux ones.
    "net.snowflake", "org.rocksdb", "io.trino.coral", "io.grpc_grpc-xds", "io.grpc_grpc-netty-shaded", "org.alluxio",
    "software.amazon.awssdk_glue", "com.amazonaws",
)  # fmt: skip
_DROPPED_PARTS = ("-quic-", "-osx-", "-windows-")


def pinned() -> list[Jar]:
    """Server and plugin, as named in the package's `versions.toml`."""
    return jars.pinned("trino")


def version() -> str:
    return pinned()[0].version


def home() -> Path:
    """The folder of the server; another one when the pins or what is kept of them change."""
    what = "\n".join([*(jar.sha256 for jar in pinned()), *_KEPT, *_DROPPED, *_DROPPED_PARTS])
    return jars.folder().with_name("trino") / f"{version()}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"


def fetch(progress: Callable[[str], None]) -> Path:
    """Puts the server into the cache, for all checkouts of this user, and gives its folder.

    Raises JarError with what went wrong.
    """
    target = home()
    if target.exists():
        return target
    pins = pinned()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if free < _FREE_DISK:
            raise JarError(
                f"only {free >> 20} MB are free at {target.parent}; Trino needs {_FREE_DISK >> 20} MB while it is "
                "unpacked. Free some space, or name another folder: XDG_CACHE_HOME=/path forebay up --with trino."
            )
        jars.fetch(progress, pins)
        progress(f"unpacking Trino {version()}")
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unpack-") as name:
            fresh = Path(name) / "server"
            for jar in pins:
                _unpack(jars.folder() / jar.file_name, fresh)
            _share(fresh)
            # Another command may have been faster.
            with contextlib.suppress(FileExistsError, OSError):
                os.rename(fresh, target)
        if not target.exists():
            raise JarError(f"{target}: could not be made. Look at its folder's owner and free space.")
        for jar in pins:
            (jars.folder() / jar.file_name).unlink(missing_ok=True)
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise JarError(
            f"Trino could not be unpacked into {target.parent} ({error}). Free disk space or fix its owner."
        ) from error
    return target


def _unpack(archive: Path, into: Path) -> None:
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                name = Path(member.filename).name
                if (
                    member.is_dir()
                    or name.startswith(_DROPPED)
                    or any(part in name for part in _DROPPED_PARTS)
                ):
                    continue
                path = into / "plugin" / "iceberg" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
        return
    with tarfile.open(archive) as tar:
        # All of it: its files are links to each other.
        whole = into.with_name("whole")
        tar.extractall(whole, filter="data")
    for kept in _KEPT:
        (into / kept).parent.mkdir(parents=True, exist_ok=True)
        os.rename(next(whole.iterdir()) / kept, into / kept)


def _share(folder: Path) -> None:
    """One file for equal jars: each plugin brings its own copy of what others have too."""
    seen: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.jar")):
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        first = seen.setdefault(digest, path)
        if first is not path:
            path.unlink()
            os.link(first, path)
