"""Runs the benchmarks and prints their table: what, figure, target, met or not."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

Row = tuple[str, str, str, bool]

NAMES = (
    "check",
    "latency",
    "stack",
    "publish",
    "lens",
    "checks",
    "on_trino",
    "spark_start",
    "histories",
    "catalog",
    "worksheet",
    "connections",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help=f"some of: {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the slow comparisons")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for name in arguments.only or NAMES:
        print(f"== {name}", file=sys.stderr, flush=True)
        rows += importlib.import_module(name).measure(arguments.rounds)
        # After each: they take hours together, and one may break off.
        keep(rows)
    print(f"\nPython {platform.python_version()}, {len(rows)} figures (medians)\n")
    widths = [max(len(str(row[i])) for row in rows) for i in range(3)]
    for what, figure, target, met in rows:
        print(
            f"{what:<{widths[0]}}  {figure:>{widths[1]}}  {target:<{widths[2]}}  {'met' if met else 'MISSED'}"
        )


def keep(rows: list[Row]) -> None:
    """Puts figures into results.json; what was not measured now stays as it was."""
    file = HERE / "results.json"
    found = {each["what"]: each for each in json.loads(file.read_text())} if file.exists() else {}
    found |= {row[0]: dict(zip(("what", "figure", "target", "met"), row, strict=True)) for row in rows}
    file.write_text(json.dumps(list(found.values()), indent=1) + "\n")


if __name__ == "__main__":
    main()
