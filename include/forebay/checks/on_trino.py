"""A table's rows counted by Trino, for rules that are compiled into SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlglot import exp, parse_one

from forebay import sqltext
from forebay.checks.compile import FILE, ROW, ROWS
from forebay.engines.trino_types import written
from forebay.sqlquote import quoted
from forebay.sqltext.dialect import TRINO

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table

    from forebay.engines.trino import TrinoEngine


def asking(engine: TrinoEngine, table: Table, name: str) -> Callable[[exp.Expr], pa.Table]:
    """A function that runs a SELECT over ROWS on Trino: the table's current snapshot."""
    return lambda query: engine.query(over(query, table, name))


def over(query: exp.Expr, table: Table, name: str) -> str:
    """Trino's SQL of a SELECT over ROWS: the table's current snapshot."""
    rows = parse_one(_relation(table, name), dialect=TRINO)
    mine = query.copy()
    for node in list(mine.find_all(exp.Table)):
        if node.name == ROWS and not node.db:
            alias = node.alias or ROWS
            node.replace(exp.Subquery(this=rows.copy(), alias=exp.TableAlias(this=exp.to_identifier(alias))))
    return sqltext.to_trino(mine)


def _relation(table: Table, name: str) -> str:
    fields, snapshot = table.schema().fields, table.metadata.current_snapshot_id
    if snapshot is None:
        nothing = ", ".join(
            f"CAST(NULL AS {written(field.field_type)}) AS {quoted(field.name)}" for field in fields
        )
        return f"SELECT {nothing}, CAST(NULL AS varchar) AS {FILE}, CAST(NULL AS bigint) AS {ROW} WHERE false"
    names = ", ".join(quoted(field.name) for field in fields)
    table_name = ".".join(quoted(part) for part in name.split("."))
    return (
        f'SELECT {names}, "$path" AS {FILE}, CAST(NULL AS bigint) AS {ROW} '
        f"FROM {table_name} FOR VERSION AS OF {int(snapshot)}"
    )
