"""forebay doctor"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from forebay.cli.common import output_option, print_json, repository
from forebay.errors import ForebayError
from forebay.machine import jars, java, trust
from forebay.stack import health, supervisor
from forebay.stack.layout import PARTS, PORTS, Stack, port_holder, port_is_free


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it is well, what was seen, and the command that mends it."""

    check: str
    ok: bool
    found: str
    remedy: str = ""


@click.command("doctor")
@output_option
def command(output: str) -> None:
    """Look over this machine and the stack; say what is wrong and which command mends it.

    Exit code 0 when all is well, 1 otherwise.

    \b
    Examples:
      forebay doctor
      forebay doctor --output json
    """
    findings = list(examine())
    if output == "json":
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            mark = click.style("✓", fg="green") if finding.ok else click.style("✗", fg="red")
            click.echo(f"{mark} {finding.check}: {finding.found}")
            if not finding.ok:
                click.echo(f"    → {finding.remedy}")
    if not all(finding.ok for finding in findings):
        raise click.exceptions.Exit(1)


def examine() -> Iterator[Finding]:
    """Everything the stack needs, one after the other."""
    version = sys.version.split()[0]
    yield Finding(
        "Python",
        (3, 11) <= sys.version_info[:2] <= (3, 13),
        version,
        "make PYTHON=/path/to/python3.11 install",
    )
    found = java.home()
    yield Finding(
        "Java", found is not None, f"{java.release(found)} at {found}" if found else "no Java 17 or 21",
        "set JAVA_HOME to a Java 17 or 21, or run: make install",
    )  # fmt: skip
    missing = jars.missing()
    yield Finding(
        "Jars", not missing, ", ".join(j.file_name for j in missing) + " missing" if missing else str(jars.folder()),
        "forebay setup",
    )  # fmt: skip
    bundle = trust.bundle()
    yield Finding(
        "Certificates", bundle is not None, str(bundle or "no list of certificate authorities"),
        "install ca-certificates, or set SSL_CERT_FILE",
    )  # fmt: skip
    try:
        root = repository()
    except ForebayError as error:
        yield Finding(
            "Repository", False, str(error), "cd into your repository, or: forebay init workspace NAME"
        )
        return
    yield _jobs(root)
    stack = Stack.of(root)
    place = stack.state if stack.state.exists() else root
    free = shutil.disk_usage(place).free
    yield Finding(
        "Disk", free > 2 << 30, f"{free >> 30} GB free", "free some space, or: FOREBAY_STATE=/path forebay up"
    )
    yield from _stack(stack)


def _jobs(root: Path) -> Finding:
    from forebay.check import check

    mistakes = check(root)
    return Finding(
        "Jobs", not mistakes, f"{len(mistakes)} mistakes" if mistakes else "no mistakes", "forebay check"
    )


def _stack(stack: Stack) -> Iterator[Finding]:
    if not supervisor.running(stack):
        leftovers = supervisor.members(stack) if stack.state.exists() else []
        yield Finding(
            "Stack", False,
            f"{len(leftovers)} processes without their supervisor" if leftovers else "not running", "forebay up",
        )  # fmt: skip
        for name in PORTS:
            port = stack.ports[name]
            asked = name not in PARTS or name in stack.parts
            if asked and not leftovers and not port_is_free(port):
                holder = port_holder(port)
                yield Finding(
                    f"Port {port} ({name})",
                    False,
                    f"in use by {holder}",
                    f"forebay up --port {name}=N, or --free-ports",
                )
        return
    for service in health.status(stack):
        yield Finding(
            service.name, service.state == "up", service.health,
            f"forebay logs {service.name}, then: forebay restart {service.name}",
        )  # fmt: skip
