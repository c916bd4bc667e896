"""Creates .venv and installs the locked packages; runs on a bare Python before anything else is there.

It uses uv when it is on PATH and pip otherwise. Both trust the machine's certificate authorities and go through
the index that pip or uv is configured for.
"""

import configparser
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# Before the first definition: what follows is understood by no older Python.
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(f"Forebay needs Python 3.11, 3.12 or 3.13; {sys.executable} is {sys.version.split()[0]}.")

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.txt"
STAMP = VENV / "forebay-installed"
CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")

GB = 1 << 30
DISK = 4 * GB
"""What .venv and pip's cache take, with some air."""
TEMPORARY = 3 * GB
"""What pip holds in its temporary folder at most: every wheel, and PySpark twice while it is built."""

UV_INDEX = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_NO_INDEX",
)
# Settings that send packages elsewhere than into .venv, or run another Python's pip.
MISLEADING = (
    "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON",
    "UV_SYSTEM_PYTHON", "UV_PYTHON", "UV_TARGET", "UV_PREFIX",
)  # fmt: skip


class Refusal(Exception):
    """Why nothing can be installed; its text is meant for a person."""


def main() -> int:
    try:
        if complete():
            return 0
        with only_one() as lock:
            # Somebody else may have done it meanwhile.
            return 0 if complete() else install(lock)
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
    except OSError as error:
        print(
            f"{error.filename or ROOT}: {error.strerror}. Mend it and run the same command again.",
            file=sys.stderr,
        )
    except subprocess.CalledProcessError as error:
        print(
            f"\nThe installation stopped (exit code {error.returncode}); the lines above say why. Often it is the network, "
            "a mirror (pip config, PIP_INDEX_URL, UV_DEFAULT_INDEX) or a certificate authority (SSL_CERT_FILE). "
            "Run the same command again when it is mended: what is there is kept.",
            file=sys.stderr,
        )
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on: what is there is kept.", file=sys.stderr)
    return 1


def complete() -> bool:
    """Whether .venv holds this lock, and this Python where one was asked for by `make PYTHON=…`."""
    if not PYTHON.exists() or not STAMP.exists() or STAMP.read_text() != fingerprint():
        return False
    return not os.environ.get("PYTHON") or venv_version() == sys.version_info[:2]


def fingerprint() -> str:
    """Changes with the lock, the project's own metadata and this folder's place."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in (LOCK, ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def venv_version() -> tuple[int, ...] | None:
    """Python release of .venv as venv or uv noted it, such as (3, 11)."""
    with contextlib.suppress(OSError):
        found = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", (VENV / "pyvenv.cfg").read_text(), re.M)
        if found:
            return tuple(map(int, found.groups()))
    return None


@contextlib.contextmanager
def only_one() -> Iterator[int]:
    """Holds a lock on the repository's folder, which a pip or uv that outlives us holds on to."""
    lock = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another installation into .venv is under way; waiting for its end.", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        # Some network file systems have no locks.
        pass
    try:
        yield lock
    finally:
        os.close(lock)


def install(lock: int) -> int:
    uv = shutil.which("uv")
    if shutil.disk_usage(ROOT).free < (GB if STAMP.exists() else DISK):
        raise Refusal(f"Forebay needs {DISK // GB} GB of free disk space at {ROOT}. Free some and try again.")
    if uv is None:
        try:
            import ensurepip  # noqa: F401
            import venv  # noqa: F401
        except ImportError:
            raise Refusal(
                f"{sys.executable} cannot make virtual environments. Install its venv module (Debian: apt install "
                f"python{sys.version_info[0]}.{sys.version_info[1]}-venv), or uv, and try again."
            ) from None
    environment = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    settings = pip_settings(environment)
    trust_the_machine(environment, settings)
    # The project's build backend is looked up there.
    environment["PATH"] = f"{PYTHON.parent}:{environment.get('PATH', os.defpath)}"
    began = time.monotonic()
    print(
        f"Setting up .venv with {'uv' if uv else 'pip'} (Python {sys.version.split()[0]}); once per change of the lock.",
        flush=True,
    )
    STAMP.unlink(missing_ok=True)
    if uv:
        install_with_uv(uv, environment, settings, lock)
    else:
        install_with_pip(environment, lock)
    show("compiling")
    # Not by pip or uv: theirs is lost with an interrupted installation, and pip's takes one core. Some packages
    # bring examples that do not compile; that is no failure.
    compiling = [str(PYTHON), "-m", "compileall", "-qq", "-j", "0", str(VENV / "lib")]
    subprocess.run(compiling, env={**environment, "PYTHONWARNINGS": "ignore"}, pass_fds=[lock])
    STAMP.write_text(fingerprint())
    print(f"Installed in {time.monotonic() - began:.0f} s.", flush=True)
    return 0


