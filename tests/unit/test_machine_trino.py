"""Trino's server, put together from archives as Maven Central has them."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from forebay.machine import jars, trino
from forebay.machine.jars import Jar, JarError


def archives(folder: Path) -> list[Jar]:
    """A small server and plugin below `folder`, laid out like the real ones: equal files are links in the server's."""
    folder.mkdir(parents=True, exist_ok=True)
    root = "trino-server-core-1"
    with tarfile.open(folder / f"{root}.tar.gz", "w:gz") as tar:

        def add(name: str, content: str = "", link: str = "") -> None:
            entry = tarfile.TarInfo(f"{root}/{name}")
            if link:
                entry.type, entry.linkname = tarfile.LNKTYPE, f"{root}/{link}"
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content.encode()))

        add("lib/guava.jar", "guava")
        add("plugin/exchange-filesystem/only-here.jar", "other")
        add("plugin/resource-group-managers/guava.jar", link="lib/guava.jar")
        add("plugin/password-authenticators/guava.jar", link="lib/guava.jar")
        add("plugin/session-property-managers/other.jar", link="plugin/exchange-filesystem/only-here.jar")
        add("bin/launcher", "launcher")
    with zipfile.ZipFile(folder / "trino-iceberg-1.zip", "w") as file:
        file.writestr("trino-iceberg-1/guava.jar", "guava")
        file.writestr("trino-iceberg-1/net.snowflake_jdbc-1.jar", "snow")
        file.writestr("trino-iceberg-1/io.netty_netty-codec-native-quic-1-osx-x86_64.jar", "quic")
        file.writestr("trino-iceberg-1/org.apache.iceberg_iceberg-core-1.jar", "iceberg")
    made = [
        Jar("io.trino", "trino-server-core", "1", "", extension="tar.gz"),
        Jar("io.trino", "trino-iceberg", "1", "", extension="zip"),
    ]
    return [
        Jar(j.group, j.artifact, j.version, hashlib.sha256((folder / j.file_name).read_bytes()).hexdigest(), extension=j.extension)
        for j in made
    ]  # fmt: skip


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Jar]:
    """What is pinned, fetched already."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = archives(jars.folder())
    monkeypatch.setattr(trino, "pinned", lambda: found)
    return found


def test_the_server_is_put_together_once(pins: list[Jar]) -> None:
    said: list[str] = []
    home = trino.fetch(said.append)
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()) == [
        "lib/guava.jar",
        "plugin/iceberg/guava.jar",
        "plugin/iceberg/org.apache.iceberg_iceberg-core-1.jar",
        "plugin/password-authenticators/guava.jar",
        "plugin/resource-group-managers/guava.jar",
        "plugin/session-property-managers/other.jar",
    ]
    assert len({path.stat().st_ino for path in home.rglob("guava.jar")}) == 1
    assert (home / "plugin/session-property-managers/other.jar").read_text() == "other"
    assert said == ["unpacking Trino 1"]
    assert not any((jars.folder() / jar.file_name).exists() for jar in pins)
    assert [path.name for path in home.parent.iterdir()] == [home.name]
    assert trino.fetch(said.append) == home
    assert len(said) == 1


def test_a_broken_archive_leaves_nothing(pins: list[Jar]) -> None:
    (jars.folder() / pins[1].file_name).write_bytes(b"no zip")
    with pytest.raises(JarError, match="could not be unpacked"):
        trino.fetch(print)
    assert list(trino.home().parent.iterdir()) == []


def test_too_little_disk(pins: list[Jar], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trino, "_FREE_DISK", 1 << 60)
    with pytest.raises(JarError, match=r"Trino needs .* XDG_CACHE_HOME=/path"):
        trino.fetch(print)


def test_the_pins_are_whole() -> None:
    assert [jar.file_name for jar in jars.pinned("trino")] == [
        "trino-server-core-476.tar.gz",
        "trino-iceberg-476.zip",
    ]
