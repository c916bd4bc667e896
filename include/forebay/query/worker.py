"""The process of one query: `python -m forebay.query.worker`, which speaks frames on its standard output.

Its first line of input says where the lake is, its second what to run. It ends with its query, with its standard
input (so it never outlives who started it), and by the kernel's alarm when its time is over, whatever it is doing.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from forebay.errors import ForebayError
from forebay.query.frames import MAX_LENGTH, Kind, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from forebay.query import formats

IDLE = 600
"""Seconds that a process waits for its query."""

_FIRST, _BATCH = 2_048, 65_536
_PIECE, _CELLS = 4_000_000, 250_000
"""Bytes and values of rows that become one message at most, where they are not one row."""
_TELL = 0.5
_GRACE = 5
_EXTRA_MEMORY = 1_500_000_000
"""Beside the engine's own limit: its code, threads' stacks, and the rows on their way out."""


_OWN: list[str] = []
"""The process's folder, where the engine puts what does not fit into memory."""


class Reader(Protocol):
    """An engine that reads."""

    def open(self, sql: str, reads: Sequence[str], explain: bool, batch: int) -> pa.RecordBatchReader: ...

    def batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]: ...

    def progress(self) -> dict[str, Any]: ...

    def stop(self) -> None: ...


class Out:
    """The way back. One frame at a time, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, kind: Kind, payload: bytes | Mapping[str, Any]) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        view = memoryview(encode(kind, data))
        with self._lock:
            while view:
                view = view[os.write(self._descriptor, view) :]


def main() -> None:
    # Whatever a library prints must not get between the frames.
    out = Out(os.dup(1))
    os.dup2(2, 1)
    setup = _line(None)
    _OWN.append(str(setup["folder"]))
    _confine(setup)
    try:
        reader = _reader(setup)
        out.send("ready", {})
        job = _line(IDLE)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(job["seconds"]) + _GRACE)
        threading.Thread(target=_listen, args=(reader,), daemon=True).start()
        _run(out, reader, job)
    except ForebayError as error:
        out.send("failed", {"message": str(error), **getattr(error, "facts", {})})
    except MemoryError:
        out.send(
            "failed", {"message": "The query needs more memory than a query may take. Select or group less."}
        )
    except BrokenPipeError:
        _leave(1)
    except Exception as error:  # noqa: BLE001  its text might tell what nobody should see
        out.send("failed", {"message": f"The query broke ({type(error).__name__})."})
    _leave(0)


def _run(out: Out, reader: Reader, job: Mapping[str, Any]) -> None:
    began = time.monotonic()
    over = threading.Event()
    threading.Thread(target=_tell, args=(out, reader, began, int(job["seconds"]), over), daemon=True).start()
    from forebay.query import formats

    kind: formats.Format = job["format"]
    found = reader.open(job["sql"], job["reads"], job["explain"], _FIRST if kind == "rows" else _BATCH)
    columns = [{"name": field.name, "type": formats.type_name(field.type)} for field in found.schema]
    out.send("columns", {"columns": columns})
    writer = formats.writer(kind, found.schema)
    rows = size = 0
    more = ""
    for batch in reader.batches(found):
        if rows + batch.num_rows > job["rows"]:
            batch, more = batch.slice(0, job["rows"] - rows), "rows"
        for part in _pieces(batch):
            for payload in _written(writer, part, kind):
                size += len(payload)
                out.send("data", payload)
            rows += part.num_rows
            if size > job["bytes"]:
                break
        if more:
            break
        if size > job["bytes"]:
            more = "bytes"
            break
    over.set()
    if more:
        # Its other rows would keep an engine elsewhere waiting.
        reader.stop()
    if more and kind != "rows":
        cap = f"{job['rows']:,} rows" if more == "rows" else f"{job['bytes']:,} bytes"
        raise ForebayError(f"The result is more than {cap}, so the file would lack rows. Select less.")
    for payload in _cut(writer.close()):
        size += len(payload)
        out.send("data", payload)
    out.send(
        "end",
        {
            "rows": rows,
            "bytes": size,
            "more": more,
            "seconds": round(time.monotonic() - began, 4),
            **reader.progress(),
        },
    )


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The rows in parts of some megabytes each; nothing of none."""
    rows = batch.num_rows
    each = min(rows, rows * _PIECE // max(1, batch.nbytes), _CELLS // max(1, batch.num_columns))
    for start in range(0, rows, max(1, each)):
        yield batch.slice(start, max(1, each))


def _written(writer: formats.Writer, part: pa.RecordBatch, kind: formats.Format) -> Iterator[bytes]:
    """The rows as bytes, none larger than a frame may be. As `rows`, each of them is a line of its own."""
    payload = writer.write(part)
    if len(payload) <= MAX_LENGTH:
        yield payload
    elif kind != "rows":
        yield from _cut(payload)
    elif part.num_rows == 1:
        raise ForebayError(
            f"A row of the result is larger than {MAX_LENGTH // 1_000_000} MB. Select less of it, or take it as a file."
        )
    else:
        half = part.num_rows // 2
        for each in (part.slice(0, half), part.slice(half)):
            yield from _written(writer, each, kind)


def _cut(payload: bytes) -> Iterator[bytes]:
    for start in range(0, len(payload), MAX_LENGTH):
        yield payload[start : start + MAX_LENGTH]


def _tell(out: Out, reader: Reader, began: float, seconds: int, over: threading.Event) -> None:
    """Says how far the query is, and ends it when its time is over."""
    with contextlib.suppress(BrokenPipeError):
        while not over.wait(_TELL):
            took = time.monotonic() - began
            if took > seconds:
                # Before the engine says that somebody cancelled it.
                out.send(
                    "failed",
                    {
                        "message": f"The query took longer than the {seconds} s that a query may take.",
                        "why": "time",
                    },
                )
                reader.stop()
                _leave(1)
            out.send("progress", {"seconds": round(took, 1), **reader.progress()})


def _listen(reader: Reader) -> None:
    """Ends with the standard input: who started us has gone, or wants it to stop."""
    while os.read(0, 4096):
        pass
    reader.stop()
    _leave(1)


def _line(patience: float | None) -> dict[str, Any]:
    """The next line of input. Nothing by then, or no more: nobody will ask."""
    held = b""
    while not held.endswith(b"\n"):
        if patience is not None and not held and not select.select([0], [], [], patience)[0]:
            _leave(0)
        # Nothing follows a line before it was answered.
        piece = os.read(0, 1 << 16)
        if not piece:
            _leave(0)
        held += piece
    found: dict[str, Any] = json.loads(held)
    return found


def _confine(setup: Mapping[str, Any]) -> None:
    """What the kernel holds this process to, should the engine forget itself."""
    memory = _bytes(str(setup["memory"])) + _EXTRA_MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    spill = _bytes(str(setup["spill"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (spill, spill))
    # Where the whole machine runs out of memory, this one goes first.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("900")


def _bytes(size: str) -> int:
    units = {
        "KB": 10**3,
        "MB": 10**6,
        "GB": 10**9,
        "TB": 10**12,
        "KIB": 1 << 10,
        "MIB": 1 << 20,
        "GIB": 1 << 30,
    }
    text = size.strip().upper()
    unit = next((name for name in sorted(units, key=len, reverse=True) if text.endswith(name)), None)
    try:
        return int(float(text.removesuffix(unit)) * units[unit]) if unit else int(text)
    except ValueError:
        raise ForebayError(f"'{size}' is no size; write it as 1GB.") from None


def _reader(setup: Mapping[str, Any]) -> Reader:
    if setup["engine"] == "trino":
        from forebay.query.on_trino import TrinoReader

        made: Reader = TrinoReader(setup)
    else:
        from forebay.query.on_duckdb import DuckDBReader

        made = DuckDBReader(setup)
    import pyarrow  # noqa: F401  loaded before somebody waits for it

    from forebay.query import formats  # noqa: F401

    return made


def _leave(code: int) -> NoReturn:
    """At once: an engine in the middle of something is not waited for. What it wrote goes too, whoever is left."""
    for folder in _OWN:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
