"""Who may ask the embedded Trino: three users with passwords, over TLS with a certificate of the stack's own."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.stack.layout import Stack, write_private

if TYPE_CHECKING:
    from forebay.engines.trino_client import Server

TASKS = "forebay"
"""The user of tasks and commands."""
ADMIN = "admin"
"""A person, with the password of Airflow's."""
WORKSHEET = "worksheet"
"""The user of the SQL page's queries, who may do nothing but read what is published."""

_YEARS = 10
_RENEW = datetime.timedelta(days=30)
# The passwords are random and long: more would only make the first query of a user slower.
_ITERATIONS = 10_000


def certificate(stack: Stack) -> Path:
    """The file with the certificate alone, for clients: it says who Trino is, and holds no secret."""
    return stack.state / "trino" / "certificate.pem"


def key(stack: Stack) -> Path:
    """The file with certificate and private key, for Trino."""
    return stack.state / "trino" / "etc" / "server.pem"


def server(stack: Stack) -> Server:
    """The stack's Trino as its commands ask it."""
    from forebay.engines.trino_client import Server

    return Server(
        "127.0.0.1", stack.ports["trino"], TASKS, "https", stack.secrets["trino_password"],
        str(certificate(stack)),
    )  # fmt: skip


def write(stack: Stack) -> None:
    """Writes the file of passwords, and the certificate where there is none or it ends soon."""
    write_private(stack.state / "trino" / "etc" / "password.db", _passwords(stack))
    if not _lasts(stack):
        made, private = _new_certificate()
        write_private(key(stack), made + private)
        write_private(certificate(stack), made)


def _passwords(stack: Stack) -> str:
    users = {
        TASKS: stack.secrets["trino_password"],
        ADMIN: stack.secrets["admin_password"],
        WORKSHEET: stack.secrets["trino_worksheet_password"],
    }
    lines = []
    for user, password in users.items():
        salt = os.urandom(16)
        # Trino's file of passwords knows this one or bcrypt.
        digest = hashlib.pbkdf2_hmac("sha1", password.encode(), salt, _ITERATIONS)
        lines.append(f"{user}:{_ITERATIONS}:{salt.hex()}:{digest.hex()}\n")
    return "".join(lines)


def _lasts(stack: Stack) -> bool:
    from cryptography import x509

    try:
        made = certificate(stack).read_bytes()
        # Both were written by one start, or neither is any good.
        whole = key(stack).read_bytes().startswith(made) and bool(made)
        ends = x509.load_pem_x509_certificate(made).not_valid_after_utc if whole else None
    except (OSError, ValueError):
        return False
    return ends is not None and ends > datetime.datetime.now(datetime.UTC) + _RENEW


def _new_certificate() -> tuple[str, str]:
    """A certificate for 127.0.0.1 that signs itself, and its key: nobody else can make one that our clients trust."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    private, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Forebay's Trino on this machine")])
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        # What it signs besides itself is nothing: trusting it is trusting this one server.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    text = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(pem).decode(), text.decode()
