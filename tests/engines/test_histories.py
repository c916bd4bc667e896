"""Random histories of runs on three tables, against a model in memory: no row lost, none doubled, no half publish.

Rows are data files that nobody reads: their names are enough to see which are there. Commits are split in two, look
and commit, so that anything may come between. FOREBAY_HISTORIES sets how many histories are tried.
"""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import StaticTable, Table
from pyiceberg.table.metadata import TableMetadataUtil
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles, _OverwriteFiles
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, NestedField

from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.identity import Run, TaskTry
from forebay.lake.publish import PublishConflict, discard, publish
from forebay.lake.rest import Rest
from forebay.lake.retry import put_back

HISTORIES = int(os.environ.get("FOREBAY_HISTORIES", "500"))
TABLES = ("a", "b", "c")
RUNS, TASKS = ("r1", "r2", "r3"), ("t1", "t2")
Kind = Literal["append", "overwrite"]


@dataclass(frozen=True)
class Entry:
    """One commit: what it did, and who did it."""

    kind: Kind
    row: str
    task: str = ""
    number: int = 0


@dataclass
class Branch:
    base: int
    entries: list[Entry] = field(default_factory=list)


@dataclass
class Pending:
    """A commit that looked at a table and has not committed yet."""

    who: TaskTry | None
    table: str
    entry: Entry
    body: dict[str, Any]
    main: int


def rows(entries: Sequence[Entry]) -> Counter[str]:
    """What a table holds after these commits."""
    found: Counter[str] = Counter()
    for entry in entries:
        if entry.kind == "overwrite":
            found.clear()
        found[entry.row] += 1
    return found


