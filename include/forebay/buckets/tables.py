"""Whether a store has every file that the tables of a catalog name: what a lake needs, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from forebay.buckets.client import Object, Store
from forebay.buckets.copy import listing
from forebay.lake.connection import CatalogConfig
from forebay.lake.rest import Rest


@dataclass
class Needed:
    """What the tables need of a store: figures, and what is not there."""

    tables: int = 0
    snapshots: int = 0
    files: int = 0
    missing: list[str] = field(default_factory=list)
    """`table: file: what is wrong with it`."""


def needed(
    config: CatalogConfig, store: Store, tell: Callable[[int, int], None] = lambda done, of: None
) -> Needed:
    """Follows each table from its metadata over all snapshots of all branches to its data files, in this store.

    Names and sizes are compared with what the store lists; metadata and manifests are read from it.
    """
    from pyiceberg.io import load_file_io

    there = replace(
        config,
        s3_endpoint=store.s3.endpoint,
        s3_region=store.s3.region,
        access_key=store.s3.access_key,
        secret_key=store.s3.secret_key,
        path_style=store.s3.path_style,
    )
    io = load_file_io(there.pyiceberg_properties())
    result, objects = Needed(), _Listings(store)
    with Rest(config.main()) as rest:
        names = rest.all_names()
        for done, name in enumerate(names, 1):
            loaded = rest.loaded(name)
            if loaded is not None:
                _table(name, loaded, io, objects, result)
            tell(done, len(names))
    return result


class _Listings:
    """What is in a store, each bucket listed once."""

    def __init__(self, store: Store) -> None:
        self._store, self._buckets = store, dict[str, Mapping[str, Object]]()

    def wrong(self, path: str, size: int | None) -> str:
        """What is wrong with a file; empty where nothing is."""
        parts = urlsplit(path, allow_fragments=False)
        if parts.scheme not in ("s3", "s3a", "s3n"):
            return "is in no S3 store"
        bucket, key = parts.netloc, path.split("/", 3)[-1]
        if bucket not in self._buckets:
            self._buckets[bucket] = listing(self._store, bucket) if self._store.exists(bucket) else {}
        found = self._buckets[bucket].get(key)
        if found is None:
            return "is not there"
        if size is not None and found.size != size:
            return f"has {found.size:,} bytes, not {size:,}"
        return ""


def _table(name: str, loaded: Mapping[str, Any], io: Any, objects: _Listings, result: Needed) -> None:
    seen: set[str] = set()

    def has(path: str, size: int | None = None) -> bool:
        if path in seen:
            return True
        seen.add(path)
        result.files += 1
        if why := objects.wrong(path, size):
            result.missing.append(f"{name}: {path}: {why}")
        return not why

    metadata = loaded["metadata"]
    result.tables += 1
    if location := loaded.get("metadata-location"):
        has(location)
    for part in ("statistics", "partition-statistics"):
        for each in metadata.get(part) or ():
            has(each["statistics-path"], each.get("file-size-in-bytes"))
    manifests: set[str] = set()
    for snapshot in metadata.get("snapshots") or ():
        result.snapshots += 1
        # Version 1 may name the manifests themselves.
        if "manifest-list" not in snapshot:
            for path in snapshot.get("manifests") or ():
                has(path)
            continue
        if not has(snapshot["manifest-list"]):
            continue
        for manifest in _manifests(io, snapshot["manifest-list"]):
            if manifest.manifest_path in manifests:
                continue
            manifests.add(manifest.manifest_path)
            if has(manifest.manifest_path, manifest.manifest_length):
                for entry in manifest.fetch_manifest_entry(io, discard_deleted=True):
                    has(entry.data_file.file_path, entry.data_file.file_size_in_bytes)


def _manifests(io: Any, path: str) -> Iterator[Any]:
    from pyiceberg.manifest import read_manifest_list

    yield from read_manifest_list(io.new_input(path))
