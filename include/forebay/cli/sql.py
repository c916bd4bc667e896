"""forebay sql"""

from __future__ import annotations

import sys
import time
from typing import IO

import click

from forebay.cli.common import output_option, print_json, print_table, sql_engine
from forebay.errors import ForebayError, JobSpecError


@click.command("sql")
@click.argument("text", required=False)
@click.option("--file", "-f", type=click.File(), help="Read the SQL from a file; - is standard input.")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="Most rows to show."
)
@output_option
def command(text: str | None, file: IO[str] | None, limit: int, output: str) -> None:
    """Run one SELECT in Trino's dialect on the lake and show its rows. It only reads.

    \b
    Examples:
      forebay sql "SELECT carrier, count(*) AS flights FROM flights.silver_flights GROUP BY 1 ORDER BY 2 DESC"
      forebay sql -f query.sql --output json
    """
    if (text is None) == (file is None):
        raise click.UsageError("give the SQL as an argument or with --file, one of them")
    sql = text if text is not None else file.read() if file is not None else ""
    from forebay import sqltext

    script = sqltext.parse(sql, "SQL")
    if script.mistakes:
        raise JobSpecError(script.mistakes)
    if len(script.statements) != 1 or script.statements[0].kind != "select":
        raise ForebayError(
            "forebay sql takes one SELECT. Statements that change tables belong in a job's sql task."
        )
    statement = script.statements[0]
    if statement.placeholders:
        raise ForebayError(
            f":{statement.placeholders[0].name} stands for a value, which only jobs have. Write the value."
        )
    problems = sqltext.untranslatable(statement)
    if problems:
        raise JobSpecError(problems)
    began = time.monotonic()
    with sql_engine() as engine:
        rows = engine.query(engine.dialect(statement), limit + 1)
    seconds = time.monotonic() - began
    more = rows.num_rows > limit
    rows = rows.slice(0, limit)
    if output == "json":
        print_json(
            {"columns": rows.column_names, "rows": [list(r.values()) for r in rows.to_pylist()], "more": more}
        )
        return
    right = [
        i
        for i, field in enumerate(rows.schema)
        if str(field.type).startswith(("int", "double", "float", "decimal"))
    ]
    print_table(rows.column_names, [[_cell(v) for v in r.values()] for r in rows.to_pylist()], right)
    note = f", more than --limit {limit}" if more else ""
    click.echo(click.style(f"{rows.num_rows} rows{note}, {seconds:.1f} s", dim=True), file=sys.stderr)


def _cell(value: object) -> str:
    if value is None:
        return "NULL"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
