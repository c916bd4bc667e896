"""Task types: one module each, named like the value of `type:`, found by its name."""

from __future__ import annotations

import importlib
import pkgutil
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from forebay.spec.task import BaseTask

TASK_TYPES: dict[str, type[BaseTask]] = {
    module.name: importlib.import_module(f"{__name__}.{module.name}").Task
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name)
}

if TYPE_CHECKING:
    AnyTask = BaseTask
else:
    AnyTask = Annotated[reduce(or_, TASK_TYPES.values()), Field(discriminator="type")]
