"""Setting up .venv: a made-up lock installed from a loopback index, and what stops an installation."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path
from types import ModuleType

import pytest
from loopback import Site, site

SOURCE = Path(__file__).parents[2] / "tools/bootstrap.py"
USER, PASSWORD = "reader", "s3cret-token"
BACKEND = """
import base64, zipfile
def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "madeup_project-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        wheel.writestr("madeup_project.pth", "")
        wheel.writestr("madeup_project-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: madeup-project\\nVersion: 1.0\\n")
        wheel.writestr("madeup_project-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("madeup_project-1.0.dist-info/RECORD", "")
    return name
def get_requires_for_build_editable(config_settings=None): return []
build_wheel = build_editable
"""


def make_project(root: Path) -> None:
    """A repository with bootstrap.py, a backend of its own and a lock of one package, with its index beside it."""
    (root / "tools").mkdir(parents=True)
    shutil.copy(SOURCE, root / "tools")
    (root / "backend.py").write_text(BACKEND)
    (root / "pyproject.toml").write_text(
        '[project]\nname = "madeup-project"\nversion = "1.0"\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    folder = root / "index/simple/madeup-tiny"
    folder.mkdir(parents=True)
    wheel = folder / "madeup_tiny-1.0-py3-none-any.whl"
    about = "madeup_tiny-1.0.dist-info"
    record = ""
    with zipfile.ZipFile(wheel, "w") as content:
        for name, text in {
            "madeup_tiny.py": "def main(): print('tiny')\n",
            f"{about}/METADATA": "Metadata-Version: 2.1\nName: madeup-tiny\nVersion: 1.0\n",
            f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{about}/entry_points.txt": "[console_scripts]\ntiny = madeup_tiny:main\n",
        }.items():
            content.writestr(name, text)
            found = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={found},{len(text)}\n"
        content.writestr(f"{about}/RECORD", f"{record}{about}/RECORD,,\n")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (folder / "index.html").write_text(f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>')
    (root / "requirements.txt").write_text(f"madeup-tiny==1.0 --hash=sha256:{digest}\n")


def environment(home: Path, **more: str) -> dict[str, str]:
    """A bare environment without uv, as on a fresh machine."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(home), **more}


def bootstrap(root: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(root / "tools/bootstrap.py")],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def load(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", root / "tools/bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def index_url(served: Site) -> str:
    return served.url.replace("http://", f"http://{USER}:{PASSWORD}@") + "/simple"


def tiny(root: Path) -> str:
    return subprocess.run(
        [root / ".venv/bin/tiny"], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_pip_installs_the_lock_through_the_mirror_of_pips_configuration_and_mends_a_half(
    tmp_path: Path,
) -> None:
    root, home = tmp_path / "with space", tmp_path / "home"
    make_project(root)
    (home / ".config/pip").mkdir(parents=True)
    env = environment(home, PIP_USER="1", PIP_TARGET=str(tmp_path / "elsewhere"))
    with site(root / "index", USER, PASSWORD) as served:
        (home / ".config/pip/pip.conf").write_text(f"[global]\nindex-url = {index_url(served)}\n")
        first = bootstrap(root, env)
        assert first.returncode == 0, first.stdout + first.stderr
        assert "with pip" in first.stdout
        assert tiny(root) == "tiny"
        assert any(path.endswith(".whl") for path in served.requests)
        assert not (tmp_path / "elsewhere").exists()

        served.requests.clear()
        second = bootstrap(root, env)
        assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
        assert served.requests == []

        # As a kill leaves it between the files and the programs of a package.
        (root / ".venv/forebay-installed").unlink()
        (root / ".venv/bin/tiny").unlink()
        next(root.glob(".venv/lib/python*/site-packages/madeup_tiny*.dist-info/INSTALLER")).unlink()
        assert bootstrap(root, env).returncode == 0
        assert tiny(root) == "tiny"


def test_an_environment_that_does_not_work_is_made_anew(tmp_path: Path) -> None:
    make_project(tmp_path)
    module = load(tmp_path)
    assert not module.mend()
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    # As a kill leaves it while the environment itself is made.
    assert not module.mend()
    (tmp_path / ".venv/pyvenv.cfg").write_text(f"version = 3.{sys.version_info[1]}.0\n")
    assert module.mend()
    assert not module.works({}, "")
    python.symlink_to("/nowhere/python3")
    assert not module.works({}, "")
    python.unlink()
    python.symlink_to(sys.executable)
    assert module.works({}, "")
    assert not module.works({}, "import no_such_module")
    (tmp_path / ".venv/pyvenv.cfg").write_text("version = 3.10.0\n")
    assert not module.mend()


@pytest.mark.parametrize("place", ["file", "variable"])
def test_uv_is_told_the_index_that_pip_is_configured_for(tmp_path: Path, place: str) -> None:
    root, home = tmp_path / "repository", tmp_path / "home"
    make_project(root)
    (home / ".pip").mkdir(parents=True)
    env = environment(home, PATH=f"{Path(shutil.which('uv') or sys.executable).parent}:/usr/bin:/bin")
    with site(root / "index", USER, PASSWORD) as served:
        if place == "file":
            (home / ".pip/pip.conf").write_text(f"[install]\nindex-url = {index_url(served)}\n")
        else:
            env["PIP_INDEX_URL"] = index_url(served)
        run = bootstrap(root, env)
        assert run.returncode == 0, run.stdout + run.stderr
        assert "with uv" in run.stdout
        assert tiny(root) == "tiny"
        assert any(path.endswith(".whl") for path in served.requests)
        served.requests.clear()
        assert bootstrap(root, env).stdout == ""
        assert served.requests == []
        (root / ".venv/forebay-installed").unlink()
        (root / ".venv/bin/tiny").unlink()
        next(root.glob(".venv/lib/python*/site-packages/madeup_tiny*.dist-info/INSTALLER")).unlink()
        assert bootstrap(root, env).returncode == 0
        assert tiny(root) == "tiny"


def test_pips_files_are_read_in_pips_order(tmp_path: Path) -> None:
    make_project(tmp_path / "repository")
    module = load(tmp_path / "repository")
    home = tmp_path / "home"
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text(
        "[global]\nindex-url = https://a/simple\nextra-index-url = https://b/simple\n  https://c/simple\n"
        "trusted_host = a\n[install]\nindex-url = https://d/100%25/simple\n"
    )
    found = module.pip_settings({"HOME": str(home)})
    assert found["index-url"] == "https://d/100%25/simple"
    assert found["trusted-host"] == "a"
    assert module.pip_settings({"HOME": str(home), "PIP_INDEX_URL": "https://e"})["index-url"] == "https://e"
    env = {"HOME": str(home)}
    module.hand_on(found, env)
    assert env["UV_DEFAULT_INDEX"] == "https://d/100%25/simple"
    assert env["UV_INDEX"] == "https://b/simple https://c/simple"
    assert env["UV_INSECURE_HOST"] == "a"

    other = tmp_path / "other.conf"
    other.write_text("[global]\nindex-url = https://f\n")
    assert module.pip_settings({"HOME": str(home), "PIP_CONFIG_FILE": str(other)})["index-url"] == "https://f"
    assert "index-url" not in module.pip_settings({"HOME": str(home), "PIP_CONFIG_FILE": os.devnull})
    other.write_text("index-url = no section\n")
    with pytest.raises(module.Refusal, match=r"other\.conf: not readable as pip's configuration"):
        module.pip_settings({"HOME": str(home), "PIP_CONFIG_FILE": str(other)})


def test_uvs_own_index_wins(tmp_path: Path) -> None:
    make_project(tmp_path / "repository")
    module = load(tmp_path / "repository")
    for env in ({"UV_INDEX_URL": "https://own"}, {"UV_CONFIG_FILE": str(tmp_path / "uv.toml")}):
        (tmp_path / "uv.toml").write_text('[[index]]\nurl = "https://own"\ndefault = true\n')
        env = {"HOME": str(tmp_path), **env}
        module.hand_on({"index-url": "https://pips"}, env)
        assert "UV_DEFAULT_INDEX" not in env


def test_the_certificates_of_the_machine_reach_pip_and_uv(tmp_path: Path) -> None:
    make_project(tmp_path / "repository")
    module = load(tmp_path / "repository")
    pem = tmp_path / "company.pem"
    pem.write_text("")
    env = {"SSL_CERT_FILE": str(pem)}
    module.trust_the_machine(env, {})
    assert env["PIP_CERT"] == str(pem)
    env = {}
    module.trust_the_machine(env, {"cert": str(pem)})
    assert env == {"SSL_CERT_FILE": str(pem)}
    with pytest.raises(module.Refusal, match="SSL_CERT_FILE names /nowhere, which is no file"):
        module.trust_the_machine({"SSL_CERT_FILE": "/nowhere"}, {})


def test_an_unreachable_index_is_named(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    make_project(root)
    # Stands in for a virtual environment, which takes its time to make.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / ".venv"], check=True)
    env = environment(tmp_path, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    site_packages = next((root / ".venv/lib").glob("python*/site-packages"))
    (site_packages / "pip.pth").write_text(f"{Path(pip_home())}\n")
    run = bootstrap(root, env)
    assert run.returncode == 1
    assert "madeup-tiny" in run.stderr
    assert "The installation stopped (exit code 1)" in run.stderr
    assert "PIP_INDEX_URL" in run.stderr
    assert not (root / ".venv/forebay-installed").exists()


def pip_home() -> Path:
    import ensurepip

    wheels = list((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    if not wheels:
        pytest.skip("this Python's pip is not bundled as a wheel")
    return wheels[0]


def test_no_venv_module_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_project(tmp_path)
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    monkeypatch.setenv("PATH", "/nowhere")
    assert load(tmp_path).main() == 1
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert f"apt install python3.{sys.version_info[1]}-venv" in text


def test_no_disk_space_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_project(tmp_path)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 << 30, 9 << 30, 1 << 30))
    assert load(tmp_path).main() == 1
    assert capsys.readouterr().err == (
        f"Forebay needs 4 GB of free disk space at {tmp_path}. Free some and try again.\n"
    )


def test_another_python_is_one_sentence(tmp_path: Path) -> None:
    make_project(tmp_path)
    program = (
        "import sys, runpy; sys.version_info = (3, 14, 0); runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "tools/bootstrap.py")], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr.startswith("Forebay needs Python 3.11, 3.12 or 3.13; ")
    assert run.stderr.count("\n") == 1


def test_a_python_that_was_asked_for_replaces_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path)
    module = load(tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    (tmp_path / ".venv/pyvenv.cfg").write_text("home = /usr/bin\nversion_info = 3.10.1\n")
    module.STAMP.write_text(module.fingerprint())
    monkeypatch.delenv("PYTHON", raising=False)
    assert module.complete()
    monkeypatch.setenv("PYTHON", sys.executable)
    assert not module.complete()
    (tmp_path / ".venv/pyvenv.cfg").write_text(f"version = 3.{sys.version_info[1]}.0\n")
    assert module.complete()


def test_a_second_installation_waits_for_the_first(tmp_path: Path) -> None:
    make_project(tmp_path)
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    second = subprocess.Popen(
        [sys.executable, str(tmp_path / "tools/bootstrap.py")],
        env=environment(tmp_path), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert second.stdout is not None
    assert "Another installation into .venv is under way" in second.stdout.readline()
    # The first has done it meanwhile.
    module = load(tmp_path)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    module.STAMP.write_text(module.fingerprint())
    os.close(lock)
    assert second.wait(10) == 0
    assert second.stdout.read() == ""
