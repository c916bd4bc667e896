"""Hadoop's settings on this machine, which say where YARN is: the folder that HADOOP_CONF_DIR or YARN_CONF_DIR names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from forebay.errors import ForebayError

MASTER = "yarn"
"""The master of programs whose executors YARN places, in Spark's words."""
VARIABLES = ("YARN_CONF_DIR", "HADOOP_CONF_DIR")
"""Hadoop's own names for the folder; the first wins, as it does for Hadoop."""
_FILE = "yarn-site.xml"
_PORT = 8032
"""Of a ResourceManager for programs, where its address names none."""
_REFERENCE = re.compile(r"\$\{([^}]+)\}")


class HadoopError(ForebayError):
    """Hadoop's settings are not there, or do not say where YARN is."""


def folder(environ: Mapping[str, str] | None = None) -> Path:
    """The folder with `yarn-site.xml`."""
    said = {name: (os.environ if environ is None else environ).get(name, "") for name in VARIABLES}
    for named in said.values():
        if named and (Path(named) / _FILE).is_file():
            return Path(named)
    looked = ", ".join(f"{name}={value}" for name, value in said.items() if value)
    raise HadoopError(
        (
            f"There is no {_FILE} where {looked} says."
            if looked
            else "Spark on YARN needs the cluster's settings."
        )
        + f" Copy its core-site.xml and {_FILE} to the machines where Airflow's tasks run, and name their folder in the "
        "environment of Airflow's parts as HADOOP_CONF_DIR."
    )


def resource_managers(settings: Path) -> list[tuple[str, int]]:
    """Host and port of each ResourceManager that takes programs: one, or all of those that stand in for each other."""
    said = _said(settings / _FILE)

    def value(name: str, depth: int = 9) -> str:
        return _REFERENCE.sub(lambda found: value(found[1], depth - 1), said.get(name, "")) if depth else ""

    several = value("yarn.resourcemanager.ha.enabled") == "true"
    names = [
        f".{each.strip()}"
        for each in value("yarn.resourcemanager.ha.rm-ids").split(",")
        if several and each.strip()
    ]
    found = []
    for name in names or [""]:
        address = value(f"yarn.resourcemanager.address{name}") or value(
            f"yarn.resourcemanager.hostname{name}"
        )
        host, colon, port = address.rpartition(":")
        host, port = (host, port) if colon else (address, str(_PORT))
        if not host or not port.isdecimal():
            raise HadoopError(
                f"{settings / _FILE} does not say where YARN is: yarn.resourcemanager.hostname{name} is "
                f"{address or 'not set'!r}. Take the file of the cluster's own machines."
            )
        found.append((host, int(port)))
    return found


def _said(file: Path) -> dict[str, str]:
    try:
        properties = ElementTree.parse(file).getroot().iter("property")
    except (OSError, ElementTree.ParseError) as error:
        raise HadoopError(
            f"{file} cannot be read: {error}. Take the file of the cluster's own machines."
        ) from None
    return {
        (each.findtext("name") or "").strip(): (each.findtext("value") or "").strip() for each in properties
    }
