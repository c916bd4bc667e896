"""Where a person's or company's settings send requests for Maven Central, and through which proxy."""

from __future__ import annotations

import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies_environment

from forebay.errors import ForebayError

VARIABLE = "DEFAULT_ARTIFACT_REPOSITORY"
"""Spark's own variable for another repository than Maven Central."""


class MavenSettingsError(ForebayError):
    """Settings of Maven that cannot be followed."""


@dataclass(frozen=True)
class Address:
    """A URL without the name and password that stood in it; `origin` is the file or variable that named it."""

    url: str
    origin: str
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""


def mirror() -> Address | None:
    """What stands in for Maven Central by the settings in the ordinary places; None where nothing does.

    These are DEFAULT_ARTIFACT_REPOSITORY, then `settings.xml` of the user and of Maven: a mirror whose `mirrorOf`
    covers `central`, else the repository `central` of an active profile. Name and password come from the `server`
    of the same id, else from the URL. Rules: https://maven.apache.org/guides/mini/guide-mirror-settings.html
    """
    named = os.environ.get(VARIABLE, "").strip()
    if named:
        return _address(named, VARIABLE)
    files = [_Settings(path) for path in _files()]
    central = next(filter(None, (file.profile_repository() for file in files)), None)
    origin, name, url = central or (None, "central", "")
    # The user's mirrors come before Maven's own, and one that names the repository alone before any pattern.
    mirrors = [(file, element) for file in files for element in file.root.iter("mirror")]
    mirrors.sort(key=lambda entry: entry[1].findtext("mirrorOf", "").strip() != "central")
    for file, element in mirrors:
        if _covers(element.findtext("mirrorOf", ""), url):
            origin, name, url = file, element.findtext("id", "").strip(), element.findtext("url", "")
            break
    if origin is None:
        return None
    server = next((found for file in files if (found := file.server(name)) is not None), None)
    return _address(origin.expanded(url), str(origin.path), *(server or ()))


def proxy_options() -> list[str]:
    """Options with which a Java goes through the proxy of the environment, else of Maven's settings.

    Java reads none of `https_proxy`, `http_proxy` and `no_proxy`.
    """
    variables = getproxies_environment()
    proxies = {
        scheme: _address(url, f"{scheme}_proxy")
        for scheme, url in variables.items()
        if scheme in ("http", "https")
    }
    direct = variables.get("no", "").split(",")
    if not proxies:
        for file in map(_Settings, _files()):
            for proxy in file.root.iter("proxy"):
                if (
                    proxy.findtext("active", "true").strip() != "true"
                    or not proxy.findtext("host", "").strip()
                ):
                    continue
                found = file.proxy(proxy)
                proxies = {"http": found, "https": found}
                direct = proxy.findtext("nonProxyHosts", "").split("|")
                break
            if proxies:
                break
    if not proxies or "*" in (name.strip() for name in direct):
        return []
    options = [f"-Dhttp.nonProxyHosts={'|'.join(_java_hosts(direct))}"]
    for scheme, address in proxies.items():
        options += [
            f"-D{scheme}.proxyHost={address.host}",
            f"-D{scheme}.proxyPort={urlsplit(address.url).port or 80}",
        ]
    user = next((address for address in proxies.values() if address.user), None)
    if user is not None:
        # Ivy reads these two for both schemes; Java refuses Basic through a tunnel unless told otherwise.
        options += [
            f"-Dhttp.proxyUser={user.user}",
            f"-Dhttp.proxyPassword={user.password}",
            "-Djdk.http.auth.tunneling.disabledSchemes=",
        ]
    return options


def _java_hosts(direct: list[str]) -> list[str]:
    hosts = ["localhost", "127.*", "[::1]"]
    for text in direct:
        name = re.sub(r":\d+$", "", text.strip())
        if name.startswith("."):
            hosts.append(f"*{name}")
        elif name and "/" not in name:
            hosts += [name] if "*" in name else [name, f"*.{name}"]
    return list(dict.fromkeys(hosts))


def _files() -> Iterator[Path]:
    homes = [Path(value) for name in ("MAVEN_HOME", "M2_HOME") if (value := os.environ.get(name))]
    program = shutil.which("mvn")
    if program:
        homes.append(Path(program).resolve().parent.parent)
    folders = [Path.home() / ".m2", *(home / "conf" for home in homes), Path("/etc/maven")]
    for path in dict.fromkeys((folder / "settings.xml").resolve() for folder in folders):
        if path.is_file():
            yield path


