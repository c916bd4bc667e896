"""File systems as images: docker-archives that `ctr images import` takes, without a daemon or a registry."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import dockerfile
import programs

SPARK = "forebay.test/forebay-spark:0.1.0"
OPERATOR = "forebay.test/spark-operator:2.5.2"
AIRFLOW = "forebay.test/forebay-airflow:0.1.0"


def archive(layers: Sequence[Path], name: str, target: Path, image: dockerfile.Image) -> Path:
    """Writes folders as the layers of an image, which is started as `image` says."""
    digests = []
    with tarfile.open(target, "w") as made:
        for number, folder in enumerate(layers):
            layer = target.with_suffix(f".{number}.layer")
            command = ["tar", "-C", str(folder), "--numeric-owner", "--sort=name"]
            command += ["--exclude=./proc/*", "--exclude=./sys/*", "-cf", str(layer), "."]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, done.stderr
            with layer.open("rb") as file:
                digests.append(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
            made.add(layer, f"{number}/layer.tar")
            layer.unlink()
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": image.entrypoint,
                "Cmd": image.command,
                "Env": [f"{key}={value}" for key, value in image.env.items()],
                "User": image.user,
                "WorkingDir": image.workdir,
            },
            "rootfs": {"type": "layers", "diff_ids": digests},
        }
        packed = json.dumps(config).encode()
        config_name = f"{hashlib.sha256(packed).hexdigest()}.json"
        files = [f"{number}/layer.tar" for number in range(len(layers))]
        manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": files}]).encode()
        for inner, content in ((config_name, packed), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(inner)
            entry.size = len(content)
            made.addfile(entry, io.BytesIO(content))
    return target


def spark(repository: Path) -> list[Path]:
    """The Dockerfile's target `spark`, and the Spark operator on top of it: built anew when their sources change."""

    def build(folder: Path) -> None:
        # Where apt's user may enter, which is not so below a user's own folders.
        with tempfile.TemporaryDirectory(prefix="forebay-images-") as work:
            Path(work).chmod(0o755)
            image = dockerfile.Build(repository, Path(work)).image("spark")
            archive([image.root], SPARK, folder / "spark.tar", image)
            top = Path(work) / "operator"
            (top / "usr/bin").mkdir(parents=True)
            (top / "usr/bin/spark-operator").write_bytes(Path(programs.spark_operator()).read_bytes())
            (top / "usr/bin/spark-operator").chmod(0o755)
            image.entrypoint = ["dumb-init", "--", "spark-operator"]
            archive([image.root, top], OPERATOR, folder / "operator.tar", image)

    key = programs.SPARK_OPERATOR + _digest(repository, "images", "include/forebay")
    folder = programs.kept("images", key, build, only=True)
    return [folder / "spark.tar", folder / "operator.tar"]


def airflow(repository: Path) -> Path:
    """The Dockerfile's target `airflow`: built anew when its sources change."""

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="forebay-images-") as work:
            Path(work).chmod(0o755)
            image = dockerfile.Build(repository, Path(work)).image("airflow")
            archive([image.root], AIRFLOW, folder / "airflow.tar", image)

    key = _digest(repository, "images", "include/forebay", "plugins", "tools/ui.py")
    return programs.kept("airflow-image", key, build, only=True) / "airflow.tar"


def _digest(repository: Path, *copied: str) -> str:
    digest = hashlib.sha256()
    for path in _sources(repository, "Dockerfile", "pyproject.toml", *copied):
        digest.update(f"{path.relative_to(repository)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _sources(repository: Path, *copied: str) -> Iterator[Path]:
    made = {"__pycache__", "node_modules", "editor.js"}
    for each in copied:
        found = [repository / each, *sorted((repository / each).rglob("*"))]
        yield from (path for path in found if path.is_file() and not made.intersection(path.parts))
