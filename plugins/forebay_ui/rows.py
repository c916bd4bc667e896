"""Rows, files and check results of one table: what needs reading more than its metadata document. Bounded, always."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from forebay.checks.results import TABLE as CHECK_RESULTS
from forebay.lake.connection import CatalogConfig, DeletedByValue, LakeError
from forebay.lake.describe import Size
from forebay_ui import first_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table

SAMPLE = 20
MANY_FILES = 20_000
"""From more files on only totals are shown: looking at each takes long."""
SMALL = 8 << 20
"""A data file below this is small: a reader spends more on opening it than on its rows."""
_BUCKETS = (
    (1 << 20, "< 1 MB"),
    (SMALL, "1–8 MB"),
    (64 << 20, "8–64 MB"),
    (256 << 20, "64–256 MB"),
    (0, "≥ 256 MB"),
)
_CELL = 500
_SAMPLE_FILES, _SAMPLE_SECONDS = 20, 15.0
"""A sample is looked for in so many files, and for so long: the others may be empty of rows, or far away."""
_PARTITIONS = 50
_CHECKS = 1000
_RESULT_FILES, _RESULT_STEP = 2000, 32
"""How many files of check results are read at most, and how many at a time."""


@dataclass(frozen=True)
class Rows:
    """Some rows as text; None is no value."""

    columns: list[str]
    rows: list[list[str | None]]


@dataclass(frozen=True)
class Part:
    """One partition."""

    name: str
    files: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class FileSummary:
    """The files that a table's main leads to. None is what only shows when each of them is looked at."""

    files: int
    bytes: int | None
    small: int | None
    delete_files: int
    delete_share: float
    """Delete files among all files, from 0 to 1."""
    buckets: list[tuple[str, int]]
    partitions: list[Part]
    partition_count: int | None
    skew: float | None
    """The largest partition's bytes over the mean partition's; None where the table has no partitions."""
    only_totals: str = ""
    """Why the files were not looked at one by one."""


def sample(config: CatalogConfig, name: str, snapshot: int | None = None, limit: int = SAMPLE) -> Rows:
    """The first rows that are found, now or at a snapshot: of few files, and of those the first pages."""
    table = _load(config, name)
    rows: list[list[str | None]] = []
    with config.reached():
        scan = table.scan(snapshot_id=snapshot)
        columns = [field.name for field in scan.projection().fields]
        until = time.monotonic() + _SAMPLE_SECONDS
        for task in islice(scan.plan_files(), _SAMPLE_FILES):
            for batch in first_rows.batches(table, task, scan.projection(), limit - len(rows)):
                taken = batch.slice(0, limit - len(rows)).to_pylist()
                rows += [[_text(value) for value in row.values()] for row in taken]
                if len(rows) >= limit or time.monotonic() > until:
                    return Rows(columns, rows)
    return Rows(columns, rows)


def files(config: CatalogConfig, name: str, size: Size, most: int = MANY_FILES) -> FileSummary:
    """How the table lies in files; only their totals where there are more than `most`."""
    table = _load(config, name)
    with config.reached():
        data, deletes = _counted(table)
    share = deletes / (deletes + data) if deletes else 0.0
    why = f"It has more than {most:,}, which takes long." if max(data, size.files or 0) > most else ""
    try:
        with config.reached():
            tasks = [] if why else list(table.scan().plan_files())
    except DeletedByValue as error:
        why = str(error)
    if why:
        return FileSummary(data, size.bytes, None, deletes, share, [], [], None, None, why)
    sizes = [task.file.file_size_in_bytes for task in tasks]
    buckets = {label: 0 for _, label in _BUCKETS}
    for each in sizes:
        buckets[next(label for limit, label in _BUCKETS if not limit or each < limit)] += 1
    parts: dict[str, list[int]] = {}
    if table.spec().fields:
        for task in tasks:
            counts = parts.setdefault(_partition(table, task.file), [0, 0, 0])
            counts[0] += 1
            counts[1] += task.file.record_count
            counts[2] += task.file.file_size_in_bytes
    listed = sorted(
        (Part(key, *counts) for key, counts in parts.items()), key=lambda part: (-part.bytes, part.name)
    )
    mean = sum(part.bytes for part in listed) / len(listed) if listed else 0
    return FileSummary(
        len(tasks), sum(sizes), sum(each < SMALL for each in sizes), deletes, share,
        list(buckets.items()), listed[:_PARTITIONS], len(listed), listed[0].bytes / mean if mean else None,
    )  # fmt: skip


def _counted(table: "Table") -> tuple[int, int]:
    """Data files and delete files of main, as its list of manifests counts them: one small file."""
    from pyiceberg.manifest import ManifestContent

    snapshot = table.current_snapshot()
    counts = {ManifestContent.DATA: 0, ManifestContent.DELETES: 0}
    for each in snapshot.manifests(table.io) if snapshot else ():
        counts[each.content] += (each.added_files_count or 0) + (each.existing_files_count or 0)
    return counts[ManifestContent.DATA], counts[ManifestContent.DELETES]


def check_results(config: CatalogConfig, name: str, limit: int) -> list[dict[str, Any]]:
    """What checks found on a table, newest first; nothing where none were made."""
    return _results(config, name.rpartition(".")[0], {"table_name": name}, limit)


