"""Every message `forebay check` can give: one folder in tests/cases for each, with the whole output expected.

A case is laid over tests/cases/_base. Where a file cannot be committed, make.py in its folder writes it.
To accept new output: UPDATE_CASES=1 pytest tests/unit/test_cases.py, and read the difference.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from forebay.cli.check import command

CASES = Path(__file__).parents[1] / "cases"
NAMES = sorted(
    path.name for path in CASES.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))
)


def build(name: str, root: Path) -> None:
    ignored = shutil.ignore_patterns("expected.txt", "make.py", "__pycache__")
    for folder in ("_base", name):
        shutil.copytree(CASES / folder, root, ignore=ignored, dirs_exist_ok=True)
    script = CASES / name / "make.py"
    if script.exists():
        spec = importlib.util.spec_from_file_location(f"case_{name}", script)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.make(root)


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str, tmp_path: Path) -> None:
    build(name, tmp_path)
    result = CliRunner().invoke(command, [str(tmp_path)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    expected = CASES / name / "expected.txt"
    if os.environ.get("UPDATE_CASES"):
        expected.write_text(result.output, encoding="utf-8")
    assert expected.exists(), f"{name} has no expected.txt"
    assert result.output == expected.read_text(encoding="utf-8")
    assert result.exit_code == (0 if name == "good" else 1)
