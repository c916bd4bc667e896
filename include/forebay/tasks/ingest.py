"""Lands CSV, JSON or Parquet files in a bronze table, each file once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from forebay.spec.base import Closed, ColumnName, ShortForm, Some, TableName, Text
from forebay.spec.table import TableLayout
from forebay.spec.task import BaseTask, Problem

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from forebay.project import LoadedJob, Project

TYPE_NAME = r"^[A-Za-z][A-Za-z ]*(\([0-9]{1,2}(, ?[0-9]{1,2})?\))?( with(out)? time zone)?$"


class CsvOptions(Closed):
    """How CSV files are written."""

    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = Field(
        default=",", description="Character between fields."
    )
    header: bool = Field(default=True, description="Whether the first line names the columns.")
    quote: Annotated[str, StringConstraints(min_length=1, max_length=1)] = Field(
        default='"', description="Character around a field."
    )
    null_text: str = Field(
        default="", description="Text that stands for no value, besides the empty one; e.g. NA."
    )


class IngestOptions(Closed):
    """How the files are written, by format."""

    csv: CsvOptions = Field(default=CsvOptions(), description="How CSV files are written.")


def _list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Task(TableLayout, BaseTask):
    """Lands CSV, JSON or Parquet files in a bronze table, each file once.

    Two columns are added: _source_file and _ingested_at.
    """

    text_fields: ClassVar[tuple[str, ...]] = ("files",)
    example: ClassVar[str] = """\
key: land
type: ingest
files: s3://lake/landing/orders/*.csv
table: sales.bronze_orders
"""

    type: Literal["ingest"] = Field(description="Land files in a table.")
    files: Annotated[Some[Text], BeforeValidator(_list), ShortForm({"type": "string"})] = Field(
        description="Where the files are: s3://bucket/prefix/*.csv, s3://…/**/*.json.gz, a folder of the "
        "repository; or a list."
    )
    table: TableName = Field(description="Table the rows are appended to, as namespace.table.")
    format: Literal["csv", "json", "parquet"] | None = Field(
        default=None, description="Format of the files; by their ending as default."
    )
    options: IngestOptions = Field(default=IngestOptions(), description="How the files are written.")
    columns: dict[ColumnName, Annotated[str, StringConstraints(pattern=TYPE_NAME, max_length=60)]] = Field(
        default={},
        description="Types of columns that should not be guessed, as Trino writes them: decimal(12, 2).",
    )

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.table,)

    @property
    def reads(self) -> tuple[str, ...]:
        return ()

    def problems(self, job: LoadedJob, project: Project) -> Iterator[Problem]:
        for position, text in enumerate(self.files):
            if problem := location_problem(text):
                yield ("files", position), problem

    def operator(self, job: LoadedJob) -> BaseOperator:
        from forebay.operators.ingest import build

        return build(self, job)


def location_problem(text: str) -> str | None:
    """Why files cannot be read from there; None when they can."""
    scheme, separator, rest = text.partition("://")
    if separator:
        if scheme != "s3":
            return f"files are read from s3:// or from a folder of the repository, not from {scheme}://"
        return None if rest.partition("/")[0] else "a bucket must follow s3://"
    if text.startswith(("/", "~")) or ".." in text.split("/"):
        return f"'{text}' leads outside the repository. Write a folder of the repository, or s3://bucket/prefix/*.csv"
    return None
