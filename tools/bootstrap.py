"""Creates .venv and installs the locked packages; runs on a bare Python before anything else is there.

It uses uv when it is on PATH and pip otherwise. Both trust the machine's certificate authorities and go through
the index that pip or uv is configured for.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.txt"
STAMP = VENV / "forebay-installed"
CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def main() -> int:
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text() == wanted and PYTHON.exists():
        return 0
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        print(f"Forebay needs Python 3.11, 3.12 or 3.13; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    if shutil.disk_usage(ROOT).free < 4 << 30:
        print(f"Forebay needs 4 GB of free disk space at {ROOT}. Free some and try again.", file=sys.stderr)
        return 1
    environment = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    trust_the_machine(environment)
    # The project's build backend is looked up there.
    environment["PATH"] = f"{PYTHON.parent}:{environment.get('PATH', os.defpath)}"
    began = time.monotonic()
    uv = shutil.which("uv")
    print(
        f"Setting up .venv with {'uv' if uv else 'pip'} (Python {sys.version.split()[0]}); once per change of the lock."
    )
    try:
        install_with_uv(uv, environment) if uv else install_with_pip(environment)
    except subprocess.CalledProcessError as error:
        print(
            f"\nThe installation stopped (exit code {error.returncode}); the lines above say why. Often it is the network, "
            "a mirror (pip config, PIP_INDEX_URL, UV_DEFAULT_INDEX) or a certificate authority (SSL_CERT_FILE). "
            "Run the same command again when it is mended: what is there is kept.",
            file=sys.stderr,
        )
        return 1
    STAMP.write_text(wanted)
    print(f"Installed in {time.monotonic() - began:.0f} s.")
    return 0


def fingerprint() -> str:
    """Changes with the lock, the project's own metadata and this folder's place."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in (LOCK, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def trust_the_machine(environment: dict[str, str]) -> None:
    """Points uv and older pips at the system's certificate authorities unless the user has named others."""
    bundle = environment.get("SSL_CERT_FILE") or next(
        (path for path in CERTIFICATES if os.path.isfile(path)), None
    )
    if bundle is None:
        return
    environment.setdefault("SSL_CERT_FILE", bundle)
    if not pip_setting("cert", environment):
        environment.setdefault("PIP_CERT", bundle)


def pip_setting(name: str, environment: dict[str, str]) -> str:
    """A setting of pip from its files or environment; empty when it has none."""
    for section in ("global", "install", ":env:"):
        run = subprocess.run(
            [sys.executable, "-m", "pip", "config", "get", f"{section}.{name}"],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if run.returncode == 0 and run.stdout.strip():
            return run.stdout.strip()
    return ""


def install_with_uv(uv: str, environment: dict[str, str]) -> None:
    # uv reads none of pip's files, so that an index set for pip is handed on.
    if not any(name in environment for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX")):
        index = pip_setting("index-url", environment)
        if index:
            environment["UV_DEFAULT_INDEX"] = index
    run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(VENV)], environment)
    install = [uv, "pip", "install", "--python", str(PYTHON), "--no-deps", "--compile-bytecode"]
    run([*install, "--require-hashes", "-r", str(LOCK)], environment)
    run([*install, "--no-build-isolation", "--quiet", "-e", str(ROOT)], environment)


def install_with_pip(environment: dict[str, str]) -> None:
    if not PYTHON.exists():
        run([sys.executable, "-m", "venv", str(VENV)], environment)
    install = [str(PYTHON), "-m", "pip", "install", "--no-deps", "--disable-pip-version-check"]
    # One line per package instead of pip's several, so that progress can be seen.
    total = sum(1 for line in LOCK.read_text().splitlines() if line and line[0].isalnum())
    process = subprocess.Popen(
        [*install, "--require-hashes", "-r", str(LOCK)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        if line.startswith("Collecting "):
            seen += 1
            print(f"\r  fetching {seen} of about {total} packages", end="", flush=True)
        elif line.startswith("Installing collected"):
            print("\n  unpacking (a minute or two)", flush=True)
    if process.wait():
        print()
        raise subprocess.CalledProcessError(process.returncode, "pip")
    run([*install, "--quiet", "--no-build-isolation", "-e", str(ROOT)], environment)


def run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