def trust_the_machine(environment: dict[str, str], settings: dict[str, str]) -> None:
    """Points uv and older pips at the system's certificate authorities unless the user has named others."""
    named = environment.get("SSL_CERT_FILE")
    if named and not os.path.isfile(named):
        raise Refusal(
            f"SSL_CERT_FILE names {named}, which is no file. Correct it or unset it, and try again."
        )
    bundle = named or settings.get("cert") or next(filter(os.path.isfile, CERTIFICATES), None)
    if bundle is None:
        return
    environment.setdefault("SSL_CERT_FILE", bundle)
    if "cert" not in settings:
        environment.setdefault("PIP_CERT", bundle)


def pip_settings(environment: dict[str, str]) -> dict[str, str]:
    """What pip is configured to, read as pip does: its files, `[global]` before `[install]`, then its variables.

    Read here because a Python may come without pip. https://pip.pypa.io/en/stable/topics/configuration/
    """
    home = environment.get("HOME") or str(Path.home())
    named = environment.get("PIP_CONFIG_FILE")
    files: list[str] = []
    if named != os.devnull:
        files += [
            f"{folder}/pip/pip.conf"
            for folder in (environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
        ]
        files += ["/etc/pip.conf"]
        if not (named and os.path.exists(named)):
            files += [
                f"{home}/.pip/pip.conf",
                f"{environment.get('XDG_CONFIG_HOME') or home + '/.config'}/pip/pip.conf",
            ]
        files += [f"{sys.prefix}/pip.conf", *([named] if named else [])]
    parser = configparser.RawConfigParser()
    for file in files:
        try:
            parser.read(file)
        except (configparser.Error, UnicodeDecodeError) as error:
            raise Refusal(
                f"{file}: not readable as pip's configuration ({error}). Mend it and try again."
            ) from None
    found: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            found.update({name.replace("_", "-"): value for name, value in parser.items(section) if value})
    for name, value in environment.items():
        if name.startswith("PIP_") and value:
            found[name[4:].lower().replace("_", "-")] = value
    return found


def install_with_uv(uv: str, environment: dict[str, str], settings: dict[str, str], lock: int) -> None:
    hand_on(settings, environment)
    keep = mend() and works(environment, "")
    how = "--allow-existing" if keep else "--clear"
    run([uv, "venv", "--quiet", how, "--python", sys.executable, str(VENV)], environment, lock)
    command = [uv, "pip", "install", "--python", str(PYTHON), "--no-deps"]
    run([*command, "--require-hashes", "-r", str(LOCK)], environment, lock)
    run([*command, "--no-build-isolation", "--quiet", "-e", str(ROOT)], environment, lock)


def hand_on(settings: dict[str, str], environment: dict[str, str]) -> None:
    """Tells uv what pip is configured to, which it reads nowhere, unless uv has an index of its own."""
    for name, variable in (
        ("proxy", "ALL_PROXY"),
        ("client-cert", "SSL_CLIENT_CERT"),
        ("timeout", "UV_HTTP_TIMEOUT"),
    ):
        if settings.get(name):
            environment.setdefault(variable, settings[name])
    if any(environment.get(name) for name in UV_INDEX) or uv_configuration_names_an_index(environment):
        return
    if "index-url" in settings:
        environment["UV_DEFAULT_INDEX"] = settings["index-url"]
    if "extra-index-url" in settings:
        environment["UV_INDEX"] = " ".join(settings["extra-index-url"].split())
        # As pip does; the lock's hashes decide which file is taken.
        environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    if "trusted-host" in settings:
        environment.setdefault("UV_INSECURE_HOST", " ".join(settings["trusted-host"].split()))
    # Where pip passes over a folder that is not there, uv stops.
    links = [link for link in settings.get("find-links", "").split() if "://" in link or os.path.isdir(link)]
    if links:
        environment["UV_FIND_LINKS"] = ",".join(links)
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        environment["UV_NO_INDEX"] = "1"


def uv_configuration_names_an_index(environment: dict[str, str]) -> bool:
    import tomllib

    home = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME') or Path.home()}/.config"
    for file in (environment.get("UV_CONFIG_FILE"), f"{home}/uv/uv.toml", "/etc/uv/uv.toml"):
        with contextlib.suppress(OSError, tomllib.TOMLDecodeError):
            content = tomllib.loads(Path(file or os.devnull).read_text())
            for table in (content, content.get("pip", {})):
                if {"index", "index-url", "extra-index-url", "find-links", "no-index"} & set(table):
                    return True
    return False


def install_with_pip(environment: dict[str, str], lock: int) -> None:
    if not (mend() and works(environment, "import pip")):
        run([sys.executable, "-m", "venv", "--clear", str(VENV)], environment, lock)
    temporary = Path(tempfile.gettempdir())
    small = shutil.disk_usage(temporary).free < TEMPORARY
    # Many machines keep /tmp in memory.
    scratch = VENV / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    if small and os.stat(temporary).st_dev != os.stat(ROOT).st_dev:
        scratch.mkdir()
        environment["TMPDIR"] = str(scratch)
    command = [
        str(PYTHON), "-m", "pip", "install",
        "--no-deps", "--no-user", "--no-compile", "--disable-pip-version-check",
    ]  # fmt: skip
    # One line per package instead of pip's several, so that progress can be seen.
    total = sum(1 for line in LOCK.read_text().splitlines() if line and line[0].isalnum())
    process = subprocess.Popen(
        [*command, "--require-hashes", "-r", str(LOCK)],
        env=environment, stdout=subprocess.PIPE, text=True, pass_fds=[lock],
    )  # fmt: skip
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        if line.startswith("Collecting "):
            seen += 1
            show(f"fetching {seen} of about {total} packages", last=False, rare=seen % 25 == 0)
        elif line.startswith("Building wheels for"):
            show(f"building {line.partition(':')[2].strip()}")
        elif line.startswith("Installing collected"):
            show("unpacking (a minute or two)")
    if process.wait():
        print()
        raise subprocess.CalledProcessError(process.returncode, "pip")
    run([*command, "--quiet", "--no-build-isolation", "-e", str(ROOT)], environment, lock)
    shutil.rmtree(scratch, ignore_errors=True)


def mend() -> bool:
    """Makes room for what an interrupted installation left half there; False where .venv must be made anew."""
    if not VENV.exists() or venv_version() != sys.version_info[:2]:
        return False
    # pip and uv write INSTALLER after a package's files and programs; one without it they would take for whole.
    for description in VENV.glob("lib/python*/site-packages/*.dist-info"):
        if not (description / "INSTALLER").exists():
            shutil.rmtree(description)
    return True


def works(environment: dict[str, str], program: str) -> bool:
    """Whether the Python in .venv runs a program."""
    try:
        return not subprocess.run([PYTHON, "-c", program], env=environment, capture_output=True).returncode
    except OSError:
        return False


def show(text: str, *, last: bool = True, rare: bool = True) -> None:
    """One line of progress: written over the one before on a terminal; elsewhere only the rarer ones."""
    if sys.stdout.isatty():
        print(f"\r\033[K  {text}", end="\n" if last else "", flush=True)
    elif rare:
        print(f"  {text}", flush=True)


def run(command: list[str], environment: dict[str, str], lock: int) -> None:
    subprocess.run(command, env=environment, check=True, pass_fds=[lock])


if __name__ == "__main__":
    sys.exit(main())
