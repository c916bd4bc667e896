"""From a name to a line: resolve, connect, TLS. Every address is looked at before anything is sent to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from ipaddress import ip_address
from typing import Any, TypeVar

import httpcore

from forebay.connections.guard import Address, refusal
from forebay.errors import ForebayError

T = TypeVar("T")
Stream = httpcore.AsyncNetworkStream

_SOON = 14
"""Days before the end of a certificate from which it is said."""


class Wrong(ForebayError):
    """A step found something wrong: what, and what mends it."""

    def __init__(self, found: str, hint: str = "") -> None:
        super().__init__(found)
        self.found, self.hint = found, hint


class Forbidden(Wrong):
    """The doctor does not go there."""


@dataclass(frozen=True)
class Place:
    """A host and a port, with or without TLS."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Certificate:
    """Whose certificate it is, who vouches for it, and until when."""

    subject: str
    issuer: str
    until: datetime
    version: str
    chain: tuple[str, ...] = ()
    """From the server's own certificate upward, as it showed them, and who vouches for the last."""

    def __str__(self) -> str:
        return f"{self.subject}, issued by {self.issuer}, valid until {self.until:%Y-%m-%d}"

    @property
    def days(self) -> float:
        return (self.until - datetime.now(UTC)).total_seconds() / 86400

    @property
    def ends_soon(self) -> bool:
        return self.days < _SOON


async def in_thread(work: Callable[[], T]) -> T:
    """Work that blocks, in a thread nobody waits for: one that hangs keeps neither the check nor the program."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(action: Callable[[], None]) -> None:
        # The loop may be gone by then.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if future.done() else action())

    def run() -> None:
        try:
            found = work()
        except BaseException as error:  # noqa: BLE001
            # Whatever it is, it is raised again where the result is awaited; kept back, that would wait for ever.
            failed = error
            settle(lambda: future.set_exception(failed))
        else:
            settle(lambda: future.set_result(found))

    threading.Thread(target=run, name="forebay-connections", daemon=True).start()
    return await future


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a name. Raises Forbidden when any of them may not be reached."""
    addresses: list[Address]
    try:
        addresses = [ip_address(host.strip("[]").partition("%")[0])]
    except ValueError:
        try:
            found = await in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (socket.gaierror, UnicodeError) as error:
            raise Wrong(
                f"there is no host '{host}'" if not _temporary(error) else f"names cannot be looked up now ({error})",
                "Correct the host, or its entry in DNS. A name that only a cluster or a private network knows is not "
                "known outside of it.",
            ) from None  # fmt: skip
        addresses = list(dict.fromkeys(ip_address(str(each[4][0]).partition("%")[0]) for each in found))
    for address in addresses:
        if why := refusal(address):
            raise Forbidden(f"refused: {why}", "Name the host of the service itself. Nothing was sent.")
    return addresses


def _temporary(error: Exception) -> bool:
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN


async def connect(addresses: list[Address], place: Place, deadline: float) -> Stream:
    """A line to the first of the addresses that answers."""
    backend = httpcore.AnyIOBackend()
    failure: Exception | None = None
    for number, address in enumerate(addresses):
        left = max(0.01, deadline - asyncio.get_running_loop().time())
        try:
            return await backend.connect_tcp(
                str(address), place.port, timeout=left / (len(addresses) - number)
            )
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            failure = failure if isinstance(failure, httpcore.ConnectError) else error
    assert failure is not None
    raise _unreachable(failure, place) from None


def _unreachable(error: Exception, place: Place) -> Wrong:
    cause = _cause(error, OSError)
    if isinstance(error, httpcore.ConnectTimeout):
        return Wrong(
            f"nothing answers at {place}",
            "Packets vanish: a firewall or network policy drops them, or the machine is off. Open the way from where "
            "this check ran.",
        )
    if isinstance(cause, ConnectionRefusedError):
        return Wrong(
            f"{place} refuses connections",
            "The machine is there, and nothing listens on this port. Correct the port, or start the service.",
        )
    reason = cause.strerror or str(cause) if cause is not None else str(error)
    return Wrong(f"{place} cannot be reached: {reason}", "Correct the address, or the route to its network.")


def _cause(error: BaseException | None, kind: type[T]) -> T | None:
    """The innermost of a kind: the outer ones only say that something failed."""
    found = [each for each in _causes(error) if isinstance(each, kind)]
    return found[-1] if found else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from _causes(each)
        error = error.__cause__ or error.__context__


class Trust:
    """Whom the checks of one round believe: the machine's authorities, or those of SSL_CERT_FILE, and some more as PEM."""

    def __init__(self, more: str = "") -> None:
        self._more = more

    @cached_property
    def context(self) -> ssl.SSLContext:
        found = ssl.create_default_context()
        if self._more:
            found.load_verify_locations(cadata=self._more)
        return found

    def named(self, host: str, *, names: bool = True) -> ssl.SSLContext:
        """For a driver that connects to the address that was looked at: the certificate is that of this host all the same.

        Without `names` it may be anybody's whom an authority vouches for.
        """
        found = _Named(ssl.PROTOCOL_TLS_CLIENT)
        found.host = host
        found.load_default_certs()
        if self._more:
            found.load_verify_locations(cadata=self._more)
        found.check_hostname = names
        return found


