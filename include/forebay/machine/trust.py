"""Makes Java trust what the machine trusts, such as a company's own certificate authority."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import tempfile
import warnings
from pathlib import Path

from forebay.errors import ForebayError

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class TrustError(ForebayError):
    """The certificate authorities of this machine cannot be read."""


def bundle() -> Path | None:
    """The PEM file of certificate authorities in force: SSL_CERT_FILE, else the system's."""
    named = os.environ.get("SSL_CERT_FILE")
    if named and not Path(named).is_file():
        raise TrustError(f"SSL_CERT_FILE names {named}, which is no file. Correct it or unset it.")
    # The compiled-in place, not what the variable above makes of it.
    compiled = ssl.get_default_verify_paths().openssl_cafile
    known = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
    for candidate in (named, compiled, *known):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    return None


def java_options(folder: Path) -> list[str]:
    """Options with which a Java uses the machine's certificate authorities instead of its own list.

    The trust store is written to `folder`, one for each state of the machine's list. There are no options where
    the machine has no list, or where JAVA_TOOL_OPTIONS or JDK_JAVA_OPTIONS name a trust store already.
    """
    named = " ".join(os.environ.get(name, "") for name in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"))
    pem = bundle()
    if pem is None or "-Djavax.net.ssl.trustStore=" in named:
        return []
    try:
        content = pem.read_bytes()
    except OSError as error:
        raise TrustError(
            f"{pem}: cannot be read ({error.strerror}). Mend it, or set SSL_CERT_FILE."
        ) from error
    store = folder / f"trust-{hashlib.sha256(content).hexdigest()[:16]}.p12"
    if not store.exists():
        written = _java_trust_store(content)
        if written is None:
            raise TrustError(f"{pem}: holds no certificate. Mend it, or set SSL_CERT_FILE to a PEM file.")
        folder.mkdir(parents=True, exist_ok=True)
        # Under a name of its own, for two commands may do this at once.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".trust-", delete=False) as file:
            file.write(written)
        Path(file.name).replace(store)
        for old in folder.glob("trust*.p12"):
            if old != store:
                old.unlink(missing_ok=True)
    return [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=PKCS12"]


def _java_trust_store(pem: bytes) -> bytes | None:
    """The certificates of a PEM file as a trust store; None where there is none."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

    found: dict[bytes, x509.Certificate] = {}
    with warnings.catch_warnings():
        # Old roots with odd serial numbers are still in the system's list.
        warnings.simplefilter("ignore")
        for match in _CERTIFICATE.finditer(pem):
            try:
                certificate = x509.load_pem_x509_certificate(match.group())
            except ValueError:
                # One that cannot be read must not take the others with it.
                continue
            found.setdefault(certificate.signature, certificate)
    entries = [
        pkcs12.PKCS12Certificate(certificate, f"ca-{number}".encode())
        for number, certificate in enumerate(found.values())
    ]
    return pkcs12.serialize_java_truststore(entries, NoEncryption()) if entries else None
