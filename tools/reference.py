"""Writes what is generated: docs/reference/, docs/schema/ and the dashboards of helm/forebay.

With --check nothing is written; the exit code is 1 when a file is stale.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "include"), str(ROOT / "tools")]

import dashboards  # noqa: E402
import reference_settings  # noqa: E402
import reference_yaml  # noqa: E402

from forebay.cli.main import group  # noqa: E402
from forebay.schema import schema_text  # noqa: E402
from forebay.sqltext.reference import reference as functions  # noqa: E402
from forebay.stack import trino_access, trino_rules  # noqa: E402

WIDTH = 100
_CLI_HEAD = """# Commands

What `forebay COMMAND --help` prints. After `make install` the program is `.venv/bin/forebay`;
`source .venv/bin/activate` makes it `forebay` in this shell.

Results go to standard output, progress and errors to standard error.
"""


def pages() -> dict[str, str]:
    """Every generated file and its text, by path from the root."""
    return {
        "docs/reference/yaml.md": reference_yaml.page(),
        "docs/reference/cli.md": commands(),
        "docs/reference/settings.md": reference_settings.page(ROOT),
        "docs/reference/trino-functions.md": functions(),
        "docs/schema/job.schema.json": schema_text("job"),
        "docs/schema/workspace.schema.json": schema_text("workspace"),
        "helm/forebay/files/trino-access-rules.json": access_rules(),
        **dashboards.files(),
    }


def access_rules() -> str:
    """Those of the embedded Trino, for the chart."""
    owners, reader = (trino_access.TASKS, trino_access.ADMIN), trino_access.WORKSHEET
    return json.dumps(trino_rules.access_rules(owners, reader, reader), indent=1) + "\n"


def commands() -> str:
    """The help of every command, as one page."""
    parts = [_CLI_HEAD]
    for name, command in all_commands(group, "forebay"):
        context = click.Context(
            command,
            info_name=name,
            terminal_width=WIDTH,
            max_content_width=WIDTH,
            help_option_names=["-h", "--help"],
        )
        text = re.sub(r"[ \t]+$", "", command.get_help(context), flags=re.MULTILINE)
        parts.append(f"## {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def all_commands(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    """A command and all below it, each after its full name."""
    found = [(name, command)]
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=name)
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            if below is not None:
                found += all_commands(below, f"{name} {each}")
    return found


def stale() -> list[str]:
    """The generated files whose text is not what the code says."""
    return [
        path
        for path, text in pages().items()
        if not (ROOT / path).exists() or (ROOT / path).read_text("utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: python tools/reference.py [--check]", file=sys.stderr)
        return 2
    found = stale()
    if arguments:
        for path in found:
            print(f"{path} is stale. Write it anew: make docs", file=sys.stderr)
        return 1 if found else 0
    for path, text in pages().items():
        if path in found:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(text, "utf-8")
            print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