class Histories(RuleBasedStateMachine):
    config: CatalogConfig
    lens: str
    rest: Rest
    client: httpx.Client
    io: Any

    @initialize()
    def tables(self) -> None:
        self.namespace = f"h{uuid.uuid4().hex[:10]}"
        self.main: dict[str, list[Entry]] = {table: [] for table in TABLES}
        self.branches: dict[tuple[str, str], Branch] = {}
        self.numbers: dict[tuple[str, str], int] = {}
        self.ended: set[str] = set()
        self.pending: list[Pending] = []
        self.names = (f"row{number}" for number in itertools.count())
        catalog = self.config.pyiceberg()
        catalog.create_namespace(self.namespace)
        for table in TABLES:
            catalog.create_table(f"{self.namespace}.{table}", Schema(NestedField(1, "n", LongType())))

    def who(self, run: str, task: str) -> TaskTry:
        names = tuple(f"{self.namespace}.{table}" for table in TABLES)
        number = self.numbers.setdefault((run, task), 1)
        return TaskTry(
            job=f"{self.namespace}.job", run=run, task=task, number=number, writes=names, began=time.time()
        )

    def url(self, who: TaskTry | None, table: str) -> str:
        view = self.lens + (f"/run/{who.segment()}" if who else "/main")
        return f"{view}/v1/warehouse/namespaces/{self.namespace}/tables/{table}"

    @rule(run=st.sampled_from(RUNS), task=st.sampled_from(TASKS), table=st.sampled_from(TABLES), kind=st.sampled_from(["append", "append", "overwrite"]))  # fmt: skip
    def look(self, run: str, task: str, table: str, kind: Kind) -> None:
        if run not in self.ended:
            self._look(self.who(run, task), table, kind)

    @rule(run=st.sampled_from(RUNS), task=st.sampled_from(TASKS), table=st.sampled_from(TABLES), kind=st.sampled_from(["append", "append", "overwrite"]))  # fmt: skip
    def write(self, run: str, task: str, table: str, kind: Kind) -> None:
        if run not in self.ended:
            self._look(self.who(run, task), table, kind)
            self._commit(self.pending.pop())

    @rule(table=st.sampled_from(TABLES), kind=st.sampled_from(["append", "append", "overwrite"]))
    def write_main_directly(self, table: str, kind: Kind) -> None:
        self._look(None, table, kind)
        self._commit(self.pending.pop())

    @precondition(lambda self: self.pending)
    @rule(which=st.integers(0, 10))
    def commit(self, which: int) -> None:
        self._commit(self.pending.pop(which % len(self.pending)))

    @rule(run=st.sampled_from(RUNS), task=st.sampled_from(TASKS))
    def kill_and_try_again(self, run: str, task: str) -> None:
        """The task dies wherever it is. What it had not committed may still come: it is a leftover then."""
        if run in self.ended or (run, task) not in self.numbers:
            return
        self.numbers[run, task] += 1
        who = self.who(run, task)
        for table in TABLES:
            branch = self.branches.get((run, table))
            stale = [e for e in branch.entries if e.task == task] if branch else []
            if branch is None or not stale:
                continue
            first = branch.entries.index(stale[0])
            later = [e for e in branch.entries[first:] if e.task != task]
            one = replace(who, writes=(f"{self.namespace}.{table}",))
            if any(e.kind != "append" for e in later):
                with pytest.raises(LakeError, match="Clear"):
                    put_back(self.rest, one)
                # A person clears both tasks, so the run has to end here.
                self._discard(run)
                return
            assert put_back(self.rest, one) == list(one.writes)
            branch.entries = branch.entries[:first] + later
            if not branch.entries:
                del self.branches[run, table]
        # The lens hears of the new try as soon as it asks for anything.
        self.client.get(self.url(who, "a"))

    @rule(run=st.sampled_from(RUNS))
    def publish(self, run: str) -> None:
        if run in self.ended:
            return
        names = [f"{self.namespace}.{table}" for table in TABLES]
        tries = {task: number for (one, task), number in self.numbers.items() if one == run}
        mine = {table: branch for (one, table), branch in self.branches.items() if one == run}
        clash = any(
            self.main[table][branch.base :]
            and any(e.kind != "append" for e in self.main[table][branch.base :] + branch.entries)
            for table, branch in mine.items()
        )
        if clash:
            with pytest.raises(PublishConflict):
                publish(self.rest, Run(f"{self.namespace}.job", run), names, tries)
        else:
            done = publish(self.rest, Run(f"{self.namespace}.job", run), names, tries)
            assert {each.table.partition(".")[2] for each in done} == set(mine)
            for table, branch in mine.items():
                self.main[table] += branch.entries
                del self.branches[run, table]
            # Once more is harmless: that is what a retry after a crash does.
            assert all(
                each.again for each in publish(self.rest, Run(f"{self.namespace}.job", run), names, tries)
            )
            self.ended.add(run)
            self.pending = [each for each in self.pending if each.who is None or each.who.run != run]
        self.check()

    @rule(run=st.sampled_from(RUNS))
    def discard(self, run: str) -> None:
        if run not in self.ended:
            self._discard(run)

    def _discard(self, run: str) -> None:
        names = [f"{self.namespace}.{table}" for table in TABLES]
        discard(self.rest, Run(f"{self.namespace}.job", run), names)
        self.branches = {key: branch for key, branch in self.branches.items() if key[0] != run}
        self.ended.add(run)
        self.pending = [each for each in self.pending if each.who is None or each.who.run != run]

    def teardown(self) -> None:
        if hasattr(self, "main"):
            self.check()

    def check(self) -> None:
        """Main holds exactly what the model says, and so does every branch."""
        for table in TABLES:
            assert self._held(None, table) == rows(self.main[table]), table
        for (run, table), branch in self.branches.items():
            expected = rows(self.main[table][: branch.base] + branch.entries)
            assert self._held(self.who(run, "t1"), table) == expected, (run, table)

    def _look(self, who: TaskTry | None, table: str, kind: Kind) -> None:
        row = next(self.names)
        seen = self._table(who, table)
        transaction = seen.transaction()
        producer = _FastAppendFiles if kind == "append" else _OverwriteFiles
        operation = Operation.APPEND if kind == "append" else Operation.OVERWRITE
        with producer(operation, transaction, self.io) as update:
            for task in seen.scan().plan_files() if kind == "overwrite" and seen.current_snapshot() else ():
                update.delete_data_file(task.file)
            update.append_data_file(data_file(row))
        body = {
            "requirements": [r.model_dump(mode="json", by_alias=True) for r in transaction._requirements],
            "updates": [
                u.model_dump(mode="json", by_alias=True, exclude_none=True) for u in transaction._updates
            ],
        }
        entry = Entry(kind, row, who.task if who else "", who.number if who else 0)
        self.pending.append(Pending(who, table, entry, body, len(self.main[table])))

    def _commit(self, pending: Pending) -> None:
        answer = self.client.post(self.url(pending.who, pending.table), json=pending.body)
        who, table = pending.who, pending.table
        if who is not None and who.number < self.numbers[who.run, who.task]:
            assert answer.status_code in (403, 409), answer.text
            return
        if answer.status_code == 409:
            return
        assert answer.status_code == 200, answer.text
        if who is None:
            assert pending.main == len(self.main[table])
            self.main[table].append(pending.entry)
            return
        branch = self.branches.setdefault((who.run, table), Branch(pending.main))
        branch.entries.append(pending.entry)

    def _table(self, who: TaskTry | None, table: str) -> Table:
        answer = self.client.get(self.url(who, table)).raise_for_status().json()
        metadata = TableMetadataUtil.parse_obj(answer["metadata"])
        return StaticTable((self.namespace, table), metadata, answer["metadata-location"], self.io, None)  # type: ignore[arg-type]

    def _held(self, who: TaskTry | None, table: str) -> Counter[str]:
        found = self._table(who, table)
        if found.current_snapshot() is None:
            return Counter()
        return Counter(task.file.file_path.rpartition("/")[2] for task in found.scan().plan_files())


def data_file(row: str) -> DataFile:
    """A file of one row that is never read."""
    made = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"s3://warehouse/histories/{row}",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=1,
        file_size_in_bytes=1,
        column_sizes={},
        value_counts={},
        null_value_counts={},
        nan_value_counts={},
        lower_bounds={},
        upper_bounds={},
        key_metadata=None,
        split_offsets=None,
        equality_ids=None,
        sort_order_id=None,
    )
    made.spec_id = PartitionSpec().spec_id
    return made


def test_histories(config: CatalogConfig, lens: str) -> None:
    catalog = config.pyiceberg()
    with Rest(config) as rest, httpx.Client(timeout=30) as client:
        rest.tables([])
        client.headers["Authorization"] = rest._client.headers["Authorization"]
        Histories.config, Histories.lens, Histories.rest, Histories.client = config, lens, rest, client
        Histories.io = catalog._load_file_io({}, "s3://warehouse/histories")
        run_state_machine_as_test(
            Histories,
            settings=settings(
                max_examples=HISTORIES,
                stateful_step_count=14,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
