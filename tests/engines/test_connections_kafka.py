"""The connection doctor on a real Kafka: without a login, with one, over TLS, and with rights to some of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from kafka_broker import USERS, Kafka, running_kafka
from store import free_ports
from test_connections import check, states, step

from forebay.connections.model import Connection

from broken import DAY, Authority  # isort: skip


@dataclass
class Broker:
    kafka: Kafka
    authority: Authority

    def connection(self, port: int, protocol: str = "", user: str = "", **extra: str) -> Connection:
        fields = {"bootstrap.servers": f"127.0.0.1:{port}", "security.protocol": protocol, **extra}
        if user:
            fields = {"sasl.username": user, "sasl.password": USERS.get(user, ""), **fields}
        return Connection.of("events", "kafka", extra={name: text for name, text in fields.items() if text})


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    authority = Authority.new()
    folder = tmp_path_factory.mktemp("kafka")
    with running_kafka(folder, authority.issue(folder, until=90 * DAY)) as kafka:
        yield Broker(kafka, authority)


def test_a_broker_that_asks_for_no_login(broker: Broker) -> None:
    report = check(broker.connection(broker.kafka.plain))
    assert report.state == "ok", report
    assert states(report) == {
        "resolve": "ok", "connect": "ok", "tls": "skipped", "read": "ok", "authenticate": "skipped", "list": "ok",
        "write": "ok",
    }  # fmt: skip
    assert step(report, "list").found == "2 topics on 1 broker"
    assert step(report, "write").found == "may read 2 of the topics, write 2, and make others"
    assert report.facts["server"] == "Kafka 4.4 or newer (metadata.version 33)"
    assert report.facts["cluster"] == broker.kafka.cluster
    assert report.facts["brokers"] == f"127.0.0.1:{broker.kafka.plain}"


def test_a_broker_that_asks_for_a_login(broker: Broker) -> None:
    right = check(broker.connection(broker.kafka.login, "SASL_PLAINTEXT", "admin"))
    assert right.state == "ok", right
    assert (step(right, "authenticate").state, step(right, "authenticate").title) == ("ok", "Log in as admin")
    assert right.facts["cluster"] == broker.kafka.cluster
    assert right.facts["brokers"] == f"127.0.0.1:{broker.kafka.login}"
    wrong = check(
        broker.connection(broker.kafka.login, "SASL_PLAINTEXT", "admin", **{"sasl.password": "wrong-one"})
    )
    refused = step(wrong, "authenticate")
    assert (refused.state, refused.hint) == ("bad", "Correct sasl.username and sasl.password.")
    assert (
        refused.found == "the broker refuses the login: Authentication failed: Invalid username or password"
    )
    assert states(wrong)["read"] == "ok"
    assert states(wrong)["list"] == states(wrong)["write"] == "skipped"
    assert "wrong-one" not in repr(wrong)
    other = check(
        broker.connection(
            broker.kafka.login, "SASL_PLAINTEXT", "admin", **{"sasl.mechanism": "SCRAM-SHA-512"}
        )
    )
    assert step(other, "authenticate").found == "the broker does not offer SCRAM-SHA-512, but PLAIN"


def test_a_login_that_may_read_only(broker: Broker) -> None:
    report = check(broker.connection(broker.kafka.login, "SASL_PLAINTEXT", "reader"))
    assert report.state == "warn", report
    # A topic that it may not see is not told of.
    assert step(report, "list").found == "1 topics on 1 broker"
    rights = step(report, "write")
    assert (rights.state, rights.found) == ("warn", "may read 1 of the topics, write 0, and make none")
    assert "kafka-acls.sh" in rights.hint
    nothing = check(broker.connection(broker.kafka.login, "SASL_PLAINTEXT", "nobody"))
    assert step(nothing, "write").found == "may read 0 of the topics, write 0, and make none"


def test_a_broker_behind_tls(broker: Broker) -> None:
    connection = broker.connection(broker.kafka.tls, "SASL_SSL", "admin")
    report = check(connection, authorities=broker.authority.pem)
    assert report.state == "ok", report
    assert report.facts["TLS"] == "TLSv1.3"
    assert report.facts["cluster"] == broker.kafka.cluster
    stranger = check(connection)
    assert "does not trust" in step(stranger, "tls").found
    assert states(stranger)["authenticate"] == "skipped"


def test_a_protocol_that_the_port_does_not_speak(broker: Broker) -> None:
    kafka = broker.kafka
    no_login = check(broker.connection(kafka.plain, "SASL_PLAINTEXT", "admin"))
    assert step(no_login, "authenticate").found == "the broker asks for no login on this port"
    assert "security.protocol" in step(no_login, "authenticate").hint
    login = check(broker.connection(kafka.login))
    assert step(login, "list").found == "the broker hung up"
    assert "security.protocol" in step(login, "list").hint
    in_the_clear = check(broker.connection(kafka.tls, "SASL_PLAINTEXT", "admin"))
    assert step(in_the_clear, "read").found == "this port speaks TLS"
    assert "security.protocol" in step(in_the_clear, "read").hint
    no_tls = check(broker.connection(kafka.login, "SASL_SSL", "admin"))
    assert step(no_tls, "tls").state == "bad"
    (closed,) = free_ports(1)
    assert "refuses connections" in step(check(broker.connection(closed)), "connect").found
