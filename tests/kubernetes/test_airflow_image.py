"""The image of Airflow: built, started from its file system, with jobs from Git and the console in it."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import dockerfile
import pytest

from conftest import ROOT
from forebay.stack.layout import free_port

LAPTOP = {"supervisor"}
"""What only the embedded stack needs, and no image has."""
IMPORTS = """
import importlib, json, pkgutil, forebay
missing = {}
for each in pkgutil.walk_packages(forebay.__path__, "forebay."):
    if not each.name.endswith(".__main__"):
        try:
            importlib.import_module(each.name)
        except ImportError as error:
            missing[each.name] = error.name
print(json.dumps(missing))
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> dockerfile.Image:
    assert os.geteuid() == 0, "building file systems needs root, as chroot does"
    work = tmp_path_factory.mktemp("airflow")
    for folder in (work, *work.parents[:2]):
        folder.chmod(0o755)
    image = dockerfile.Build(ROOT, work).image("airflow")
    repository = image.root / "srv/jobs"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(repository)], check=True)
    subprocess.run(["chown", "-R", image.user, str(repository)], check=True)
    bundle = {
        "name": "flights",
        "classpath": "forebay.git_bundle.GitJobsBundle",
        "kwargs": {
            "repo_url": "/srv/jobs",
            "tracking_ref": "HEAD",
            "subdir": "dags/flights",
            "refresh_interval": 30,
        },
    }
    image.env |= {
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__CORE__AUTH_MANAGER": "forebay.workspace_auth.WorkspaceFabAuthManager",
        "AIRFLOW__FAB__CONFIG_FILE": "/opt/forebay/webserver_config.py",
        **{
            f"FOREBAY_OIDC_{name}": "https://127.0.0.1:1/"
            for name in ("ISSUER", "CLIENT_ID", "CLIENT_SECRET")
        },
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a-secret-of-the-tests-that-is-long-enough-for-sha-512-so-here-are-some-words",
    }
    said(image, "airflow", "db", "migrate")
    return image


def said(image: dockerfile.Image, *command: str) -> str:
    """What a command prints that runs as in a container."""
    done = dockerfile.inside(
        image.root, [*image.entrypoint, *command], image.env, image.workdir, image.user, 300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def listed(image: dockerfile.Image, *command: str) -> list[dict[str, str]]:
    """What a command of Airflow lists, without the log lines before it."""
    lines = said(image, "airflow", *command, "--output", "json").splitlines()
    found: list[dict[str, str]] = json.loads(next((line for line in lines if line.startswith("[")), "[]"))
    return found


def test_all_of_forebay_that_is_not_for_a_laptop_loads(airflow: dockerfile.Image) -> None:
    missing = json.loads(said(airflow, "python", "-c", IMPORTS).splitlines()[-1])
    assert set(missing.values()) <= LAPTOP, missing
    assert not any(
        name.startswith(("forebay.operators", "forebay.engines", "forebay.lake")) for name in missing
    )


def test_it_has_the_entrypoint_that_airflows_chart_asks_for(airflow: dockerfile.Image) -> None:
    """Its probes are `exec /entrypoint airflow jobs check …`, in a shell of the running container."""
    assert airflow.entrypoint[-1] == "/entrypoint"
    probe = ["sh", "-c", "CONNECTION_CHECK_MAX_COUNT=0 exec /entrypoint airflow version"]
    done = dockerfile.inside(airflow.root, probe, airflow.env, airflow.workdir, airflow.user, 300)
    assert done.stdout.strip() == "3.3.2", done.stderr[-3000:]


def test_jobs_own_packages_are_in_it(airflow: dockerfile.Image) -> None:
    """Those of images/team.in: the example workspace's own program finds the files of one, which it lands."""
    files = (
        "import landing; print({path.split('/')[2]: len(read()) for _, path, read in landing._files(2013)})"
    )
    shown = "git -C /srv/jobs show HEAD:include/flights/landing.py"
    found = said(airflow, "sh", "-euc", f'cd "$(mktemp -d)"; {shown} >landing.py; python -c "$1"', "-", files)
    sizes = ast.literal_eval(found.splitlines()[-1])
    assert set(sizes) == {"flights", "weather", "airlines", "airports", "planes"}
    assert min(sizes.values()) > 300


def test_it_is_the_airflow_that_is_pinned_with_git_and_the_editor(airflow: dockerfile.Image) -> None:
    assert said(airflow, "airflow", "version").strip() == "3.3.2"
    assert said(airflow, "git", "--version")
    editor = airflow.root / "opt/forebay/plugins/forebay_ui/static/editor.js"
    assert editor.stat().st_size > 100_000
    assert not (airflow.root / "opt/forebay/plugins/forebay_ui/web").exists()
    bill = json.loads((airflow.root / "opt/forebay/sbom.cdx.json").read_text())
    assert {"apache-airflow", "duckdb", "trino", "forebay"} <= {each["name"] for each in bill["components"]}


def test_jobs_come_from_a_git_repository(airflow: dockerfile.Image) -> None:
    said(airflow, "airflow", "dag-processor", "--num-runs", "1")
    found = {each["dag_id"]: each for each in listed(airflow, "dags", "list")}
    assert found["flights.daily_delays"]["bundle_name"] == "flights"
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found["flights.daily_delays"]["bundle_version"] == head.stdout.strip()
    assert listed(airflow, "dags", "list-import-errors") == []


def test_the_api_server_shows_the_console_to_who_logged_in(airflow: dockerfile.Image, tmp_path: Path) -> None:
    port, log = free_port(set()), tmp_path / "log"
    command = ["airflow", "api-server", "--port", str(port), "--host", "127.0.0.1", "--workers", "1"]
    with log.open("w") as output:
        process = dockerfile.start(airflow, command, read_only=False, output=output)
        try:
            for path, status in {
                "api/v1/health": 200,
                "api/v1/workspaces": 401,
                "static/editor.js": 401,
            }.items():
                assert _status(f"http://127.0.0.1:{port}/forebay/{path}", process, log) == status
            # Nobody is there to sign in at, which takes the library that asks.
            assert _status(f"http://127.0.0.1:{port}/auth/login/", process, log) == 200
        finally:
            dockerfile.stop(process)


def _status(url: str, process: subprocess.Popen[str], log: Path) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with opener.open(url, timeout=20) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"{url} did not answer: {log.read_text()[-3000:]}")
