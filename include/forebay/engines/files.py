"""Find the files of a pattern, on S3 or in a folder of the repository, and how DuckDB reads them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebay.engines.background import EngineError
from forebay.sqlquote import literal

ENDINGS = {
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    "json": (".json", ".json.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"),
    "parquet": (".parquet",),
}
SOURCE = "_source_file"
"""The column that tells where a row comes from."""
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class S3Access:
    """How files on S3 are reached. The secret never shows in a repr."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"

    def filesystem(self) -> Any:
        """The store as a pyarrow file system."""
        from pyarrow.fs import S3FileSystem

        scheme, _, host = self.endpoint.rpartition("://")
        return S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key,
            endpoint_override=host,
            scheme=scheme or "https",
            region=self.region,
        )

    def duckdb_statements(self, buckets: Sequence[str]) -> list[str]:
        """Secrets for DuckDB, one a bucket: its most specific scope wins over the lake's own."""
        scheme, _, host = self.endpoint.rpartition("://")
        texts = (self.access_key, self.secret_key, host, self.region)
        key, secret, endpoint, region = map(literal, texts)
        return [
            f"CREATE SECRET lake_files_{number} (TYPE s3, KEY_ID {key}, SECRET {secret}, "
            f"ENDPOINT {endpoint}, REGION {region}, "
            f"USE_SSL {'false' if scheme == 'http' else 'true'}, URL_STYLE 'path', "
            f"SCOPE 's3://{bucket.replace(chr(39), '')}/')"
            for number, bucket in enumerate(buckets)
        ]


@dataclass(frozen=True, order=True)
class Found:
    """One file: the name that goes into _source_file, where to read it, its size in bytes."""

    name: str
    path: str
    size: int
    modified: float = 0.0


def whole(one: Found, access: S3Access) -> bytes:
    """What is in a file, unpacked where it is packed. Raises EngineError for a broken .gz."""
    if one.path.startswith("s3://"):
        with access.filesystem().open_input_stream(
            one.path.removeprefix("s3://"), compression=None
        ) as stream:
            data: bytes = stream.read()
    else:
        data = Path(one.path).read_bytes()
    if not one.path.endswith(".gz"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError) as error:
        raise EngineError(f"{one.name}: not a whole gzip file: {error}") from error


def find(patterns: Sequence[str], root: Path, access: S3Access, endings: Sequence[str]) -> list[Found]:
    """All files of the patterns, each once, by name.

    A pattern without wildcards is a file, or a folder with all below.
    Names that begin with `.` or `_`, or end in .tmp or .part, are still being written and are passed over.
    Raises EngineError for a bucket or folder that does not exist.
    """
    found: dict[str, Found] = {}
    for pattern in patterns:
        listing = _s3(pattern, access) if pattern.startswith("s3://") else _local(pattern, root)
        for one in listing:
            if _WILD.search(pattern) or one.name == pattern or one.name.lower().endswith(tuple(endings)):
                found[one.name] = one
    return sorted(found.values())


def matcher(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression: * and ? stay within a folder, ** crosses folders."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile(
        "".join(
            known.get(part)
            or (part.replace("[!", "[^") if part.startswith("[") and part[-1] == "]" else re.escape(part))
            for part in parts
        )
    )


def _finished(path: str) -> bool:
    name = path.rpartition("/")[2]
    return not name.startswith((".", "_")) and not name.endswith((".tmp", ".part"))


