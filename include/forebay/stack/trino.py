"""Trino in the embedded stack: its command, its configuration, and the catalog that people see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from forebay.machine import java, trino
from forebay.stack import trino_access, trino_rules
from forebay.stack.layout import Stack, write_private
from forebay.stack.trino_groups import limits_of, resource_groups, session_limits, shares

LAKE, WORKSHEET = "lake", "worksheet"
"""The catalogs of what is published: for people, and for the SQL page's queries, where nobody can write."""

_HEAP = "1g"
_QUERY = "400MB"
_IDLE_CLIENT = "30s"
_INNER_SECRET = "FOREBAY_TRINO_INNER_SECRET"


def folder(stack: Stack) -> Path:
    """Where Trino runs and keeps what it writes."""
    return stack.state / "trino"


def command(stack: Stack) -> tuple[str, ...]:
    """Java with the server's class, without the launcher that would daemonize it."""
    found = java.trino_home() or Path("/usr")
    return (str(found / "bin" / "java"), f"@{folder(stack) / 'jvm.config'}", "io.trino.server.TrinoServer")


def secrets(stack: Stack) -> dict[str, str]:
    """Environment variables that catalogs name instead of the secrets themselves: the key, then its secret."""
    return {
        "FOREBAY_LAKE_ACCESS_KEY": stack.secrets["access_key"],
        "FOREBAY_LAKE_SECRET_KEY": stack.secrets["secret_key"],
    }


def environment(stack: Stack) -> dict[str, str]:
    """All environment variables of the server."""
    return {**secrets(stack), _INNER_SECRET: stack.secrets["trino_inner_secret"]}


def write(stack: Stack) -> None:
    """Writes all of Trino's configuration anew, and removes catalogs of runs that an earlier start left."""
    etc = folder(stack) / "etc"
    (etc / "catalog").mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (etc / "catalog").glob("*.properties"):
        path.unlink()
    for name, text in files(stack).items():
        write_private(folder(stack) / name, text)
    trino_access.write(stack)


def files(stack: Stack) -> dict[str, str]:
    """The configuration files below `folder`, by their paths."""
    given = shares(limits_of(stack.root))
    owners, reader = (trino_access.TASKS, trino_access.ADMIN), trino_access.WORKSHEET
    access = trino_rules.files(str(folder(stack) / "etc"), owners, reader, WORKSHEET)
    return {
        **{f"etc/{name}": text for name, text in access.items()},
        "jvm.config": "".join(f"{_quoted(option)}\n" for option in _java_options(stack)),
        "etc/config.properties": _properties(
            {
                "coordinator": "true",
                "node-scheduler.include-coordinator": "true",
                "discovery.uri": stack.url("trino"),
                # Over TLS only, and to nobody without a password: also not over plain HTTP on this machine.
                "http-server.http.enabled": "false",
                "http-server.https.enabled": "true",
                "http-server.https.port": str(stack.ports["trino"]),
                "http-server.https.keystore.path": str(trino_access.key(stack)),
                "http-server.authentication.type": "PASSWORD",
                "internal-communication.https.required": "true",
                "internal-communication.https.truststore.path": str(trino_access.certificate(stack)),
                "internal-communication.shared-secret": f"${{ENV:{_INNER_SECRET}}}",
                "plugin.dir": str(trino.home() / "plugin"),
                # Each run has a catalog of its own, made and dropped while Trino runs.
                "catalog.management": "dynamic",
                "catalog.store": "file",
                "query.max-memory": _QUERY,
                "query.max-memory-per-node": _QUERY,
                "memory.heap-headroom-per-node": "300MB",
                # A task that is gone without a word: its queries end after this.
                "query.client.timeout": _IDLE_CLIENT,
                "query.max-history": "200",
            }
        ),
        "etc/password-authenticator.properties": _properties(
            {
                "password-authenticator.name": "file",
                "file.password-file": str(folder(stack) / "etc" / "password.db"),
            }
        ),
        "etc/resource-groups.properties": _properties(
            {
                "resource-groups.configuration-manager": "file",
                "resource-groups.config-file": str(folder(stack) / "etc" / "resource-groups.json"),
            }
        ),
        "etc/resource-groups.json": json.dumps(resource_groups(given, reader), indent=1),
        "etc/session-property-config.properties": _properties(
            {
                "session-property-config.configuration-manager": "file",
                "session-property-manager.config-file": str(folder(stack) / "etc" / "session-limits.json"),
            }
        ),
        "etc/session-limits.json": json.dumps(session_limits(given), indent=1),
        f"etc/catalog/{LAKE}.properties": _properties(lake_catalog(stack)),
        # What Trino's rules do not ask about, such as ALTER TABLE … EXECUTE, the catalog itself refuses.
        f"etc/catalog/{WORKSHEET}.properties": _properties(
            {**lake_catalog(stack), "iceberg.security": "read_only"}
        ),
    }


def lake_catalog(stack: Stack) -> dict[str, str]:
    """The catalog `lake` for people and their tools: what is published."""
    from forebay.engines.trino_catalog import catalog_properties
    from forebay.lake.connection import CatalogConfig

    access, secret = (f"${{ENV:{name}}}" for name in secrets(stack))
    config = CatalogConfig(
        uri=stack.url("catalog"),
        warehouse="warehouse",
        access_key=access,
        secret_key=secret,
        s3_endpoint=stack.url("s3"),
        lens=stack.url("lens"),
    )
    return {"connector.name": "iceberg", **catalog_properties(config.published(), access, secret)}


def _java_options(stack: Stack) -> list[str]:
    return [
        f"-Xmx{_HEAP}",
        # Half the time to start, a third less memory; large queries run two to three times as long.
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:ReservedCodeCacheSize=256M",
        "-XX:+EnableDynamicAgentLoading",
        "-Djdk.attach.allowAttachSelf=true",
        "-Djdk.nio.maxCachedBufferSize=2000000",
        "-Dfile.encoding=UTF-8",
        "-Duser.timezone=UTC",
        "--add-modules=jdk.incubator.vector",
        "-Dnode.environment=forebay",
        "-Dnode.id=forebay",
        f"-Dnode.data-dir={folder(stack) / 'data'}",
        "-Dnode.bind-ip=127.0.0.1",
        "-Dnode.internal-address=127.0.0.1",
        f"-Dconfig={folder(stack) / 'etc' / 'config.properties'}",
        "-cp",
        f"{trino.home() / 'lib'}/*",
    ]


def _properties(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={json.dumps(value)[1:-1]}\n" for name, value in values.items())


def _quoted(option: str) -> str:
    escaped = option.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
