"""What Forebay asks of the Kubernetes API: SparkApplications, their pods, logs and events; refusals in plain words."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from forebay.engines.background import EngineError
from forebay.engines.spark_application import DRIVER, GRACE_SECONDS, GROUP, PLURAL, TASKS, VERSION
from forebay.engines.spark_reasons import not_a_kind, passing, refusal

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

TIMEOUT = (3.0, 10.0)
"""Seconds to connect and to be answered."""

_PAGES = 20
"""Of 500 events each: a namespace's events are listed up to that many."""


class Refused(EngineError):
    """The API server answered with an error; `status` is its HTTP code."""

    def __init__(self, message: str, status: int, passing: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.passing = passing
        """Whether it is a matter of waiting: see `forebay.engines.spark_reasons.passing`."""


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
        # An operator's older CRD would drop what it does not know, without a word.
        return self._ask(
            "create", "create_namespaced_custom_object", body=dict(manifest), field_validation="Strict"
        )

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

    def delete_unchanged(self, found: Mapping[str, Any]) -> bool:
        """Delete an application, or ConfigMap, that nobody has touched since it was listed; False where it was touched."""
        named = found["metadata"]
        body = {"preconditions": {"uid": named["uid"], "resourceVersion": named["resourceVersion"]}}
        try:
            if "spec" in found:
                self._ask(
                    "delete", "delete_namespaced_custom_object", named["name"],
                    body={**body, "propagationPolicy": "Background"},
                )  # fmt: skip
            else:
                self._core_ask(
                    "delete", "configmaps", "delete_namespaced_config_map", named["name"], body=body
                )
        except Refused as error:
            if error.status in (404, 409):
                return False
            raise
        return True

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

    def events_around(self, name: str) -> list[str]:
        """What happened to an application and its pods, oldest first: time, object, reason, message."""
        found: list[Any] = []
        more: dict[str, Any] = {}
        for _ in range(_PAGES):
            page = self._core_ask("list", "events", "list_namespaced_event", limit=500, **more)
            for event in page["items"]:
                about = str((event.get("involvedObject") or {}).get("name"))
                # Its pods are named after it.
                if about == name or about.startswith(f"{name}-"):
                    when = (
                        event.get("lastTimestamp")
                        or event.get("eventTime")
                        or event["metadata"]["creationTimestamp"]
                    )
                    times = f" ({event['count']} times)" if int(event.get("count") or 1) > 1 else ""
                    said = str(event.get("message")).strip().replace("\n", " ")
                    found.append((str(when)[:19], f"{about} {event.get('reason')}: {said}{times}"))
            if not (token := page["metadata"].get("continue")):
                break
            more = {"_continue": token}
        return [f"{when}Z {text}" for when, text in sorted(found, key=lambda each: each[0])]

    def programs(self) -> list[dict[str, Any]]:
        """The ConfigMaps with tasks' programs."""
        found = self._core_ask("list", "configmaps", "list_namespaced_config_map", label_selector=TASKS)
        return list(found["items"])

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

    def end_of_log(self, pod: str, container: str, most: int) -> str:
        """The end of a container's log so far, whole lines of `most` bytes at most, each with its time."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        kept: deque[bytes] = deque()
        size, cut = 0, False
        try:
            answer = self._core.read_namespaced_pod_log(
                pod, self.namespace, container=container, timestamps=True, _preload_content=False,
                _request_timeout=TIMEOUT,
            )  # fmt: skip
            for part in answer.stream(65_536):
                kept.append(part)
                size += len(part)
                while size - len(kept[0]) >= most:
                    size -= len(kept.popleft())
                    cut = True
        except ApiException as error:
            raise self._refused(error, "get", "pods/log") from None
        except HTTPError as error:
            raise self._unreachable(error) from None
        text = b"".join(kept)
        if cut or size > most:
            text = text[-most:].partition(b"\n")[2]
        return text.decode(errors="replace")

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
        unknown = status == 404 and resource.startswith(PLURAL) and not_a_kind(body)
        served = self._served() if unknown else None
        said = refusal(status, body or str(error.reason), verb, resource, self.namespace, served)
        return Refused(said, status, passing(body))

    def _served(self) -> list[str] | None:
        """The versions in which the cluster has SparkApplications; None where it does not say."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        def told(path: str) -> Any:
            answer = self._core.api_client.call_api(
                path, "GET", auth_settings=["BearerToken"], _preload_content=False,
                _return_http_data_only=True, _request_timeout=TIMEOUT,
            )  # fmt: skip
            return json.loads(answer.data)

        try:
            versions = [str(each["groupVersion"]) for each in told(f"/apis/{GROUP}")["versions"]]
            has = {each: [one["name"] for one in told(f"/apis/{each}")["resources"]] for each in versions}
            return [each for each in versions if PLURAL in has[each]]
        except ApiException as error:
            return [] if error.status == 404 else None
        except (HTTPError, ValueError, KeyError):
            return None

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"The API server at {self._address} does not answer ({type(error).__name__}).")
