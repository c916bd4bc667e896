"""`forebay images --resolve` on a real registry, by a real skopeo."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import programs
import pytest
from click.testing import CliRunner
from store import free_ports, wait_until

from forebay.cli.main import group
from forebay.registry import target
from forebay.release import Artifact, artifacts

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
IMAGES = [each for each in artifacts() if each.kind == "image"]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a registry's images are; skopeo is on PATH, and takes this registry without TLS."""
    (port,) = free_ports(1)
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (tmp_path / "config.yml").write_text(json.dumps(settings))
    own = tmp_path / ".config" / "containers"
    own.mkdir(parents=True)
    (own / "registries.conf").write_text(f'[[registry]]\nlocation = "127.0.0.1:{port}"\ninsecure = true\n')
    program, environment = programs.skopeo()
    (tmp_path / "skopeo").write_text(
        f'#!/bin/sh\nHOME={tmp_path} LD_LIBRARY_PATH={environment["LD_LIBRARY_PATH"]} exec {program} "$@"\n'
    )
    (tmp_path / "skopeo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    command = [
        programs.debian("docker-registry", "usr/bin/docker-registry"),
        "serve",
        str(tmp_path / "config.yml"),
    ]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: "listening on" in (tmp_path / "log").read_text(), process, tmp_path / "log")
            yield f"127.0.0.1:{port}/forebay"
        finally:
            process.terminate()


def push(place: str, text: str) -> str:
    """Puts an image for two kinds of machines into a registry; the digest of the whole."""
    host, _, rest = place.partition("/")
    name, _, tag = rest.rpartition(":")

    def put(path: str, content: bytes, kind: str) -> None:
        answer = httpx.put(f"http://{host}/v2/{name}/{path}", content=content, headers={"content-type": kind})
        assert answer.status_code == 201, answer.text

    def described(kind: str, content: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return {"mediaType": kind, "digest": digest, "size": len(content)}

    kinds = []
    for machine in ("amd64", "arm64"):
        config = json.dumps({"architecture": machine, "os": "linux", "author": text}).encode()
        told = described("application/vnd.oci.image.config.v1+json", config)
        begun = httpx.post(f"http://{host}/v2/{name}/blobs/uploads/")
        upload = httpx.URL(begun.headers["location"]).copy_add_param("digest", str(told["digest"]))
        ended = httpx.put(upload, content=config)
        assert ended.status_code == 201, ended.text
        manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": _MANIFEST, "config": told, "layers": []}
        ).encode()
        one = described(_MANIFEST, manifest)
        put(f"manifests/{one['digest']}", manifest, _MANIFEST)
        kinds.append(one | {"platform": {"architecture": machine, "os": "linux"}})
    index = json.dumps({"schemaVersion": 2, "mediaType": _INDEX, "manifests": kinds}).encode()
    put(f"manifests/{tag}", index, _INDEX)
    return str(described(_INDEX, index)["digest"])


def test_ones_own_registry_is_asked_for_every_digest(registry: str) -> None:
    there = {each.name: push(target(each, registry), each.name) for each in IMAGES}
    known = [each for each in IMAGES if each.digest]
    done = CliRunner().invoke(
        group, ["images", "--resolve", "--registry", registry, "--only", "image", "-o", "json"]
    )
    assert {each["name"]: each["digest"] for each in json.loads(done.stdout)} == there
    # These are not the images that the release pins, which is told of each one.
    for each in known:
        assert f"{target(each, registry)} is {there[each.name]}" in str(done.exception)
    assert str(done.exception).count("this release pins") == len(known)


def test_what_is_not_there_is_named_and_the_rest_is_told(registry: str) -> None:
    redis, *others = sorted(IMAGES, key=_is_not_redis)
    digest = push(target(redis, registry), "redis")
    done = CliRunner().invoke(
        group, ["images", "--resolve", "--registry", registry, "--only", "image", "-o", "json"]
    )
    assert done.exit_code != 0
    assert digest in done.stdout
    assert all(f"{target(each, registry)}: " in str(done.exception) for each in others)


def _is_not_redis(image: Artifact) -> bool:
    return image.name != "redis"
