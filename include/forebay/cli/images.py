"""forebay images"""

from __future__ import annotations

from dataclasses import asdict

import click

from forebay.cli.common import output_option, print_json, print_table, progress
from forebay.registry import own, target
from forebay.release import artifacts


@click.command("images")
@output_option
@click.option("--only", type=click.Choice(["image", "chart", "jar", "archive"]), help="One kind only.")
@click.option("--registry", metavar="HOST/PATH", help="Say also where each image goes in your own registry.")
def command(output: str, only: str | None, registry: str | None) -> None:
    """List every image, chart and jar of the platform with version, digest and licence.

    For installations without a way to the internet: what to copy into your own registry. Python packages are in the
    images; each has the list of its own as /opt/forebay/sbom.cdx.json (CycloneDX). Digests that this release does not
    know are named at the end: docs/runbooks/install.md says how to take and pin them.

    \b
    Examples:
      forebay images --only image
      forebay images -o json | jq -r '.[] | select(.kind == "image") | .reference'
    """
    found = [each for each in artifacts() if only in (None, each.kind)]
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
        return
    print_table(
        ("kind", "name", "version", "digest", "licence", "used by or from"),
        [
            (each.kind, each.name, each.version, each.digest[:19] or "-", each.licence, each.where)
            for each in found
        ],
    )
    if built := [each.name for each in found if each.kind == "image" and not each.digest and own(each)]:
        progress(f"{len(built)} images get their digest when you build them: {', '.join(built)}.")
    if unknown := [
        each.reference for each in found if each.kind == "image" and not each.digest and not own(each)
    ]:
        progress(
            f"{len(unknown)} images have a tag and no digest, which could not be looked up for this release: "
            f"{', '.join(unknown)}. Pin the digests that they have in your registry (docs/runbooks/install.md, step 2)."
        )
