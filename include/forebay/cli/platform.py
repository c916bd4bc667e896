"""forebay platform"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from forebay.cli.common import progress, repository
from forebay.errors import ForebayError
from forebay.registry import overrides
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
@click.option(
    "--registry",
    metavar="HOST/PATH",
    callback=lambda _context, _option, value: _registry(value),
    help="Take all images from your own registry: the values that say so are written to .forebay/registry/.",
)
@click.option("--print", "only_print", is_flag=True, help="Print helm's commands, run nothing.")
def command(
    size: str,
    namespace: str,
    site: Path | None,
    only: tuple[str, ...],
    without: tuple[str, ...],
    archives: Path | None,
    registry: str | None,
    only_print: bool,
) -> None:
    """Install or upgrade the platform on Kubernetes: every chart in order, with pinned versions and tested values.

    It goes to the cluster of your current kubectl context, needs helm 3.19 or newer, and may be repeated: what is as
    it should be stays. docs/runbooks/install.md says what must be there first.

    \b
    Examples:
      forebay platform --size m --site ../our-values
      forebay platform --without seaweedfs --print
      forebay platform --size l --registry registry.example.com/forebay --charts charts --site ../our-values
    """
    here = repository()
    wanted = [each for each in charts() if each.name not in without and (not only or each.name in only)]
    if not only_print:
        # Before anything is installed: what comes last needs them too.
        _need("helm", "Install helm 3.19 or newer.")
        if any(each.name == "forebay" for each in wanted):
            _need("kubectl", f"It copies the Secret {LAKE} to the workspaces' namespaces. Install kubectl.")
    own = _write_overrides(here, registry) if registry else None
    for chart in wanted:
        line = _install(chart, here, size, namespace, site, archives, own)
        if only_print:
            click.echo(shlex.join(line))
            continue
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


def _need(program: str, why: str) -> None:
    if not shutil.which(program):
        raise PlatformError(f"{program} is not on PATH, so nothing was installed. {why}")


def _registry(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*", value):
        raise click.BadParameter(
            "it is a host with a path, without https:// and without a slash at its end, such as registry.example.com/forebay."
        )
    return value


def _write_overrides(here: Path, registry: str) -> Path:
    """Writes the values that take each chart's images from `registry`; the folder that they are in."""
    folder = here / ".forebay" / "registry"
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in overrides(registry).items():
        text = (
            f"# Written by forebay platform --registry {registry}\n{yaml.safe_dump(values, sort_keys=False)}"
        )
        (folder / f"{name}.yaml").write_text(text, "utf-8")
    return folder


def _install(
    chart: Chart,
    here: Path,
    size: str,
    namespace: str,
    site: Path | None,
    archives: Path | None,
    images: Path | None,
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
    if images:
        values.append(images / f"{chart.name}.yaml")
    if site:
        values.append(site / f"{chart.name}.yaml")
    files = [part for path in values if path.exists() for part in ("--values", str(path))]
    return [
        "helm", "upgrade", "--install", chart.name, *what, "--namespace", namespace, "--create-namespace",
        *files, "--wait", "--timeout", "15m",
    ]  # fmt: skip
