"""The programs of spark and python tasks: whether they compile, and whether the named function is there."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from forebay.errors import Mistake, suggestion
from forebay.project import LoadedJob
from forebay.tasks.python import Task as Python
from forebay.tasks.spark import Task as Spark


def mistakes(jobs: Iterable[LoadedJob]) -> Iterator[Mistake]:
    """Every mistake in the programs of these jobs; each file is read once."""
    read: dict[Path, ast.Module | Mistake] = {}
    for job in jobs:
        for index, task in enumerate(job.spec.tasks):
            # A file that is not there, or outside its folder, is a mistake already.
            if not job.wrong.isdisjoint((("tasks", index, "application"), ("tasks", index, "function"))):
                continue
            if isinstance(task, Spark):
                path = job.spark_path(task.application)
            elif isinstance(task, Python):
                path = job.python_path(task.module_file)
            else:
                continue
            if path not in read:
                read[path] = _parse(path, os.path.relpath(path, job.workspace.root))
            tree = read[path]
            if isinstance(tree, Mistake):
                yield tree
            elif isinstance(task, Python):
                yield from _function(job, index, task, tree)


def _parse(path: Path, file: str) -> ast.Module | Mistake:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(path.read_bytes(), file)
    except SyntaxError as error:
        return Mistake(file, error.lineno or 1, error.offset or 1, "", f"does not compile: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Mistake(file, 1, 1, "", f"does not compile: {error}")
    except OSError as error:
        return Mistake(file, 1, 1, "", f"cannot be read: {error.strerror}")


def _function(job: LoadedJob, index: int, task: Python, tree: ast.Module) -> Iterator[Mistake]:
    defined: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.alias):
            if node.name == "*":
                return
            defined.add(node.asname or node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
    if task.function_name not in defined:
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        name = task.function_name
        message = f"{task.module_file} has no function '{name}'.{suggestion(name, functions)}"
        yield job.document.mistake(("tasks", index, "function"), message)
