"""PostgreSQL: as asyncpg speaks it, on the address that was looked at. No file of certificates or passwords is opened."""

from __future__ import annotations

import asyncio
import ssl
import struct
import time
import uuid
from typing import TYPE_CHECKING, Any

from forebay.connections import network
from forebay.connections.check import AUTHENTICATE, CONNECT, LIST, NETWORK, READ, RESOLVE, TLS, WRITE, Check
from forebay.connections.network import Place, Wrong
from forebay.connections.web import clock

if TYPE_CHECKING:
    import asyncpg

TITLE = "PostgreSQL"
ALSO = ("postgresql",)
PLAN = (*NETWORK, AUTHENTICATE, LIST, READ, WRITE)
EXAMPLE = {
    "conn_type": "postgres",
    "host": "db.example.com",
    "port": 5432,
    "schema": "sales",
    "login": "forebay",
    "extra": {"sslmode": "require"},
}

NEEDS = ("asyncpg",)

# The request for TLS of PostgreSQL's protocol, section "SSL Session Encryption".
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_VERIFIED = ("verify-ca", "verify-full")


async def check(check: Check) -> None:
    connection = check.connection
    socket = connection.host.startswith("/")
    place = Place(connection.host or "127.0.0.1", connection.port or 5432)
    mode = connection.text("sslmode") or "prefer"
    hosts: list[str]
    context: ssl.SSLContext | None = None
    if socket:
        for key in NETWORK:
            check.skip(key, "a Unix socket")
        hosts = [connection.host]
    else:
        context = await _line(check, place, mode)
        hosts = [str(address) for address in check.places[place]]
    database = await _authenticate(check, hosts, place, context)
    try:
        await _facts(check, database)
        async with check.step(LIST, "List the tables") as finding:
            count = await database.fetchval(
                "SELECT count(*) FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND "
                "relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) "
                "AND pg_catalog.has_table_privilege(oid, 'SELECT')"
            )
            finding.found = f"it may read {count} tables and views"
        async with check.step(READ, "Read a row") as finding:
            await database.fetchval("SELECT 1")
            finding.found = "SELECT 1"
        await _write(check, database)
    finally:
        database.terminate()


async def _line(check: Check, place: Place, mode: str) -> ssl.SSLContext | None:
    """The steps of the network, by the doctor itself. The driver takes a line of its own, with the same TLS or none."""
    check.fact("address", place)
    async with check.step(RESOLVE, f"Resolve {place.host}") as finding:
        addresses = check.places[place] = await network.resolve(place.host, place.port)
        finding.found = ", ".join(str(each) for each in addresses[:4] if str(each) != place.host)
    async with check.step(CONNECT, f"Connect to port {place.port}"):
        stream = await network.connect(addresses, place, check.deadline)
    try:
        async with check.step(TLS) as finding:
            left = max(0.01, check.deadline - asyncio.get_running_loop().time())
            if mode == "disable":
                check.in_the_clear(finding, addresses)
                return None
            await stream.write(_SSL_REQUEST, timeout=left)
            answer = await stream.read(1, timeout=left)
            if answer not in (b"S", b"N"):
                raise Wrong(
                    f"this is no PostgreSQL at {place}",
                    "Something else answers there: correct host and port.",
                )
            if answer == b"N" and mode in ("require", *_VERIFIED):
                raise Wrong(
                    f"the server has no TLS, and sslmode is {mode}",
                    "Switch TLS on in the server (ssl = on), or change sslmode in extra.",
                )
            if answer == b"N":
                check.in_the_clear(finding, addresses)
                return None
            context = (
                check.trust.named(place.host.strip("[]"), names=mode == "verify-full")
                if mode in _VERIFIED
                else network.believing()
            )
            stream, shown = await network.secure(stream, place, check.deadline, context)
            check.certificate(finding, shown)
            if shown is not None and shown.days < 0:
                finding.warn(
                    f"the certificate has expired: {shown}",
                    f"Renew it on the server. With sslmode {mode} nobody looks at it.",
                )
            elif mode not in _VERIFIED:
                finding.found += f"; not verified (sslmode {mode})"
        return context
    finally:
        await stream.aclose()


