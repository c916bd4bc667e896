"""forebay setup"""

from __future__ import annotations

import click

from forebay.cli.common import progress
from forebay.engines import spark_classes
from forebay.machine import jars, java


@click.command("setup")
def command() -> None:
    """Find Java, fetch the pinned jars, each verified by its SHA-256, and make the archive that Spark starts from.

    Quick when all is there. Jars come through the mirror of your Maven settings (~/.m2/settings.xml), or from Maven
    Central. The archive has the classes that Spark programs load, 200 MB; they run without it, and start later.

    \b
    Example:
      forebay setup
    """
    java.require()
    jars.fetch(progress)
    spark_classes.make(progress)
