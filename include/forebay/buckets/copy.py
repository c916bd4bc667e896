"""Copies buckets from one store to another, and proves that what arrived is what was there.

Objects of a lake do not change once they are written, so a copy may run while all works, and be repeated: what is
there with the same size and was written later than its original is left alone. Nothing is ever deleted at either side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TypeVar

from forebay.buckets.client import Object, Store, StoreError

PART = 16 << 20
"""Bytes read and written at once: a larger object goes in parts of this size."""
MOST_PARTS = 10_000
"""So many parts an object has at most, by S3's own limit."""
AT_ONCE = 8
T = TypeVar("T")


@dataclass
class Copied:
    """What a copy did, of one bucket."""

    bucket: str
    objects: int = 0
    bytes: int = 0
    before: int = 0
    """Objects that were there already."""


@dataclass
class Compared:
    """What a comparison found, of one bucket: both stores were read."""

    bucket: str
    objects: int = 0
    bytes: int = 0
    missing: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)
    """Objects that only the new store has."""

    @property
    def same(self) -> bool:
        return not self.missing and not self.different


def copy(
    source: Store, target: Store, bucket: str, tell: Callable[[int, int], None] = lambda done, of: None
) -> Copied:
    """Copies what is missing or older at the target. Raises StoreError."""
    there = listing(target, bucket)
    wanted = list(source.objects(bucket))
    result = Copied(bucket)
    todo = [each for each in wanted if not _is_there(each, there.get(each.key))]
    result.before = len(wanted) - len(todo)

    def one(each: Object) -> int:
        _copy(source, target, bucket, each)
        return each.size

    for done, size in enumerate(_side_by_side(one, todo), 1):
        result.objects, result.bytes = done, result.bytes + size
        tell(done, len(todo))
    return result


def compare(
    source: Store, target: Store, bucket: str, tell: Callable[[int, int], None] = lambda done, of: None
) -> Compared:
    """Reads every object of a bucket from both stores. Raises StoreError where one cannot be read."""
    wanted, there = listing(source, bucket), listing(target, bucket)
    result = Compared(bucket, more=sorted(there.keys() - wanted.keys()))

    def one(each: Object) -> tuple[Object, bool]:
        sums = [_sum(store, bucket, each) for store in (source, target)]
        return each, sums[0] == sums[1]

    result.missing = sorted(wanted.keys() - there.keys())
    both = [each for key, each in wanted.items() if key in there]
    result.different = [each.key for each in both if each.size != there[each.key].size]
    equal = [each for each in both if each.size == there[each.key].size]
    for done, (each, same) in enumerate(_side_by_side(one, equal), 1):
        result.objects, result.bytes = done, result.bytes + each.size
        if not same:
            result.different.append(each.key)
        tell(done, len(equal))
    result.different.sort()
    return result


def listing(store: Store, bucket: str) -> dict[str, Object]:
    """A bucket's objects by key."""
    return {each.key: each for each in store.objects(bucket)}


def _is_there(wanted: Object, found: Object | None) -> bool:
    if found is None or found.size != wanted.size:
        return False
    # Written after its original: else the original may have been replaced since.
    return datetime.fromisoformat(found.changed) >= datetime.fromisoformat(wanted.changed)


def _copy(source: Store, target: Store, bucket: str, each: Object) -> None:
    about = source.about(bucket, each.key)
    if each.size <= PART:
        target.write(bucket, each.key, source.read(bucket, each.key, 0, each.size), about)
        return
    upload = target.begin(bucket, each.key, about)
    try:
        parts = [
            target.part(bucket, each.key, upload, number, body)
            for number, body in enumerate(_pieces(source, bucket, each), 1)
        ]
        target.end(bucket, each.key, upload, parts)
    except BaseException:
        target.drop(bucket, each.key, upload)
        raise


def _pieces(store: Store, bucket: str, each: Object) -> Iterator[bytes]:
    size = max(PART, -(-each.size // MOST_PARTS))
    for begin in range(0, each.size, size):
        yield store.read(bucket, each.key, begin, min(size, each.size - begin))


def _sum(store: Store, bucket: str, each: Object) -> str:
    found = hashlib.sha256()
    for piece in _pieces(store, bucket, each):
        found.update(piece)
    return found.hexdigest()


def _side_by_side(do: Callable[[Object], T], objects: Iterable[Object]) -> Iterator[T]:
    """The results as they come; the first error ends it, once those under way have ended."""
    left = iter(objects)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running: set[Future[T]] = {pool.submit(do, each) for each in islice(left, 2 * AT_ONCE)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                yield each.result()
            running |= {pool.submit(do, each) for each in islice(left, len(done))}


def missing_buckets(store: Store, buckets: Iterable[str]) -> None:
    """Raises StoreError where one is not there."""
    if gone := [bucket for bucket in buckets if not store.exists(bucket)]:
        raise StoreError(
            f"The store {store.name} has no bucket {', '.join(gone)}. Make them: forebay store apply FILE --store {store.name}"
        )


def total(found: Iterable[Compared]) -> Mapping[str, int]:
    """Figures over several buckets."""
    each = list(found)
    return {"objects": sum(one.objects for one in each), "bytes": sum(one.bytes for one in each)}
