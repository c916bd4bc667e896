"""Makes Java trust what the machine trusts, such as a company's own certificate authority."""

from __future__ import annotations

import os
import ssl
import warnings
from pathlib import Path


def bundle() -> Path | None:
    """The PEM file of certificate authorities in force: SSL_CERT_FILE, else the system's."""
    paths = ssl.get_default_verify_paths()
    known = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
    for candidate in (os.environ.get("SSL_CERT_FILE"), paths.cafile, *known):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    return None


def java_options(folder: Path) -> list[str]:
    """Options with which a Java uses the machine's certificate authorities instead of its own list.

    The trust store is written to `folder`, anew where the machine's list is newer.
    """
    pem = bundle()
    if pem is None:
        return []
    store = folder / "trust.p12"
    if not store.exists() or store.stat().st_mtime < pem.stat().st_mtime:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12

        seen: set[bytes] = set()
        entries = []
        with warnings.catch_warnings():
            # Old roots with odd serial numbers are still in the system's list.
            warnings.simplefilter("ignore")
            certificates = x509.load_pem_x509_certificates(pem.read_bytes())
        for certificate in certificates:
            name = certificate.signature
            if name not in seen:
                seen.add(name)
                entries.append(pkcs12.PKCS12Certificate(certificate, f"ca-{len(seen)}".encode()))
        folder.mkdir(parents=True, exist_ok=True)
        temporary = store.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(pkcs12.serialize_java_truststore(entries, NoEncryption()))
        temporary.replace(store)
    return [f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=PKCS12"]
