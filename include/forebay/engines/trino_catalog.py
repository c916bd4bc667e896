"""A catalog of Trino for one try of a task: the lake as the lens shows it to that try, made and dropped with it."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from forebay.engines.background import EngineError
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.sqlquote import literal

OLD = 24 * 3600.0
"""Seconds after which the catalog of a try that nobody came back for is dropped by whoever comes next."""

KEYS = ("access_key", "secret_key", "client_id", "client_secret")
"""What a Trino connection's extra says of the lake's keys, the last two where the catalog has a login of its own."""

_NAME = re.compile(r"run_[a-z0-9_]*?_?(?P<task>[0-9a-f]{16})_(?P<number>\d+)_(?P<began>[0-9a-f]{8,})")

Run = Callable[[str], object]


@dataclass(frozen=True)
class RunCatalog:
    """The catalog of a try."""

    name: str
    task: str
    number: int

    @classmethod
    def of(cls, who: TaskTry, taken: int = 0) -> RunCatalog:
        """Named after the job, so that a person sees in Trino whose it is; another name for each that was taken."""
        task = hashlib.sha256(f"{who.job}\n{who.run}\n{who.task}".encode()).hexdigest()[:16]
        job = re.sub(r"[^a-z0-9]+", "_", who.job.lower())[:40].strip("_")
        began = int(who.began or time.time()) + taken
        return cls(f"run_{job}_{task}_{who.number}_{began:08x}", task, who.number)


def stale(names: list[str], mine: RunCatalog | None, now: float | None = None) -> list[str]:
    """Catalogs to drop: those of earlier tries of the same task, and those that were forgotten."""
    found = []
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None or (mine is not None and name == mine.name):
            continue
        earlier = mine is not None and match["task"] == mine.task and int(match["number"]) < mine.number
        if earlier or (time.time() if now is None else now) - int(match["began"], 16) > OLD:
            found.append(name)
    return found


def keys(extra: Mapping[str, object]) -> dict[str, str]:
    """The keys of `catalog_properties` as a Trino connection's extra has them."""
    return {name: str(extra.get(name) or "") for name in KEYS}


def create_statement(name: str, properties: Mapping[str, str]) -> str:
    """SQL that makes a catalog. Its secrets are names that Trino fills in, or there is none: see `catalog_properties`."""
    given = ", ".join(f'"{key}" = {literal(value)}' for key, value in properties.items())
    return f"CREATE CATALOG {name} USING iceberg WITH ({given})"


def catalog_properties(
    config: CatalogConfig, access_key: str, secret_key: str, client_id: str = "", client_secret: str = ""
) -> dict[str, str]:
    """Trino's properties of the lake as `config` shows it.

    The keys are `${ENV:NAME}` or `${file:…}`, which Trino fills in itself: SQL that makes a catalog stays in its
    history of queries, where others can read it. The client's are the catalog's, where its login is another than the store's.
    """
    if config.client_id and not (client_id and client_secret):
        raise EngineError(
            "The catalog has a login of its own, and the Trino connection's extra names no client_id and client_secret: "
            'write them beside access_key and secret_key, such as "${ENV:FOREBAY_CATALOG_SECRET}".'
        )
    client_id, client_secret = client_id or access_key, client_secret or secret_key
    given = (access_key, secret_key, client_id, client_secret)
    for name, value in zip(KEYS, given, strict=True):
        if not re.fullmatch(r"\$\{[A-Za-z][A-Za-z0-9_-]*:[^{}$]+\}", value):
            raise EngineError(
                f"The Trino connection's extra has no usable {name}: it must say where Trino finds the lake's key, such "
                'as "${ENV:FOREBAY_LAKE_SECRET_KEY}", a variable of the Trino server. A key itself would be seen by all '
                "who look at Trino's queries."
            )
    login = {
        "iceberg.rest-catalog.security": "OAUTH2",
        "iceberg.rest-catalog.oauth2.credential": f"{client_id}:{client_secret}",
        "iceberg.rest-catalog.oauth2.server-uri": config.token_uri,
        "iceberg.rest-catalog.oauth2.scope": config.scope,
    }
    return {
        "iceberg.catalog.type": "rest",
        "iceberg.rest-catalog.uri": config.uri,
        "iceberg.rest-catalog.warehouse": config.warehouse,
        **({} if config.no_login else login),
        "iceberg.rest-catalog.vended-credentials-enabled": "false",
        "fs.native-s3.enabled": "true",
        "s3.endpoint": config.s3_endpoint,
        "s3.region": config.s3_region,
        "s3.path-style-access": str(config.path_style).lower(),
        "s3.aws-access-key": access_key,
        "s3.aws-secret-key": secret_key,
    }
