"""Commits of runs on their way to the catalog: one after the other for each table, those that wait in one request.

A catalog takes 30 to 80 ms for a commit, whatever is in it, and does one at a time for a table. Runs that append to
one table write different branches, so what has come in meanwhile goes together.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from forebay.lake.branch import Branch, Json, show
from forebay.lake.identity import TaskTry
from forebay.lens import answers
from forebay.lens.commit import Asked, rewrite
from forebay.lens.memory import Memory
from forebay.lens.refused import Refused
from forebay.lens.upstream import Answer

RACES = 20
MOST_TOGETHER = 16
_TOGETHER = frozenset(("add-snapshot", "set-snapshot-ref"))
"""What commits may hold that go together: nothing that counts up ids of columns or partitionings."""

Send = Callable[..., Awaitable[Answer]]


@dataclass(eq=False)
class _Waiting:
    """One client's commit to a table."""

    request: Request
    who: TaskTry
    rest: str
    table: str
    commit: Json
    answer: asyncio.Future[Response]

    @property
    def alone(self) -> bool:
        return _creates(self.commit) or any(
            update.get("action") not in _TOGETHER for update in self.commit.get("updates") or ()
        )

    def goes_with(self, first: _Waiting) -> bool:
        """Whether both can be one request: under the same credential, and on branches of their own."""
        return (
            not self.alone
            and self.who.branch != first.who.branch
            and self.request.headers.get("authorization") == first.request.headers.get("authorization")
        )


