"""Tables whose columns and layout come from a run that was never published: what to do where they do not fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from forebay.lake.branch import MAIN, Branch, Json, ancestry, ref, snapshots
from forebay.lake.commit import Conflict
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.identity import TaskTry, UnknownRun
from forebay.lake.tables import TableDefinition, partition_spec, sort_order

if TYPE_CHECKING:
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.table import Table
    from pyiceberg.table.sorting import SortOrder


@contextlib.contextmanager
def explained(config: CatalogConfig, definition: TableDefinition, table: Table | None) -> Iterator[None]:
    """Around fitting a run's rows to a table: says which runs to discard where only they gave the table its shape.

    Raises LakeError also where such a table is laid out otherwise than the task says, since a layout is for ever.
    """
    if table is None or table.metadata.current_snapshot_id is not None:
        yield
        return
    if not _laid_out(table, definition) and (remedy := _remedy(config, definition.name)):
        raise LakeError(f"{definition.name}: partitioned_by or sorted_by are not the table's. {remedy}")
    try:
        yield
    except Conflict:
        raise
    except LakeError as error:
        if remedy := _remedy(config, definition.name):
            raise LakeError(f"{str(error).rstrip('.')}. {remedy}") from error
        raise


def _laid_out(table: Table, definition: TableDefinition) -> bool:
    try:
        partitions = partition_spec(table.schema(), definition)
        order = sort_order(table.schema(), definition)
    except LakeError:
        # By a column that the table has not.
        return False
    return _parts(partitions, order) == _parts(table.spec(), table.sort_order())


def _parts(partitions: PartitionSpec, order: SortOrder) -> list[tuple[str, ...]]:
    return [
        *((str(each.source_id), str(each.transform)) for each in partitions.fields),
        *((str(each.source_id), each.direction.value, each.null_order.value) for each in order.fields),
    ]


def _remedy(config: CatalogConfig, name: str) -> str:
    """Empty where the table is this run's own, or main's."""
    from forebay.lake.rest import Rest

    try:
        who = TaskTry.parse(config.uri.rpartition("/")[2])
    except UnknownRun:
        return ""
    with Rest(config.main()) as rest:
        metadata = rest.table(name)
    if metadata is None or ref(metadata, MAIN) is not None:
        return ""
    # The table goes with the branch that made it, when no other is left.
    branches = sorted(Branch.all(metadata), key=lambda each: bool(each.created_by))
    if not branches or not branches[-1].created_by or any(each.name == who.branch for each in branches):
        return ""
    runs = [_run(metadata, each) for each in branches]
    were, them = ("was", "it") if len(runs) == 1 else ("were", "them, in this order")
    commands = "; ".join(f"forebay discard {each}" for each in runs)
    return (
        f"The table has its columns and layout from {', '.join(runs)}, which {were} never published. Drop {them}, and the "
        f"next run makes it anew: {commands}"
    )


def _run(metadata: Json, branch: Branch) -> str:
    from forebay.lake.history import Made

    own = next(ancestry(snapshots(metadata), branch.head, branch.base), None)
    by = Made.of(own).by if own is not None else None
    return f"{by.job}/{by.run}" if by is not None else f"the run of branch {branch.name}"
