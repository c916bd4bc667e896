"""forebay images"""

from __future__ import annotations

from dataclasses import asdict

import click

from forebay.cli.common import output_option, print_json, print_table
from forebay.release import artifacts


@click.command("images")
@output_option
@click.option("--only", type=click.Choice(["image", "chart", "jar", "archive"]), help="One kind only.")
def command(output: str, only: str | None) -> None:
    """List every image, chart and jar of the platform with version, digest and licence.

    For installations without a way to the internet: what to copy into your own registry. Python packages are in the
    images; each has the list of its own as /opt/forebay/sbom.cdx.json (CycloneDX).

    \b
    Examples:
      forebay images --only image
      forebay images -o json | jq -r '.[] | select(.kind == "image") | .reference'
    """
    found = [each for each in artifacts() if only in (None, each.kind)]
    if output == "json":
        print_json([{**asdict(each), "reference": each.reference} for each in found])
        return
    print_table(
        ("kind", "name", "version", "digest", "licence", "used by or from"),
        [
            (each.kind, each.name, each.version, each.digest[:19] or "-", each.licence, each.where)
            for each in found
        ],
    )