class _Settings:
    """One `settings.xml`, its names freed of the namespace."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.root = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, LookupError, ValueError) as error:
            raise MavenSettingsError(
                f"{path}: not readable as XML ({error}). Mend it and try again."
            ) from error
        except OSError as error:
            raise MavenSettingsError(
                f"{path}: cannot be read ({error.strerror}). Mend it and try again."
            ) from error
        for element in self.root.iter():
            if isinstance(element.tag, str):
                element.tag = element.tag.rpartition("}")[2]

    def server(self, name: str) -> tuple[str, str] | None:
        """User and password for a mirror or repository of this id."""
        for server in self.root.iter("server"):
            if server.findtext("id", "").strip() == name:
                user, password = (
                    self.expanded(server.findtext(part, "")) for part in ("username", "password")
                )
                self._refuse_encrypted(password, f"server {name!r}")
                return user, password
        return None

    def proxy(self, element: ElementTree.Element) -> Address:
        host, port, user, password = (
            self.expanded(element.findtext(part, "")) for part in ("host", "port", "username", "password")
        )
        self._refuse_encrypted(password, "the proxy")
        return Address(f"http://{host}:{port or 8080}", str(self.path), user, password)

    def profile_repository(self) -> tuple[_Settings, str, str] | None:
        """The repository `central` as a profile that is always active moves it."""
        active = {name.text.strip() for name in self.root.iter("activeProfile") if name.text}
        profiles = list(self.root.iter("profile"))
        chosen = [profile for profile in profiles if profile.findtext("id", "").strip() in active] or [
            profile
            for profile in profiles
            if profile.findtext("activation/activeByDefault", "").strip() == "true"
        ]
        for profile in chosen:
            for repository in profile.iterfind("repositories/repository"):
                url = repository.findtext("url", "").strip()
                if url and repository.findtext("id", "").strip() == "central":
                    return self, "central", self.expanded(url)
        return None

    def expanded(self, text: str) -> str:
        """Text with Maven's `${env.NAME}` and `${user.home}` filled in."""

        def value(match: re.Match[str]) -> str:
            name = match.group(1)
            if name == "user.home":
                return str(Path.home())
            if name.startswith("env.") and name[4:] in os.environ:
                return os.environ[name[4:]]
            raise MavenSettingsError(
                f"{self.path}: {match.group()} has no value. Set it, or name another mirror."
            )

        return re.sub(r"\$\{([^}]*)\}", value, text.strip())

    def _refuse_encrypted(self, password: str, whose: str) -> None:
        # Maven allows words around the braces.
        if re.search(r"(?<!\\)\{.*[^\\]\}", password):
            raise MavenSettingsError(
                f"{self.path}: the password of {whose} is encrypted, which only Maven can read. "
                "Write it as ${env.NAME} and set that variable."
            )


def _covers(pattern: str, url: str) -> bool:
    """Whether a `mirrorOf` covers the repository `central`; `url` is where a profile has moved it, or empty."""
    names = {name.strip() for name in pattern.split(",")}
    if "!central" in names:
        return False
    place = urlsplit(url)
    external = place.scheme != "file" and place.hostname not in ("localhost", "127.0.0.1")
    return bool(
        names & {"*", "central"}
        or (external and "external:*" in names)
        or (external and place.scheme == "http" and "external:http:*" in names)
    )


def _address(text: str, origin: str, user: str = "", password: str = "") -> Address:
    """Parts a URL from the name and password in it; those of a `server` go first."""
    if "://" not in text and origin.endswith("_proxy"):
        text = f"http://{text}"
    try:
        parts = urlsplit(text)
        netloc = parts.netloc.rpartition("@")[2]
        if parts.scheme not in ("http", "https", "file") or not (netloc or parts.scheme == "file"):
            raise ValueError("no http, https or file address")
        # Reading it is the check.
        _ = parts.port
    except ValueError as error:
        # The text itself may hold a password.
        raise MavenSettingsError(
            f"{origin}: the repository's address is not usable ({error}). Correct it."
        ) from None
    if not user:
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Address(urlunsplit((parts.scheme, netloc, parts.path, parts.query, "")), origin, user, password)
