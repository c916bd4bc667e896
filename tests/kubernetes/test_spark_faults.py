"""What a `spark` task says where the API server refuses it: kinds of another version, webhooks."""

from __future__ import annotations

import base64
import contextlib
import copy
import datetime
import http.server
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cluster as clusters
import programs
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from test_spark import (
    CONFIG,
    KIND,
    PROGRAM,
    WHO,
    Started,
    engine,
    names,
    namespace,
    set_state,
    settings,
    until,
)

from forebay.engines.background import EngineError
from forebay.engines.spark_application import manifest

__all__ = ["namespace"]


@contextlib.contextmanager
def kind(
    cluster: clusters.Cluster, folder: Path, change: Callable[[dict[str, Any]], None] | None
) -> Iterator[None]:
    """The cluster with another kind SparkApplication, or without one."""
    file = (
        programs.module(programs.SPARK_OPERATOR)
        / "config/crd/bases/sparkoperator.k8s.io_sparkapplications.yaml"
    )
    ours = yaml.safe_load(file.read_text())
    cluster.kubectl("delete", "crd", KIND)
    until(lambda: cluster.kubectl("get", KIND, check=False).returncode)
    try:
        if change is not None:
            other = copy.deepcopy(ours)
            change(other)
            (folder / "kind.yaml").write_text(yaml.safe_dump(other))
            cluster.add_kinds(folder)
            until(lambda: cluster.kubectl("get", KIND, check=False).returncode == 0)
        yield
    finally:
        cluster.kubectl("delete", "crd", KIND, check=False)
        until(lambda: cluster.kubectl("get", "crd", KIND, check=False).returncode)
        cluster.kubectl("apply", "--server-side", "-f", str(file))
        until(lambda: cluster.kubectl("get", KIND, check=False).returncode == 0)


def older(crd: dict[str, Any]) -> None:
    crd["spec"]["versions"][0]["name"] = "v1beta1"


def without_templates(crd: dict[str, Any]) -> None:
    """As before the operator's version 2: templates of pods were not there yet."""
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    for part in ("driver", "executor"):
        del spec[part]["properties"]["template"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, "does not know sparkapplications.sparkoperator.k8s.io/v1beta2: the Spark operator's CRDs are not installed. Install"),
        (older, "its Spark operator's CRDs are of another version, sparkoperator.k8s.io/v1beta1. Install the version of ours: forebay platform --only spark-operator"),
    ],
    ids=["absent", "version"],
)  # fmt: skip
def test_another_kind_is_named(
    cluster: clusters.Cluster,
    namespace: str,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None] | None,
    words: str,
) -> None:
    with kind(cluster, tmp_path, change):
        # Discovery of what a cluster has is some seconds behind.
        found = until(lambda: (said := _refused(cluster, namespace)) and words in said and said, 60)
    assert words in found


def _refused(cluster: clusters.Cluster, namespace: str) -> str:
    with pytest.raises(EngineError) as error:
        engine(cluster, namespace).earlier(WHO)
    return str(error.value)


def test_a_kind_that_would_drop_half_of_it_is_refused(
    cluster: clusters.Cluster, namespace: str, tmp_path: Path
) -> None:
    """Without templates a driver would run without the lake's keys and its program."""
    with kind(cluster, tmp_path, without_templates):
        with pytest.raises(EngineError) as error:
            engine(cluster, namespace).run(WHO, CONFIG.seen_by(WHO))
        assert names(cluster, namespace) == []
    said = str(error.value)
    assert (
        "is that of another version of the Spark operator, which does not know spec.driver.template" in said
    )
    assert "forebay platform --only spark-operator" in said


@contextlib.contextmanager
def webhook(
    cluster: clusters.Cluster,
    namespace: str,
    sort: str,
    name: str,
    resource: str,
    client: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """A webhook for what is made in a namespace; its program is not there unless `client` says where."""
    group, _, plural = resource.rpartition("/")
    hook = {
        "name": name,
        "clientConfig": dict(client or {"url": "https://127.0.0.1:1/"}),
        "rules": [
            {"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE"], "resources": [plural]}
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    made = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": sort, "webhooks": [hook]}
    cluster.kubectl("create", "-f", "-", given={**made, "metadata": {"name": namespace}})
    try:
        yield
    finally:
        cluster.kubectl("delete", sort, namespace, "--ignore-not-found")


@pytest.mark.parametrize("sort", ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"])
@pytest.mark.parametrize("resource", ["sparkoperator.k8s.io/sparkapplications", "/configmaps"])
def test_a_webhook_that_does_not_answer_is_waited_for_and_named(
    cluster: clusters.Cluster, namespace: str, sort: str, resource: str
) -> None:
    name = "test.sparkoperator.k8s.io"
    with webhook(cluster, namespace, sort, name, resource):
        dry = ("create", "--dry-run=server", "-f", "-")
        made = manifest(WHO, settings(namespace), PROGRAM, CONFIG.seen_by(WHO))
        if "configmaps" in resource:
            made = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "x", "namespace": namespace},
            }
        until(lambda: cluster.kubectl(*dry, given=made, check=False).returncode)
        with pytest.raises(EngineError) as error:
            engine(cluster, namespace, start_seconds=2).run(WHO, CONFIG.seen_by(WHO))
        said: list[str] = []
        started = Started(engine(cluster, namespace, log=said.append))
        until(lambda: said)
        time.sleep(1.5)
        assert started.thread.is_alive()
        assert names(cluster, namespace) == []
    words = f"The webhook {name} does not answer, so nothing can be made in the namespace {namespace}"
    assert words in str(error.value)
    assert "kubectl get pods -A -l app.kubernetes.io/component=webhook" in str(error.value)
    assert [line for line in said if line.startswith(f"waits: {words}")]
    # It is there again: the task goes on.
    application = until(lambda: names(cluster, namespace))[0]
    set_state(cluster, namespace, application, "COMPLETED")
    assert started.ended() is None


@contextlib.contextmanager
def refusing(folder: Path, why: str) -> Iterator[dict[str, str]]:
    """A program that allows nothing: gives what a webhook says of where it is."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "policy")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "policy.pem").write_bytes(pem + private)

    class Policy(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = {
                "uid": review["request"]["uid"],
                "allowed": False,
                "status": {"code": 403, "message": why},
            }
            body = json.dumps(
                {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": answer}
            )
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            """Nothing on the tests' output."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Policy)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "policy.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        port = server.server_address[1]
        yield {"url": f"https://127.0.0.1:{port}/", "caBundle": base64.b64encode(pem).decode()}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_webhook_that_does_not_allow_it_is_named(
    cluster: clusters.Cluster, namespace: str, tmp_path: Path
) -> None:
    resource, why = "sparkoperator.k8s.io/sparkapplications", "every application needs a cost centre"
    with (
        refusing(tmp_path, why) as client,
        webhook(cluster, namespace, "ValidatingWebhookConfiguration", "policy.test.io", resource, client),
    ):
        made = manifest(WHO, settings(namespace), PROGRAM, CONFIG.seen_by(WHO))
        until(
            lambda: (
                cluster.kubectl("create", "--dry-run=server", "-f", "-", given=made, check=False).returncode
            )
        )
        begun = time.monotonic()
        with pytest.raises(EngineError) as error:
            engine(cluster, namespace).run(WHO, CONFIG.seen_by(WHO))
    # That does not pass by waiting.
    assert time.monotonic() - begun < 5
    assert (
        f"The webhook policy.test.io does not allow sparkapplications.sparkoperator.k8s.io/v1beta2 in the namespace {namespace}: {why}"
        in str(error.value)
    )
