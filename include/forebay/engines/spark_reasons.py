"""Why a Spark application waits, failed or was refused, in plain words, from what Kubernetes says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

ENDED = ("COMPLETED", "FAILED", "SUBMISSION_FAILED")
_HOPELESS = {
    "InvalidImageName": "{image} is no name of an image",
    "ErrImageNeverPull": "the image {image} is not on the node, and image_pull_policy is Never",
    "CreateContainerConfigError": "its settings cannot be made: {message}",
    "CreateContainerError": "its container cannot be made: {message}",
    "RunContainerError": "its container cannot be started: {message}",
}
_IMAGE = ("ErrImagePull", "ImagePullBackOff")


def state_of(application: Mapping[str, Any]) -> str:
    """The application's state; NEW while the operator has not seen it."""
    state = (application.get("status") or {}).get("applicationState") or {}
    return str(state.get("state") or "NEW")


def waiting(application: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], seconds: float) -> str:
    """What the driver waits for; empty where nothing keeps it."""
    driver = _driver(pods)
    if driver is None:
        if state_of(application) == "NEW" and seconds > 15:
            return (
                "the Spark operator has not taken it up. Is it running, and does it watch this namespace? "
                "kubectl get pods -A -l app.kubernetes.io/name=spark-operator"
            )
        return ""
    for condition in (driver.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"no node takes its driver: {condition.get('message') or condition.get('reason')}"
    if stopped := _waits(driver):
        reason, message, image = stopped
        if reason in _IMAGE:
            return f"the image {image} cannot be fetched: {message or reason}"
        if reason in _HOPELESS:
            return _HOPELESS[reason].format(image=image, message=message)
    return ""


def hopeless(pods: Sequence[Mapping[str, Any]]) -> str:
    """Why the driver will never start; empty while it may."""
    driver = _driver(pods)
    if driver is not None and (stopped := _waits(driver)) and stopped[0] in _HOPELESS:
        reason, message, image = stopped
        return _HOPELESS[reason].format(image=image, message=message)
    return ""


def image_missing(pods: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the driver's image could not be fetched just now; a registry may come back."""
    driver = _driver(pods)
    stopped = _waits(driver) if driver is not None else None
    return stopped is not None and stopped[0] in _IMAGE


def failure(
    application: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], events: Sequence[str] = ()
) -> str:
    """Why the application failed, and what to do about it."""
    said = str(((application.get("status") or {}).get("applicationState") or {}).get("errorMessage") or "")
    # The operator, which does not try again, calls it FAILED in the end.
    if state_of(application) == "SUBMISSION_FAILED" or said.startswith("failed to submit"):
        return f"The driver could not be started: {_submission(said)}"
    driver = _driver(pods)
    if driver is not None:
        status = driver.get("status") or {}
        if status.get("reason") in ("Evicted", "Preempted", "Preempting"):
            return (
                f"The driver's pod was put off its node ({status['reason']}): {status.get('message') or ''} "
                "Retries of the task start it anew; scheduling: interactive is not put off for other work."
            )
        if over := _over(driver):
            return _ended(over)
    lost = [name for name in map(_executor_out_of_memory, pods) if name]
    if lost:
        return (
            f"The program failed after executors ran out of memory ({', '.join(sorted(lost)[:3])}; exit code 137). "
            "Give them more: executors.memory, or more partitions."
        )
    code = re.search(r"ExitCode: (-?\d+)", said)
    if code:
        return _ended({"exitCode": int(code[1]), "reason": "OOMKilled" if "OOMKilled" in said else ""})
    tail = f" {events[-1]}" if events else ""
    return f"The application failed: {said or 'the operator gives no reason'}.{tail}"


def refusal(status: int, body: str, verb: str, resource: str, namespace: str) -> str:
    """Why the API server refused a request, from its answer."""
    said = _message(body)
    where = f"in the namespace {namespace}"
    if status == 401:
        return "The API server does not know who asks: the connection's token or certificate is not (or no longer) valid."
    if status == 403 and "exceeded quota" in said:
        return f"The quota is used up {where}: {_quota(said)}. Wait for other work, or raise workspaces.<name>.quota."
    if status == 403 and "being terminated" in said:
        return f"The namespace {namespace} is being deleted."
    if status == 403 and (who := re.search(r'User "([^"]+)" cannot (\S+) resource "([^"]+)"', said)):
        return (
            f"{who[1]} may not {who[2]} {who[3]} {where}. Add it to airflow.serviceAccounts of the chart, or give it "
            "the role airflow of that namespace (helm/forebay/templates/workspaces.yaml)."
        )
    if status == 404 and "namespaces" in said:
        return f"There is no namespace {namespace}. Add the workspace to `workspaces` of the chart, or correct the connection."
    if status == 404 and ("page not found" in said or "could not find the requested resource" in said):
        return (
            f"The cluster does not know {resource}: the Spark operator's CRDs are not installed, or are of another "
            "version. forebay platform --only spark-operator"
        )
    if status in (400, 422):
        return f"The API server refuses {resource}: {said}"
    if hook := re.search(r'failed calling webhook "([^"]+)"', said):
        return (
            f"The webhook {hook[1]} does not answer, so nothing can be made {where}: {said}. Is the Spark operator's "
            "webhook running? kubectl get pods -A -l app.kubernetes.io/component=webhook"
        )
    return f"The API server did not {verb} {resource} {where} ({status}): {said}"


def _driver(pods: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((pod for pod in pods if _role(pod) == "driver"), None)


def _role(pod: Mapping[str, Any]) -> str:
    return str((pod["metadata"].get("labels") or {}).get("spark-role") or "")


def _containers(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((pod.get("status") or {}).get("containerStatuses") or ())


def _waits(pod: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Reason, message and image of a container that is waiting."""
    for container in _containers(pod):
        if held := (container.get("state") or {}).get("waiting"):
            return str(held.get("reason")), str(held.get("message") or ""), str(container.get("image"))
    return None


def _over(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for container in _containers(pod):
        if over := (container.get("state") or {}).get("terminated"):
            return dict(over)
    return None


def _executor_out_of_memory(pod: Mapping[str, Any]) -> str:
    over = _over(pod) if _role(pod) == "executor" else None
    return str(pod["metadata"]["name"]) if over and over.get("reason") == "OOMKilled" else ""


def _ended(over: Mapping[str, Any]) -> str:
    code = int(over.get("exitCode") or 0)
    if over.get("reason") == "OOMKilled":
        return (
            f"The driver ran out of memory and was killed by the kernel (OOMKilled, exit code {code}). Give it more: "
            "driver_memory of the task, or bring fewer rows to it (collect, toPandas)."
        )
    if code == 137:
        return "The driver was killed (exit code 137): its pod was deleted, or its node ran out of memory."
    if code == 143:
        return "The driver was asked to end (exit code 143): its pod was deleted or put off its node."
    return f"The program ended with code {code}."


def _submission(said: str) -> str:
    if "exceeded quota" in said:
        return f"the quota is used up: {_quota(said)}. Wait for other work, or raise workspaces.<name>.quota."
    if who := re.search(r'User \\?"([^"\\]+)\\?" cannot (\S+) resource \\?"([^"\\]+)\\?"', said):
        return f"{who[1]} may not {who[2]} {who[3]} in that namespace."
    if limit := re.search(r"maximum (?:memory|cpu) usage per Container is [^.,\"]+[^,\"]*", said):
        return f"it asks for more than one container may have: {limit[0].strip()}"
    lines = [line for line in said.splitlines() if "Exception" in line or "rror" in line]
    return lines[-1].strip() if lines else said.strip()[-500:] or "the operator gives no reason"


def _quota(said: str) -> str:
    found = re.search(r"exceeded quota: \S+, requested: (.+?), used: (.+?), limited: ([^\s\"]+)", said)
    if not found:
        return said
    return f"{found[1]} asked, {found[2].rstrip(',')} in use, {found[3].strip().rstrip('.')} allowed"


def _message(body: str) -> str:
    """What the API server says, out of its Status object."""
    try:
        found = json.loads(body)
    except ValueError:
        return body.strip()
    return str(found.get("message") or body) if isinstance(found, dict) else body
