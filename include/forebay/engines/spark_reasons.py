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
_UNCOUNTED = "status unknown for quota"
_NO_CLASS = re.compile(r"no PriorityClass with name (\S+) was found")
_CLASSES = (
    "forebay platform --only forebay makes those of the chart; another one is named by priority_class of the Spark "
    "connection."
)
_INSTALL = "Install the version of ours: forebay platform --only spark-operator"
_OPERATOR = "kubectl get pods -A -l app.kubernetes.io/name=spark-operator"


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
                f"{_OPERATOR}"
            )
        return ""
    return held(driver, "driver")


def held(pod: Mapping[str, Any], what: str = "pod") -> str:
    """What keeps a pod from starting; empty where nothing does."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            said = str(condition.get("message") or condition.get("reason"))
            labels = (pod.get("spec") or {}).get("nodeSelector")
            if labels and "selector" in said:
                asked = ", ".join(f"{name}={value}" for name, value in labels.items())
                said += f" It asks for a node labelled {asked}: label one, or change workspaces.<name>.nodeSelector."
            return f"no node takes its {what}: {said}"
    if stopped := _waits(pod):
        reason, message, image = stopped
        if reason in _IMAGE:
            return f"the image {image} cannot be fetched: {message or reason}"
        if reason in _HOPELESS:
            return _HOPELESS[reason].format(image=image, message=message)
    return ""


def unnoticed(pods: Sequence[Mapping[str, Any]], seconds: float) -> str:
    """That the driver has ended, or is gone, for so long, and the operator does not say so."""
    what = "has ended" if _driver(pods) is not None else "is gone"
    return (
        f"the driver {what}, and the Spark operator has not noticed. Is it running? {_OPERATOR} "
        f"In {seconds:.0f} s the driver's own end counts."
    )


def driver_ended(pods: Sequence[Mapping[str, Any]]) -> str:
    """The phase in which the driver's pod ended (Succeeded or Failed), `gone` without a pod; empty while it runs."""
    driver = _driver(pods)
    phase = "gone" if driver is None else str((driver.get("status") or {}).get("phase"))
    return phase if phase in ("gone", "Succeeded", "Failed") else ""


def ended_badly(pod: Mapping[str, Any]) -> str:
    """How a pod ended, where that was not well: in words that follow its name."""
    if (over := _over(pod)) and over.get("exitCode"):
        reason = str(over.get("reason") or "")
        return (
            f"ended with exit code {over['exitCode']}{f' ({reason})' if reason not in ('', 'Error') else ''}"
        )
    status = pod.get("status") or {}
    if status.get("phase") == "Failed":
        return f"was ended ({status.get('reason') or 'no reason given'})"
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
    if driver is None and state_of(application) not in ENDED:
        return "The driver's pod is gone: it was deleted, or its node was lost. Retries of the task start it anew."
    code = re.search(r"ExitCode: (-?\d+)", said)
    if code:
        return _ended({"exitCode": int(code[1]), "reason": "OOMKilled" if "OOMKilled" in said else ""})
    tail = f" {events[-1]}" if events else ""
    return f"The application failed: {said or 'the operator gives no reason'}.{tail}"


def webhook_down(body: str) -> str:
    """The name of a webhook that does not answer, out of what the API server or the operator says."""
    found = re.search(r'failed calling webhook \\?"([^"\\]+)', body)
    return found[1] if found else ""


def passing(body: str) -> bool:
    """Whether a refusal passes by itself: a webhook does not answer, a new namespace's quota is not counted yet."""
    return bool(webhook_down(body)) or _UNCOUNTED in body


def not_a_kind(body: str) -> bool:
    """Whether the API server says that it does not know the kind, not that there is no such object."""
    return "page not found" in body or "could not find the requested resource" in body


def refusal(
    status: int, body: str, verb: str, resource: str, namespace: str, served: Sequence[str] | None = None
) -> str:
    """Why the API server refused a request, from its answer.

    `served` are the versions of the operator's kinds that the cluster has, where it was asked.
    """
    said = _message(body)
    where = f"in the namespace {namespace}"
    if status == 401:
        return "The API server does not know who asks: the connection's token or certificate is not (or no longer) valid."
    if status == 403 and "exceeded quota" in said:
        return f"The quota is used up {where}: {_quota(said)}. Wait for other work, or raise workspaces.<name>.quota."
    if status == 403 and _UNCOUNTED in said:
        return f"The quota {where} has not been counted yet, as in the first minutes of a new one."
    if missing := _NO_CLASS.search(said):
        return f"There is no priority class {missing[1]}. {_CLASSES}"
    if status == 403 and "being terminated" in said:
        return f"The namespace {namespace} is being deleted."
    if status == 403 and (who := re.search(r'User "([^"]+)" cannot (\S+) resource "([^"]+)"', said)):
        return (
            f"{who[1]} may not {who[2]} {who[3]} {where}. Add it to airflow.serviceAccounts of the chart, or give it "
            "the role airflow of that namespace (helm/forebay/templates/workspaces.yaml)."
        )
    if status == 404 and "namespaces" in said:
        return f"There is no namespace {namespace}. Add the workspace to `workspaces` of the chart, or correct the connection."
    if status == 404 and not_a_kind(said):
        why = "the Spark operator's CRDs are not installed"
        if served:
            why = f"its Spark operator's CRDs are of another version, {' and '.join(served)}"
        elif served is None:
            why += ", or are of another version"
        return f"The cluster does not know {resource}: {why}. {_INSTALL}"
    if unknown := re.findall(r'unknown field \\?"([^"\\]+)', said):
        return (
            f"The cluster's {resource} is that of another version of the Spark operator, which does not know "
            f"{', '.join(unknown)}. {_INSTALL}"
        )
    if hook := webhook_down(body):
        return (
            f"The webhook {hook} does not answer, so nothing can be made {where}: {said}. Is the program behind it "
            f"running? {_hooks(hook)}"
        )
    if denied := re.search(r'admission webhook "([^"]+)" denied the request:? ?(.*)', said, re.DOTALL):
        return (
            f"The webhook {denied[1]} does not allow {resource} {where}: {denied[2].strip()} "
            "What it allows is said by whoever runs the cluster."
        )
    if status in (400, 422):
        return f"The API server refuses {resource}: {said}"
    return f"The API server did not {verb} {resource} {where} ({status}): {said}"


def _hooks(name: str) -> str:
    """Where to look for the program behind a webhook."""
    if name.endswith("sparkoperator.k8s.io"):
        return "kubectl get pods -A -l app.kubernetes.io/component=webhook"
    return f"kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations -o yaml | grep -B9 -A9 {name}"


def _driver(pods: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((pod for pod in pods if role_of(pod) == "driver"), None)


def role_of(pod: Mapping[str, Any]) -> str:
    """Whether a pod is the driver or an executor."""
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
    over = _over(pod) if role_of(pod) == "executor" else None
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
    if hook := webhook_down(said):
        return (
            f"the webhook {hook} does not answer, so no pod can be made there. Is the program behind it running? "
            f"{_hooks(hook)}"
        )
    if "exceeded quota" in said:
        return f"the quota is used up: {_quota(said)}. Wait for other work, or raise workspaces.<name>.quota."
    if missing := _NO_CLASS.search(said):
        return f"there is no priority class {missing[1]}. {_CLASSES}"
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
