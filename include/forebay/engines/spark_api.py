"""What Forebay asks of the Kubernetes API: SparkApplications, their pods, logs and events; refusals in plain words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engines.background import EngineError
from forebay.engines.spark_application import DRIVER, GRACE_SECONDS, GROUP, PLURAL, VERSION
from forebay.engines.spark_reasons import refusal

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

TIMEOUT = (3.0, 10.0)
"""Seconds to connect and to be answered."""


class Refused(EngineError):
    """The API server answered with an error; `status` is its HTTP code."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(EngineError):
    """The API server does not answer."""


class SparkApi:
    """SparkApplications of one namespace. Objects are plain data, as the API server sends them."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        from kubernetes.client import CoreV1Api, CustomObjectsApi

        self.namespace = namespace
        self._core, self._custom = CoreV1Api(client), CustomObjectsApi(client)
        self._address = str(client.configuration.host)

    def applications(self, selector: str) -> list[dict[str, Any]]:
        found = self._ask("list", "list_namespaced_custom_object", label_selector=selector)
        return list(found["items"])

    def application(self, name: str) -> dict[str, Any] | None:
        """None where there is none of that name."""
        try:
            return self._ask("get", "get_namespaced_custom_object", name)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        return self._ask("create", "create_namespaced_custom_object", body=dict(manifest))

    def annotate(self, name: str, annotations: Mapping[str, str]) -> None:
        body = {"metadata": {"annotations": dict(annotations)}}
        self._ask("patch", "patch_namespaced_custom_object", name, body=body)

    def delete(self, name: str) -> None:
        """Delete the application and, without waiting for the operator, its driver; executors go with that."""
        try:
            self._ask(
                "delete", "delete_namespaced_custom_object", name,
                grace_period_seconds=0, propagation_policy="Background",
            )  # fmt: skip
        except Refused as error:
            if error.status != 404:
                raise
        for pod in self.pods(name):
            if (pod["metadata"].get("labels") or {}).get("spark-role") == "driver":
                self._delete_pod(str(pod["metadata"]["name"]))

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Driver and executors of an application."""
        chosen = f"sparkoperator.k8s.io/app-name={name}"
        return list(self._core_ask("list", "pods", "list_namespaced_pod", label_selector=chosen)["items"])

    def events(self, about: str) -> list[str]:
        """What happened to an object, oldest first."""
        chosen = f"involvedObject.name={about}"
        found = self._core_ask("list", "events", "list_namespaced_event", field_selector=chosen)["items"]
        found.sort(key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
        return [f"{event.get('reason')}: {event.get('message')}" for event in found]

    def put_programs(self, config_map: Mapping[str, Any]) -> None:
        """Make the ConfigMap, or the one that a broken-off start of the same try left stays."""
        try:
            self._core_ask("create", "configmaps", "create_namespaced_config_map", body=dict(config_map))
        except Refused as error:
            if error.status != 409:
                raise

    def own_programs(self, application: Mapping[str, Any]) -> None:
        """Let the ConfigMap go with its application."""
        named = application["metadata"]
        owner = {
            "apiVersion": f"{GROUP}/{VERSION}", "kind": "SparkApplication", "name": named["name"], "uid": named["uid"],
        }  # fmt: skip
        body = {"metadata": {"ownerReferences": [owner]}}
        self._core_ask("patch", "configmaps", "patch_namespaced_config_map", named["name"], body=body)

    def log(self, pod: str, since_seconds: int | None = None) -> Iterator[str]:
        """The driver's lines, while it writes them."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        more = {} if since_seconds is None else {"since_seconds": since_seconds}
        try:
            answer = self._core.read_namespaced_pod_log(
                pod, self.namespace, container=DRIVER, follow=True, _preload_content=False,
                _request_timeout=(3.0, 60.0), **more,
            )  # fmt: skip
            rest = b""
            for part in answer.stream(65_536):
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace").rstrip()
            if rest:
                yield rest.decode(errors="replace").rstrip()
        except ApiException as error:
            raise self._refused(error, "get", "pods/log") from None
        except HTTPError as error:
            raise Unreachable(str(error)) from None

    def _delete_pod(self, name: str) -> None:
        try:
            self._core_ask(
                "delete", "pods", "delete_namespaced_pod", name, grace_period_seconds=GRACE_SECONDS
            )
        except Refused as error:
            if error.status != 404:
                raise

    def _ask(self, verb: str, method: str, *names: str, **given: Any) -> dict[str, Any]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        call = getattr(self._custom, method)
        try:
            answer: dict[str, Any] = call(
                GROUP, VERSION, self.namespace, PLURAL, *names, _request_timeout=TIMEOUT, **given
            )
        except ApiException as error:
            raise self._refused(error, verb, f"{PLURAL}.{GROUP}/{VERSION}") from None
        except HTTPError as error:
            raise self._unreachable(error) from None
        return answer

    def _core_ask(self, verb: str, resource: str, method: str, *names: str, **given: Any) -> dict[str, Any]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        call = getattr(self._core, method)
        arguments = [*names, self.namespace]
        try:
            answer = call(*arguments, _preload_content=False, _request_timeout=TIMEOUT, **given)
        except ApiException as error:
            raise self._refused(error, verb, resource) from None
        except HTTPError as error:
            raise self._unreachable(error) from None
        found: dict[str, Any] = json.loads(answer.data)
        return found

    def _refused(self, error: Any, verb: str, resource: str) -> Refused:
        body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else str(error.body or "")
        status = int(error.status or 0)
        return Refused(refusal(status, body or str(error.reason), verb, resource, self.namespace), status)

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"The API server at {self._address} does not answer ({type(error).__name__}).")
