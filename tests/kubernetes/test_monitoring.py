"""Alerts fire on their faults, and every metric that alerts and dashboards ask for exists."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import programs
import pytest
import yaml
from prometheus_client import generate_latest

from conftest import ROOT

ALERTS = ROOT / "helm/forebay/files/alerts.yaml"
DASHBOARDS = sorted((ROOT / "helm/forebay/files/dashboards").glob("*.json"))


@pytest.fixture(scope="module")
def promtool() -> str:
    return programs.debian("prometheus", "usr/bin/promtool")


def test_each_alert_fires_on_its_fault_and_is_silent_without(promtool: str, tmp_path: Path) -> None:
    shutil.copy(ALERTS, tmp_path)
    shutil.copy(Path(__file__).with_name("alerts.test.yaml"), tmp_path)
    done = subprocess.run(
        [promtool, "test", "rules", "alerts.test.yaml"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tests = yaml.safe_load((tmp_path / "alerts.test.yaml").read_text())["tests"]
    for alert in _alerts():
        cases = [
            each for test in tests for each in test["alert_rule_test"] if each["alertname"] == alert["alert"]
        ]
        assert any(each["exp_alerts"] for each in cases), f"no test lets {alert['alert']} fire"
        assert any(not each["exp_alerts"] for each in cases), f"no test keeps {alert['alert']} silent"


def test_promtool_sees_a_mistake(promtool: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(ALERTS.read_text().replace("absent(forebay", "absent((forebay"))
    assert subprocess.run([promtool, "check", "rules", str(bad)], capture_output=True).returncode != 0


def test_every_runbook_that_an_alert_names_is_there() -> None:
    for alert in _alerts():
        path, _, part = alert["annotations"]["runbook"].partition("#")
        text = (ROOT / path).read_text()
        headings = [
            re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in text.splitlines()
            if line.startswith("#")
        ]
        assert not part or part in headings, f"{path} has no heading for #{part}"


def test_every_metric_that_is_asked_for_exists() -> None:
    known = _of_the_lens() | _of_airflow()
    for where, expression in _expressions():
        for name in re.findall(r"\b(?:forebay|airflow)_[a-z0-9_]+", expression):
            assert name in known, f"{where}: nothing writes {name}"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_is_a_valid_question(promtool: str, tmp_path: Path, path: Path) -> None:
    expressions = [expression for where, expression in _expressions() if where.startswith(path.stem)]
    assert expressions
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(expressions)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def _alerts() -> list[dict[str, dict[str, str]]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _expressions() -> list[tuple[str, str]]:
    """Every expression of alerts and dashboards, with where it stands."""
    assert DASHBOARDS
    found = [(str(alert["alert"]), str(alert["expr"])) for alert in _alerts()]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                expression = target["expr"].replace("$__rate_interval", "5m")
                found.append((f"{path.stem}: {panel['title']}", expression))
    return found


def _of_the_lens() -> set[str]:
    """As the lens itself writes them."""
    from forebay.lens import telemetry

    telemetry.REQUESTS.labels("run", "GET", "200")
    telemetry.SECONDS.labels("run", "GET")
    return set(re.findall(r"^(forebay_[a-z0-9_]+)", generate_latest().decode(), re.MULTILINE))


def _of_airflow() -> set[str]:
    """From the installed Airflow's own list, in the names Prometheus gives to OpenTelemetry's metrics."""
    package = find_spec("airflow")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "_shared/observability/metrics/metrics_template.yaml"
    names = set()
    for metric in yaml.safe_load(path.read_text())["metrics"]:
        name = "airflow_" + re.sub(r"[^a-z0-9_]", "_", metric["name"])
        endings = {"counter": ["_total"], "gauge": [""], "timer": ["_bucket", "_count", "_sum"]}[
            metric["type"]
        ]
        names.update(name + ending for ending in endings)
    return names
