"""Fetches and builds the programs that the tests of Kubernetes need; all of it is kept outside of the checkout.

From pinned Go modules, which Go's checksum database vouches for, Debian's packages and PyPI with hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
HELM = "helm.sh/helm/v3/cmd/helm@v3.19.5"
KUBERNETES = "v1.34.4"
SPARK_OPERATOR = "github.com/kubeflow/spark-operator/v2@v2.5.2"
PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
_SECONDS = 3000


def cache() -> Path:
    """Where programs are kept, for all checkouts of this user."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "forebay" / "kubernetes"


def helm() -> str:
    def build(folder: Path) -> None:
        _go(["install", "-trimpath", "-ldflags=-s -w", HELM], env={"GOBIN": str(folder)})

    return str(_kept("helm", HELM, build) / "helm")


def kubernetes() -> Path:
    """A folder with Kubernetes' programs and etcd: one program that is linked under each name."""
    sources = [HERE / "control_plane" / name for name in ("go.mod", "go.sum", "main.go")]

    def build(folder: Path) -> None:
        flags = f"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES}"
        target = folder / "kubernetes"
        _go(["build", "-mod=readonly", "-trimpath", flags, "-o", str(target), "."], cwd=sources[0].parent)
        for part in PARTS:
            (folder / part).symlink_to("kubernetes")

    return _kept("kubernetes", KUBERNETES + "".join(path.read_text() for path in sources), build)


def module(name: str) -> Path:
    """The files of a Go module, for its charts and CRDs: `path@version`."""
    done = _run([_program("go", "Go"), "mod", "download", "-json", name], cwd=cache_folder(), timeout=600)
    return Path(json.loads(done)["Dir"])


def debian(package: str, program: str) -> str:
    """A program out of a Debian package, without installing it."""
    return str(_unpacked(package, package) / program)


def _unpacked(name: str, *packages: str) -> Path:
    """A folder with the files of Debian packages."""

    def unpack(folder: Path) -> None:
        apt = _program("apt-get", "Debian or Ubuntu")
        if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
            _run([apt, "-qq", "update"], timeout=300)
        _run([apt, "-qq", "-o", "APT::Sandbox::User=root", "download", *packages], cwd=folder, timeout=300)
        for archive in folder.glob("*.deb"):
            _run(["dpkg", "-x", str(archive), str(folder)], timeout=300)
            archive.unlink()

    return _kept(name, Path("/etc/os-release").read_text() + " ".join(packages[1:]), unpack)


def hadolint() -> str:
    lock = HERE / "tools.txt"

    def install(folder: Path) -> None:
        # Where it will be, not where it is made: the environment is not moved after it.
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--require-hashes"]
        if shutil.which("uv", path=str(Path(sys.executable).parent)):
            command = [str(Path(sys.executable).with_name("uv")), "pip", "install", "-q", "--require-hashes"]
        _run([*command, "--target", str(folder), "-r", str(lock)], timeout=600)

    return str(_kept("tools", lock.read_text(), install) / "bin" / "hadolint")


def cache_folder() -> Path:
    cache().mkdir(parents=True, exist_ok=True)
    return cache()


def _kept(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder that `make` filled once for this key; it appears whole or not at all."""
    folder = cache_folder() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cache(), prefix=f".{name}-") as work:
            made = Path(work) / "made"
            made.mkdir()
            made.chmod(0o755)
            make(made)
            if not folder.exists():
                made.rename(folder)
    return folder


def _go(arguments: Sequence[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    _run([_program("go", "Go"), *arguments], cwd=cwd or cache_folder(), env=env, timeout=_SECONDS)


def _program(name: str, what: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/local/go/bin:/usr/lib/go/bin")
    assert found, f"{name} is not on PATH. The tests of Kubernetes need {what}."
    return found


def _run(
    command: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float
) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})},
        capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout
