"""Builds a target of the Dockerfile without Docker: the same instructions, on a Debian made from its packages.

What differs from the image: the base is Debian of today instead of the pinned one. Needs root, as `chroot` does.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import programs
import psutil

from forebay.machine import trust

_SECONDS = 900


@dataclass
class Stage:
    """One `FROM … AS name` and what follows it."""

    parent: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Image:
    """A built stage: its file system and how it is started."""

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    """Of its build; a stage that begins with another one has that one's too."""
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    user: str = "0:0"
    workdir: str = "/"
    labels: dict[str, str] = field(default_factory=dict)
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])


def parse(path: Path) -> tuple[dict[str, str], dict[str, Stage]]:
    """The global arguments and the stages of a Dockerfile."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if not word:
            continue
        if word == "FROM":
            parent, _, name = rest.partition(" AS ")
            stage = stages[name] = Stage(parent.strip(), name.strip())
        elif stage is None:
            assert word == "ARG", line
            name, _, value = rest.partition("=")
            arguments[name] = value
        else:
            stage.steps.append((word, rest.strip()))
    return arguments, stages


class Build:
    """Builds stages into folders below `work`, each once."""

    def __init__(self, root: Path, work: Path) -> None:
        self.root, self.work = root, work
        _, self.stages = parse(root / "Dockerfile")
        self.built: dict[str, Image] = {}

    def image(self, name: str) -> Image:
        if name in self.built:
            return self.built[name]
        if name not in self.stages:
            image = Image(self._debian())
        else:
            stage = self.stages[name]
            parent = self.image(stage.parent)
            image = Image(**{**vars(parent), "env": dict(parent.env), "labels": dict(parent.labels), "arguments": dict(parent.arguments)})  # fmt: skip
            image.root = self.work / name
            subprocess.run(["cp", "-a", "--reflink=auto", str(parent.root), str(image.root)], check=True)
            for word, rest in stage.steps:
                self._step(image, word, rest)
        self.built[name] = image
        return image

    def _step(self, image: Image, word: str, rest: str) -> None:
        if word == "ARG":
            name, _, value = rest.partition("=")
            image.arguments[name] = value
        elif word in ("ENV", "LABEL"):
            target = image.env if word == "ENV" else image.labels
            for part in shlex.split(rest):
                name, _, value = part.partition("=")
                for known, given in image.arguments.items():
                    value = value.replace("${" + known + "}", given)
                target[name] = value
        elif word == "RUN":
            self._run(image, {**image.arguments, **image.env}, rest)
        elif word == "COPY":
            self._copy(image, rest)
        elif word == "WORKDIR":
            image.workdir = rest
            (image.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            image.user = rest
        elif word == "SHELL":
            image.shell = json.loads(rest)
        elif word in ("ENTRYPOINT", "CMD"):
            setattr(image, "entrypoint" if word == "ENTRYPOINT" else "command", json.loads(rest))
        else:
            assert word == "EXPOSE", f"{word} is not known here: teach it to tests/kubernetes/dockerfile.py"

    def _run(self, image: Image, env: dict[str, str], script: str) -> None:
        # The way out is this machine's: names, proxy, and authorities are lent for the time of the step.
        lent = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        authority = Path("/etc/ssl/certs/ca-certificates.crt")
        (image.root / "run").mkdir(exist_ok=True)
        if authority.exists():
            shutil.copy(authority, image.root / "run" / "host-ca.crt")
            names = ("PIP_CERT", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS")
            lent |= dict.fromkeys(names, "/run/host-ca.crt")
        store = [each.replace(str(image.root), "") for each in trust.java_options(image.root / "run")]
        if store:
            lent["JAVA_TOOL_OPTIONS"] = " ".join(store)
        lent |= {
            name: value
            for name, value in os.environ.items()
            if name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") or name.lower() == "npm_config_registry"
        }
        done = inside(image.root, [*image.shell, script], {**lent, **env}, image.workdir, "0:0", _SECONDS)
        for each in (image.root / "run").glob("*"):
            if each.name == "host-ca.crt" or each.suffix == ".p12":
                each.unlink()
        assert done.returncode == 0, f"RUN {script}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"

    def _copy(self, image: Image, rest: str) -> None:
        words = shlex.split(rest)
        options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        base = self.image(options["from"]).root if "from" in options else self.root
        into = image.root / (target if target.startswith("/") else f"{image.workdir}/{target}").lstrip("/")
        folder = target.endswith("/") or len(sources) > 1
        for source in sources:
            found = base / source.lstrip("/")
            if base == self.root:
                assert self._admitted(source), f"COPY {source}: .dockerignore keeps it out"
            goal = into / found.name if folder and found.is_file() else into
            goal.parent.mkdir(parents=True, exist_ok=True)
            if found.is_dir():
                shutil.copytree(
                    found,
                    goal,
                    symlinks=True,
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns(*(self._left_out() if base == self.root else ())),
                )
            else:
                shutil.copy2(found, goal)
            if "chmod" in options:
                goal.chmod(int(options["chmod"], 8))

    def _ignored(self) -> list[str]:
        """The lines of .dockerignore."""
        text = (self.root / ".dockerignore").read_text()
        return [line for line in text.splitlines() if line and line[0] != "#"]

    def _left_out(self) -> list[str]:
        """Names that .dockerignore keeps out of the folders it lets in."""
        return [line.rpartition("/")[2] for line in self._ignored()[1:] if not line.startswith("!")]

    def _admitted(self, source: str) -> bool:
        """Whether .dockerignore, which refuses everything first, lets this path in again."""
        lines = self._ignored()
        assert lines[0] == "*"
        allowed = [line[1:] for line in lines if line.startswith("!")]
        source = source.rstrip("/").removeprefix("./")
        return any(fnmatch.fnmatch(source, each) or source.startswith(f"{each}/") for each in allowed)

    def _debian(self) -> Path:
        """Debian trixie with what its image has, from its packages."""
        target = self.work / "debian"
        archive = programs.cache_folder() / "debian-trixie.tar"
        if not archive.exists():
            # Not in a folder of a user: apt's own user must be able to read it.
            mmdebstrap = programs.debian("mmdebstrap", "usr/bin/mmdebstrap")
            part = archive.with_suffix(f".{os.getpid()}.tar")
            command = [mmdebstrap, "--variant=minbase", "trixie", str(part)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
            assert done.returncode == 0, done.stderr[-3000:]
            part.rename(archive)
        target.mkdir()
        subprocess.run(["tar", "-C", str(target), "--exclude=./dev/*", "-xpf", str(archive)], check=True)
        # In the form of Debian's image, but for the comment with a snapshot's address: packages of today will do here.
        sources = target / "etc/apt/sources.list"
        address = sources.read_text().split()[1]
        (target / "etc/apt/sources.list.d/debian.sources").write_text(
            f"Types: deb\nURIs: {address}\nSuites: trixie\nComponents: main\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        )
        sources.unlink()
        return target


def inside(
    root: Path, command: list[str], env: dict[str, str], workdir: str, user: str, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a file system of its own, with its own processes and mounts."""
    return subprocess.run(
        [*_entering(root, workdir, user), *command], env=env, capture_output=True, text=True, timeout=seconds,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def start(
    image: Image, arguments: list[str], *, read_only: bool, output: IO[str] | int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Starts an image as a container runtime would: its entry point, environment, folder and user."""
    return subprocess.Popen(
        [*_entering(image.root, image.workdir, image.user, read_only), *image.entrypoint, *arguments],
        env=image.env, stdout=output, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def stop(process: subprocess.Popen[str]) -> None:
    """Ends what `start` started as a pod's end does: by its first process, which tells the others."""
    try:
        for first in psutil.Process(process.pid).children():
            first.terminate()
        process.wait(timeout=30)
    except (psutil.NoSuchProcess, subprocess.TimeoutExpired):
        # The first process of a namespace takes all others of it along. It has another user, so the end of its parent
        # alone does not end it.
        with contextlib.suppress(psutil.NoSuchProcess):
            for first in psutil.Process(process.pid).children():
                first.kill()
        process.kill()
        process.wait()


def _entering(root: Path, workdir: str, user: str, read_only: bool = False) -> list[str]:
    mounts = [
        f"mount --bind {shlex.quote(str(root))} {shlex.quote(str(root))}",
        f"cd {shlex.quote(str(root))}",
        "mount -t proc proc proc",
        "mount --rbind /dev dev",
        "mount --bind /etc/resolv.conf etc/resolv.conf" if (root / "etc/resolv.conf").exists() else "true",
    ]
    if read_only:
        mounts.append(f"mount -o remount,bind,ro {shlex.quote(str(root))}")
    enter = f'exec chroot --userspec={user} . /usr/bin/env --chdir={shlex.quote(workdir)} "$@"'
    return [
        "/usr/bin/unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "/bin/sh",
        "-ec",
        " && ".join([*mounts, enter]),
        "-",
    ]
