"""Fetches the pinned jars through Ivy, the resolver inside PySpark, and verifies them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from forebay.errors import ForebayError
from forebay.machine import java, maven, trust

# Twice the larger jar and some air.
_FREE_DISK = 200 << 20
_REPORT_SECONDS = 5.0

# What the resolver prints, and what it means to a person.
_CAUSES = (
    ("PKIX path", "its certificate is signed by none of this machine's authorities: set SSL_CERT_FILE to yours"),
    ("not found. url", "its name is not known: check the network and the proxy (https_proxy)"),
    ("Connection refused", "it refuses connections: check the address and the network"),
    ("timed out", "it does not answer in time: check the network and the proxy (https_proxy)"),
    ("status: 401", "it wants another user or password: check the server of that id in settings.xml"),
    ("status: 403", "it refuses this user: check the server of that id in settings.xml"),
    ("proxy requires authentication", "the proxy wants a user and password: https_proxy=http://user:password@host:port"),
    ("No space left", "the disk is full: free some space"),
    ("not found", "it has no such file: ask who runs it"),
)  # fmt: skip
_TELLING = re.compile(r"^(?!\s+at |setting ).*(status: [1-7]|ERROR|Exception|not found\. url|proxy)")


class JarError(ForebayError):
    """A jar could not be fetched, or is not the one that was pinned."""


@dataclass(frozen=True)
class Jar:
    """One pinned jar or archive: Maven coordinates, with the classifier of one beside the main jar, and SHA-256."""

    group: str
    artifact: str
    version: str
    sha256: str
    classifier: str = ""
    extension: str = "jar"

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}{self._suffix}.{self.extension}"

    @property
    def file_pattern(self) -> str:
        """Its file's name in Ivy's words."""
        return f"[artifact]-[revision]{self._suffix}.{self.extension}"

    @property
    def _suffix(self) -> str:
        return f"-{self.classifier}" if self.classifier else ""

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}{self._suffix.replace('-', ':', 1)}"


def folder() -> Path:
    """Where verified jars are kept, for all checkouts of this user."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():
        try:
            cache = Path.home() / ".cache"
        except RuntimeError as error:
            raise JarError("no home folder is known. Set HOME or XDG_CACHE_HOME.") from error
    return cache / "forebay" / "jars"


def pinned(section: str = "jar") -> list[Jar]:
    """The jars of a section of the package's `versions.toml`."""
    with (Path(__file__).parents[1] / "versions.toml").open("rb") as file:
        return [Jar(**entry) for entry in tomllib.load(file)[section]]


def missing(pins: Sequence[Jar] | None = None) -> list[Jar]:
    """Pinned jars that are not in the cache."""
    return [jar for jar in (pinned() if pins is None else pins) if not (folder() / jar.file_name).exists()]


def fetch(progress: Callable[[str], None], pins: Sequence[Jar] | None = None) -> None:
    """Puts every pinned jar into the cache; those already there are left alone.

    A jar enters the cache only after its SHA-256 matched, in one step: what lies there is whole. Two commands
    that fetch at once wait for each other. Raises JarError with what went wrong and the resolver's own words.
    """
    if not missing(pins):
        return
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with only_one(progress) as alone:
            if alone:
                # No other command is at work, so these were left by one that was killed.
                for left in folder().glob(".fetch-*"):
                    shutil.rmtree(left, ignore_errors=True)
            for jar in missing(pins):
                _fetch_one(jar, progress)
    except OSError as error:
        raise JarError(
            f"{error.filename or folder()}: cannot be written ({error.strerror}). Free disk space, fix its owner, "
            "or name another folder: XDG_CACHE_HOME=/path forebay setup."
        ) from error


