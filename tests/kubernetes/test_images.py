"""The Dockerfile: linted, pinned, and its lens built and started."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import dockerfile
import programs
import psutil
import pytest

from conftest import ROOT
from forebay import release
from forebay.stack.layout import free_port

TARGETS = ("airflow", "lens", "spark")


def test_the_dockerfile_passes_hadolint() -> None:
    done = subprocess.run(
        [programs.hadolint(), "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_hadolint_sees_a_mistake(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text(
        (ROOT / "Dockerfile").read_text().replace("--no-install-recommends ", "") + "\nFROM debian:latest\n"
    )
    done = subprocess.run([programs.hadolint(), "--no-color", str(bad)], capture_output=True, text=True)
    assert done.returncode == 1
    assert {"DL3015", "DL3007"} <= set(re.findall(r"DL\d{4}", done.stdout))


def test_every_image_is_built_on_the_pinned_base() -> None:
    arguments, stages = dockerfile.parse(ROOT / "Dockerfile")
    assert re.fullmatch(r"debian:[a-z]+-\d{8}-slim@sha256:[0-9a-f]{64}", arguments["BASE"])
    assert [stage.name for stage in stages.values() if stage.parent == "${BASE}"] == ["base"]
    base = next(each for each in release.artifacts() if each.name == "debian")
    assert arguments["BASE"] == base.reference
    assert set(TARGETS) <= set(stages)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_says_what_it_is_and_runs_as_nobody_special(target: str) -> None:
    _, stages = dockerfile.parse(ROOT / "Dockerfile")
    steps = stages[target].steps
    labels = " ".join(rest for word, rest in steps if word == "LABEL")
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in labels
    user = [rest for word, rest in steps if word == "USER"][-1]
    assert int(user.split(":")[0]) > 0


def test_no_file_names_an_image_by_latest() -> None:
    wrong = []
    for path in [ROOT / "Dockerfile", *ROOT.glob("helm/**/*"), ROOT / "include/forebay/versions.toml"]:
        if path.is_file() and re.search(r"[a-z0-9]:latest\b|tag: *[\"']?latest", path.read_text()):
            wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


@pytest.mark.parametrize("name", ["airflow", "build", "lens", "spark"])
def test_a_lock_has_hashes_and_the_versions_we_test_with(name: str) -> None:
    locked = _lock(ROOT / "images" / f"{name}.txt")
    tested = _lock(ROOT / "requirements.txt")
    if name == "airflow":
        # Its providers want older packages than the rest does: what we pin ourselves is the same all the same.
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        tested = dict(re.findall(r"^([a-z0-9_-]+)(?:\[.*\])?==(\S+)$", "\n".join(project), re.MULTILINE))
    assert {each for each, version in locked.items() if tested.get(each, version) != version} == set()
    text = (ROOT / "images" / f"{name}.txt").read_text()
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=\S)", text.strip()))
    asked = re.findall(r"^([a-z0-9_-]+)", (ROOT / "images" / f"{name}.in").read_text(), re.MULTILINE)
    assert asked
    assert {each.replace("_", "-") for each in asked} <= set(locked)


def test_the_charts_run_the_images_that_are_listed() -> None:
    """`forebay images` and the values files name the same versions."""
    with (ROOT / "include/forebay/versions.toml").open("rb") as file:
        images = [image for image in tomllib.load(file)["image"] if image["chart"]]
    for image in images:
        path = ROOT / "helm" / "values" / f"{image['chart']}.yaml"
        if image["chart"] == "forebay":
            path = ROOT / "helm" / "forebay" / "values.yaml"
        assert image["version"] in path.read_text(), (
            f"{image['name']}:{image['version']} is not in {path.name}"
        )


@pytest.fixture(scope="module")
def lens(tmp_path_factory: pytest.TempPathFactory) -> dockerfile.Image:
    return build(tmp_path_factory).image("lens")


def build(tmp_path_factory: pytest.TempPathFactory) -> dockerfile.Build:
    assert os.geteuid() == 0, "building file systems needs root, as chroot does"
    # Where apt's user may enter, which is not so below a user's own temporary folder.
    work = tmp_path_factory.mktemp("images")
    for folder in (work, *work.parents[:2]):
        folder.chmod(0o755)
    return dockerfile.Build(ROOT, work)


def test_the_lens_is_small_and_has_no_tools(lens: dockerfile.Image) -> None:
    size = sum(
        path.lstat().st_size for path in lens.root.rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert size < 250 << 20, f"{size >> 20} MB"
    for tool in ("pip", "gcc", "git", "curl"):
        assert not list(lens.root.glob(f"usr/bin/{tool}"))
        assert not list(lens.root.glob(f"opt/forebay/bin/{tool}"))
    setuid = [
        path for path in (lens.root / "opt").rglob("*") if path.is_file() and path.stat().st_mode & 0o6000
    ]
    assert setuid == []


def test_the_lens_brings_the_list_of_its_packages(lens: dockerfile.Image) -> None:
    bill = json.loads((lens.root / "opt/forebay/sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    listed = {each["name"].lower().replace("_", "-"): each["version"] for each in bill["components"]}
    locked = _lock(ROOT / "images/lens.txt")
    assert {name: listed.get(name) for name in locked} == locked
    assert "forebay" in listed
    assert not {"apache-airflow", "pyspark", "duckdb"} & set(listed)


@pytest.mark.parametrize("target", TARGETS)
def test_a_second_build_gives_the_same_files(target: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """But for their times, which the documented command sets to one."""
    first, second = (_files(build(tmp_path_factory).image(target).root) for _ in range(2))
    assert sorted(path for path in first | second if first.get(path) != second.get(path)) == []


def _files(root: Path) -> dict[str, tuple[int, int, int, str]]:
    """Of each file its mode, owner and group, and what is in it or where it leads."""
    found = {}
    for path in root.rglob("*"):
        known = path.lstat()
        said = ""
        if path.is_symlink():
            said = str(path.readlink())
        elif path.is_file():
            said = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(root))] = (known.st_mode, known.st_uid, known.st_gid, said)
    return found


def test_the_lens_starts_from_its_file_system(lens: dockerfile.Image) -> None:
    """As in its pod: its own user, nothing writable; it answers, and says that the catalog does not."""
    port, nobody = free_port(set()), free_port(set())
    asked = ["--catalog", f"http://127.0.0.1:{nobody}", "--host", "127.0.0.1", "--port", str(port)]
    process = dockerfile.start(lens, asked, read_only=True)
    try:
        metrics = _get(f"http://127.0.0.1:{port}/metrics", process)
        assert metrics[0] == 200
        assert "forebay_lens_catalog_seconds_count" in metrics[1]
        status, body = _get(f"http://127.0.0.1:{port}/health", process)
        assert (status, json.loads(body)["status"]) == (503, "catalog down")
        owner = subprocess.run(
            ["ps", "-eww", "-o", "uid,args"], capture_output=True, text=True, check=True
        ).stdout  # fmt: skip
        assert re.search(rf"^ *10001 .*forebay\.lens.*{port}", owner, re.MULTILINE)
        # What a pod's end sends to its first process, through which it must reach the lens.
        first = psutil.Process(process.pid).children()[0]
        assert first.name() == "dumb-init"
        first.terminate()
        process.wait(timeout=15)
    finally:
        dockerfile.stop(process)


def _get(url: str, process: subprocess.Popen[str]) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(150):
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        try:
            with opener.open(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{url} did not answer in half a minute")


def _lock(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), re.MULTILINE))
