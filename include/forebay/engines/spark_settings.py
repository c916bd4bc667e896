"""What a Spark task asks of a cluster, and what the connection gives it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forebay.engines.background import EngineError
from forebay.lake.connection import CATALOG
from forebay.placement import placement

_OURS = ("spark.kubernetes.", "spark.master", "spark.submit.", f"spark.sql.catalog.{CATALOG}.")
_MAX_BYTES = 900_000
"""Of all programs together; a ConfigMap holds 1 MiB."""


@dataclass(frozen=True)
class Resources:
    """What driver or executors get: cores, and Java's memory such as 2g (Spark adds its overhead)."""

    cores: int = 1
    memory: str = "1g"


@dataclass(frozen=True)
class Executors(Resources):
    """How many executors: `minimum` to `maximum`, by the work there is where the two differ."""

    minimum: int = 1
    maximum: int = 1

    @property
    def dynamic(self) -> bool:
        return self.minimum != self.maximum


@dataclass(frozen=True)
class Cluster:
    """Where applications go and as what, from the connection."""

    namespace: str
    image: str
    service_account: str = "spark"
    secret: str = "forebay-lake"
    """The Secret of that namespace with the lake's credentials, under access-key, secret-key, catalog-credential."""
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    priority_class: str = ""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes that its pods may run on."""
    keep_seconds: int = 3600
    """How long an application that has ended is kept to look at."""
    driver: Resources = Resources()
    executors: Executors = Executors()
    conf: Mapping[str, str] = field(default_factory=dict)
    logs: str = field(default="", repr=False)
    """Where executors' logs and events are kept: a folder on the lake's S3; empty for the task's own log."""

    @classmethod
    def from_extra(cls, extra: Mapping[str, Any], workspace: str) -> Cluster:
        """From the extra of an Airflow connection of type `kubernetes`; EngineError names what is wrong in it.

        What it does not say of namespace, priority and nodes is said by the platform: see `forebay.placement`.
        """
        placed = placement(workspace)
        if not extra.get("image"):
            raise EngineError(
                'The Spark connection names no image. Add it to its extra: {"image": "registry/forebay-spark:0.1.0"}.'
            )
        logs = str(extra.get("logs") or "")
        if logs and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^?#]*)?", logs):
            raise EngineError(
                f"logs: {logs!r} in the Spark connection's extra is no folder on S3, such as s3://logs/spark."
            )
        executors = extra.get("executors") or {}
        number = _number(extra, "executors.instances", executors.get("instances", 1))
        return cls(
            namespace=str(extra.get("namespace") or placed.namespace),
            image=str(extra["image"]),
            service_account=str(extra.get("service_account") or "spark"),
            secret=str(extra.get("secret") or "forebay-lake"),
            pull_policy=str(extra.get("image_pull_policy") or "IfNotPresent"),
            pull_secrets=tuple(map(str, extra.get("image_pull_secrets") or ())),
            priority_class=str(extra.get("priority_class") or placed.priority_class),
            node_selector=_labels(extra.get("node_selector")) or placed.node_selector,
            keep_seconds=_number(extra, "keep_seconds", extra.get("keep_seconds", 3600)),
            driver=Resources(
                _number(extra, "driver_cores", extra.get("driver_cores", 1)),
                str(extra.get("driver_memory") or "1g"),
            ),
            executors=Executors(
                _number(extra, "executors.cores", executors.get("cores", 1)),
                str(executors.get("memory") or "1g"),
                _number(extra, "executors.min", executors.get("min", number)),
                _number(extra, "executors.max", executors.get("max", executors.get("min", number))),
            ),
            conf={
                **event_log(extra),
                **{str(key): plain(value) for key, value in (extra.get("conf") or {}).items()},
            },
            logs=logs,
        )


@dataclass(frozen=True)
class Program:
    """What is to run: the file by its path below the workspace's programs, and all of those."""

    main: str
    files: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    conf: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = sum(len(text.encode()) for text in self.files.values())
        if size > _MAX_BYTES:
            raise EngineError(
                f"The workspace's Spark programs are {size:,} bytes, and a ConfigMap takes {_MAX_BYTES:,}. Keep data "
                "out of the folder, and put libraries into the image."
            )
        for key in self.conf:
            if key.startswith(_OURS):
                raise EngineError(
                    f"conf: {key} is set by the connection, so that the job runs anywhere. Take it out of the task."
                )


def event_log(extra: Mapping[str, Any]) -> dict[str, str]:
    """Settings that keep what Spark's history server shows, where the connection's extra says so: `events`, a folder."""
    events = str(extra.get("events") or "")
    if not events:
        return {}
    # Each application has a folder of its own, which bears its name.
    return {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": events,
        "spark.eventLog.rolling.enabled": "true",
    }


def shared_out(extra: Mapping[str, Any], own: Mapping[str, Any], *, standalone: bool) -> dict[str, str]:
    """Settings for the executors that a task asks for, and the connection's extra where the task does not; of what
    neither says, the cluster's own is used.
    """
    usual = dict(extra.get("executors") or {})
    if "instances" in usual:
        usual.setdefault("min", usual.pop("instances"))
    if "min" in own:
        usual.pop("max", None)
    said = {name: str(value) for name, value in {**usual, **own}.items()}
    conf = {f"spark.executor.{name}": said[name] for name in ("cores", "memory") if name in said}
    number = {
        name: _number(extra, f"executors.{name}", said[name]) for name in ("min", "max") if name in said
    }
    if not number:
        return conf
    most = number.get("max", number.get("min", 1))
    least = min(number.get("min", 1), most)
    if least != most:
        dynamic = "spark.dynamicAllocation."
        conf |= {f"{dynamic}enabled": "true", f"{dynamic}shuffleTracking.enabled": "true"}
        conf |= {f"{dynamic}minExecutors": str(least), f"{dynamic}maxExecutors": str(most)}
    elif standalone:
        # A standalone master counts cores, not executors.
        cores = _number(extra, "executors.cores", said.get("cores", 1))
        conf |= {"spark.executor.cores": str(cores), "spark.cores.max": str(least * cores)}
    else:
        conf["spark.executor.instances"] = str(least)
    return conf


def modules(folders: Iterable[str]) -> dict[str, str]:
    """The text of each Python file below the folders by its path there; of two with one path, the first folder's.

    Forebay itself is installed wherever a program runs.
    """
    found: dict[str, str] = {}
    for folder in map(Path, folders):
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder).as_posix()
            if not name.startswith("forebay/"):
                found.setdefault(name, path.read_text(encoding="utf-8"))
    return found


def plain(value: object) -> str:
    """A setting as Spark reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value or {}, Mapping):
        raise EngineError(
            f"node_selector: {value!r} in the Spark connection's extra is no mapping of labels, such as "
            '{"forebay/role": "worker"}.'
        )
    return {str(name): str(each) for name, each in dict(value or {}).items()}  # type: ignore[call-overload]


def _number(extra: Mapping[str, Any], name: str, value: object) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if number < 1:
        raise EngineError(f"{name}: {value!r} in the Spark connection's extra is no number from 1 on.")
    return number
