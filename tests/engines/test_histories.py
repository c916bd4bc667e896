"""Random histories of runs on three tables, against a model in memory: no row lost, none doubled, no half publish.

Rows are data files that nobody reads: their names are enough to see which are there. Commits are split in two, look
and commit, so that anything may come between; publishing and putting back may break off between two tables; a lens may
be replaced by one that knows nothing. FOREBAY_HISTORIES sets how many histories are tried.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import httpx
import pytest
from history_model import Entry, Kind, Look, Model, Table, rows
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lake import broken_off, data_file
from pyiceberg.schema import Schema
from pyiceberg.table import StaticTable
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.metadata import TableMetadataUtil
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles, _OverwriteFiles
from pyiceberg.types import LongType, NestedField
from store import running_lens

from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.identity import Run, TaskTry
from forebay.lake.publish import PublishConflict, discard, publish
from forebay.lake.rest import Rest
from forebay.lake.retry import AlreadyPublished, put_back

HISTORIES = int(os.environ.get("FOREBAY_HISTORIES", "500"))
MADE = "made"
"""The table that is not there before a run makes it."""
TABLES = ("a", MADE, "b")
SCHEMA = Schema(NestedField(1, "n", LongType()))
# Things happen where several meet: most of it in one run, on one table.
RUN = st.sampled_from(["r1", "r1", "r1", "r2", "r2", "r3"])
TASK = st.sampled_from(["t1", "t2"])
TABLE = st.sampled_from(["a", "a", MADE, MADE, "b"])
KIND = st.sampled_from(["append", "append", "append", "overwrite", "overwrite", "replace"])
DIRECTLY = st.sampled_from(["append", "append", "overwrite"])
FIRST = st.sampled_from([len(TABLES), len(TABLES), 1, 2])
"""How many tables something gets to before it breaks off."""


@dataclass
class Pending:
    """A commit that looked at a table and has not committed yet."""

    who: TaskTry | None
    table: str
    entry: Entry
    body: dict[str, Any]
    look: Look


class Histories(RuleBasedStateMachine):
    config: CatalogConfig
    lenses: tuple[tuple[str, float], ...]
    """Address of each, and a moment when it had begun and the next one had not."""
    later: ClassVar[Iterator[int]]
    """Microseconds: each try begins later than those before it, as a lens takes for sure that forgot those."""
    rest: Rest
    client: httpx.Client
    io: Any
    came: ClassVar[Counter[str]] = Counter()
    """How often each kind of end came, over all histories."""

    @initialize()
    def tables(self) -> None:
        self.namespace = f"h{uuid.uuid4().hex[:10]}"
        self.model = Model({table: Table(gone=table == MADE) for table in TABLES})
        self.ended: set[str] = set()
        self.pending: list[Pending] = []
        self.names = (f"row{number}" for number in itertools.count())
        self.restarts = 0
        self.began: dict[tuple[str, str, int], float] = {}
        self.rest.config = replace(self.config, lens=self.lenses[0][0])
        catalog = self.config.pyiceberg()
        catalog.create_namespace(self.namespace)
        for table in TABLES:
            if table != MADE:
                catalog.create_table(self.name(table), SCHEMA)

    def name(self, table: str) -> str:
        return f"{self.namespace}.{table}"

    def run(self, run: str) -> Run:
        return Run(f"{self.namespace}.job", run)

    def who(self, run: str, task: str) -> TaskTry:
        number = self.model.tries.setdefault((run, task), 1)
        return TaskTry(
            job=f"{self.namespace}.job", run=run, task=task, number=number, writes=tuple(map(self.name, TABLES)),
            began=self._began(run, task, number),
        )  # fmt: skip

    def _began(self, run: str, task: str, number: int) -> float:
        if (run, task, number) not in self.began:
            self.began[run, task, number] = self.lenses[self.restarts][1] + 2e-6 * next(self.later)
        return self.began[run, task, number]

    def url(self, who: TaskTry | None, table: str = "") -> str:
        view = self.lenses[self.restarts][0] + (f"/run/{who.segment()}" if who else "/main")
        return f"{view}/v1/{self.rest._prefix}namespaces/{self.namespace}/tables/{table}".rstrip("/")

    def at_work(self, run: str, task: str) -> bool:
        return run not in self.ended and (run, task) not in self.model.dead

    @rule(run=RUN, task=TASK, table=TABLE, kind=KIND)
    def look(self, run: str, task: str, table: str, kind: Kind) -> None:
        if self.at_work(run, task):
            self._look(self.who(run, task), table, kind)

    @rule(run=RUN, task=TASK, table=TABLE, kind=KIND)
    def write(self, run: str, task: str, table: str, kind: Kind) -> None:
        if self.at_work(run, task):
            self._look(self.who(run, task), table, kind)
            self._commit(self.pending.pop())

    @rule(table=TABLE, kind=DIRECTLY)
    def write_main_directly(self, table: str, kind: Kind) -> None:
        if not self.model.tables[table].gone:
            self._look(None, table, kind)
            assert self._commit(self.pending.pop()) == 200

    @precondition(lambda self: self.pending)
    @rule(which=st.integers(0, 10))
    def commit(self, which: int) -> None:
        self._commit(self.pending.pop(which % len(self.pending)))

    @rule(run=RUN, task=TASK, first=FIRST)
    def kill_and_try_again(self, run: str, task: str, first: int) -> None:
        """The task dies wherever it is. What it had not committed may still come: it is a leftover then.

        Its new try may die as well, while it puts back what the earlier ones had written.
        """
        if run in self.ended or (run, task) not in self.model.tries:
            return
        self.model.tries[run, task] += 1
        self.model.dead.add((run, task))
        who = self.who(run, task)
        for table in TABLES[:first]:
            one = replace(who, writes=(self.name(table),))
            expected = self.model.puts_back(table, run, task)
            self.came[f"put back: {expected}"] += 1
            if expected == "published":
                with pytest.raises(AlreadyPublished):
                    put_back(self.rest, one)
                return
            if expected == "built on":
                with pytest.raises(LakeError, match="Clear"):
                    put_back(self.rest, one)
                # A person clears both tasks, so the run has to end here.
                self._discard(run)
                return
            assert put_back(self.rest, one) == (list(one.writes) if expected == "changed" else [])
        if first == len(TABLES):
            self.model.dead.discard((run, task))
            # The lens hears of the new try as soon as it asks for anything.
            self.client.get(self.url(who, "a"))
            self.model.looks("a", run, task, who.number)

    @rule(run=RUN, first=FIRST)
    def publish(self, run: str, first: int) -> None:
        """All tables, or those that a publish had done when it broke off; whatever comes then, it can be repeated."""
        if run not in self.ended and self.model.has_worked(run):
            self._publish(run, first)
            self.check()

    @rule(run=RUN)
    def publish_again_later(self, run: str) -> None:
        """A run that is done with stays as it is, whatever has become of its tables since."""
        if run in self.ended:
            publish(self.rest, self.run(run), list(map(self.name, TABLES)))
            self.check()

    def _publish(self, run: str, first: int) -> None:
        names = list(map(self.name, TABLES))
        tries = {task: number for (one, task), number in self.model.tries.items() if one == run}
        wrote = {
            self.name(name)
            for name, table in self.model.tables.items()
            if table.has(run) or (run in table.branches and table.branches[run].entries)
        }
        left = {name for name in TABLES[first:] if run in self.model.tables[name].branches}
        expected = self.model.publishes(run, first)
        self.came[f"publish of {first}: {expected}"] += 1
        if expected == "done" and left:
            with broken_off(self.rest, set(map(self.name, left))):
                publish(self.rest, self.run(run), names, tries)
        elif expected == "done":
            done = publish(self.rest, self.run(run), names, tries)
            assert {each.table for each in done if each.added or each.again} == wrote
            # Once more is harmless: that is what a retry after a crash does.
            assert all(each.again for each in publish(self.rest, self.run(run), names, tries))
            self._end(run)
        else:
            with pytest.raises(LakeError) as caught:
                publish(self.rest, self.run(run), names, tries)
            assert isinstance(caught.value, PublishConflict) == (expected == "conflict"), caught.value
            assert ("PARTIAL" in str(caught.value)) == (expected == "partial")

    @rule(run=RUN)
    def discard(self, run: str) -> None:
        if run not in self.ended and self.model.has_worked(run):
            self._discard(run)

    @precondition(lambda self: self.restarts + 1 < len(self.lenses))
    @rule()
    def lens_is_started_anew(self) -> None:
        """What it remembered is lost: another one, which has heard of nothing, is at its place."""
        self.restarts += 1
        self.model.forgets()
        self.rest.config = replace(self.config, lens=self.lenses[self.restarts][0])

    def _discard(self, run: str) -> None:
        discard(self.rest, self.run(run), list(map(self.name, TABLES)))
        self.model.discards(run)
        self._end(run)

    def _end(self, run: str) -> None:
        self.ended.add(run)
        self.pending = [each for each in self.pending if each.who is None or each.who.run != run]

    def teardown(self) -> None:
        """What is still open goes its way: late commits come, and every run is published."""
        if not hasattr(self, "model"):
            return
        while self.pending:
            self._commit(self.pending.pop(0))
        for run in ("r1", "r2", "r3"):
            if run not in self.ended and self.model.has_worked(run):
                self._publish(run, len(TABLES))
        self.check()

    def check(self) -> None:
        """Main holds exactly what the model says, and so does every branch."""
        for name, table in self.model.tables.items():
            assert self._held(None, name) == (None if table.gone else rows(table.main)), name
            for run, branch in table.branches.items():
                assert not table.gone
                # Somebody who only looks: the lens hears of no try by that.
                looks = TaskTry(job=f"{self.namespace}.job", run=run)
                assert self._held(looks, name) == rows(branch.line), (run, name)

    def _look(self, who: TaskTry | None, table: str, kind: Kind) -> None:
        known = self.model.tables[table]
        if who is not None:
            self.model.hears(who.run, who.task, who.number)
            if known.gone:
                body = {"name": table, "schema": SCHEMA.model_dump(mode="json", by_alias=True)}
                self.client.post(self.url(who), json=body).raise_for_status()
                known.create(who.run, who.task)
        row = next(self.names)
        seen = self._table(who, table)
        assert seen is not None
        if who is not None:
            self.model.looks(table, who.run, who.task, who.number)
        was_there = seen.current_snapshot() is not None
        if kind == "replace":
            seen.metadata = seen.metadata.model_copy(update={"current_snapshot_id": None, "refs": {}})
        transaction = seen.transaction()
        producer = _OverwriteFiles if kind == "overwrite" else _FastAppendFiles
        operation = Operation.OVERWRITE if kind == "overwrite" else Operation.APPEND
        with producer(operation, transaction, self.io) as update:
            for task in seen.scan().plan_files() if kind == "overwrite" and seen.current_snapshot() else ():
                update.delete_data_file(task.file)
            update.append_data_file(data_file(row))
        body = {
            "requirements": [
                # As every client asserts it with its commit.
                {"type": "assert-table-uuid", "uuid": str(seen.metadata.table_uuid)},
                *(
                    r.model_dump(mode="json", by_alias=True)
                    for r in transaction._requirements
                    if kind != "replace" or r.type != "assert-ref-snapshot-id"
                ),
            ],
            "updates": [
                # As Iceberg's own library replaces a table.
                *(
                    [{"action": "remove-snapshot-ref", "ref-name": "main"}]
                    if kind == "replace" and was_there
                    else []
                ),
                *(u.model_dump(mode="json", by_alias=True, exclude_none=True) for u in transaction._updates),
            ],
        }
        entry = Entry(kind, row, who.run, who.task, who.number) if who else Entry(kind, row)
        self.pending.append(Pending(who, table, entry, body, known.look(entry.run)))

    def _commit(self, pending: Pending) -> int:
        who, entry = pending.who, pending.entry
        if who is not None:
            entry = replace(entry, unsure=who.began < self.lenses[self.restarts][1])
        expected = self.model.commits(pending.table, pending.look, entry)
        answer = self.client.post(self.url(who, pending.table), json=pending.body)
        assert answer.status_code in expected, (expected, answer.text)
        left_over = who is not None and who.number < self.model.tries[who.run, who.task]
        self.came[f"commit{' of a leftover' if left_over else ''}: {answer.status_code}"] += 1
        return answer.status_code

    def _table(self, who: TaskTry | None, table: str) -> IcebergTable | None:
        asked = self.client.get(self.url(who, table))
        if asked.status_code == 404:
            return None
        answer = asked.raise_for_status().json()
        metadata = TableMetadataUtil.parse_obj(answer["metadata"])
        return StaticTable((self.namespace, table), metadata, answer["metadata-location"], self.io, None)  # type: ignore[arg-type]

    def _held(self, who: TaskTry | None, table: str) -> Counter[str] | None:
        found = self._table(who, table)
        if found is None or found.current_snapshot() is None:
            return None if found is None else Counter()
        return Counter(task.file.file_path.rpartition("/")[2] for task in found.scan().plan_files())


@pytest.fixture
def lenses(
    config: CatalogConfig, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[tuple[str, float], ...]]:
    """A lens, and those that come after it when it is started anew."""
    folder = tmp_path_factory.mktemp("lenses")
    with contextlib.ExitStack() as stack:
        yield tuple(
            (stack.enter_context(running_lens(config, folder / f"log{n}")), time.time()) for n in range(3)
        )


def test_histories(config: CatalogConfig, lenses: tuple[tuple[str, float], ...]) -> None:
    catalog = config.pyiceberg()
    with Rest(config) as rest, httpx.Client(timeout=30) as client:
        rest.tables([])
        client.headers["Authorization"] = rest._client.headers["Authorization"]
        Histories.config, Histories.lenses, Histories.rest, Histories.client = config, lenses, rest, client
        Histories.io = catalog._load_file_io({}, "s3://warehouse/histories")
        Histories.later = itertools.count()
        run_state_machine_as_test(
            Histories,
            settings=settings(
                max_examples=HISTORIES,
                stateful_step_count=14,
                deadline=None,
                database=None,
                # Others each time, also where Hypothesis sees that it runs in CI.
                derandomize=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
    if HISTORIES >= 500:
        # What may go wrong has come, not only what cannot.
        frequent = {
            "commit: 409", "commit of a leftover: 403", "publish of 3: done", "publish of 3: conflict",
            "publish of 2: done", "put back: changed",
        }  # fmt: skip
        assert frequent <= Histories.came.keys(), Histories.came