class Commits:
    """What is on its way. `send(request, method, path, **what)` asks the catalog on behalf of a request."""

    def __init__(self, memory: Memory, send: Send) -> None:
        self.memory, self._send = memory, send
        self._waiting: defaultdict[str, list[_Waiting]] = defaultdict(list)

    async def one(self, request: Request, who: TaskTry, rest: str, table: str) -> Response:
        """A client's commit to one table."""
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        mine = _Waiting(request, who, rest, table, await answers.body(request), answer)
        queue = self._waiting[table]
        queue.append(mine)
        try:
            async with self.memory.lock(table):
                if not answer.done():
                    await self._together(self._batch(mine, queue))
        finally:
            if mine in queue:
                queue.remove(mine)
            if not queue:
                self._waiting.pop(table, None)
        return await answer

    async def transaction(self, request: Request, who: TaskTry, rest: str) -> Response:
        """A client's commit to several tables."""
        changes = (await answers.body(request)).get("table-changes") or ()
        given = {identified(change): change for change in changes}
        request.state.table = ",".join(given)
        start = rest.removesuffix("transactions/commit")
        async with AsyncExitStack() as locks:
            for table in sorted(given):
                await locks.enter_async_context(self.memory.lock(table))
            for attempt in range(RACES):
                try:
                    asked = [
                        await self._asked(request, who, f"{start}{_path(table)}", table, change)
                        for table, change in given.items()
                    ]
                except Refused:
                    if attempt:
                        raise
                    for table in given:
                        self.memory.forget(table)
                    continue
                answer = await self._send(request, "POST", rest, json={"table-changes": asked})
                for table in given:
                    self.memory.forget(table)
                if any(map(_creates, given.values())) or not answers.lost_race(answer):
                    break
                await asyncio.sleep(0.005 * attempt)
        return answers.failed(answer) if answer.is_error else answers.as_is(answer)

    def _batch(self, first: _Waiting, queue: list[_Waiting]) -> list[_Waiting]:
        """This commit and those that can go with it."""
        batch = [first]
        metadata = self.memory.known(first.table)
        # Snapshots of version 3 count rows on from each other.
        if not first.alone and metadata is not None and metadata.get("format-version") == 2:
            for each in queue:
                if len(batch) == MOST_TOGETHER:
                    break
                if not each.answer.done() and all(each.goes_with(other) for other in batch):
                    batch.append(each)
        return batch

    async def _together(self, batch: list[_Waiting]) -> None:
        """Answers all of them."""
        try:
            if len(batch) > 1:
                await self._merged(batch)
            for each in batch:
                if not each.answer.done():
                    await self._alone(each)
        except BaseException as error:
            if isinstance(error, Exception):
                # Whatever broke it off, none of those without an answer knows more than the other.
                _end(batch, error)
                return
            # The first one's own request ended. Clients treat 502 as a commit in an unknown state.
            _end(
                batch[1:],
                Refused(502, "CommitStateUnknownException", "the lens was stopped during the commit"),
            )
            raise

    async def _alone(self, one: _Waiting) -> None:
        for attempt in range(RACES):
            remembered = self.memory.known(one.table) is not None
            try:
                asked = await self._asked(one.request, one.who, one.rest, one.table, one.commit)
            except Refused as error:
                self.memory.forget(one.table)
                if remembered:
                    # The run may have been published at the catalog itself since, which the lens does not see.
                    continue
                one.answer.set_exception(error)
                return
            answer = await self._send(one.request, "POST", one.rest, json=asked)
            if not answer.is_error:
                self._done([one], answer)
                return
            self.memory.forget(one.table)
            if _creates(one.commit) or not answers.lost_race(answer):
                break
            # Somebody else moved the table. Looking again tells whether the commit still holds; if not, the
            # client hears of it by the conflict that is raised then.
            await asyncio.sleep(0.005 * attempt)
        one.answer.set_result(answers.failed(answer))

    async def _merged(self, batch: list[_Waiting]) -> None:
        """Sends them as one commit. Those without an answer then have to go one by one after all."""
        first, sent = batch[0], []
        merged: dict[str, list[Any]] = {"requirements": [], "updates": []}
        last = 0
        for each in batch:
            try:
                asked = await self._asked(each.request, each.who, each.rest, each.table, each.commit, last)
            except Refused:
                # It is looked at again, alone.
                continue
            sent.append(each)
            merged["requirements"] += [r for r in asked["requirements"] if r not in merged["requirements"]]
            merged["updates"] += asked["updates"]
            numbers = [
                u["snapshot"]["sequence-number"] for u in asked["updates"] if u["action"] == "add-snapshot"
            ]
            last = max([last, *numbers])
        if not sent:
            return
        base = {key: value for key, value in first.commit.items() if key not in merged}
        answer = await self._send(first.request, "POST", first.rest, json={**base, **merged})
        for each in sent:
            each.request.state.upstream = first.request.state.upstream
        if answer.is_error:
            self.memory.forget(first.table)
            if answer.status_code >= 500 and not answers.lost_race(answer):
                # It may be done. Looked at again it would be a conflict to its own writer, who would repeat it.
                for each in sent:
                    each.answer.set_result(answers.failed(answer))
            return
        self._done(sent, answer)

    def _done(self, sent: list[_Waiting], answer: Answer) -> None:
        document = answers.document(answer)
        self.memory.table(sent[0].table, document["metadata"], len(answer.content))
        for each in sent:
            shown = {**document, "metadata": show(document["metadata"], each.who.branch)}
            each.answer.set_result(answers.json(shown))

    async def _asked(
        self, request: Request, who: TaskTry, rest: str, table: str, commit: Json, last: int = 0
    ) -> Json:
        """The commit as it goes to the catalog, numbered after `last`. Raises Refused."""
        self.memory.fence(who)
        metadata = None
        if not _creates(commit):
            metadata = self.memory.known(table)
            if metadata is None or _is_empty(metadata, who.branch):
                answer = await self._send(request, "GET", rest)
                if answer.is_error:
                    raise Refused(answer.status_code, answers.kind(answer), answers.message(answer))
                metadata = answers.document(answer)["metadata"]
            if last:
                metadata = {**metadata, "last-sequence-number": max(last, metadata["last-sequence-number"])}
        seen = self.memory.of(who)
        inputs = {name: number for name, number in seen.shown.items() if name not in who.writes}
        return rewrite(
            commit,
            Asked(
                who,
                table,
                metadata,
                inputs=inputs,
                complete=seen.complete,
                scanned=table in seen.scanned,
                looked=table in seen.first,
                first_seen=seen.first.get(table),
            ),
        )


def _end(waiting: list[_Waiting], error: Exception) -> None:
    for each in waiting:
        if not each.answer.done():
            each.answer.set_exception(error)


def identified(change: Json) -> str:
    """The table that a change of a transaction names."""
    return ".".join([*change["identifier"]["namespace"], change["identifier"]["name"]])


def _path(table: str) -> str:
    *namespace, name = table.split(".")
    return f"namespaces/{'%1F'.join(namespace)}/tables/{name}"


def _is_empty(metadata: Json, name: str) -> bool:
    """Whether there is such a branch without a snapshot. Then no assertion tells that it has been taken away since."""
    branch = Branch.find(metadata, name)
    return branch is not None and branch.head is None


def _creates(commit: Json) -> bool:
    return any(each.get("type") == "assert-create" for each in commit.get("requirements") or ())
