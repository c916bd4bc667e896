"""forebay schema"""

from __future__ import annotations

from typing import cast

import click


@click.command("schema")
@click.argument("file", type=click.Choice(["job", "workspace"]))
def command(file: str) -> None:
    """Print the JSON Schema of a job's YAML or of workspace.yaml, for your editor.

    An editor with YAML support uses it when the file's first line is
    "# yaml-language-server: $schema=../../docs/schema/job.schema.json".
    """
    from forebay.schema import SchemaName, schema_text

    click.echo(schema_text(cast(SchemaName, file)), nl=False)
