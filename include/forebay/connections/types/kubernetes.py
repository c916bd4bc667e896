"""A Kubernetes cluster: whether it lets us in, and what it lets us do in the namespace where Spark's pods run.

extra: namespace, kube_config (the text itself), in_cluster. A configuration that names a program or a file to get its
login from is not followed: nothing is run and nothing opened because a connection says so.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import ssl
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from forebay.connections import network
from forebay.connections.check import AUTHENTICATE, LIST, NETWORK, WRITE, Check
from forebay.connections.model import Connection
from forebay.connections.network import Wrong
from forebay.connections.web import Answer, Web, place_of, split

TITLE = "Kubernetes"
ALSO = ("kubernetes_cluster",)
PLAN = (*NETWORK, AUTHENTICATE, LIST, WRITE)
EXAMPLE = {
    "conn_type": "kubernetes",
    "extra": {
        "namespace": "spark",
        "kube_config": "the text of a kubeconfig whose user has a token",
        "in_cluster": False,
    },
}

# Where Kubernetes itself puts the login of a pod.
_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SPARK = {"group": "sparkoperator.k8s.io", "resource": "sparkapplications"}


@dataclass(frozen=True)
class Access:
    """A cluster and a login for it."""

    server: str
    token: str = field(default="", repr=False)
    authorities: str = ""
    namespace: str = "default"


async def check(check: Check) -> None:
    await cluster(check, check.connection.host)


async def cluster(check: Check, server: str, pods: str = LIST) -> None:
    """The steps of a cluster; `server` where the configuration names none, `pods` the step that lists them."""
    try:
        access = access_of(check.connection, server)
        place = place_of(split(access.server, "https"))
        context = network.trusting(access.authorities) if access.authorities else None
    except (Wrong, ssl.SSLError) as error:
        wrong = (
            error if isinstance(error, Wrong) else Wrong("the authorities' certificates cannot be read", "")
        )
        async with check.step(NETWORK[0], "Read the configuration"):
            raise wrong from None
        return
    web = Web(check, context)
    check.fact("namespace", access.namespace)
    web.adopt(place, await check.line(place, context))
    base = f"{'https' if place.tls else 'http'}://{place}"
    await _authenticate(check, web, base, access)
    await _list(check, web, base, access, pods)
    await _write(check, web, base, access)


def access_of(connection: Connection, server: str) -> Access:
    """Where a connection says that its cluster is, and the login; Wrong where it does not say it itself."""
    extra = {str(name).removeprefix("extra__kubernetes__"): value for name, value in connection.extra.items()}
    namespace = str(extra.get("namespace") or "")
    if str(extra.get("in_cluster", "")).lower() == "true":
        if not (_POD / "token").is_file():
            raise Wrong(
                "in_cluster is set, and this is no pod", "Put a kubeconfig into extra as kube_config."
            )
        return Access(
            "https://kubernetes.default.svc",
            (_POD / "token").read_text().strip(),
            (_POD / "ca.crt").read_text(),
            namespace or (_POD / "namespace").read_text().strip(),
        )
    text = extra.get("kube_config")
    if text:
        return _from_config(text, namespace)
    if extra.get("kube_config_path"):
        raise Wrong(
            "kube_config_path names a file, and the doctor opens no file that a connection names",
            "Put the text of the kubeconfig into extra as kube_config; then tasks on other machines have it too.",
        )
    token = str(extra.get("token") or connection.password)
    if not server:
        raise Wrong("no cluster is named", "Put a kubeconfig into extra as kube_config.")
    return Access(
        server if "://" in server else f"https://{server}", token, str(extra.get("ca") or ""), namespace or "default"
    )  # fmt: skip


def _from_config(text: object, namespace: str) -> Access:
    try:
        config = yaml.safe_load(text) if isinstance(text, str) else text
        assert isinstance(config, Mapping)
        context = _named(config, "contexts", str(config.get("current-context") or ""), "context")
        target = _named(config, "clusters", str(context.get("cluster") or ""), "cluster")
        user = _named(config, "users", str(context.get("user") or ""), "user")
        ca = base64.b64decode(str(target.get("certificate-authority-data") or "")).decode("ascii")
    except (yaml.YAMLError, AssertionError, KeyError, TypeError, binascii.Error, UnicodeError):
        raise Wrong(
            "kube_config is no kubeconfig",
            "Put the whole text in, with clusters, users, contexts and current-context.",
        ) from None
    if user.get("exec") or user.get("auth-provider"):
        raise Wrong(
            "kube_config names a program that gets the login, and the doctor runs no program",
            "Use a service account's token in place of exec.",
        )
    files = [name for name in ("client-certificate", "client-key", "tokenFile") if user.get(name)]
    files += ["certificate-authority"] if target.get("certificate-authority") else []
    if files:
        raise Wrong(
            f"kube_config names files ({', '.join(files)}), and the doctor opens no file that a connection names",
            "Put their text in (certificate-authority-data), and use a service account's token.",
        )
    if user.get("client-certificate-data") and not user.get("token"):
        raise Wrong(
            "kube_config logs in by a client certificate, which the doctor does not do",
            "Use a service account's token: it can be taken back.",
        )
    return Access(
        str(target.get("server") or ""),
        str(user.get("token") or ""),
        ca,
        namespace or str(context.get("namespace") or "default"),
    )


def _named(config: Mapping[str, Any], what: str, name: str, inside: str) -> Mapping[str, Any]:
    for each in config.get(what) or ():
        if each.get("name") == name or (not name and len(config[what]) == 1):
            found = each[inside]
            assert isinstance(found, Mapping)
            return found
    raise KeyError(name)


async def _ask(
    web: Web, access: Access, method: str, url: str, document: Mapping[str, Any] | None = None
) -> Answer:
    headers = {"accept": "application/json"}
    if access.token:
        headers["authorization"] = f"Bearer {access.token}"
    if document is not None:
        headers["content-type"] = "application/json"
    body = json.dumps(document).encode() if document is not None else b""
    return await web.ask(method, url, headers=headers, body=body)


async def _authenticate(check: Check, web: Web, base: str, access: Access) -> None:
    async with check.step(AUTHENTICATE) as finding:
        version = await _ask(web, access, "GET", f"{base}/version")
        if git := _of(version, "gitVersion"):
            check.fact("server", f"Kubernetes {git}")
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await _ask(
            web, access, "POST", f"{base}/apis/authentication.k8s.io/v1/selfsubjectreviews", review
        )
        if answer.status == 401 or version.status == 401:
            raise Wrong(
                "the cluster does not take the token",
                "It may have run out: make a new one for the service account.",
            )
        who = _of(answer, "status", "userInfo", "username")
        if not git and not who:
            raise Wrong(f"this is no Kubernetes (HTTP {version.status})", "Correct the server's address.")
        if who:
            if who == "system:anonymous":
                raise Wrong(
                    "the cluster sees nobody: no token was taken", "Put a token into the user of kube_config."
                )
            finding.found = f"the cluster sees {who}"


async def _list(check: Check, web: Web, base: str, access: Access, key: str) -> None:
    async with check.step(key, f"List pods in {access.namespace}", needed=False) as finding:
        answer = await _ask(web, access, "GET", f"{base}/api/v1/namespaces/{access.namespace}/pods?limit=1")
        if answer.status == 403:
            raise Wrong(
                f"pods in {access.namespace} may not be listed",
                "Bind the service account to a role with get, list and watch on pods and pods/log.",
            )
        if answer.status != 200:
            raise Wrong(f"the cluster answered HTTP {answer.status}", "Correct the namespace in extra.")
        finding.found = "allowed"


async def _write(check: Check, web: Web, base: str, access: Access) -> None:
    async with check.step(WRITE, "Make and delete a ConfigMap", needed=False) as finding:
        name = f"forebay-probe-{uuid.uuid4().hex[:12]}"
        url = f"{base}/api/v1/namespaces/{access.namespace}/configmaps"
        probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        made = await _ask(web, access, "POST", url, probe)
        spark = await _may(web, base, access)
        check.fact("may start Spark", "yes" if spark else "no")
        if made.status == 404:
            raise Wrong(
                f"there is no namespace {access.namespace}", "Correct namespace in extra, or make it."
            )
        if made.status == 403:
            finding.warn(
                f"may not make a ConfigMap in {access.namespace}",
                "Bind the service account to a role with create and delete on configmaps, services and pods.",
            )
            return
        if made.status != 201:
            raise Wrong(f"the cluster answered HTTP {made.status}", "See the API server's log.")
        gone = await _ask(web, access, "DELETE", f"{url}/{name}")
        if gone.is_error:
            finding.warn(
                f"made the ConfigMap {name}, and may not delete it", "Give the role delete, and delete it."
            )
        elif not spark:
            finding.warn(
                "may not make SparkApplications",
                "Give the role create, get, watch and delete on sparkapplications, and install the Spark operator.",
            )


async def _may(web: Web, base: str, access: Access) -> bool:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": access.namespace, "verb": "create", **_SPARK}},
    }
    answer = await _ask(
        web, access, "POST", f"{base}/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review
    )
    return answer.status == 201 and _of(answer, "status", "allowed") == "True"


def _of(answer: Answer, *names: str) -> str:
    """A value inside an answer; empty where the answer has another shape."""
    found: Any = None
    with contextlib.suppress(Wrong):
        found = answer.json()
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return "" if found is None else str(found)
