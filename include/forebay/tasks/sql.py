"""Runs SQL: a SELECT into a table, or statements as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from forebay.files import SQL_FOLDER
from forebay.spec.base import ColumnName, FileName, Many, TableName, Text
from forebay.spec.table import AUDIT_COLUMNS, TableLayout, WriteMode
from forebay.spec.task import BaseTask, Problem

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from forebay.project import LoadedJob, Project


class Task(TableLayout, BaseTask):
    """Runs SQL in Trino's dialect: one SELECT whose rows go into a table, or plain statements."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["file"]}, {"required": ["sql"]}]})
    example: ClassVar[str] = """\
key: totals
type: sql
sql: SELECT carrier, count(*) AS flights FROM flights.silver_flights GROUP BY carrier
table: sales.totals
"""

    type: Literal["sql"] = Field(description="Run SQL.")
    file: FileName | None = Field(default=None, description="File with the SQL, in sql/<workspace>/.")
    sql: Text | None = Field(
        default=None, description="The SQL itself, in place of a file. :name stands for a value of the run."
    )
    table: TableName | None = Field(
        default=None, description="Table the SELECT's rows go into, as namespace.table."
    )
    mode: WriteMode = Field(
        default="overwrite",
        description="What happens to the table's rows: overwrite (all of them, the default), "
        "overwrite_partitions (those of partitions the SELECT has rows for), append, "
        "merge (rows of the same merge_key are updated).",
    )
    merge_key: Many[ColumnName] = Field(
        default=(), description="Columns that identify a row, for mode: merge."
    )
    declared_writes: Many[TableName] = Field(
        default=(), alias="writes", description="Tables that plain statements write; not together with table."
    )

    @model_validator(mode="after")
    def _shape(self) -> Task:
        if (self.file is None) == (self.sql is None):
            raise PydanticCustomError(
                "sql", "needs exactly one of file (in sql/<workspace>/) and sql (the text itself)"
            )
        if self.table is None:
            names = ("mode", "merge_key", *TableLayout.model_fields)
            given = next((name for name in names if name in self.model_fields_set), None)
            if given:
                raise PydanticCustomError(
                    "field", "applies to a SELECT with table. Add table", {"field": given}
                )
        elif self.declared_writes:
            raise PydanticCustomError(
                "field",
                "is for plain statements. A task with table writes that table only; remove writes",
                {"field": "writes"},
            )
        if self.mode == "merge" and not self.merge_key:
            raise PydanticCustomError(
                "field", "needs merge_key: the columns that identify a row", {"field": "mode"}
            )
        if self.mode != "merge" and self.merge_key:
            raise PydanticCustomError("field", "applies to mode: merge only", {"field": "merge_key"})
        if self.audit and (added := [name for name in self.merge_key if name.lower() in AUDIT_COLUMNS]):
            said = f"{added[0]} is added by audit: true, and is another one in each run. Name columns of the SELECT"
            raise PydanticCustomError("field", said, {"field": "merge_key"})
        return self

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.table,) if self.table else self.declared_writes

    @property
    def reads(self) -> tuple[str, ...]:
        return ()

    def problems(self, job: LoadedJob, project: Project) -> Iterator[Problem]:
        if self.file is not None and (
            problem := project.files(job.workspace.name).problem(SQL_FOLDER, self.file)
        ):
            yield ("file",), problem

    def operator(self, job: LoadedJob) -> BaseOperator:
        from forebay.operators.sql import build

        return build(self, job)
