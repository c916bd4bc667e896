"""A real API server with its controllers, without a node: what is refused here is refused everywhere."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
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

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [programs.helm(), "--kubeconfig", str(self.kubeconfig), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert not check or done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
        return done

    def may(self, account: str, verb: str, resource: str, namespace: str) -> bool:
        """Whether a service account (`namespace:name`) may do it there."""
        asked = ("auth", "can-i", verb, resource, "-n", namespace, "--as", f"system:serviceaccount:{account}")
        answer = self.kubectl(*asked, check=False).stdout.strip()
        assert answer in ("yes", "no"), answer
        return answer == "yes"


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Starts etcd, the API server and the controllers, and stops them at the end."""
    bin_ = programs.kubernetes()
    peer, client, api = free_port(set()), free_port(set()), free_port(set())
    token = secrets.token_hex(16)
    cluster = Cluster(folder, f"https://127.0.0.1:{api}", token)
    _write_secrets(folder, token)
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            processes.append(
                subprocess.Popen([str(bin_ / name), *arguments], stdout=log, stderr=log, cwd=folder)
            )

    try:
        start(
            "etcd", f"--data-dir={folder / 'etcd'}", f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--listen-client-urls=http://127.0.0.1:{client}", f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}", "--unsafe-no-fsync",
        )  # fmt: skip
        start(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{client}", f"--secure-port={api}",
            "--bind-address=127.0.0.1", f"--cert-dir={folder / 'certificates'}", "--authorization-mode=RBAC",
            f"--token-auth-file={folder / 'tokens.csv'}", "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={folder / 'accounts.key'}",
            f"--service-account-key-file={folder / 'accounts.key'}", "--profiling=false",
        )  # fmt: skip
        _wait(cluster, processes, "/readyz")
        _write_kubeconfig(cluster)
        start(
            "kube-controller-manager", f"--kubeconfig={cluster.kubeconfig}", "--leader-elect=false",
            f"--service-account-private-key-file={folder / 'accounts.key'}", "--use-service-account-credentials",
            f"--root-ca-file={folder / 'certificates' / 'apiserver.crt'}", "--secure-port=0",
        )  # fmt: skip
        _wait(cluster, processes, "/api/v1/namespaces/default/serviceaccounts/default")
        yield cluster
    finally:
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


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


def _wait(cluster: Cluster, processes: list[subprocess.Popen[bytes]], path: str) -> None:
    import ssl

    trusting = ssl._create_unverified_context()
    request = urllib.request.Request(cluster.url + path, headers={"Authorization": f"Bearer {cluster.token}"})
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting)
    )
    for _ in range(600):
        for process in processes:
            logs = sorted(cluster.folder.glob("*.log"))
            assert process.poll() is None, "\n".join(log.read_text()[-2000:] for log in logs)
        try:
            with opener.open(request, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"{path} was not there in two minutes")
