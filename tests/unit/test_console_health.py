"""Health asks every component that has an address, believes whom the machine believes, and says what to do."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from broken import Answer, Authority, Request, answering, nobody, speaking

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins"))

from forebay.machine import hadoop
from forebay.stack.airflow_api import AirflowApi
from forebay_ui import probes
from forebay_ui.component import Component
from forebay_ui.pages.health import said
from forebay_ui.remedies import HELP, helped

ROOT = Path(__file__).parents[2]


def connect(monkeypatch: pytest.MonkeyPatch, conn_id: str, conn_type: str, **fields: Any) -> None:
    """Airflow's own way to have a connection without its database."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({"conn_type": conn_type, **fields}))


def asked(name: str) -> Component:
    """How one component is, as its probe found it; however long a busy machine takes for it."""
    (probe,) = (each for each in probes._probes() if each.name == name)
    return probes._one(probe)


def as_json(document: object, status: int = 200) -> Answer:
    return status, {"content-type": "application/json"}, json.dumps(document).encode()


def trino(starting: bool = False) -> Answer:
    return as_json({"nodeVersion": {"version": "476"}, "environment": "test", "starting": starting})


def test_trino_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"now": trino()}
    with answering(lambda request: answers["now"]) as server:
        connect(monkeypatch, "lake_sql", "trino", host="127.0.0.1", port=server.port, login="admin")
        found = asked("SQL engine")
        assert (found.state, found.version) == ("ok", "Trino 476")
        assert [(each.method, each.path) for each in server.seen] == [("GET", "/v1/info")]
        assert "authorization" not in server.seen[0].headers
        answers["now"] = trino(starting=True)
        found = asked("SQL engine")
        assert (found.state, found.word) == ("warn", "starting")
        answers["now"] = as_json({}, 401)
        assert (asked("SQL engine").state, asked("SQL engine").detail) == (
            "unknown",
            "it does not tell without a login (HTTP 401)",
        )
        for odd, what in (
            (as_json({}, 503), "HTTP 503"),
            (as_json([1]), "is no Trino"),
            ((200, {}, b"hello"), "is no Trino"),
        ):
            answers["now"] = odd
            found = asked("SQL engine")
            assert (found.state, found.word) == ("bad", "unwell")
            assert what in found.detail


def test_trino_that_is_away_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody() as port:
        connect(monkeypatch, "lake_sql", "trino", host="127.0.0.1", port=port)
        found = asked("SQL engine")
    assert (found.state, found.word, found.version) == ("bad", "down", "")


def test_trino_is_trusted_as_its_connection_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = Authority.new()
    file = tmp_path / "authority.pem"
    file.write_text(authority.pem)
    with answering(lambda request: trino(), authority.issue(tmp_path)) as server:
        fields: dict[str, Any] = {"host": "127.0.0.1", "port": server.port}
        connect(monkeypatch, "lake_sql", "trino", **fields, extra={"http_scheme": "https"})
        assert asked("SQL engine").word == "down"
        connect(
            monkeypatch, "lake_sql", "trino", **fields, extra={"http_scheme": "https", "verify": str(file)}
        )
        assert asked("SQL engine").version == "Trino 476"


def test_a_connection_of_another_type_is_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "lake_sql", "postgres", host="127.0.0.1")
    found = asked("SQL engine")
    assert (found.state, found.word) == ("bad", "not set up")
    assert "type postgres" in found.detail


def test_a_standalone_master_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = threading.Event()

    def talk(line: socket.socket) -> None:
        heard.set()

    with nobody() as away:
        with speaking(talk) as port:
            connect(monkeypatch, "lake_spark", "spark", host=f"spark://127.0.0.1:{away},127.0.0.1:{port}")
            assert asked("Spark").state == "ok"
            assert heard.wait(5)
        connect(monkeypatch, "lake_spark", "spark", host=f"spark://127.0.0.1:{away}")
        found = asked("Spark")
    assert (found.state, found.word) == ("bad", "down")
    assert "refused" in found.detail
    connect(monkeypatch, "lake_spark", "spark", host="spark://127.0.0.1:port")
    assert asked("Spark").word == "not set up"


def test_yarn_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("YARN_CONF_DIR", str(tmp_path))
    connect(monkeypatch, "lake_spark", "spark", host="yarn")
    with speaking(lambda line: None) as port, nobody() as away:
        for number, state in ((port, "ok"), (away, "bad")):
            address = f"<name>yarn.resourcemanager.address</name><value>127.0.0.1:{number}</value>"
            (tmp_path / "yarn-site.xml").write_text(f"<c><property>{address}</property></c>")
            assert asked("Spark").state == state


def kube(server: str, authority: Authority, **user: str) -> dict[str, Any]:
    from base64 import b64encode

    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [
            {"name": "k", "cluster": {"server": server, "certificate-authority-data": b64encode(authority.pem.encode()).decode()}}
        ],
        "users": [{"name": "u", "user": user}],
    }  # fmt: skip
    return {"image": "spark", "kube_config": json.dumps(config)}