def _s3(pattern: str, access: S3Access) -> Iterator[Found]:
    from pyarrow.fs import FileSelector, FileType

    location = pattern.removeprefix("s3://")
    wild = _WILD.search(location)
    folder = location[: wild.start()].rpartition("/")[0] if wild else location.rstrip("/")
    bucket = location.partition("/")[0]
    if not folder or _WILD.search(bucket):
        raise EngineError(
            f"files: {pattern}: the bucket's name comes first and has no wildcard: s3://bucket/…"
        )
    filesystem = access.filesystem()
    try:
        if filesystem.get_file_info(bucket).type == FileType.NotFound:
            raise EngineError(f"files: {pattern}: there is no bucket {bucket!r} at {access.endpoint}.")
        single = filesystem.get_file_info(folder)
        if single.type == FileType.File:
            infos = [single]
        else:
            infos = filesystem.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True))
    except OSError as error:
        said = str(error).replace(access.secret_key, "***")
        raise EngineError(f"files: {pattern}: cannot list at {access.endpoint}: {said}") from error
    match = matcher(location)
    for info in infos:
        if info.type == FileType.File and _finished(info.path) and (not wild or match.fullmatch(info.path)):
            yield Found(
                f"s3://{info.path}",
                f"s3://{info.path}",
                info.size,
                info.mtime_ns / 1e9 if info.mtime_ns else 0,
            )


def _local(pattern: str, root: Path) -> Iterator[Found]:
    root = root.resolve()
    wild = _WILD.search(pattern)
    start = root / (pattern[: wild.start()].rpartition("/")[0] if wild else pattern)
    resolved = start.resolve()
    if Path(pattern).is_absolute() or not resolved.is_relative_to(root):
        raise EngineError(f"files: {pattern}: a folder of files must lie inside the repository ({root}).")
    if not resolved.exists():
        raise EngineError(
            f"files: {pattern}: there is no folder or file {start.relative_to(root)} in {root}."
        )
    match = matcher(pattern)
    for path in [start] if start.is_file() else sorted(start.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not path.is_file() or not _finished(name) or (wild and not match.fullmatch(name)):
            continue
        if not path.resolve().is_relative_to(root):
            raise EngineError(f"files: {name}: a link that leads out of the repository.")
        state = path.stat()
        yield Found(name, str(path.resolve()), state.st_size, state.st_mtime)


def format_of(name: str) -> str:
    """csv, json or parquet, by a file's ending. Raises EngineError."""
    for kind, endings in ENDINGS.items():
        if name.lower().endswith(endings):
            return kind
    raise EngineError(f"{name}: the ending tells no format. Set format: csv, json or parquet.")


def reading(files: Sequence[Found], kind: str, csv: Mapping[str, Any], types: Mapping[str, str]) -> str:
    """DuckDB's SELECT of the files' rows, with SOURCE; `types` are DuckDB's, for columns that are not to be guessed."""
    paths = "[" + ", ".join(literal(one.path) for one in files) + "]"
    common = f"union_by_name = true, filename = '{SOURCE}'"
    if kind == "parquet":
        return f"SELECT * FROM read_parquet({paths}, {common})"
    if kind == "json":
        return f"SELECT * FROM read_json({paths}, {common}, maximum_object_size = 67108864)"
    # Guessing from a sample fails where a column's first odd value comes late; small loads are read whole.
    sample = -1 if sum(one.size for one in files) < 50_000_000 else 200_000
    options = [common, f"sample_size = {sample}", "auto_detect = true", "strict_mode = true"]
    # Only types are guessed. A guessed dialect takes a bad line for the header and lands no rows at all.
    options.append("skip = 0, escape = '\"', comment = '', null_padding = false, ignore_errors = false")
    options.append(f"header = {'true' if csv.get('header', True) else 'false'}")
    options.append(
        f"delim = {literal(str(csv.get('delimiter', ',')))}, quote = {literal(str(csv.get('quote', chr(34))))}"
    )
    null = str(csv.get("null_text") or "")
    options.append(f"nullstr = [{', '.join(literal(text) for text in dict.fromkeys(('', null)))}]")
    if types:
        options.append(
            f"types = {{{', '.join(f'{literal(name)}: {literal(kind)}' for name, kind in types.items())}}}"
        )
    return f"SELECT * FROM read_csv({paths}, {', '.join(options)})"
