"""Iceberg's own REST Compatibility Kit, against the catalog and through the lens's /main: each test ends the same.

The kit is in Maven Central with Iceberg: https://github.com/apache/iceberg/tree/main/open-api.
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import pyspark
import pytest
from store import running_lens, running_store

from forebay.lake.connection import CatalogConfig
from forebay.machine import jars, java

SUITES = tuple(
    f"org.apache.iceberg.rest.RESTCompatibilityKit{kind}Tests" for kind in ("Catalog", "ViewCatalog")
)
AT_LEAST = 60
"""Tests that SeaweedFS 4.48 passes are 63: fewer, and it is the kit that does not run."""

# Names, numbers and places that differ from run to run.
_CHANGING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+")
_TRACE = re.compile(r"\n\s*at |Throwable that failed")


@dataclass(frozen=True)
class Outcome:
    """How a test of the kit ended: passed, skipped or failed, and why."""

    state: str
    why: str = ""


@pytest.fixture(scope="module")
def class_path() -> str:
    """The kit, and what it runs on: the product's Iceberg, and Hadoop's classes out of PySpark."""
    with Path(__file__).with_name("rest_compatibility_kit.toml").open("rb") as file:
        kit = [jars.Jar(**entry) for entry in tomllib.load(file)["jar"]]
    needed = [*kit, *jars.pinned()]
    jars.fetch(print, needed)
    spark = Path(pyspark.__file__).parent / "jars"
    shipped = [
        next(spark.glob(f"{name}-[0-9]*.jar"))
        for name in ("hadoop-client-api", "hadoop-client-runtime", "slf4j-api")
    ]
    return os.pathsep.join(map(str, [*(jars.folder() / jar.file_name for jar in needed), *shipped]))


def outcomes(class_path: str, folder: Path, uri: str, config: CatalogConfig) -> dict[str, Outcome]:
    """Runs the kit against the catalog at `uri`; what became of each test."""
    # The kit takes its catalog's properties from Java's.
    properties = {
        "uri": uri,
        "warehouse": config.warehouse,
        "rest.auth.type": "oauth2",
        "credential": f"{config.access_key}:{config.secret_key}",
        "scope": "catalog",
        "oauth2-server-uri": config.token_uri,
        "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        "s3.endpoint": config.s3_endpoint,
        "s3.path-style-access": "true",
        "s3.access-key-id": config.access_key,
        "s3.secret-access-key": config.secret_key,
        "client.region": config.s3_region,
        # An error of the catalog that stays would be waited for with each of five repetitions.
        "rest.client.max-retries": "1",
        "rck.requires-namespace-create": "true",
    }
    folder.mkdir()
    options = folder / "java.options"
    options.write_text("".join(f'"-D{name}={value}"\n' for name, value in properties.items()))
    run = subprocess.run(
        [
            str(java.require() / "bin" / "java"), f"@{options}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-cp", class_path, "org.junit.platform.console.ConsoleLauncher", "execute",
            *(f"--select-class={suite}" for suite in SUITES),
            "--config=rck.local=false", f"--reports-dir={folder}", "--details=summary", "--disable-banner",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240,
    )  # fmt: skip
    # 1: tests failed.
    assert run.returncode in (0, 1), run.stdout[-3000:]
    found = {}
    for report in folder.glob("TEST-*.xml"):
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            name = f"{case.attrib['classname'].rpartition('.')[2]}.{case.attrib['name']}"
            found[name] = _outcome(case)
    assert found, run.stdout[-3000:]
    return found


def _outcome(case: ElementTree.Element) -> Outcome:
    for state, tags in (("failed", ("failure", "error")), ("skipped", ("skipped",))):
        for tag in tags:
            element = case.find(tag)
            if element is not None:
                why = element.get("message") or (element.text or "").strip().partition("\n")[0]
                return Outcome(state, " ".join(_TRACE.split(why)[0].split()))
    return Outcome("passed")


def test_through_the_lens_as_without(class_path: str, tmp_path: Path) -> None:
    found = {}
    for way in ("catalog", "lens"):
        (store_folder := tmp_path / f"{way}-store").mkdir()
        with (
            running_store(store_folder) as store,
            running_lens(store.config, tmp_path / f"{way}-lens") as lens,
        ):
            uri = store.config.uri if way == "catalog" else f"{lens}/main"
            found[way] = outcomes(class_path, tmp_path / way, uri, store.config)
    direct, through = found["catalog"], found["lens"]
    passed = [name for name, outcome in direct.items() if outcome.state == "passed"]
    refused = [
        f"{name}: {outcome.why}" for name, outcome in sorted(direct.items()) if outcome.state == "failed"
    ]
    print(
        f"passed without the lens: {len(passed)} of {len(direct)}. What the catalog itself fails:",
        *refused,
        sep="\n  ",
    )

    lost = {name: through.get(name) for name in passed if through.get(name) != Outcome("passed")}
    assert not lost, "passed without the lens and not with it"
    assert len(passed) >= AT_LEAST
    # What the catalog refuses is refused in the same words: clients read them.
    assert {name: _CHANGING.sub("#", outcome.why) for name, outcome in through.items()} == {
        name: _CHANGING.sub("#", outcome.why) for name, outcome in direct.items()
    }
