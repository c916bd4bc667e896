"""Following Maven's settings and the proxy variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from forebay.machine import maven
from forebay.machine.maven import Address, MavenSettingsError, mirror, proxy_options


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and none of the machine's own settings."""
    for name in ("DEFAULT_ARTIFACT_REPOSITORY", "M2_HOME", "http_proxy", "https_proxy", "no_proxy",
                 "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "all_proxy"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MAVEN_HOME", str(tmp_path / "maven"))
    monkeypatch.setenv("PATH", "/nowhere")
    (tmp_path / ".m2").mkdir()
    (tmp_path / "maven/conf").mkdir(parents=True)
    return tmp_path


def settings(home: Path, text: str, place: str = ".m2") -> str:
    path = home / place / "settings.xml"
    path.write_text(f'<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0">{text}</settings>')
    return str(path)


def entry(covers: str, url: str = "https://a/m", name: str = "a") -> str:
    return f"<mirror><id>{name}</id><url>{url}</url><mirrorOf>{covers}</mirrorOf></mirror>"


def test_no_settings_no_mirror(home: Path) -> None:
    assert mirror() is None
    settings(home, "")
    assert mirror() is None


@pytest.mark.parametrize(
    "covers", ["*", "central", "external:*", "other, central", "*,!other", "external:*,!other"]
)
def test_a_mirror_of_central(home: Path, covers: str) -> None:
    origin = settings(home, f"<mirrors>{entry(covers)}</mirrors>")
    assert mirror() == Address("https://a/m", origin)


@pytest.mark.parametrize(
    "covers", ["*,!central", "!central", "other", "external:*,!central", "external:http:*", ""]
)
def test_a_mirror_of_something_else(home: Path, covers: str) -> None:
    settings(home, f"<mirrors>{entry(covers)}</mirrors>")
    assert mirror() is None


def test_the_mirror_of_central_alone_goes_before_one_of_everything(home: Path) -> None:
    settings(home, f"<mirrors>{entry('*')}{entry('central', 'https://b/m', 'b')}</mirrors>")
    found = mirror()
    assert found is not None
    assert found.url == "https://b/m"


def test_the_users_settings_go_before_mavens_and_servers_are_shared(home: Path) -> None:
    settings(home, f"<mirrors>{entry('*', 'https://b/m', 'b')}</mirrors>", "maven/conf")
    server = "<server><id>b</id><username>u</username><password>p</password></server>"
    settings(home, f"<servers>{server}</servers>")
    found = mirror()
    assert found is not None
    assert (found.url, found.user, found.password) == ("https://b/m", "u", "p")
    settings(home, f"<mirrors>{entry('*')}</mirrors>")
    found = mirror()
    assert found is not None
    assert found.url == "https://a/m"


def test_values_from_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = "<server><id>a</id><username>${env.WHO}</username><password>x${env.TOKEN}</password></server>"
    origin = settings(
        home, f"<servers>{server}</servers><mirrors>{entry('*', 'https://${env.AT}/m')}</mirrors>"
    )
    monkeypatch.setenv("WHO", "u")
    monkeypatch.setenv("AT", "jars.example")
    with pytest.raises(MavenSettingsError, match=r"settings\.xml: \$\{env\.TOKEN\} has no value"):
        mirror()
    monkeypatch.setenv("TOKEN", "t")
    assert mirror() == Address("https://jars.example/m", origin, "u", "xt")
    assert "xt" not in repr(mirror())


def test_central_moved_by_a_profile_as_artifactory_writes_it(home: Path) -> None:
    profile = (
        "<profiles><profile><id>{}</id><repositories><repository><id>central</id><url>https://p/m</url>"
        "</repository></repositories></profile></profiles>"
    )
    server = (
        "<servers><server><id>central</id><username>u</username><password>p</password></server></servers>"
    )
    settings(home, profile.format("artifactory") + server)
    assert mirror() is None
    active = "<activeProfiles><activeProfile>artifactory</activeProfile></activeProfiles>"
    origin = settings(home, profile.format("artifactory") + server + active)
    assert mirror() == Address("https://p/m", origin, "u", "p")
    settings(home, profile.format("artifactory") + active + f"<mirrors>{entry('external:*')}</mirrors>")
    found = mirror()
    assert found is not None
    assert found.url == "https://a/m"


