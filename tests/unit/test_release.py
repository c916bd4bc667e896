"""What a release is made of, and how the platform is installed from it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
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


def test_without_helm_the_platform_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", "/nowhere")
    done = CliRunner().invoke(group, ["platform"])
    assert "helm is not on PATH. Install helm" in str(done.exception)


def _printed(*arguments: str) -> list[list[str]]:
    done = CliRunner().invoke(group, ["platform", "--print", *arguments])
    assert done.exit_code == 0, done.output
    return [shlex.split(line) for line in done.stdout.splitlines()]
