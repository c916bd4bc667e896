"""forebay tables"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import click

from forebay.cli.common import human_bytes, lake, output_option, print_json, print_table
from forebay.errors import ForebayError, suggestion


@click.command("tables")
@click.argument("namespace", required=False)
@output_option
def command(namespace: str | None, output: str) -> None:
    """List the tables of the lake, or of one namespace: rows, size, last change.

    \b
    Examples:
      forebay tables
      forebay tables flights --output json
    """
    from forebay.lake.tables import figures, list_namespaces, list_tables

    config = lake()
    if namespace is not None and namespace not in (known := list_namespaces(config)):
        raise ForebayError(
            f"there is no namespace '{namespace}'." + suggestion(namespace, known, "Namespaces")
        )
    found = [figures(config, name) for name in list_tables(config, namespace)]
    if output == "json":
        print_json([asdict(table) for table in found])
        return
    print_table(
        ["table", "rows", "files", "size", "snapshots", "changed"],
        [
            [
                t.name,
                f"{t.rows:,}",
                f"{t.data_files:,}",
                human_bytes(t.bytes),
                str(t.snapshots),
                _time(t.updated_at),
            ]
            for t in found
        ],
        right=(1, 2, 3, 4),
    )


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S") if seconds else "-"