def test_sparks_variable_goes_first_and_its_password_is_parted_from_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(home, f"<mirrors>{entry('*')}</mirrors>")
    monkeypatch.setenv("DEFAULT_ARTIFACT_REPOSITORY", " https://u:p%40ss@jars.example:8443/m ")
    found = mirror()
    assert found == Address("https://jars.example:8443/m", maven.VARIABLE, "u", "p@ss")
    assert found.host == "jars.example"


@pytest.mark.parametrize(
    "text", ["jars.example/m", "ftp://u:topsecret@a/m", "https://", "https://u:topsecret@a:x/m"]
)
def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("DEFAULT_ARTIFACT_REPOSITORY", text)
    with pytest.raises(
        MavenSettingsError, match="DEFAULT_ARTIFACT_REPOSITORY: the repository's address"
    ) as refusal:
        mirror()
    assert "topsecret" not in str(refusal.value)


@pytest.mark.parametrize(
    "text", ["<settings><mirrors>", "", "no xml", '<?xml version="1.0" encoding="klingon"?><a/>']
)
def test_broken_settings(home: Path, text: str) -> None:
    (home / ".m2/settings.xml").write_text(text)
    with pytest.raises(MavenSettingsError, match=r"\.m2/settings\.xml: not readable as XML .* Mend it"):
        mirror()


def test_a_comment_in_the_settings_is_no_trouble(home: Path) -> None:
    settings(home, f"<!-- ours --><mirrors>{entry('*')}</mirrors>")
    assert mirror() is not None


def test_a_password_that_maven_encrypted(home: Path) -> None:
    server = "<server><id>a</id><username>u</username><password>{COQLCE6DU6GtcS5P=}</password></server>"
    settings(home, f"<servers>{server}</servers><mirrors>{entry('*')}</mirrors>")
    with pytest.raises(MavenSettingsError, match=r"the password of server 'a' is encrypted") as refusal:
        mirror()
    assert "COQLCE" not in str(refusal.value)


def test_no_proxy_no_options() -> None:
    assert proxy_options() == []


def test_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://u:p%3A@proxy.example:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1,.corp,jars.example:443,10.0.0.0/8")
    assert proxy_options() == [
        "-Dhttp.nonProxyHosts=localhost|127.*|[::1]|127.0.0.1|*.127.0.0.1|*.corp|jars.example|*.jars.example",
        "-Dhttps.proxyHost=proxy.example",
        "-Dhttps.proxyPort=3128",
        "-Dhttp.proxyUser=u",
        "-Dhttp.proxyPassword=p:",
        "-Djdk.http.auth.tunneling.disabledSchemes=",
    ]
    monkeypatch.setenv("no_proxy", "*")
    assert proxy_options() == []


def test_the_proxy_of_mavens_settings(home: Path) -> None:
    proxy = "<proxy><active>{}</active><host>proxy.example</host><port>3128</port><nonProxyHosts>*.corp|a</nonProxyHosts></proxy>"
    settings(home, f"<proxies>{proxy.format('false')}</proxies>")
    assert proxy_options() == []
    settings(home, f"<proxies>{proxy.format('true')}</proxies>")
    assert proxy_options() == [
        "-Dhttp.nonProxyHosts=localhost|127.*|[::1]|*.corp|a|*.a",
        "-Dhttp.proxyHost=proxy.example",
        "-Dhttp.proxyPort=3128",
        "-Dhttps.proxyHost=proxy.example",
        "-Dhttps.proxyPort=3128",
    ]
