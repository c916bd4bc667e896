"""The connection doctor on servers that are broken in one way each: it names the step, the reason and the remedy."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from broken import DAY, Answer, Authority, Request, answering, black_hole, nobody, speaking
from loopback import site

from forebay.connections import doctor
from forebay.connections.guard import refusal
from forebay.connections.model import Connection, Report, Step
from forebay.connections.s3 import S3

TYPES = sorted({module.rpartition(".")[2] for module in doctor.known().values()})
METADATA = "169.254.169.254"


def check(connection: Connection, timeout: float = 3, **more: Any) -> Report:
    """The report of one check."""
    events = list(doctor.check_all([connection], timeout=timeout, **more))
    report = events[-1].report
    assert report is not None
    assert [event.step for event in events[:-1]] == list(report.steps)
    return report


def step(report: Report, key: str) -> Step:
    return next(each for each in report.steps if each.key == key)


def made(conn_type: str, **fields: Any) -> Connection:
    return Connection.of("one", conn_type, **fields)


def store(url: str, **extra: Any) -> Connection:
    service = {"s3": {"bucket_name": "lake"}}
    return made(
        "aws", login="key", password="the-secret-key",
        extra={"endpoint_url": url, "region_name": "eu-north-1", "service_config": service, **extra},
    )  # fmt: skip


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


@pytest.mark.parametrize("name", TYPES)
def test_a_type_says_what_it_is(name: str) -> None:
    module = doctor.module_of(name)
    assert module.__doc__
    assert len(module.__doc__.splitlines()[0]) > 20
    assert module.TITLE
    assert module.PLAN
    example = dict(module.EXAMPLE)
    assert "password" not in example
    fields = {key: value for key, value in example.items() if key != "conn_type"}
    assert Connection.of("example", str(example["conn_type"]), **fields).conn_type in doctor.known()


@pytest.mark.parametrize(
    "address",
    [
        METADATA, "169.254.170.2", "fe80::1", "::ffff:169.254.169.254", "fd00:ec2::254", "fd00:ec2::23", "fd00:ec2:ffff::1", "100.100.100.200",
        "168.63.129.16", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::a9fe:a9fe", "0.0.0.0", "::", "224.0.0.1",
        "255.255.255.255",
    ],
)  # fmt: skip
def test_addresses_that_hand_out_credentials_are_refused(address: str) -> None:
    assert refusal(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "fd12::1", "fd00:ec1::23", "fd00:ec3::1", "8.8.8.8"],
)
def test_addresses_of_services_are_not(address: str) -> None:
    assert refusal(ip_address(address)) == ""


@pytest.mark.parametrize(
    ("connection", "key"),
    [
        (made("http", host=f"http://{METADATA}/latest/meta-data"), "resolve"),
        (made("http", host=f"http://[::ffff:{METADATA}]/"), "resolve"),
        (made("generic", host=METADATA, port=80), "resolve"),
        (made("trino", host=METADATA, port=80), "resolve"),
        (made("postgres", host=METADATA), "resolve"),
        (made("kafka", extra={"bootstrap.servers": f"{METADATA}:80"}), "resolve"),
        (made("spark", host=f"spark://{METADATA}:80"), "resolve"),
        (made("spark", host=f"k8s://https://{METADATA}"), "resolve"),
        (made("kubernetes", host=f"https://{METADATA}"), "resolve"),
        (made("iceberg", host=f"http://{METADATA}"), "resolve"),
        (store(f"http://{METADATA}"), "resolve"),
    ],
)
def test_no_type_goes_to_the_machines_credentials(connection: Connection, key: str) -> None:
    found = step(check(connection), key)
    assert found.state == "bad"
    assert "refused" in found.found


def test_a_name_is_judged_by_the_address_it_leads_to(monkeypatch: pytest.MonkeyPatch) -> None:
    where = [("127.0.0.1", 80), (METADATA, 80)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", each) for each in where])
    report = check(made("http", host="http://harmless.example"))
    assert "refused" in step(report, "resolve").found
    assert step(report, "connect").state == "skipped"


def test_redirects_are_judged_too() -> None:
    targets = [f"http://{METADATA}/latest/meta-data/iam", f"//{METADATA}/", f"http://[::ffff:{METADATA}]/"]
    for target in targets:
        with answering(lambda _, to=target: (302, {"location": to}, b"")) as server:
            found = step(check(made("http", host=server.url)), "authenticate")
        assert found.state == "bad", target
        assert "refused" in found.found
        assert len(server.seen) == 1


def test_a_redirect_does_not_take_the_login_along() -> None:
    with (
        answering(lambda _: (200, {}, b"")) as other,
        answering(lambda _: (302, {"location": other.url}, b"")) as server,
    ):
        report = check(
            made("http", host=server.url, login="me", password="my-password", extra={"X-Api-Key": "my-key"})
        )
    assert report.state == "ok"
    assert {"authorization", "x-api-key"} <= set(server.seen[0].headers)
    assert set(other.seen[0].headers) == {"host", "user-agent", "accept-encoding"}
    assert other.seen[0].headers["user-agent"] == "forebay-connections"


def test_a_redirect_on_the_same_server_keeps_the_login() -> None:
    def answer(request: Request) -> Answer:
        return (302, {"location": "/there"}, b"") if request.path != "/there" else (200, {}, b"")

    with answering(answer) as server:
        check(made("http", host=server.url, extra={"X-Api-Key": "my-key"}))
    assert [each.headers["x-api-key"] for each in server.seen] == ["my-key", "my-key"]


def test_a_login_that_left_does_not_come_back() -> None:
    with contextlib.ExitStack() as servers:
        back = servers.enter_context(
            answering(
                lambda request: (302, {"location": other.url}, b"") if request.path == "/" else (200, {}, b"")
            )
        )
        other = servers.enter_context(answering(lambda _: (307, {"location": f"{back.url}/end"}, b"")))
        check(made("http", host=back.url, extra={"X-Api-Key": "my-key"}))
    assert ["x-api-key" in each.headers for each in back.seen] == [True, False]


def test_trino_leads_no_login_elsewhere() -> None:
    def statement(request: Request) -> Answer:
        following = f"{other.url}/steal" if request.path == "/v1/statement" else ""
        return 200, {}, json.dumps({"nextUri": following} if following else {}).encode()

    with answering(lambda _: (200, {}, b"{}")) as other, answering(statement) as server:
        report = check(made("trino", host=server.url, extra={"jwt__token": "my-token"}))
    assert "authorization" in server.seen[-1].headers
    assert not other.seen
    assert "leads on to another address" in step(report, "authenticate").found


@pytest.mark.parametrize("name", ["oauth2-server-uri", "s3.endpoint", "lens"])
def test_other_addresses_of_a_catalog_are_judged(name: str) -> None:
    with answering(_catalog) as server:
        extra = {"warehouse": "w", "s3.endpoint": server.url, name: f"http://{METADATA}/x"}
        report = check(made("iceberg", host=server.url, login="k", password="secret", extra=extra))
    texts = " ".join(each.found for each in report.steps)
    assert "refused: 169.254.169.254" in texts, report


def _catalog(request: Request) -> Answer:
    answers: dict[str, Any] = {
        "/v1/oauth/tokens": {"access_token": "t"},
        "/v1/config": {"defaults": {}, "overrides": {}},
        "/v1/namespaces": {"namespaces": [["a"]]},
        "/v1/namespaces/a/tables": {"identifiers": [{"namespace": ["a"], "name": "t"}]},
        "/v1/namespaces/a/tables/t": {"metadata-location": "s3://warehouse/a/t/metadata.json"},
    }
    found = answers.get(request.path.partition("?")[0], {})
    return 200, {"content-type": "application/json"}, json.dumps(found).encode()


def test_a_closed_port_is_told_from_a_black_hole() -> None:
    with nobody() as port:
        refused = check(made("generic", host="127.0.0.1", port=port))
    assert "refuses connections" in step(refused, "connect").found
    assert "Nothing" not in refused.word
    with black_hole() as port:
        began = time.monotonic()
        silent = check(made("generic", host="127.0.0.1", port=port), timeout=0.6)
        assert time.monotonic() - began < 0.6 + 2
    found = step(silent, "connect")
    assert found.state == "bad"
    assert "answer" in found.found
    assert "firewall" in found.hint


def test_one_who_takes_the_line_and_keeps_silent() -> None:
    with speaking(lambda _: time.sleep(5)) as port:
        for connection in (
            made("http", host=f"http://127.0.0.1:{port}"),
            made("http", host=f"https://127.0.0.1:{port}"),
            made("postgres", host="127.0.0.1", port=port),
            made("kafka", extra={"bootstrap.servers": f"127.0.0.1:{port}"}),
            store(f"http://127.0.0.1:{port}"),
        ):
            report = check(connection, timeout=0.5)
            assert step(report, "connect").state == "ok"
            assert report.state == "bad"
            assert "no answer within 0.5 s" in report.word or "said nothing" in report.word, report
            assert report.seconds < 2


@pytest.mark.parametrize(
    ("since", "until", "address", "trust", "words"),
    [
        (
            -2 * DAY,
            -1 * DAY,
            "127.0.0.1",
            True,
            "has expired: store.example, issued by Tests CA, valid until",
        ),
        (1 * DAY, 2 * DAY, "127.0.0.1", True, "is not valid yet"),
        (-2 * DAY, 25 * DAY, "127.0.0.1", False, "does not trust"),
        (-2 * DAY, 25 * DAY, "127.0.0.2", True, "is not for 127.0.0.1"),
    ],
)
def test_what_is_wrong_with_a_certificate(
    tmp_path: Path, authority: Authority, since: timedelta, until: timedelta, address: str, trust: bool, words: str
) -> None:  # fmt: skip
    file = authority.issue(tmp_path, since=since, until=until, address=address)
    believed = authority.pem if trust else ""
    with site(tmp_path, certificate=file) as server:
        report = check(made("http", host=server.url), authorities=believed)
        careless = check(made("http", host=server.url, extra={"verify": False}), authorities=believed)
    found = step(report, "tls")
    assert found.state == "bad"
    assert words in found.found, found
    assert found.hint
    assert step(report, "authenticate").state == "skipped"
    assert careless.state == "warn"
    assert words in step(careless, "tls").found
    assert step(careless, "authenticate").state == "ok"


def test_a_good_certificate_and_one_that_ends_soon(tmp_path: Path, authority: Authority) -> None:
    with site(tmp_path, certificate=authority.issue(tmp_path)) as server:
        report = check(made("http", host=server.url), authorities=authority.pem)
    assert report.state == "ok", report
    assert "store.example, issued by Tests CA" in step(report, "tls").found
    assert report.facts["TLS"].startswith("TLSv1.")
    with site(tmp_path, certificate=authority.issue(tmp_path, until=3 * DAY)) as server:
        report = check(made("http", host=server.url), authorities=authority.pem)
    assert report.state == "warn"
    assert "ends in 3 days" in step(report, "tls").found


def test_the_chain_of_certificates_is_shown(tmp_path: Path, authority: Authority) -> None:
    with site(tmp_path, certificate=authority.below().issue(tmp_path)) as server:
        trusted = check(made("http", host=server.url), authorities=authority.pem)
        not_trusted = check(made("http", host=server.url))
    assert trusted.state == "ok", trusted
    assert trusted.facts["certificates"] == "store.example ← Tests Middle ← Tests CA"
    assert "does not trust" in step(not_trusted, "tls").found
    assert not_trusted.facts["certificates"] == trusted.facts["certificates"]


def test_a_port_without_tls_and_one_with(tmp_path: Path, authority: Authority) -> None:
    with site(tmp_path) as server:
        report = check(made("http", host=server.url.replace("http:", "https:")))
    assert "does not speak TLS" in step(report, "tls").found or "broke off" in step(report, "tls").found
    assert "http://" in step(report, "tls").hint
    with site(tmp_path, certificate=authority.issue(tmp_path)) as server:
        report = check(made("http", host=server.url.replace("https:", "http:")))
    assert step(report, "authenticate").state == "bad"


def test_a_wrong_login() -> None:
    with answering(lambda _: (401, {"www-authenticate": "Basic"}, b"")) as server:
        report = check(made("http", host=server.url, login="me", password="wrong-password"))
        without = check(made("http", host=server.url))
    assert "the login is refused" in step(report, "authenticate").found
    assert "Put the login" in step(without, "authenticate").hint


def _s3_error(code: str, more: str = "", status: int = 403) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>No.</Message>{more}</Error>"
    return status, {"content-type": "application/xml"}, body.encode()


@pytest.mark.parametrize(
    ("answer", "found", "hint"),
    [
        (_s3_error("InvalidAccessKeyId"), "knows no access key 'key'", "login"),
        (_s3_error("SignatureDoesNotMatch"), "the secret key is wrong", "password"),
        (
            _s3_error("AuthorizationHeaderMalformed", "<Region>eu-central-1</Region>", 400),
            "is not in the region 'eu-north-1', it is in 'eu-central-1'",
            '"region_name": "eu-central-1"',
        ),
        (_s3_error("RequestTimeTooSkewed"), "the clocks differ", "NTP"),
        (_s3_error("ExpiredToken", status=400), "the session token has expired", "aws_session_token"),
        ((200, {"content-type": "text/html"}, b"<html>hello</html>"), "this is no S3", "endpoint_url"),
    ],
)
def test_what_a_store_refuses(answer: Answer, found: str, hint: str) -> None:
    with answering(lambda _: answer) as server:
        report = check(store(server.url))
    refused = step(report, "authenticate")
    assert refused.state == "bad"
    assert found in refused.found
    assert hint in refused.hint
    assert step(report, "write").state == "skipped"


def test_a_clock_that_is_wrong() -> None:
    there = format_datetime(datetime.now(UTC) - timedelta(minutes=40), usegmt=True)
    status, headers, body = _s3_error("AccessDenied")
    with answering(lambda _: (status, {**headers, "date": there}, body)) as server:
        report = check(store(server.url))
    assert "the clocks differ: the store's clock is 40 min behind this machine's" in report.word
    assert report.facts["clock"] == "40 min behind this machine's"
    with answering(lambda _: (200, {"date": there}, b"")) as server:
        report = check(made("http", host=server.url))
    assert (report.state, report.facts["clock"]) == ("ok", "40 min behind this machine's")


def _store(request: Request, *, may_write: bool = True) -> Answer:
    path = request.path.partition("?")[0]
    if path == "/":
        return 200, {}, b"<ListAllMyBucketsResult><Bucket><Name>laek</Name></Bucket></ListAllMyBucketsResult>"
    if path == "/lake/" and request.method == "GET":
        return 200, {"x-amz-bucket-region": "eu-north-1"}, b"<ListBucketResult></ListBucketResult>"
    if request.method == "PUT" and not may_write:
        return _s3_error("AccessDenied")
    return _s3_error("NoSuchBucket", status=404)


def test_a_bucket_that_is_not_there_and_the_one_that_was_meant() -> None:
    def answer(request: Request) -> Answer:
        return _store(request) if request.path == "/" else _s3_error("NoSuchBucket", status=404)

    with answering(answer) as server:
        report = check(store(server.url))
    found = step(report, "list")
    assert found.found == "there is no bucket 'lake'"
    assert "Did you mean 'laek'?" in found.hint


def test_a_key_that_may_only_read() -> None:
    with answering(lambda request: _store(request, may_write=False)) as server:
        report = check(store(server.url))
    assert report.state == "warn"
    assert report.word.startswith("can list, cannot write")
    assert report.facts["region"] == "eu-north-1"


def test_the_signature_is_that_of_the_specification() -> None:
    # The example "GET Object" of the Amazon S3 API Reference, "Authenticating Requests".
    one = S3(
        "https://s3.amazonaws.com", "us-east-1", "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", path_style=False,
    )  # fmt: skip
    url = one.url("examplebucket", "test.txt")
    at = datetime(2013, 5, 24, tzinfo=UTC)
    headers = one.signed("GET", url, b"", {"range": "bytes=0-9"}, at)
    assert url == "https://examplebucket.s3.amazonaws.com/test.txt"
    assert headers["authorization"].endswith(
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )


CANARY = "Kanarienvogel-7f3a"


def _everything(url: str, port: int) -> list[Connection]:
    """A connection of each type, with canaries wherever a secret can be."""
    userinfo = url.replace("://", f"://user:{CANARY}@")
    hidden = {"token": CANARY, "aws_session_token": CANARY, "jwt__token": CANARY, "deep": {"api_key": CANARY}}
    config = {
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": CANARY}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    fields = {"login": "user", "password": CANARY}
    return [
        made("http", host=userinfo, extra={"authorization": f"Bearer {CANARY}"}, **fields),
        made("http", host=url, **fields),
        made("aws", extra={"endpoint_url": userinfo, "service_config": {"s3": {"bucket_name": "lake"}}, **hidden}, **fields),
        made("iceberg", host=userinfo, extra={"warehouse": "w", "s3.endpoint": userinfo, "s3.secret-access-key": CANARY}, **fields),
        made("iceberg", host=url, extra={"warehouse": "w", **hidden}, **fields),
        made("trino", host="127.0.0.1", port=port, extra=hidden, login="user"),
        made("trino", host="127.0.0.1", port=port, **fields),
        made("postgres", host="127.0.0.1", port=port, extra=hidden, **fields),
        made("kafka", extra={"bootstrap.servers": f"127.0.0.1:{port}", "security.protocol": "SASL_PLAINTEXT",
                             "sasl.username": "user", "sasl.password": CANARY}),
        made("kubernetes", extra={"kube_config": json.dumps(config)}),
        made("spark", host=f"k8s://{url}", extra=hidden, **fields),
        made("generic", host=f"user:{CANARY}@127.0.0.1", port=port),
        made("mysql", host="127.0.0.1", port=port, extra=json.dumps(hidden), **fields),
    ]  # fmt: skip


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 500])
def test_no_secret_is_in_anything_that_is_said(status: int) -> None:
    def echo(request: Request) -> Answer:
        """Says back what it was sent, in every place where an answer has text."""
        sent = f"{request.path} {request.headers.get('authorization', '')} {CANARY}"
        document = {
            "error": {"message": sent, "errorName": CANARY}, "access_token": CANARY, "namespaces": [[CANARY]],
            "defaults": {}, "overrides": {"prefix": CANARY}, "gitVersion": CANARY, "nodeVersion": {"version": CANARY},
        }  # fmt: skip
        headers = {"server": f"canary {CANARY}", "content-type": "application/json"}
        if status == 302:
            headers["location"] = f"http://user:{CANARY}@127.0.0.1:1/{CANARY}"
        if request.path.startswith("/lake") or request.path == "/":
            return (
                status, headers,
                f"<Error><Code>{CANARY}</Code><Message>{sent}</Message><Name>{CANARY}</Name></Error>".encode(),
            )  # fmt: skip
        return status, headers, json.dumps(document).encode()

    with answering(echo) as server:
        for connection in _everything(server.url, server.port):
            report = check(connection, timeout=0.5)
            assert CANARY not in json.dumps(report.document()), connection.conn_type
            assert CANARY not in repr(report)
            assert CANARY not in repr(connection)
            assert CANARY not in doctor.about(connection)
            assert "itself broke" not in json.dumps(report.document()), report


def test_what_extra_names_is_neither_opened_nor_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    trap.chmod(0o755)
    touched: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event in (
            "open",
            "subprocess.Popen",
            "os.system",
            "os.exec",
            "import",
            "ctypes.dlopen",
        ):
            touched.extend(
                f"{event}: {each}" for each in arguments if str(trap) in str(each) or each == "trap"
            )

    sys.addaudithook(hook)
    names = (
        "verify", "cert", "key_file", "config_file", "sslcert", "sslkey", "sslrootcert", "passfile", "kube_config_path",
        "ssl.ca.location", "ssl.key.location", "profile_name", "role_arn", "hook_class", "plugin", "module", "library",
        "auth__certs__cert", "py-io-impl", "py-catalog-impl", "session_kwargs", "database", "service",
    )  # fmt: skip
    extra = dict.fromkeys(names, str(trap))
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1", "certificate-authority": str(trap)}}],
        "users": [{"name": "u", "user": {"exec": {"command": str(trap)}, "client-certificate": str(trap)}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }  # fmt: skip
    try:
        with answering(lambda _: (200, {}, b"{}")) as server:
            for conn_type in TYPES:
                host = (
                    "local[*]" if conn_type == "spark" else str(trap) if conn_type == "duckdb" else server.url
                )
                more = {"kube_config": config} if conn_type == "kubernetes" else {"endpoint_url": server.url}
                report = check(
                    made(conn_type, host=host, port=server.port, extra={**extra, **more}), timeout=1
                )
                assert "itself broke" not in json.dumps(report.document()), report
            unsafe = "!!python/object/apply:os.system ['touch " + str(tmp_path / "sprung") + "']"
            report = check(made("kubernetes", extra={"kube_config": unsafe}))
            assert "is no kubeconfig" in report.word
    finally:
        watching = False
    assert touched == []
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", TYPES)
def test_whatever_answers_the_report_is_a_report(name: str) -> None:
    chance = random.Random(name)
    noise = [
        b"", b"\0" * 100, b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n[1,2]",
        b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\nshort", b"N", b"S", b"E", b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x00\x00\x05hello", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull", b"\xff" * 4096,
        *(chance.randbytes(chance.randrange(1, 200)) for _ in range(12)),
    ]  # fmt: skip

    with contextlib.ExitStack() as servers:
        connections = []
        for number, said in enumerate(noise):

            def talk(line: socket.socket, said: bytes = said) -> None:
                line.recv(4096)
                line.sendall(said)

            port = servers.enter_context(speaking(talk))
            url = f"http://127.0.0.1:{port}"
            host = {"postgres": "127.0.0.1", "trino": "127.0.0.1", "spark": f"k8s://{url}"}.get(name, url)
            extra = {"endpoint_url": url, "bootstrap.servers": f"127.0.0.1:{port}", "token": "a-token"}
            connections.append(
                Connection.of(
                    str(number), name, host=host, port=port, login="me", password="secret", extra=extra
                )
            )
        reports = [each.report for each in doctor.check_all(connections, timeout=1) if each.report]
    assert len(reports) == len(noise)
    for report in reports:
        assert "itself broke" not in json.dumps(report.document()), (noise[int(report.conn_id)], report)
        assert Report.from_document(json.loads(json.dumps(report.document()))) == report


def test_all_at_once_wait_for_none() -> None:
    holes, timeout = 6, 2.0
    with answering(lambda _: (200, {}, b"ok")) as server, black_hole() as silent:
        connections = [
            Connection.of(f"c{number}", "http", host=f"http://127.0.0.1:{silent if number < holes else server.port}")
            for number in range(60)
        ]  # fmt: skip
        began = time.monotonic()
        done: dict[str, tuple[float, Report]] = {}
        kept: list[Report] = []
        for event in doctor.check_all(connections, timeout=timeout, done=kept.extend):
            if event.report:
                done[event.conn_id] = (time.monotonic() - began, event.report)
        took = time.monotonic() - began
    assert len(done) == 60
    assert len(kept) == 60
    # What it takes on a quiet machine is measured by bench/connections.py.
    assert took < timeout + 2
    healthy = [each for name, each in done.items() if each[1].state == "ok"]
    assert len(healthy) == 60 - holes
    assert statistics.median(at for at, _ in healthy) < timeout


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy of the machine's must not be asked: the doctor looks over the addresses itself.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")


@pytest.mark.parametrize(
    "extra", ['{"a":' * 20_000, '{"a":' * 300 + "1" + "}" * 300, '{"a": "' + "[" * 5000 + '"}'],
    ids=["unread", "deep", "inside a text"],
)  # fmt: skip
def test_an_extra_that_is_nested_deeply_breaks_nothing(extra: str) -> None:
    found = Connection.of("odd", "http", extra=extra)
    assert isinstance(found.secrets(), tuple)
    doctor.about(found)
