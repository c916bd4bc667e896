"""Land files in a bronze table, each file once, also after a crash."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from forebay.engines.audit import audited
from forebay.engines.background import EngineError
from forebay.engines.bad_files import explained_by_file
from forebay.engines.columns import Plan, plan, result_columns, sql_name
from forebay.engines.duckdb import DuckDBEngine, lake_name, result_of
from forebay.engines.files import ENDINGS, SOURCE, Found, S3Access, find, format_of, reading, whole
from forebay.engines.results import TableResult
from forebay.lake.branch import LANDED
from forebay.lake.commit import ATTEMPTS, Conflict, Draft
from forebay.lake.connection import CatalogConfig, LakeError
from forebay.lake.tables import TableDefinition, load, row_count
from forebay.lake.unpublished import explained
from forebay.sqlquote import literal, quoted

if TYPE_CHECKING:
    from pyiceberg.table import Table

Format = Literal["csv", "json", "parquet"]
MOMENT = "_ingested_at"
BATCH_FILES, BATCH_BYTES = 1_000, 1_000_000_000
_SMALL = 65_536


class Ingest:
    """One task's landing; `cancel` may be called from a signal handler."""

    def __init__(
        self,
        config: CatalogConfig,
        access: S3Access | None = None,
        *,
        root: str | Path,
        memory_limit: str = "1GB",
        threads: int = 2,
        batch_files: int = BATCH_FILES,
    ) -> None:
        self.config, self.root, self._batch_files = config, Path(root), batch_files
        self.access = access or S3Access(
            config.s3_endpoint, config.access_key, config.secret_key, config.s3_region
        )
        self._limits: dict[str, Any] = {"memory_limit": memory_limit, "threads": threads}
        self._engine = DuckDBEngine(config, **self._limits)

    def cancel(self) -> None:
        self._engine.cancel()

    def run(
        self,
        patterns: Sequence[str],
        definition: TableDefinition,
        *,
        format: Format | str | None = None,
        csv: Mapping[str, Any] | None = None,
        columns: Mapping[str, str] | None = None,
        log: Callable[[str], None] = print,
    ) -> TableResult:
        """Append the rows of all files not landed yet, with _source_file and _ingested_at.

        The names of landed files are kept in the commit that brings their rows (snapshot property
        forebay.ingest.files), so a crash leaves either both or neither.
        """
        buckets = sorted(
            {text.split("/")[2] for text in patterns if text.startswith("s3://") and text.count("/") > 1}
        )
        cancelled = self._engine.background
        self._engine = DuckDBEngine(
            self.config,
            folders=[str(self.root.resolve())],
            secrets=self.access.duckdb_statements(buckets),
            **self._limits,
        )
        self._engine.background = cancelled
        cancelled._interrupt = self._engine._interrupt
        with self._engine as engine:
            return engine._run(
                lambda: self._land(patterns, definition, format, dict(csv or {}), dict(columns or {}), log)
            )

    def _land(
        self,
        patterns: Sequence[str],
        definition: TableDefinition,
        format: str | None,
        csv: dict[str, Any],
        columns: dict[str, str],
        log: Callable[[str], None],
    ) -> TableResult:
        import duckdb

        started = time.monotonic()
        endings = ENDINGS[format] if format else tuple(end for ends in ENDINGS.values() for end in ends)
        found = find(patterns, self.root, self.access, endings)
        table = load(self.config, definition.name)
        landed = (
            self._landed(table, definition.name, [one.name for one in found]) if table is not None else set()
        )
        new = [one for one in found if one.name not in landed]
        log(
            f"{len(found):,} files match {', '.join(patterns)}: "
            f"{len(found) - len(new):,} landed before, {len(new):,} new"
        )
        result = TableResult(
            definition.name,
            "ingest",
            row_count(table) if table is not None else 0,
            snapshot_id=table.metadata.current_snapshot_id if table is not None else None,
        )
        inserted, created = 0, False
        for kind, batch in self._batches(new, format, csv, log):
            self._engine.background.check()
            try:
                result = self._commit(batch, kind, definition, csv, columns)
            except duckdb.Error as error:
                raise EngineError(
                    explained_by_file(self.config.redact(str(error)), self.access, batch, csv)
                ) from None
            inserted, created = inserted + result.inserted, created or result.created
            log(f"landed {len(batch):,} files, {result.inserted:,} rows")
        note = f"{len(new):,} files" if new else "no new file"
        seconds = round(time.monotonic() - started, 3)
        return replace(result, inserted=inserted, created=created, seconds=seconds, note=note)

    def _landed(self, table: Table, name: str, candidates: Sequence[str]) -> set[str]:
        """Which candidates are landed: by the snapshots' own lists, then by rows (snapshots expire)."""
        from pyiceberg.table.snapshots import ancestors_of

        names: set[str] = set()
        # Only what leads to today's rows: a landing that was rolled back is to be landed again.
        for snapshot in ancestors_of(table.metadata.current_snapshot(), table.metadata):
            text = snapshot.summary.get(LANDED) if snapshot.summary else None
            names.update(json.loads(text) if text else ())
        unsure = [one for one in candidates if one not in names]
        columns = {field.name for field in table.schema().fields}
        if unsure and table.metadata.current_snapshot() is not None and SOURCE in columns:
            connection = self._engine.connection
            connection.execute("CREATE OR REPLACE TEMP TABLE forebay_candidates (name VARCHAR)")
            connection.execute("INSERT INTO forebay_candidates SELECT unnest(?)", [unsure])
            rows = connection.execute(
                f"SELECT DISTINCT t.{SOURCE} FROM {lake_name(name)} t "
                f"SEMI JOIN temp.forebay_candidates c ON c.name = t.{SOURCE}"
            ).fetchall()
            names.update(str(row[0]) for row in rows)
        return names

    def _batches(
        self, files: Sequence[Found], format: str | None, csv: Mapping[str, Any], log: Callable[[str], None]
    ) -> list[tuple[str, list[Found]]]:
        batches: list[tuple[str, list[Found]]] = []
        held = 0
        for one in files:
            kind = format or format_of(one.name)
            if self._empty(one, kind, bool(csv.get("header", True))):
                log(f"{one.name} has no rows")
                continue
            full = not batches or batches[-1][0] != kind or len(batches[-1][1]) >= self._batch_files
            if full or held + one.size > BATCH_BYTES:
                batches.append((kind, []))
                held = 0
            batches[-1][1].append(one)
            held += one.size
        return batches

    def _empty(self, one: Found, kind: str, header: bool) -> bool:
        """True for a file without rows: its columns would be guessed as text and spoil the others' types."""
        if one.size == 0:
            return True
        if one.size > _SMALL or kind == "parquet":
            return False
        lines = sum(1 for line in whole(one, self.access).splitlines() if line.strip())
        return lines <= (1 if kind == "csv" and header else 0)

    def _commit(
        self,
        batch: list[Found],
        kind: str,
        definition: TableDefinition,
        csv: dict[str, Any],
        columns: dict[str, str],
    ) -> TableResult:
        moment = datetime.now(UTC).isoformat()
        for attempt in range(ATTEMPTS):
            table = load(self.config, definition.name)
            if attempt and table is not None:
                # Another task may have landed some of them meanwhile.
                landed = self._landed(table, definition.name, [one.name for one in batch])
                batch = [one for one in batch if one.name not in landed]
                if not batch:
                    number = table.metadata.current_snapshot_id
                    return TableResult(definition.name, "ingest", row_count(table), snapshot_id=number)
            try:
                with explained(self.config, definition, table):
                    reader, fitted = self._plan(batch, kind, definition, table, csv, columns, moment)
                draft = Draft(
                    self.config,
                    definition,
                    [(name, column) for name, column, _ in fitted.columns],
                    table,
                    fitted.add,
                    fitted.widen,
                )
                files, rows = self._engine.files(fitted.select(f"({reader})"), draft)
                self._unchanged(batch)
                names = json.dumps([one.name for one in batch], ensure_ascii=False)
                committed, _ = draft.commit(files, properties={LANDED: names})
                return result_of(committed, draft, "ingest", inserted=rows)
            except Conflict:
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _plan(
        self,
        batch: Sequence[Found],
        kind: str,
        definition: TableDefinition,
        table: Table | None,
        csv: dict[str, Any],
        columns: dict[str, str],
        moment: str,
    ) -> tuple[str, Plan]:
        connection = self._engine.connection
        wanted = {column.lower(): _duckdb_type(text) for column, text in columns.items()}
        forced = dict(wanted)
        if kind == "csv" and table is not None:
            # The table's types are read as such, so a bad value is reported with its line.
            for field in table.schema().fields:
                forced.setdefault(field.name.lower(), sql_name(field.field_type))

        def reader(files: Sequence[Found]) -> str:
            types: dict[str, str] = {}
            if kind == "csv" and forced:
                present = result_columns(connection, reading(files, kind, csv, {}))
                types = {column: forced[column.lower()] for column, _ in present if column.lower() in forced}
            inner = reading(files, kind, csv, types)
            casts = [] if kind == "csv" else self._casts(inner, wanted)
            names = "".join(
                f" WHEN {literal(one.path)} THEN {literal(one.name)}" for one in files if one.name != one.path
            )
            source = f"CASE {SOURCE}{names} ELSE {SOURCE} END" if names else SOURCE
            casts += [f"{source} AS {SOURCE}"]
            columns = f"* REPLACE ({', '.join(casts)}), TIMESTAMPTZ {literal(moment)} AS {MOMENT}"
            landed = f"SELECT {columns} FROM ({inner})"
            if definition.audit is None:
                return landed
            present = result_columns(connection, inner)
            return audited(landed, [column for column, _ in present], definition, "a file")

        name = definition.name
        schema = table.schema() if table is not None else None
        text = reader(batch)
        try:
            return text, plan(name, schema, result_columns(connection, text), "the files")
        except LakeError:
            for one in batch:
                plan(name, schema, result_columns(connection, reader([one])), one.name)
            raise

    def _casts(self, inner: str, wanted: Mapping[str, str]) -> list[str]:
        if not wanted:
            return []
        present = result_columns(self._engine.connection, inner)
        return [
            f"CAST({quoted(name)} AS {wanted[name.lower()]}) AS {quoted(name)}"
            for name, _ in present
            if name.lower() in wanted
        ]

    def _unchanged(self, batch: Sequence[Found]) -> None:
        for one in batch:
            if one.path.startswith("s3://"):
                continue
            path = Path(one.path)
            if not path.exists() or (path.stat().st_size, path.stat().st_mtime) != (one.size, one.modified):
                raise EngineError(
                    f"{one.name} changed while it was read, so nothing of it was landed. Write files "
                    "under another name (ending .part) and rename them when complete; then run the task again."
                )


def _duckdb_type(trino: str) -> str:
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        return exp.DataType.build(trino, dialect="trino").sql(dialect="duckdb")
    except SqlglotError as error:
        raise EngineError(
            f"columns: {trino!r} is no type, such as varchar, bigint or decimal(12, 2)."
        ) from error