@contextlib.contextmanager
def only_one(progress: Callable[[str], None]) -> Iterator[bool]:
    """Holds the cache's lock; False on a file system without locks, where unique names keep commands apart."""
    with (folder() / ".lock").open("w") as file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress("another forebay command is at work on the jars; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True


def _fetch_one(jar: Jar, progress: Callable[[str], None]) -> None:
    free = shutil.disk_usage(folder()).free
    if free < _FREE_DISK:
        raise JarError(
            f"only {free >> 20} MB are free at {folder()}; fetching {jar.file_name} needs {_FREE_DISK >> 20} MB. "
            "Free some space, or name another folder: XDG_CACHE_HOME=/path forebay setup."
        )
    mirror = maven.mirror()
    progress(f"fetching {jar.file_name} from {mirror.url if mirror else 'Maven Central'}")
    with tempfile.TemporaryDirectory(dir=folder(), prefix=".fetch-", ignore_cleanup_errors=True) as name:
        file = _resolve(jar, mirror, Path(name), progress)
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
            os.fsync(content.fileno())
        if found != jar.sha256:
            raise JarError(
                f"{jar.file_name}: SHA-256 is {found}, pinned is {jar.sha256}. "
                f"{mirror.url if mirror else 'Maven Central'} serves another file: ask who runs it; nothing was kept."
            )
        file.replace(folder() / jar.file_name)


def _resolve(jar: Jar, mirror: maven.Address | None, work: Path, progress: Callable[[str], None]) -> Path:
    options = [
        *trust.java_options(folder()), *maven.proxy_options(),
        "-Dsun.net.client.defaultConnectTimeout=20000", "-Dsun.net.client.defaultReadTimeout=60000",
        # It runs for seconds: neither a second compiler nor a parallel collector pays.
        "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
    ]  # fmt: skip
    # In files, for a command line can be read by every user of the machine.
    (work / "java.options").write_text("".join(f"{_quoted(option)}\n" for option in options))
    file = work / jar.file_name
    said = _ask(jar, mirror, "", work, progress)
    # Ivy gives a password only to the realm it was stored for, and the repository's is known once it has refused.
    asked = re.search(r"^authentication: k='(.*)@[^@]*' c='null'$", said, re.MULTILINE)
    if asked and mirror is not None and mirror.user and not file.exists():
        said = _ask(jar, mirror, asked.group(1), work, progress)
    if not file.exists():
        raise JarError(_failure(jar, mirror, said))
    return file


def _ask(
    jar: Jar, mirror: maven.Address | None, realm: str, work: Path, progress: Callable[[str], None]
) -> str:
    """Lets Ivy put the jar into the folder `work`; returns all it said."""
    import pyspark

    ivy = next((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    (work / "ivysettings.xml").write_text(_ivy_settings(jar, mirror, realm))
    command = [
        str(java.require() / "bin" / "java"), f"@{work / 'java.options'}", "-jar", str(ivy), "-debug",
        "-settings", str(work / "ivysettings.xml"), "-cache", str(work / "cache"),
        "-dependency", jar.group, jar.artifact, jar.version,
        "-confs", "default", "-types", "jar", "-notransitive",
        "-retrieve", str(work / jar.file_pattern),
    ]  # fmt: skip
    with (work / "log").open("w+", errors="replace") as log:
        _watch(subprocess.Popen(command, stdout=log, stderr=log, cwd=work), work, progress)
        log.seek(0)
        return log.read()


def _watch(process: subprocess.Popen[bytes], work: Path, progress: Callable[[str], None]) -> None:
    """Waits for the resolver, and says every few seconds how much has arrived."""
    reported = time.monotonic()
    try:
        while True:
            try:
                process.wait(timeout=0.5)
                return
            except subprocess.TimeoutExpired:
                if time.monotonic() - reported < _REPORT_SECONDS:
                    continue
            reported = time.monotonic()
            arrived = 0
            for part in work.rglob("*"):
                # The resolver moves its files meanwhile.
                with contextlib.suppress(OSError):
                    arrived += part.stat().st_size
            progress(f"  {arrived >> 20} MB so far")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _failure(jar: Jar, mirror: maven.Address | None, said: str) -> str:
    """What went wrong, without a password, and the resolver's last words."""
    where = f"{mirror.url} (named by {mirror.origin})" if mirror else "Maven Central"
    cause = next((meaning for words, meaning in _CAUSES if words in said), "")
    telling = [line.strip() for line in said.splitlines() if _TELLING.search(line)]
    tail = "\n".join(dict.fromkeys(telling))[-1500:] or ("" if cause else said[-1500:].strip())
    if mirror and mirror.password:
        tail = tail.replace(mirror.password, "***")
    return (
        f"{jar} could not be fetched from {where}: {cause or 'check the network'}. A mirror can be set in "
        f"~/.m2/settings.xml or by {maven.VARIABLE}.{' The resolver said:' if tail else ''}\n{tail}"
    ).rstrip()


def _ivy_settings(jar: Jar, mirror: maven.Address | None, realm: str) -> str:
    """Settings with one repository: the mirror, or the one that Ivy knows by itself."""
    root = credentials = ""
    if mirror is not None:
        root = f" root={quoteattr(mirror.url.rstrip('/') + '/')}"
        if mirror.user:
            credentials = (
                f"<credentials host={quoteattr(mirror.host)} realm={quoteattr(realm)} "
                f"username={quoteattr(mirror.user)} passwd={quoteattr(mirror.password)}/>"
            )
    # Without POMs, which may name parents and further repositories: the jar is all that is wanted.
    return (
        f'<ivysettings><settings defaultResolver="jars"/>{credentials}<resolvers>'
        f'<ibiblio name="jars" m2compatible="true" usepoms="false"{root} '
        f"pattern={quoteattr(f'[organisation]/[module]/[revision]/{jar.file_pattern}')}/></resolvers></ivysettings>"
    )


def _quoted(option: str) -> str:
    """One option as Java's argument files want it."""
    escaped = option.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
