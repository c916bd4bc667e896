"""forebay platform"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from forebay.cli.common import progress, repository
from forebay.errors import ForebayError
from forebay.release import Chart, charts

NAMES = tuple(chart.name for chart in charts())
LAKE, COPY = "forebay-lake", "forebay/copy-of"
"""The Secret with the lake's credentials, and the label of its copies."""


class PlatformError(ForebayError):
    """A chart could not be installed; the text says which, and how to go on."""


@click.command("platform")
@click.option(
    "--size", type=click.Choice(["s", "m", "l"]), default="s", show_default=True, help="m: 8 servers, l: 10."
)
@click.option(
    "--namespace", "-n", default="forebay", show_default=True, help="Where the platform's parts go."
)
@click.option(
    "--site",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with your own values, one <chart>.yaml each; they win.",
)
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="These charts only.")
@click.option(
    "--without", multiple=True, type=click.Choice(NAMES), help="Leave a chart out: you have your own."
)
@click.option(
    "--charts",
    "archives",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the charts as <name>-<version>.tgz, where the internet is out of reach.",
)
@click.option("--print", "only_print", is_flag=True, help="Print helm's commands, run nothing.")
def command(
    size: str,
    namespace: str,
    site: Path | None,
    only: tuple[str, ...],
    without: tuple[str, ...],
    archives: Path | None,
    only_print: bool,
) -> None:
    """Install or upgrade the platform on Kubernetes: every chart in order, with pinned versions and tested values.

    It goes to the cluster of your current kubectl context, needs helm 3.19 or newer, and may be repeated: what is as
    it should be stays. docs/runbooks/install.md says what must be there first.

    \b
    Examples:
      forebay platform --size m --site ../our-values
      forebay platform --without seaweedfs --print
    """
    here = repository()
    for chart in charts():
        if chart.name in without or (only and chart.name not in only):
            continue
        line = _install(chart, here, size, namespace, site, archives)
        if only_print:
            click.echo(shlex.join(line))
            continue
        if not shutil.which("helm"):
            raise PlatformError("helm is not on PATH. Install helm 3.19 or newer.")
        progress(f"{chart.name} {chart.version}")
        done = subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise PlatformError(
                f"{chart.name} was not installed; the charts before it are. helm said:\n{done.stderr.strip()}\n"
                f"Mend it and repeat the command. Its pods: kubectl get pods -n {namespace}"
            )
        if chart.name == "forebay":
            for each in lend(namespace):
                progress(f"Secret {LAKE} copied to {each}")


def lend(namespace: str, kubectl: Sequence[str] = ("kubectl",)) -> list[str]:
    """Copies the lake's credentials to the workspaces' namespaces, where Spark's pods need them; the names of those.

    A Secret of that name that somebody made there, with credentials of the workspace's own, stays as it is.
    """

    def ask(*arguments: str, given: object = None) -> Any:
        done = subprocess.run(
            [*kubectl, *arguments, "-o", "json"], input=json.dumps(given), capture_output=True, text=True
        )
        if done.returncode:
            raise PlatformError(
                f"The Secret {LAKE} of {namespace} was not copied to the workspaces' namespaces, where their Spark programs "
                f"need it. kubectl said: {done.stderr.strip()}\nMake it (docs/runbooks/install.md, step 3) and repeat the command."
            )
        return json.loads(done.stdout or "{}")

    spaces = ask("get", "namespaces", "--selector", "forebay/workspace")["items"]
    if not spaces:
        return []
    data = ask("get", "secret", LAKE, "--namespace", namespace)["data"]
    copied = []
    for name in (each["metadata"]["name"] for each in spaces):
        there = ask("get", "secret", LAKE, "--namespace", name, "--ignore-not-found")
        if there and there["metadata"].get("labels", {}).get(COPY) != namespace:
            continue
        if there.get("data") != data:
            metadata = {"name": LAKE, "namespace": name, "labels": {COPY: namespace}}
            ask(
                "apply",
                "-f",
                "-",
                given={"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data},
            )
            copied.append(name)
    return copied


def _install(
    chart: Chart, here: Path, size: str, namespace: str, site: Path | None, archives: Path | None
) -> list[str]:
    """helm's command for one chart."""
    if not chart.repository:
        what = [str(here / "helm" / chart.name)]
    elif archives:
        what = [str(archives / f"{chart.name}-{chart.version}.tgz")]
    else:
        what = [chart.name, "--repo", chart.repository, "--version", chart.version]
    folder = here / "helm" / "values"
    values = [folder / f"{chart.name}.yaml", folder / size / f"{chart.name}.yaml"]
    if site:
        values.append(site / f"{chart.name}.yaml")
    files = [part for path in values if path.exists() for part in ("--values", str(path))]
    return [
        "helm", "upgrade", "--install", chart.name, *what, "--namespace", namespace, "--create-namespace",
        *files, "--wait", "--timeout", "15m",
    ]  # fmt: skip
