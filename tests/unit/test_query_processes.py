"""The processes of queries, counted and tidied up; what they say, piece by piece. No engine is asked."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from forebay.errors import ForebayError
from forebay.lake.connection import CatalogConfig
from forebay.query import formats, frames, worker
from forebay.query.frames import MAX_LENGTH, BrokenFrame, Decoder, encode
from forebay.query.limits import Limits
from forebay.query.pool import Busy, Pool
from forebay.query.process import Setup, Worker, sweep

# Nobody is there: its processes start, and end when they are told to.
NOWHERE = CatalogConfig("http://127.0.0.1:9", "lake", "http://127.0.0.1:9", "k", "s")


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.close()


def setup(at_once: int) -> Setup:
    return Setup("duckdb", NOWHERE, Limits(at_once=at_once))


def test_however_many_ask_in_one_moment_no_more_run_than_may(pool: Pool) -> None:
    taken: list[Worker] = []
    start = threading.Barrier(24)

    def ask() -> None:
        start.wait()
        with contextlib.suppress(Busy):
            taken.append(pool.take(setup(3)))

    threads = [threading.Thread(target=ask) for _ in range(24)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(taken) == 3
    pool.give_back(taken[0])
    pool.take(setup(3))


def test_one_place_is_left_for_others(pool: Pool) -> None:
    two = [pool.take(setup(3), "one") for _ in range(2)]
    with pytest.raises(Busy, match="2 queries of yours run"):
        pool.take(setup(3), "one")
    pool.take(setup(3), "other")
    with pytest.raises(Busy, match="3 queries run"):
        pool.take(setup(3), "third")
    pool.give_back(two[0])
    pool.take(setup(3), "one")


def test_where_there_is_one_place_one_may_have_it(pool: Pool) -> None:
    pool.take(setup(1), "one")


def test_one_process_is_in_reserve_however_often_it_is_asked_for(pool: Pool) -> None:
    threads = [threading.Thread(target=pool._refill, args=(setup(3),)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(pool._spare) == 1


def test_nothing_starts_in_a_pool_that_was_closed() -> None:
    made = Pool()
    made.close()
    made._refill(setup(3))
    assert made._spare == []


def test_folders_that_nobody_holds_are_swept(tmp_path: Path) -> None:
    left, held, young, other = (
        tmp_path / name for name in ("forebay-query-a", "forebay-query-b", "forebay-query-c", "else")
    )
    for each in (left, held, young, other):
        each.mkdir()
        (each / "spill").write_text("x")
    (tmp_path / "forebay-query-link").symlink_to(other)
    for each in (left, held, other):
        os.utime(each, (1, 1))
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert sweep(tmp_path) == [left]
    os.close(lock)
    assert sweep(tmp_path) == [held]
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "else",
        "forebay-query-c",
        "forebay-query-link",
    ]
    assert (other / "spill").exists()


def test_a_process_holds_its_folder_and_takes_it_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = Worker(setup(1))
    assert sweep(tmp_path, older=0) == []
    # As when the server is killed: nothing but the end of its input tells the process.
    made._in.close()
    deadline = time.monotonic() + 60
    while list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    made.stop()


def test_a_message_has_a_size() -> None:
    decoder = Decoder()
    assert [frame.payload for frame in decoder.feed(encode("data", b"x") * 2)] == [b"x", b"x"]
    for broken in (frames._HEAD.pack(b"D", MAX_LENGTH + 1), frames._HEAD.pack(b"?", 1)):
        with pytest.raises(BrokenFrame):
            Decoder().feed(broken)


def written(batch: pa.RecordBatch, kind: formats.Format) -> list[bytes]:
    out = formats.writer(kind, batch.schema)
    return [each for part in worker._pieces(batch) for each in worker._written(out, part, kind)]


def test_rows_are_cut_by_their_bytes() -> None:
    wide = pa.record_batch({"text": ["x" * 100_000] * 200})
    found = written(wide, "rows")
    assert 5 <= len(found) < 200
    assert max(map(len, found)) < 5_000_000
    assert sum(len(json.loads(line)["rows"]) for line in found) == 200
    many = pa.record_batch({str(number): [True] * 20_000 for number in range(100)})
    assert max(map(len, written(many, "rows"))) < 5_000_000


def test_a_row_that_fits_into_no_message_is_refused_but_as_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MAX_LENGTH", 1000)
    uneven = pa.record_batch({"text": ["a", "b" * 900, "c" * 900, "d"]})
    assert [len(json.loads(line)["rows"]) for line in written(uneven, "rows")] == [2, 2]
    large = pa.record_batch({"text": ["x" * 5000]})
    with pytest.raises(ForebayError, match="A row of the result is larger"):
        written(large, "rows")
    assert b"x" * 5000 in b"".join(written(large, "csv"))
    assert max(map(len, written(large, "csv"))) <= 1000
