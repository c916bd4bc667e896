"""The documentation says what the code does: generated parts are current, links and examples are good."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from forebay.check import check
from forebay.cli.main import group
from forebay.starter import new_job, new_workspace

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/overview.md")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOOL = [sys.executable, str(ROOT / "tools" / "reference.py")]


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return [text for kind, text in FENCE.findall((ROOT / page).read_text("utf-8")) if kind == language]


def command_lines() -> list[str]:
    """Every `forebay …` of the pages: lines of shell blocks, and what stands in backticks."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        found += [line for block in blocks(page, "sh") for line in block.splitlines()]
        found += re.findall(r"`(forebay [^`\n]+)`", FENCE.sub("", text))
    return sorted({line for line in found if line.startswith("forebay ")})


def example_files() -> dict[str, str]:
    """The files README.md asks for, by path: blocks that name theirs in a comment at their beginning."""
    files = {}
    for block in [*blocks("README.md", "yaml"), *blocks("README.md", "sql")]:
        named = re.search(r"^(?:#|--) ((?:dags|sql)/\S+)$", block, re.MULTILINE)
        assert named, f"a block of README.md does not name its file:\n{block}"
        files[named[1]] = block
    return files


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The repository as it is after README.md's walk-through."""
    for folder in ("dags", "sql", "spark_jobs"):
        shutil.copytree(ROOT / folder / "flights", tmp_path / folder / "flights")
    shutil.copytree(ROOT / "include" / "flights", tmp_path / "include" / "flights")
    for line in command_lines():
        match shlex.split(line):
            case ["forebay", "init", "workspace", name]:
                new_workspace(tmp_path, name)
    for line in command_lines():
        match shlex.split(line):
            case ["forebay", "init", "job", name]:
                new_job(tmp_path, *name.split("."))
    for file, text in example_files().items():
        # Each replaces a file that `forebay init` wrote.
        assert (tmp_path / file).exists(), file
        (tmp_path / file).write_text(text, "utf-8")
    return tmp_path


def test_the_generated_pages_are_current() -> None:
    run = subprocess.run([*TOOL, "--check"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("page", PAGES)
def test_the_links_lead_somewhere(page: str) -> None:
    text = FENCE.sub("", (ROOT / page).read_text("utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets
    for target in targets:
        path, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("line", command_lines())
def test_the_command_lines_are_understood(line: str) -> None:
    command: click.Command = group
    arguments = shlex.split(line)[1:]
    context = click.Context(group, info_name="forebay")
    while isinstance(command, click.Group) and arguments:
        _, below, rest = command.resolve_command(context, list(arguments))
        assert below is not None, line
        command, arguments = below, rest
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=command.name, parent=context)
    # Prose names commands without their arguments, such as `forebay run`.
    if arguments:
        command.make_context(command.name, arguments, parent=context)


def test_the_examples_of_the_walk_through_pass_the_check(repository: Path) -> None:
    assert len(example_files()) == 2
    assert [str(mistake) for mistake in check(repository)] == []


def test_the_mistake_of_the_walk_through_is_reported_as_shown(repository: Path) -> None:
    (job,) = (repository / file for file in example_files() if file.endswith(".yaml"))
    job.write_text(job.read_text().replace("mode: overwrite", "mode: overwrit"))
    (mistake,) = check(repository)
    assert str(mistake) in (ROOT / "README.md").read_text("utf-8")
