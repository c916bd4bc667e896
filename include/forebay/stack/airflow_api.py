"""A small client of Airflow's REST API."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from forebay.errors import ForebayError
from forebay.lake.rest import trust
from forebay.stack.layout import Stack

Json = dict[str, Any]
"""A JSON object of Airflow's REST API, whose shape its OpenAPI document gives."""


# Lines that Airflow puts around what a task says.
_LOG_FRAME = (
    "::group::",
    "::endgroup::",
    "DAG bundles loaded",
    "Filling up the DagBag",
    "Worker startup parse",
    "/",
)


PAGE = 100
"""How many of a list Airflow gives at once, at most."""
PATIENCE = 90.0
"""Seconds that following a run outlasts an API server that does not answer."""


class ApiError(ForebayError):
    """Airflow refused a request or does not answer; `status` is its HTTP status, 0 where there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NoAnswer(ApiError):
    """Airflow did not answer in time, or at all."""


class AirflowApi:
    """Airflow's REST API v2 as one user. Use it in a `with` block."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30, verify=trust(url), trust_env=False)
        self._credentials = {"username": user, "password": password}
        self.url, self.user = url, user

    @classmethod
    def of_stack(cls, stack: Stack) -> AirflowApi:
        return cls(stack.url("airflow"), "admin", stack.secrets["admin_password"])

    def __enter__(self) -> AirflowApi:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        params: Mapping[str, Any] | None = None,
        timeout: float = 30,
    ) -> Json:
        """Sends one request; raises ApiError with Airflow's own explanation."""
        with self._reached():
            response = self._client.request(method, path, json=json, params=params, timeout=timeout)
        _refused(response, method, path)
        return dict(response.json()) if response.content else {}

    def lines(self, method: str, path: str, *, params: Mapping[str, Any] | None = None) -> Iterator[str]:
        """Sends one request and gives its answer line by line, as it comes."""
        with self._reached(), self._client.stream(method, path, params=params, timeout=120) as response:
            if response.is_error:
                response.read()
            _refused(response, method, path)
            yield from response.iter_lines()

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Logs in before the first request, and turns what httpx raises into a sentence."""
        try:
            if "authorization" not in self._client.headers:
                token = self._client.post("/auth/token", json=self._credentials)
                token.raise_for_status()
                self._client.headers["authorization"] = f"Bearer {token.json()['access_token']}"
            yield
        except httpx.HTTPStatusError as error:
            code = error.response.status_code
            raise ApiError(f"Airflow did not log us in (HTTP {code}).", code) from error
        except httpx.HTTPError as error:
            raise NoAnswer(
                f"Airflow does not answer at {self.url} ({type(error).__name__}). Is the stack up? forebay status"
            ) from error

    def get(self, path: str, **params: Any) -> Json:
        return self.request("GET", f"/api/v2{path}", params=params)

    def pages(self, path: str, key: str, *, size: int = 0, **params: Any) -> Iterator[Json]:
        """Everything that a list of Airflow's holds, page by page as long as somebody wants more."""
        offset = 0
        while True:
            answer = self.get(path, limit=size or PAGE, offset=offset, **params)
            yield from answer[key]
            # An installation may give fewer at once than it is asked for.
            offset += len(answer[key])
            if not answer[key] or offset >= answer["total_entries"]:
                return

    def put_connections(self, connections: list[dict[str, object]]) -> None:
        """Creates connections or replaces those of the same id."""
        action = {"action": "create", "entities": connections, "action_on_existence": "overwrite"}
        result = self.request("PATCH", "/api/v2/connections", json={"actions": [action]})
        errors = (result.get("create") or {}).get("errors")
        if errors:
            raise ApiError(f"Airflow did not store the connections: {errors}")

    def start(self, dag_id: str, parameters: Mapping[str, object]) -> Json:
        """Starts a run and returns what Airflow says of it."""
        body = {"logical_date": None, "conf": dict(parameters)}
        return self.request("POST", f"/api/v2/dags/{quote(dag_id, safe='')}/dagRuns", json=body)

    def trigger(self, dag_id: str, parameters: Mapping[str, object]) -> str:
        """Starts a run and returns its id."""
        return str(self.start(dag_id, parameters)["dag_run_id"])

    def has_dag(self, dag_id: str) -> bool:
        """Whether Airflow knows a dag of this id, current or not, and shows it to this user."""
        try:
            self.get(f"/dags/{quote(dag_id, safe='')}")
        except ApiError as error:
            # FAB's roles per dag refuse an id before it is looked up.
            if error.status in (403, 404):
                return False
            raise
        return True

    def run(self, dag_id: str, run_id: str) -> Json:
        return self.get(f"/dags/{dag_id}/dagRuns/{run_id}")

    def task_instances(self, dag_id: str, run_id: str) -> list[Json]:
        return list(self.pages(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances"))

    def follow(self, dag_id: str, run_id: str, every: float = 0.5) -> Iterator[tuple[Json, list[Json]]]:
        """The run and its tasks, again and again until the run has ended; an API server that restarts is waited for."""
        answered = time.monotonic()
        while True:
            try:
                run, tasks = self.run(dag_id, run_id), self.task_instances(dag_id, run_id)
            except NoAnswer:
                if time.monotonic() - answered > PATIENCE:
                    raise
                time.sleep(1)
                continue
            answered = time.monotonic()
            yield run, tasks
            if run["state"] in ("success", "failed"):
                return
            time.sleep(every)

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int, map_index: int = -1) -> list[str]:
        """The lines of one task's log: what the task said, and the error that ended it."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        lines: list[str] = []
        for entry in self.get(path, map_index=map_index, full_content=True)["content"]:
            if not isinstance(entry, dict):
                lines.append(str(entry))
            elif str(entry.get("logger", "")).startswith("opentelemetry."):
                # Metrics that could not be sent, after what ended the task.
                continue
            elif not str(entry.get("event", "")).startswith(_LOG_FRAME):
                lines.append(str(entry.get("event", "")))
                for error in reversed(entry.get("error_detail") or ()):
                    lines.append(f"{error.get('exc_type')}: {error.get('exc_value')}")
        return lines

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Any:
        """What a task returned; None where it returned nothing."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        try:
            return self.get(path, map_index=map_index, deserialize=True).get("value")
        except ApiError as error:
            if "HTTP 404" in str(error):
                return None
            raise


def _refused(response: httpx.Response, method: str, path: str) -> None:
    if response.is_error:
        raise ApiError(
            f"Airflow refused {method} {path} (HTTP {response.status_code}): {_detail(response)}",
            response.status_code,
        )


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json().get("detail", response.text)
    except ValueError:
        detail = response.text
    return str(detail)[:1000]
