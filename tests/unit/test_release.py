"""What a release is made of, and how the platform is installed from it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from forebay.cli.main import group
from forebay.release import artifacts, charts

ROOT = Path(__file__).resolve().parents[2]


def test_every_artifact_has_a_version_and_a_licence() -> None:
    for each in artifacts():
        assert each.version, each
        assert each.version != "latest", each
        assert each.licence, each
        assert re.fullmatch(r"(sha256:[0-9a-f]{64})?", each.digest), each
        if each.kind in ("jar", "archive"):
            assert each.digest, each


def test_charts_run_the_images_that_are_pinned() -> None:
    known = {each.digest for each in artifacts()}
    for each in artifacts():
        if each.kind != "image" or not (chart := each.where.partition("chart ")[2]):
            continue
        values = ROOT / ("helm/forebay/values.yaml" if chart == "forebay" else f"helm/values/{chart}.yaml")
        text = values.read_text()
        assert each.version in text, f"{values} has another version of {each.name} than versions.toml"
        assert set(re.findall(r"sha256:[0-9a-f]{64}", text)) <= known, values


def test_images_are_listed_for_people_and_programs() -> None:
    text = CliRunner().invoke(group, ["images"])
    assert text.exit_code == 0, text.output
    listed = json.loads(CliRunner().invoke(group, ["images", "-o", "json"]).stdout)
    assert {each["kind"] for each in listed} == {"image", "chart", "jar", "archive"}
    assert all(each["name"] in text.stdout for each in listed)
    images = json.loads(CliRunner().invoke(group, ["images", "-o", "json", "--only", "image"]).stdout)
    assert images == [each for each in listed if each["kind"] == "image"]
    assert {"forebay-lens", "forebay-spark", "forebay-airflow"} <= {each["name"] for each in images}


@pytest.mark.parametrize("size", ["s", "m", "l"])
def test_the_platform_is_installed_in_order_from_pinned_charts(
    size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    lines = _printed("--size", size)
    assert [line[3] for line in lines] == [chart.name for chart in charts()]
    for line, chart in zip(lines, charts(), strict=True):
        if chart.repository:
            assert line[line.index("--version") + 1] == chart.version
        files = [Path(line[number + 1]) for number, word in enumerate(line) if word == "--values"]
        assert files, f"{chart.name} has no values"
        assert all(path.is_file() for path in files)


def test_one_may_bring_a_store_of_ones_own_and_charts_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    (tmp_path / "trino.yaml").write_text("server: {workers: 5}\n")
    lines = _printed("--without", "seaweedfs", "--site", str(tmp_path), "--charts", str(tmp_path))
    assert "seaweedfs" not in [line[3] for line in lines]
    trino = next(line for line in lines if line[3] == "trino")
    assert trino[4].startswith(str(tmp_path / "trino-"))
    # The site's values are the last ones, which win.
    last = max(number for number, word in enumerate(trino) if word == "--values")
    assert trino[last + 1] == str(tmp_path / "trino.yaml")
    assert [line[3] for line in _printed("--only", "forebay")] == ["forebay"]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([], "helm is not on PATH, so nothing was installed. Install helm"),
        (["helm"], "kubectl is not on PATH, so nothing was installed. It copies the Secret forebay-lake"),
    ],
)
def test_without_its_programs_the_platform_installs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: list[str], said: str
) -> None:
    monkeypatch.chdir(ROOT)
    for name in there:
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(group, ["platform"])
    assert said in str(done.exception)
    assert not (tmp_path / "ran").exists()


def test_all_images_can_come_from_ones_own_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_ROOT", str(tmp_path))
    (tmp_path / "dags").mkdir()
    registry = "registry.example.com:5000/forebay"
    lines = _printed("--registry", registry, "--site", str(tmp_path))
    said = {}
    for line in lines:
        files = [Path(line[number + 1]) for number, word in enumerate(line) if word == "--values"]
        (own,) = [path for path in files if path.parent.name == "registry"]
        said[line[3]] = own.read_text()
    # Every image of every chart is named, by the place that `forebay images` says it is to be copied to.
    listed = CliRunner().invoke(group, ["images", "-o", "json", "--only", "image", "--registry", registry])
    for image in json.loads(listed.stdout):
        name, _, tag = image["target"].rpartition(":")
        assert name.startswith(f"{registry}/")
        assert tag == image["version"]
        chart = image["where"].removeprefix("chart ")
        if chart in said:
            assert name.removeprefix("registry.example.com:5000/").removeprefix("forebay/") in said[chart]
            assert "registry.example.com:5000" in said[chart]
    assert set(said) == {chart.name for chart in charts()}
    operator = yaml.safe_load(said["spark-operator"])["image"]
    assert (
        f"{operator['registry']}/{operator['repository']}" == f"{registry}/kubeflow/spark-operator/controller"
    )
    wrong = CliRunner().invoke(group, ["platform", "--print", "--registry", "https://registry.example.com/"])
    assert wrong.exit_code == 2
    assert "without https://" in wrong.output


def test_missing_digests_are_named() -> None:
    said = CliRunner().invoke(group, ["images"]).stderr
    unknown = [each for each in artifacts() if each.kind == "image" and not each.digest]
    assert unknown
    assert all(each.name in said for each in unknown)
    assert "have a tag and no digest" in said
    assert "no digest" not in CliRunner().invoke(group, ["images", "--only", "jar"]).stderr


def test_digests_are_looked_up_by_skopeo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(group, ["images", "--resolve"])
    assert "skopeo is not on PATH" in str(done.exception)


def _printed(*arguments: str) -> list[list[str]]:
    done = CliRunner().invoke(group, ["platform", "--print", *arguments])
    assert done.exit_code == 0, done.output
    return [shlex.split(line) for line in done.stdout.splitlines()]
