"""Fetches the pinned jars through Ivy, the resolver inside PySpark, and verifies them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from forebay.errors import ForebayError
from forebay.machine import java, trust


class JarError(ForebayError):
    """A jar could not be fetched, or is not the one that was pinned."""


@dataclass(frozen=True)
class Jar:
    """One pinned jar: Maven coordinates and SHA-256."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


@dataclass(frozen=True)
class Mirror:
    """Where a company's Maven settings send requests for Maven Central."""

    url: str
    user: str = ""
    password: str = ""


def folder() -> Path:
    """Where verified jars are kept, for all checkouts of this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "forebay" / "jars"


def pinned() -> list[Jar]:
    """The jars named in the package's `versions.toml`."""
    with (Path(__file__).parents[1] / "versions.toml").open("rb") as file:
        return [Jar(**entry) for entry in tomllib.load(file)["jar"]]


def missing() -> list[Jar]:
    """Pinned jars that are not in the cache."""
    return [jar for jar in pinned() if not (folder() / jar.file_name).exists()]


def fetch(progress: Callable[[str], None]) -> None:
    """Puts every pinned jar into the cache; those already there are left alone.

    A jar enters the cache only after its SHA-256 matched, in one step: what lies there is whole.
    Raises JarError with the resolver's own words.
    """
    wanted = missing()
    if not wanted:
        return
    folder().mkdir(parents=True, exist_ok=True)
    for jar in wanted:
        progress(f"fetching {jar.file_name} from Maven Central or its mirror")
        with tempfile.TemporaryDirectory(dir=folder(), prefix=".fetch-") as name:
            file = _resolve(jar, Path(name))
            with file.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
            if found != jar.sha256:
                raise JarError(
                    f"{jar.file_name}: SHA-256 is {found}, pinned is {jar.sha256}. "
                    "The mirror serves another file: ask who runs it; nothing was kept."
                )
            file.replace(folder() / jar.file_name)


def _resolve(jar: Jar, work: Path) -> Path:
    import pyspark

    ivy = next((Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar"))
    command = [
        str(java.require() / "bin" / "java"), *trust.java_options(folder()), "-jar", str(ivy),
        "-cache", str(work / "cache"), "-dependency", jar.group, jar.artifact, jar.version,
        "-confs", "default", "-types", "jar", "-notransitive",
        "-retrieve", str(work / "[artifact]-[revision].[ext]"),
    ]  # fmt: skip
    mirror = maven_mirror()
    if mirror is not None:
        command[-2:-2] = ["-settings", str(_ivy_settings(mirror, work))]
    run = subprocess.run(command, capture_output=True, text=True)
    file = work / jar.file_name
    if run.returncode or not file.exists():
        tail = "\n".join(line for line in (run.stdout + run.stderr).splitlines() if line.strip())[-1500:]
        raise JarError(
            f"{jar.group}:{jar.artifact}:{jar.version} could not be fetched"
            f"{' from the mirror of your Maven settings' if mirror else ''}. Check the network, the certificate "
            f"authority (SSL_CERT_FILE) and the mirror in ~/.m2/settings.xml. The resolver said:\n{tail}"
        )
    return file


def maven_mirror() -> Mirror | None:
    """The mirror of Maven Central set in the ordinary places; None where there is none.

    These are DEFAULT_ARTIFACT_REPOSITORY (Spark's variable), then `settings.xml` of the user and of Maven, whose
    `mirrorOf` covers `central`; credentials come from the `server` of the mirror's id.
    """
    if os.environ.get("DEFAULT_ARTIFACT_REPOSITORY"):
        return Mirror(os.environ["DEFAULT_ARTIFACT_REPOSITORY"])
    homes = [Path(value) / "conf" for name in ("MAVEN_HOME", "M2_HOME") if (value := os.environ.get(name))]
    for place in (Path.home() / ".m2", *homes, Path("/etc/maven")):
        settings = place / "settings.xml"
        if settings.is_file():
            try:
                tree = ElementTree.parse(settings)
            except ElementTree.ParseError as error:
                raise JarError(
                    f"{settings}: not readable as XML ({error}). Mend it and try again."
                ) from error
            mirror = _mirror_of_central(tree)
            if mirror is not None:
                return mirror
    return None


def _mirror_of_central(tree: ElementTree.ElementTree[ElementTree.Element]) -> Mirror | None:
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
    servers = {server.findtext("id", ""): server for server in tree.iter("server")}
    for mirror in tree.iter("mirror"):
        covered = {name.strip() for name in mirror.findtext("mirrorOf", "").split(",")}
        url = mirror.findtext("url", "").strip()
        if not url or "!central" in covered or not covered & {"*", "central", "external:*"}:
            continue
        server = servers.get(mirror.findtext("id", ""))
        if server is None:
            return Mirror(url)
        return Mirror(
            url, _expanded(server.findtext("username", "")), _expanded(server.findtext("password", ""))
        )
    return None


def _expanded(text: str) -> str:
    """Maven's `${env.NAME}` in settings."""
    if text.startswith("${env.") and text.endswith("}"):
        return os.environ.get(text[6:-1], "")
    return text


def _ivy_settings(mirror: Mirror, work: Path) -> Path:
    from urllib.parse import urlsplit

    credentials = ""
    if mirror.user:
        credentials = (
            f'<credentials host={quoteattr(urlsplit(mirror.url).hostname or "")} realm="" '
            f"username={quoteattr(mirror.user)} passwd={quoteattr(mirror.password)}/>"
        )
    path = work / "ivysettings.xml"
    path.touch(mode=0o600)
    path.write_text(
        f'<ivysettings><settings defaultResolver="mirror"/>{credentials}<resolvers>'
        f'<ibiblio name="mirror" m2compatible="true" root={quoteattr(mirror.url.rstrip("/") + "/")}/>'
        "</resolvers></ivysettings>"
    )
    return path
