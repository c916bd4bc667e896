"""A real API server with its controllers, without a node: what is refused here is refused everywhere."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import programs
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from forebay.stack.layout import free_port


@dataclass(frozen=True)
class Cluster:
    """A running control plane."""

    folder: Path
    url: str
    token: str

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def kubectl(
        self, *arguments: str, given: object = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl; `given` becomes its standard input, as JSON unless it is text."""
        text = given if isinstance(given, str) else json.dumps(given)
        done = subprocess.run(
            [str(programs.kubernetes() / "kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=text, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)

    def add_kinds(self, *folders: Path) -> None:
        """Adds the kinds of objects that folders of CRDs declare, and waits until objects may be made of them."""
        for folder in folders:
            self.kubectl("apply", "--server-side", "-f", str(folder))
        # `kubectl wait` fails on one that has no conditions yet.
        end = time.monotonic() + 60
        while not all(map(_established, self.get("crd")["items"])):
            assert time.monotonic() < end, "kinds are not established in a minute"
            time.sleep(0.2)

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [programs.helm(), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert not check or done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
        return done

    def may(self, account: str, verb: str, resource: str, namespace: str) -> bool:
        """Whether a service account (`namespace:name`) may do it there."""
        name, _, part = resource.partition("/")
        asked = ["auth", "can-i", verb, name, "-n", namespace, "--as", f"system:serviceaccount:{account}"]
        if part:
            asked.append(f"--subresource={part}")
        answer = self.kubectl(*asked, check=False).stdout.strip()
        assert answer in ("yes", "no"), answer
        return answer == "yes"


def _established(kind: Any) -> bool:
    conditions = kind.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


@dataclass(frozen=True)
class Where:
    """In which network a control plane runs, and what is said to its parts besides."""

    enter: list[str] = field(default_factory=list)
    address: str = "127.0.0.1"
    api: list[str] = field(default_factory=list)
    controllers: list[str] = field(default_factory=list)


class Parts:
    """Programs that run until `stop`, each with a log in the folder."""

    def __init__(self, folder: Path, enter: list[str], environment: dict[str, str] | None = None) -> None:
        self._folder, self._enter, self._environment = folder, enter, environment
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, *arguments: str, program: str = "", **environment: str) -> None:
        """One of Kubernetes' own programs, or one by its path."""
        own = programs.kubernetes() / name
        command = [*self._enter, program or (str(own) if own.exists() else name), *arguments]
        around = {**(self._environment or os.environ), **environment}
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes.append(
                (name, subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, env=around))
            )

    def alive(self) -> None:
        """Fails with its last words where one has ended."""
        for name, process in self._processes:
            last = (self._folder / f"{name}.log").read_text(errors="replace")[-3000:]
            assert process.poll() is None, f"{name} ended with {process.returncode}:\n{last}"

    def stop(self) -> None:
        """The last one first, each before the next."""
        for _, process in reversed(self._processes):
            process.terminate()
            try:
                # Airflow's scheduler gives its watcher of pods 20 s.
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def running(folder: Path, where: Where | None = None) -> Iterator[Cluster]:
    """Starts etcd, the API server and the controllers, and stops them at the end."""
    where = where or Where()
    peer, client, api = free_port(set()), free_port(set()), free_port(set())
    token = secrets.token_hex(16)
    cluster = Cluster(folder, f"https://{where.address}:{api}", token)
    _write_secrets(folder, token)
    parts = Parts(folder, where.enter)
    try:
        parts.start(
            "etcd", f"--data-dir={folder / 'etcd'}", f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--listen-client-urls=http://127.0.0.1:{client}", f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}", "--unsafe-no-fsync",
        )  # fmt: skip
        parts.start(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{client}", f"--secure-port={api}",
            f"--bind-address={where.address}",
            f"--cert-dir={folder / 'certificates'}", "--authorization-mode=RBAC",
            f"--token-auth-file={folder / 'tokens.csv'}", "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={folder / 'accounts.key'}",
            f"--service-account-key-file={folder / 'accounts.key'}", "--profiling=false", *where.api,
        )  # fmt: skip
        _wait(cluster, parts, "/readyz")
        _write_kubeconfig(cluster)
        parts.start(
            "kube-controller-manager", f"--kubeconfig={cluster.kubeconfig}", "--leader-elect=false",
            f"--service-account-private-key-file={folder / 'accounts.key'}", "--use-service-account-credentials",
            f"--root-ca-file={folder / 'certificates' / 'apiserver.crt'}", "--secure-port=0",
            # A quota that is made before its kinds are known is counted with the next one, else five minutes later.
            "--resource-quota-sync-period=10s", *where.controllers,
        )  # fmt: skip
        _wait(cluster, parts, "/api/v1/namespaces/default/serviceaccounts/default")
        yield cluster
    finally:
        parts.stop()


def _write_secrets(folder: Path, token: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (folder / "accounts.key").write_bytes(pem)
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")


def _write_kubeconfig(cluster: Cluster) -> None:
    authority = (cluster.folder / "certificates" / "apiserver.crt").read_bytes()
    server = {"server": cluster.url, "certificate-authority-data": base64.b64encode(authority).decode()}
    cluster.kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": server}],
                "users": [{"name": "admin", "user": {"token": cluster.token}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            }
        )
    )


def _wait(cluster: Cluster, parts: Parts, path: str) -> None:
    # Its certificate is being written.
    trusting = ssl._create_unverified_context()
    request = urllib.request.Request(cluster.url + path, headers={"Authorization": f"Bearer {cluster.token}"})
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting)
    )
    for _ in range(600):
        parts.alive()
        with contextlib.suppress(OSError), opener.open(request, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"{path} was not there in two minutes")