async def _authenticate(
    check: Check, hosts: list[str], place: Place, context: ssl.SSLContext | None
) -> asyncpg.Connection[Any]:
    import asyncpg

    connection = check.connection
    async with check.step(AUTHENTICATE, f"Log in as {connection.login or 'nobody'}") as finding:
        try:
            database: asyncpg.Connection[Any] = await asyncpg.connect(
                host=hosts,
                port=place.port,
                user=connection.login or "postgres",
                # Never None: then the driver would look for a file of passwords.
                password=connection.password or "-",
                database=connection.schema or connection.login or "postgres",
                ssl=context or False,
                timeout=check.timeout,
                command_timeout=check.timeout,
                statement_cache_size=0,
                target_session_attrs=asyncpg.connect_utils.SessionAttribute.any,
                server_settings={"application_name": "forebay connections check"},
            )
        except ssl.SSLCertVerificationError as error:
            raise Wrong(
                f"the line for the login shows another certificate, which is refused: {error.verify_message}",
                "Several servers answer at this address: look at the certificate of each. The password was not sent.",
            ) from None
        except asyncpg.InvalidPasswordError:
            raise Wrong(
                f"the server does not take the password of '{connection.login}'",
                "Correct login and password. PostgreSQL says the same when there is no such user.",
            ) from None
        except asyncpg.InvalidCatalogNameError:
            raise Wrong(
                f"there is no database '{connection.schema or connection.login}'",
                "Correct the connection's schema: it names the database.",
            ) from None
        except asyncpg.InvalidAuthorizationSpecificationError as error:
            raise Wrong(
                f"the server lets this login not in: {error}",
                "Add a line for it to the server's pg_hba.conf.",
            ) from None
        except asyncpg.TooManyConnectionsError:
            raise Wrong(
                "the server has no free connection", "Raise max_connections, or put a pooler before it."
            ) from None
        except asyncpg.CannotConnectNowError as error:
            raise Wrong(f"the server is starting or stopping: {error}", "Try again in a moment.") from None
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Wrong(f"the server refuses: {error}", "See the server's log.") from None
        finding.found = f"database {connection.schema or connection.login or 'postgres'}"
        return database
    raise AssertionError


async def _facts(check: Check, database: asyncpg.Connection[Any]) -> None:
    row = await database.fetchrow(
        "SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS replica, "
        "current_setting('server_encoding') AS encoding, extract(epoch FROM clock_timestamp())::float8 AS now"
    )
    assert row is not None
    check.fact("server", f"PostgreSQL {row['version']}")
    check.fact("encoding", row["encoding"])
    check.fact("clock", clock(row["now"] - time.time()))
    if row["replica"]:
        check.fact("role", "a replica: it takes no writes")


async def _write(check: Check, database: asyncpg.Connection[Any]) -> None:
    import asyncpg

    name = f"forebay_probe_{uuid.uuid4().hex[:12]}"
    async with check.step(WRITE, "Write a probe, taken back", needed=False) as finding:
        change = database.transaction()
        await change.start()
        try:
            await database.execute(f"CREATE TABLE {name} (x integer)")
            await database.execute(f"INSERT INTO {name} VALUES (1)")
            finding.found = "made a table and a row in it, and rolled back"
        except asyncpg.ReadOnlySQLTransactionError:
            finding.warn(
                "can read, cannot write: the server is read-only", "Name the primary where jobs write."
            )
        except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError) as error:
            finding.warn(
                f"can read, cannot make a table ({error})",
                "Grant CREATE on the schema. Jobs that only read from here need it not.",
            )
        except asyncpg.PostgresError as error:
            finding.warn(f"writing failed: {error}", "See the server's log.")
        finally:
            await change.rollback()
