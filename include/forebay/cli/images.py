"""forebay images"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import click

from forebay.cli.common import output_option, print_json, print_table, progress
from forebay.errors import ForebayError
from forebay.registry import own, target
from forebay.release import Artifact, artifacts

_SECONDS = 120


@click.command("images")
@output_option
@click.option("--only", type=click.Choice(["image", "chart", "jar", "archive"]), help="One kind only.")
@click.option("--registry", metavar="HOST/PATH", help="Say also where each image goes in your own registry.")
@click.option(
    "--resolve", is_flag=True,
    help="Ask for the digests that this release does not know, by skopeo; with --registry your own registry is asked for all.",
)  # fmt: skip
def command(output: str, only: str | None, registry: str | None, resolve: bool) -> None:
    """List every image, chart and jar of the platform with version, digest and licence.

    For installations without a way to the internet: what to copy into your own registry. Python packages are in the
    images; each has the list of its own as /opt/forebay/sbom.cdx.json (CycloneDX). Digests that this release does not
    know are named at the end; --resolve looks them up, and docs/runbooks/install.md says how to pin them.

    \b
    Examples:
      forebay images --only image
      forebay images --resolve --registry registry.example.com/forebay
      forebay images -o json | jq -r '.[] | select(.kind == "image") | .reference'
    """
    found = [each for each in artifacts() if only in (None, each.kind)]
    unresolved = list[str]()
    if resolve:
        found = list(_resolved(found, registry, unresolved))
    if output == "json":
        print_json(
            [
                {
                    **asdict(each),
                    "reference": each.reference,
                    **({"target": target(each, registry)} if registry and each.kind == "image" else {}),
                }
                for each in found
            ]
        )
    else:
        print_table(
            ("kind", "name", "version", "digest", "licence", "used by or from"),
            [
                (each.kind, each.name, each.version, each.digest[:19] or "-", each.licence, each.where)
                for each in found
            ],
        )
        if not resolve:
            _tell_missing(found)
    if unresolved:
        raise ForebayError("Not all images are where and what they should be:\n" + "\n".join(unresolved))


def _tell_missing(found: Sequence[Artifact]) -> None:
    """Names the images without a digest, and where it comes from."""
    if built := [each.name for each in found if each.kind == "image" and not each.digest and own(each)]:
        progress(f"{len(built)} images get their digest when you build them: {', '.join(built)}.")
    if unknown := [
        each.reference for each in found if each.kind == "image" and not each.digest and not own(each)
    ]:
        progress(
            f"{len(unknown)} images have a tag and no digest, which could not be looked up for this release: "
            f"{', '.join(unknown)}. Where registries are in reach --resolve looks them up; pin those that they have in "
            "yours (docs/runbooks/install.md, step 2)."
        )


def _resolved(found: Sequence[Artifact], registry: str | None, failed: list[str]) -> Iterator[Artifact]:
    """The artifacts with the digests that skopeo is told; why it was told none is added to `failed`."""
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        raise ForebayError("skopeo is not on PATH. It asks registries, with your login. Install skopeo.")
    for each in found:
        if each.kind != "image" or (registry is None and (each.digest or own(each))):
            yield each
            continue
        place = target(each, registry) if registry else each.reference
        progress(f"asking for {place}")
        words = [skopeo, "inspect", "--no-tags", "--format", "{{.Digest}}", f"docker://{place}"]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            failed.append(f"{place}: no answer within {_SECONDS} s")
            yield each
            continue
        digest = done.stdout.strip()
        if done.returncode:
            failed.append(f"{place}: {done.stderr.strip()}")
        elif each.digest and digest != each.digest:
            failed.append(f"{place} is {digest}, and this release pins {each.digest}")
        yield replace(each, digest=digest or each.digest)
