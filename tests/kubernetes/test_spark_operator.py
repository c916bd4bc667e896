"""`spark` tasks while the Spark operator is away, or cannot make pods."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from spark_cluster import SparkCluster
from test_spark import WHO, Started, until
from test_spark_faults import webhook
from test_spark_node import BEGIN, SLOW, WAIT, Space, space

from forebay.engines.background import EngineError
from forebay.engines.spark_application import application_name

__all__ = ["space"]

CONTROLLER, WEBHOOK = "spark-operator-controller", "spark-operator-webhook"
BRIEF = SLOW.replace("25", "8")
FAILS = BRIEF + "raise SystemExit(3)\n"


@contextlib.contextmanager
def away(spark: SparkCluster, *parts: str) -> Iterator[None]:
    """Parts of the operator have no pods meanwhile."""
    scale(spark, 0, *parts)
    try:
        yield
    finally:
        scale(spark, 1, *parts)


def scale(spark: SparkCluster, number: int, *parts: str) -> None:
    for part in parts:
        spark.cluster.kubectl("scale", f"deployment/{part}", "-n", "operators", f"--replicas={number}")
    if number:
        for part in parts:
            spark.cluster.kubectl(
                "rollout", "status", f"deployment/{part}", "-n", "operators", "--timeout=100s"
            )
        return
    chosen = f"app.kubernetes.io/component in ({','.join(part.rpartition('-')[2] for part in parts)})"
    until(lambda: spark.cluster.get("pods", "-n", "operators", "-l", chosen)["items"] == [], 90)


def test_it_is_waited_for_where_a_task_begins(space: Space) -> None:
    """First its webhook is missing, so that no application can be made, then its controller, which would begin it."""
    said: list[str] = []
    with away(space.spark, CONTROLLER):
        with away(space.spark, WEBHOOK):
            started = Started(space.engine(BRIEF, said))
            until(lambda: said or not started.thread.is_alive(), 60)
        assert said[0].startswith("waits: The webhook "), said
        assert "sparkoperator.k8s.io does not answer, so nothing can be made in the namespace" in said[0]
        words = (
            "waits: the Spark operator has not taken it up. Is it running, and does it watch this namespace?"
        )
        until(lambda: said[-1].startswith(words) or not started.thread.is_alive(), 60)
    assert started.ended(300) is None, "\n".join(said)
    assert "second 7" in said


@pytest.mark.parametrize(
    ("text", "comes_back"), [(BRIEF, True), (BRIEF, False), (FAILS, False)], ids=["back", "done", "fails"]
)
def test_it_is_not_needed_for_a_driver_that_runs(space: Space, text: str, comes_back: bool) -> None:
    """The driver's end is waited for with it for a minute; then the driver's own exit code counts."""
    said: list[str] = []
    started = Started(space.engine(text, said))
    until(lambda: "second 0" in said or not started.thread.is_alive(), 300)
    state = f"{application_name(WHO)}: COMPLETED" if text == BRIEF else f"{application_name(WHO)}: FAILED"
    with away(space.spark, CONTROLLER):
        words = "waits: the driver has ended, and the Spark operator has not noticed. Is it running? kubectl get pods"
        until(lambda: [line for line in said if line.startswith(words)] or not started.thread.is_alive(), 120)
        assert started.thread.is_alive(), "\n".join(said)
        if not comes_back:
            error = started.ended(120)
    if comes_back:
        error = started.ended(120)
    assert (state in said) is comes_back, "\n".join(said)
    if text == BRIEF:
        assert error is None, "\n".join(said)
    else:
        assert isinstance(error, EngineError)
        assert str(error).startswith("The program ended with code 3.")


def test_a_driver_that_goes_while_it_is_away_is_told(space: Space) -> None:
    said: list[str] = []
    started = Started(space.engine(WAIT, said))
    until(lambda: "waits" in said or not started.thread.is_alive(), 300)
    with away(space.spark, CONTROLLER):
        space.spark.cluster.kubectl("delete", "pod", f"{application_name(WHO)}-driver", "-n", space.name)
        error = started.ended(120)
    assert isinstance(error, EngineError)
    assert "The driver's pod is gone: it was deleted, or its node was lost." in str(error), "\n".join(said)


def test_a_webhook_that_keeps_pods_out_is_named(space: Space) -> None:
    with webhook(
        space.spark.cluster, space.name, "ValidatingWebhookConfiguration", "pods.policy.test", "/pods"
    ):
        error = Started(space.engine(f"{BEGIN}print('never')\n")).ended(300)
    assert isinstance(error, EngineError)
    assert "The driver could not be started: the webhook pods.policy.test does not answer" in str(error)
    assert "kubectl get validatingwebhookconfigurations" in str(error)
