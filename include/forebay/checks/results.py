"""What checks found, kept in the lake: one row for each rule in <namespace>.check_results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from forebay.checks.verdict import Verdict, json_value
from forebay.lake.commit import ATTEMPTS, Conflict, Draft
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.datafiles import DataFileWriter
from forebay.lake.identity import RECORD, STAMP, TaskTry
from forebay.lake.tables import TableDefinition, load

if TYPE_CHECKING:
    from pyiceberg.types import IcebergType

# The embedded store takes no table whose name begins with an underscore.
TABLE = "check_results"
# `table`, `column` and `try` are words of SQL: a query would have to quote them.
COLUMNS = {
    "checked_at": ("timestamptz", "When the table was looked at."),
    "job": ("string", "The job, <workspace>.<job>."),
    "task": ("string", "The task's key."),
    "run_id": ("string", "Airflow's run."),
    "try_number": ("int", "Which try of the task."),
    "table_name": ("string", "The table, namespace.table."),
    "snapshot_id": ("long", "The snapshot that was looked at."),
    "rule": ("string", "What the rule is called in its task."),
    "expectation": ("string", "GX's name for it; sql, references or type where GX has none."),
    "column_name": ("string", "The column, or columns joined by a comma."),
    "severity": ("string", "fail, warn or quarantine."),
    "verdict": ("string", "passed, failed, warned or quarantined."),
    "success": ("boolean", "Whether the rule holds."),
    "element_count": ("long", "Rows the rule is about."),
    "missing_count": ("long", "Of those, rows without a value."),
    "unexpected_count": ("long", "Refused rows."),
    "observed_value": ("string", "The figure a rule about the whole table saw."),
    "details": ("string", "The result in GX's format, as JSON."),
}


@dataclass(frozen=True)
class Origin:
    """Which try of which task looked at which table."""

    job: str
    task: str
    run_id: str
    try_number: int
    table_name: str


def result_rows(
    verdicts: Sequence[Verdict], origin: Origin, snapshot_id: int | None, checked_at: datetime
) -> list[dict[str, Any]]:
    """The rows that are kept, one for each rule."""
    found = []
    for one in verdicts:
        result = one.result
        observed = json_value(result.get("observed_value"))
        found.append(
            {
                **asdict(origin),
                "checked_at": checked_at,
                "snapshot_id": snapshot_id,
                "rule": one.rule.label,
                "expectation": one.rule.kind,
                "column_name": ", ".join(one.rule.columns) or None,
                "severity": one.rule.severity,
                "verdict": one.word,
                "success": one.success,
                "element_count": result.get("element_count"),
                "missing_count": result.get("missing_count"),
                "unexpected_count": result.get("unexpected_count"),
                "observed_value": observed
                if observed is None or isinstance(observed, str)
                else json.dumps(observed),
                "details": json.dumps(one.as_gx(), ensure_ascii=False),
            }
        )
    return found


def keep(
    config: CatalogConfig,
    namespace: str,
    rows: Sequence[Mapping[str, Any]],
    who: TaskTry,
    inputs: Mapping[str, int | None],
) -> str:
    """Append rows to the namespace's result table, made when missing; its name. One commit, repeated on conflict.

    `who` looked, and at which snapshot of which table is in `inputs`.
    """
    import pyarrow as pa
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    name = f"{namespace}.{TABLE}"
    definition = TableDefinition(
        name, comment="What checks found.", column_comments={key: text for key, (_, text) in COLUMNS.items()}
    )
    wanted = [(key, _type(kind)) for key, (kind, _) in COLUMNS.items()]
    for attempt in range(ATTEMPTS):
        table = load(config, name)
        there = {field.name for field in table.schema().fields} if table is not None else set()
        if table is not None and not {"checked_at", "details"} <= there:
            raise LakeError(f"{name} is no table of check results. Give that table another name.")
        add = [each for each in wanted if each[0] not in there] if table is not None else []
        try:
            draft = Draft(config, definition, wanted, table, add)
            schema = schema_to_pyarrow(draft.schema(), include_field_ids=False)
            writer = DataFileWriter(draft.metadata, draft.io)
            arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in schema]
            writer.write(pa.RecordBatch.from_arrays(arrays, names=schema.names))
            stamps = who.stamps(draft.base_snapshot, inputs, complete=True) | {f"{STAMP}{RECORD}": "yes"}
            draft.commit(writer.close(), properties=stamps)
            return name
        except Conflict:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _type(name: str) -> IcebergType:
    from pyiceberg import types

    made = {"int": "Integer", "timestamptz": "Timestamptz"}.get(name, name.capitalize())
    return getattr(types, f"{made}Type")()  # type: ignore[no-any-return]


def summary(table: str, verdicts: Sequence[Verdict]) -> str:
    """What was found, as an aligned table of text."""
    head = ("rule", "severity", "verdict", "refused", "examples")
    body = [
        (one.rule.label, one.rule.severity, _verdict(one), _refused(one), _examples(one)) for one in verdicts
    ]
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *body)
    ]
    totals = ", ".join(f"{count} {word}" for word, count in tally(verdicts).items() if count)
    return "\n".join([f"{table}: {totals}", *lines])


def tally(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many rules passed, failed, were warned of and sent rows to quarantine; the rows that moved."""
    words = [one.word for one in verdicts]
    return {word: words.count(word) for word in ("passed", "failed", "warned", "quarantined")}


def _verdict(one: Verdict) -> str:
    return f"quarantined {one.unexpected:,}" if one.word == "quarantined" else one.word


def _refused(one: Verdict) -> str:
    """3 of 120 (2.5 %), or the figure of a rule about the whole table."""
    result = one.result
    if "unexpected_count" not in result:
        observed = json_value(result.get("observed_value"))
        return "" if observed is None else f"saw {_short(observed)}"
    looked_at = int(result.get("element_count") or 0) - int(result.get("missing_count") or 0)
    if not one.unexpected:
        return f"0 of {looked_at:,}"
    return f"{one.unexpected:,} of {looked_at:,} ({one.unexpected / max(looked_at, 1) * 100:.3g} %)"


def _examples(one: Verdict) -> str:
    values = one.result.get("partial_unexpected_list") or []
    shown = list(dict.fromkeys(_short(json_value(value)) for value in values))
    return ", ".join(shown[:3])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(char if char.isprintable() else " " for char in text)
    return text if len(text) <= 60 else text[:59] + "…"
