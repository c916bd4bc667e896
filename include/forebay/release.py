"""What a release of Forebay is made of: images, charts, jars and archives, each pinned in `versions.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

OWN_IMAGES = ("lens", "spark", "airflow")
"""Targets of the Dockerfile."""


@dataclass(frozen=True)
class Artifact:
    """One thing that an installation takes from outside."""

    kind: str
    """image, chart, jar or archive"""
    name: str
    version: str
    digest: str
    """`sha256:…`, or empty where it is only known once it is built or copied."""
    licence: str
    where: str
    """Who uses it, or where it comes from."""

    @property
    def reference(self) -> str:
        """As it is asked for: an image with its digest where that is known."""
        if self.kind != "image":
            return f"{self.name}:{self.version}"
        return f"{self.name}:{self.version}{'@' if self.digest else ''}{self.digest}"


@dataclass(frozen=True)
class Chart:
    """A chart of the platform."""

    name: str
    version: str
    repository: str
    """Empty for our own, which is in this repository."""
    licence: str


def charts() -> list[Chart]:
    """The charts of the platform, in the order of their installation."""
    return [Chart(**entry) for entry in _versions()["chart"]]


def artifacts() -> list[Artifact]:
    """Everything that an installation takes from outside, images first."""
    versions = _versions()
    own = installed_version("forebay")
    found = [
        Artifact("image", f"forebay-{name}", own, "", "Apache-2.0", f"Dockerfile, target {name}")
        for name in OWN_IMAGES
    ]
    for image in versions["image"]:
        where = f"chart {image['chart']}" if image["chart"] else "base of our images"
        found.append(
            Artifact("image", image["name"], image["version"], image["digest"], image["licence"], where)
        )
    for chart in charts():
        where = chart.repository or f"helm/{chart.name}"
        found.append(Artifact("chart", chart.name, chart.version, "", chart.licence, where))
    for section, kind, used_by in (
        ("jar", "jar", "image forebay-spark"),
        ("trino", "archive", "forebay up --with trino"),
    ):
        for entry in versions.get(section, ()):
            name = f"{entry['group']}:{entry['artifact']}"
            licence = versions["licences"][entry["group"]]
            found.append(
                Artifact(kind, name, entry["version"], f"sha256:{entry['sha256']}", licence, used_by)
            )
    return found


def _versions() -> dict[str, Any]:
    with (Path(__file__).parent / "versions.toml").open("rb") as file:
        return tomllib.load(file)