def test_a_cluster_is_asked_for_its_version_and_for_spark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    allows = {"there": True, "version": True}

    def cluster(request: Request) -> Answer:
        if request.headers.get("authorization") != "Bearer the-token":
            return as_json({}, 401)
        if request.path == "/version" and not allows["version"]:
            return as_json({}, 403)
        if request.path == "/version":
            return as_json({"gitVersion": "v1.34.1"})
        if request.path == "/apis/sparkoperator.k8s.io/v1beta2" and allows["there"]:
            return as_json({"resources": [{"name": "sparkapplications"}]})
        return as_json({}, 404)

    authority = Authority.new()
    with answering(cluster, authority.issue(tmp_path)) as server:
        connect(monkeypatch, "lake_spark", "kubernetes", extra=kube(server.url, authority, token="the-token"))
        found = asked("Spark")
        assert (found.state, found.version) == ("ok", "Kubernetes v1.34.1")
        allows["there"] = False
        assert "Install the Spark operator" in asked("Spark").detail
        allows["version"] = False
        assert asked("Spark").detail == "it does not tell this login (HTTP 403)"
        connect(monkeypatch, "lake_spark", "kubernetes", extra=kube(server.url, authority, token="another"))
        found = asked("Spark")
        assert (found.state, found.detail) == ("bad", "it does not take the login (HTTP 401)")
    connect(monkeypatch, "lake_spark", "kubernetes", extra=kube(server.url, authority, token="the-token"))
    assert asked("Spark").word == "down"


@pytest.mark.parametrize(
    ("conn_type", "fields", "why"),
    [
        ("spark", {"host": "mesos://here"}, "how to ask the master mesos://here"),
        ("spark", {"host": "yarn"}, "Spark on YARN needs the cluster's settings"),
        ("kubernetes", {"extra": {"kube_config_path": "/etc/hostname"}}, "no file that a connection names"),
        ("spark", {"host": "k8s://https://127.0.0.1:1", "extra": {"in_cluster": True}}, "this is no pod"),
    ],
)
def test_what_is_not_asked_is_neither_well_nor_unwell(
    monkeypatch: pytest.MonkeyPatch, conn_type: str, fields: dict[str, Any], why: str
) -> None:
    for name in hadoop.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    connect(monkeypatch, "lake_spark", conn_type, **fields)
    found = asked("Spark")
    assert (found.state, found.word) == ("unknown", "not asked")
    assert why in found.detail
    told = said([Component("Lens", "ok", "healthy", seconds=0.01), found])
    assert told == "No problem is known: 1 component answered within 10 ms. Not known: Spark."


def lake(request: Request) -> Answer:
    if request.path == "/v1/oauth/tokens":
        return as_json({"access_token": "a-token"})
    if request.path.startswith("/v1/config") and request.headers.get("authorization") == "Bearer a-token":
        return as_json({"defaults": {}, "overrides": {}})
    return as_json({"status": "ok"})


def test_an_authority_of_the_machines_own_is_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = Authority.new()
    with answering(lake, authority.issue(tmp_path)) as server:
        connect(
            monkeypatch, "lake_catalog", "iceberg", host=server.url, login="key", password="the-secret",
            extra={"warehouse": "w", "s3.endpoint": server.url, "lens": server.url},
        )  # fmt: skip
        names = ("Catalog", "Store", "Lens")
        assert [asked(name).word for name in names] == ["down"] * 3
        assert server.seen == []
        file = tmp_path / "authority.pem"
        file.write_text(authority.pem)
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        assert [asked(name).word for name in names] == ["healthy"] * 3


def test_tokens_of_a_catalog_without_tls_are_asked_for_over_a_line_that_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from forebay.lake.connection import CatalogConfig, LakeError
    from forebay.lake.rest import Rest

    with answering(lake) as plain, answering(lake, Authority.new().issue(tmp_path)) as secure:
        config = CatalogConfig(
            plain.url, "w", "key", "the-secret", plain.url, oauth_uri=f"{secure.url}/v1/oauth/tokens"
        )
        with Rest(config) as rest, pytest.raises(LakeError, match="CERTIFICATE_VERIFY_FAILED"):
            rest.namespaces()
        assert secure.seen == []


BAD = Component("Lens", "bad", "down", detail="cannot be reached")


def test_the_embedded_stack_is_mended_by_its_commands() -> None:
    found = helped(BAD, {"lens": object()})
    assert (found.remedy, found.service, found.runbook) == ("forebay logs lens", "lens", "")
    engine = Component("SQL engine", "bad", "down")
    assert helped(engine, {}).remedy == "forebay doctor"
    assert helped(engine, {"trino": object()}).remedy == "forebay logs trino"
    well = helped(Component("Lens", "ok", "healthy"), {})
    assert (well.remedy, well.service) == ("", "lens")


@pytest.mark.parametrize("name", sorted(HELP))
def test_a_platform_is_mended_by_kubectl_and_a_runbook_that_there_is(name: str) -> None:
    found = helped(Component(name, "bad", "down"), None)
    assert found.remedy.startswith("kubectl -n forebay ")
    assert found.service == ""
    file, _, part = found.runbook.partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / file).read_text(), re.MULTILINE)
    assert not part or part in [each.lower().replace(" ", "-") for each in headings]
    not_set_up = helped(Component(name, "bad", "not set up"), None)
    assert (not_set_up.remedy, not_set_up.runbook) == ("", "docs/runbooks/install.md")
    assert helped(Component(name, "ok", "healthy"), None).remedy == ""


def test_every_component_has_its_help(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {each.name for each in probes._probes()} <= set(HELP)


def test_an_api_server_that_is_not_well_hides_nobody() -> None:
    def away(request: Request) -> Answer:
        known = request.path == "/auth/token"
        return as_json({"access_token": "a-token"}) if known else as_json({"detail": "no database"}, 500)

    with answering(away) as server, AirflowApi(server.url, "admin", "a-password") as api:
        found = probes._airflow(api)
    assert [(each.name, each.state) for each in found] == [
        ("API server", "warn"), ("Scheduler", "unknown"), ("Dag processor", "unknown"), ("Triggerer", "unknown"),
    ]  # fmt: skip
    assert "no database" in found[0].detail