def checks_of_run(
    config: CatalogConfig, namespaces: Iterable[str], job: str, run: str
) -> list[dict[str, Any]]:
    """What the checks of one run found, by table and rule."""
    rows = [
        row
        for namespace in sorted(set(namespaces))
        for row in _results(config, namespace, {"job": job, "run_id": run}, _CHECKS)
    ]
    return sorted(rows, key=lambda row: (str(row["table_name"]), str(row["task"]), str(row["rule"])))


def _results(
    config: CatalogConfig, namespace: str, wanted: Mapping[str, str], limit: int
) -> list[dict[str, Any]]:
    from pyiceberg import expressions
    from pyiceberg.exceptions import NoSuchTableError

    columns = (
        "checked_at", "job", "task", "run_id", "try_number", "table_name", "rule", "expectation", "column_name",
        "severity", "verdict", "element_count", "unexpected_count", "observed_value", "snapshot_id",
    )  # fmt: skip
    # Its own types know only the form with keywords that it makes of this one.
    equal: Any = expressions.EqualTo
    row_filter: Any = expressions.AlwaysTrue()
    for column, value in wanted.items():
        row_filter = expressions.And(row_filter, equal(column, value))
    kept = f"{namespace}.{CHECK_RESULTS}"
    try:
        with config.reached():
            table = config.pyiceberg().load_table(kept)
            there = tuple(column for column in columns if column in table.schema().column_names)
            found = _newest(table, row_filter, there, limit)
    except NoSuchTableError:
        return []
    except ValueError as error:
        raise LakeError(f"{kept} is no table of check results ({error}).") from error
    rows: list[dict[str, Any]] = found.sort_by([("checked_at", "descending")]).slice(0, limit).to_pylist()
    return [{column: row.get(column) for column in columns} for row in rows]


def _newest(table: "Table", row_filter: Any, columns: tuple[str, ...], limit: int) -> "pa.Table":
    """Rows of the files with the newest results, as many files as it takes: each check that ran left one, years of them."""
    import pyarrow as pa
    from pyiceberg.io.pyarrow import ArrowScan

    scan = table.scan(row_filter=row_filter, selected_fields=columns)
    scanner = ArrowScan(table.metadata, table.io, scan.projection(), scan.row_filter, limit=None)
    field = table.schema().find_field("checked_at")
    tasks = sorted(scan.plan_files(), key=lambda task: _latest(task.file, field), reverse=True)[
        :_RESULT_FILES
    ]
    found = scanner.to_table([])
    for start in range(0, len(tasks), _RESULT_STEP):
        if found.num_rows >= limit:
            break
        part = scanner.to_table(tasks[start : start + _RESULT_STEP])
        found = pa.concat_tables([found, part], promote_options="permissive")
    return found


def _latest(file: Any, field: Any) -> int:
    """The newest moment in a data file, as its manifest knows it; one without such a word may hold any."""
    from pyiceberg.conversions import from_bytes

    bound = (file.upper_bounds or {}).get(field.field_id)
    return int(from_bytes(field.field_type, bound)) if bound else 2**63


@dataclass(frozen=True)
class Rule:
    """One rule of a checks task, with what it found, newest first."""

    job: str
    task: str
    rule: str
    results: list[dict[str, Any]]

    @property
    def passed(self) -> int:
        return sum(each["verdict"] == "passed" for each in self.results)


def by_rule(results: Sequence[dict[str, Any]], most: int) -> list[Rule]:
    """Results by their rules, those first that did not pass the last time; so many of each."""
    found: dict[tuple[Any, Any, Any], list[dict[str, Any]]] = {}
    for each in results:
        found.setdefault((each["job"], each["task"], each["rule"]), []).append(each)
    rules = [Rule(job, task, rule, listed[:most]) for (job, task, rule), listed in found.items()]
    return sorted(
        rules, key=lambda each: (each.results[0]["verdict"] == "passed", each.job, each.task, each.rule)
    )


def latest(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each rule what was found last, when the table was looked at last."""
    return [each.results[0] for each in by_rule(results, 1)]


def _load(config: CatalogConfig, name: str) -> "Table":
    from pyiceberg.exceptions import NoSuchTableError

    try:
        with config.reached():
            table: Table = config.pyiceberg().load_table(name)
    except NoSuchTableError:
        raise LakeError(f"There is no table '{name}'.") from None
    return table


def _partition(table: "Table", file: Any) -> str:
    """A file's partition, by the partitioning that the table had when it was written."""
    from pyiceberg.transforms import VoidTransform

    names = []
    for position, field in enumerate(table.specs()[file.spec_id].fields):
        if isinstance(field.transform, VoidTransform):
            continue
        value, source = file.partition[position], _type_of(table, field.source_id)
        shown = str(value) if source is None else field.transform.to_human_string(source, value)
        names.append(f"{field.name}={'null' if value is None else shown}")
    return ", ".join(names) or "written before it was partitioned"


def _type_of(table: "Table", column: int) -> Any:
    """A column's type, also of one that was dropped; None where no schema has it any more."""
    for schema in (table.schema(), *reversed(table.schemas().values())):
        if schema.find_column_name(column) is not None:
            return schema.find_type(column)
    return None


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= _CELL else f"{text[:_CELL]}…"