class _Named(ssl.SSLContext):
    host: str

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_side, self.host, session)


def believing() -> ssl.SSLContext:
    """Believes any certificate: for a line whose connection asks for no proof, and which is told so."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def trusting(authorities: str) -> ssl.SSLContext:
    """Trusts the authorities in this PEM text instead."""
    return ssl.create_default_context(cadata=authorities)


async def secure(
    stream: Stream, place: Place, deadline: float, context: ssl.SSLContext
) -> tuple[Stream, Certificate | None]:
    """The line with TLS, and whose certificate the other side showed; Wrong says what is wrong with it."""
    left = max(0.01, deadline - asyncio.get_running_loop().time())
    try:
        safe = await stream.start_tls(context, place.host.strip("[]"), timeout=left)
    except (httpcore.NetworkError, ssl.SSLError, OSError) as error:
        raise _untrusted(error, place) from None
    except httpcore.TimeoutException:
        raise Wrong(
            f"{place} took the connection and then said nothing",
            "A port that does not speak TLS waits like this, or a proxy before the service does.",
        ) from None
    return safe, certificate(safe)


async def unverified(addresses: list[Address], place: Place, deadline: float) -> Certificate | None:
    """The certificate that is shown to somebody who believes everything; nothing is sent over that line."""
    try:
        stream = await connect(addresses, place, deadline)
        try:
            left = max(0.01, deadline - asyncio.get_running_loop().time())
            return certificate(await stream.start_tls(believing(), place.host.strip("[]"), timeout=left))
        finally:
            await stream.aclose()
    except (Wrong, httpcore.NetworkError, httpcore.TimeoutException, ssl.SSLError, OSError):
        return None


def certificate(stream: Stream) -> Certificate | None:
    """What the other side of a TLS line showed."""
    line = stream.get_extra_info("ssl_object")
    shown = line.getpeercert(binary_form=True) if line is not None else None
    if not shown:
        return None
    from cryptography import x509

    first, *others = (x509.load_der_x509_certificate(each) for each in _chain(line) or [shown])
    last = others[-1] if others else first
    names = [_name(each.subject) for each in (first, *others)]
    if last.issuer != last.subject:
        names.append(_name(last.issuer))
    return Certificate(
        names[0], _name(first.issuer), first.not_valid_after_utc, str(line.version() or ""), tuple(names)
    )


def _chain(line: ssl.SSLObject) -> list[bytes]:
    """All certificates that the other side showed, its own first."""
    if sys.version_info >= (3, 13):
        return list(line.get_unverified_chain())
    # Older Pythons have it below their public surface only, where pip's truststore takes it from, too.
    import _ssl

    own: Any = getattr(line, "_sslobj")  # noqa: B009 - the checker of types does not know it
    return [each.public_bytes(_ssl.ENCODING_DER) for each in own.get_unverified_chain() or ()]


def _name(name: object) -> str:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    assert isinstance(name, x509.Name)
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string()


def _untrusted(error: Exception, place: Place) -> Wrong:
    cause = _cause(error, ssl.SSLError)
    if isinstance(cause, ssl.SSLCertVerificationError):
        number, text = cause.verify_code, cause.verify_message
        if number == 10:
            return Wrong(
                "the certificate has expired", "Renew it on the server; the connection is not to blame."
            )
        if number == 9:
            return Wrong("the certificate is not valid yet", "Compare the clocks of both machines.")
        if number in (18, 19, 20, 21):
            who = "itself" if number == 18 else "an authority that this machine does not trust"
            return Wrong(
                f"the certificate is vouched for by {who}",
                "Add that authority to the machine's certificates, or name a list with it in SSL_CERT_FILE. A server "
                "that leaves out its intermediate certificates looks like this too.",
            )
        if number in (62, 64):
            return Wrong(
                f"the certificate is not for {place.host}",
                "Use a name that the certificate has, or have one issued with this name.",
            )
        return Wrong(f"the certificate is refused: {text}", "Look at the server's certificate.")
    reason = str(getattr(cause, "reason", "") or "")
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNEXPECTED_MESSAGE"):
        return Wrong(
            f"{place} does not speak TLS", "Use http:// in place of https://, or the port that has TLS."
        )
    if "ALERT" in reason and "CERTIFICATE" in reason:
        return Wrong("the server asks for a certificate of ours", "A client certificate is needed.")
    if reason:
        words = reason.lower().replace("_", " ")
        return Wrong(f"no TLS with {place}: {words}", "Server and client have no protocol in common.")
    return Wrong(
        f"{place} broke off the TLS handshake", "It may not speak TLS: try http:// in place of https://."
    )
