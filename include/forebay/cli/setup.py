"""forebay setup"""

from __future__ import annotations

import click

from forebay.cli.common import progress
from forebay.machine import jars, java


@click.command("setup")
def command() -> None:
    """Find Java and fetch the pinned jars, each verified by its SHA-256; quick when all is there.

    Jars come through the mirror of your Maven settings (~/.m2/settings.xml), or from Maven Central.

    \b
    Example:
      forebay setup
    """
    java.require()
    jars.fetch(progress)
