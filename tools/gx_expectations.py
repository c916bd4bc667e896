"""Writes include/forebay/checks/gx_expectations.json: GX's expectations and their arguments.

With --check nothing is written; the exit code is 1 when the file is not what the installed GX says.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "include"))
TARGET = ROOT / "include/forebay/checks/gx_expectations.json"

# What every expectation of GX has, and a rule here says in other words or not at all.
COMMON = {
    *("batch_id", "catch_exceptions", "condition_parser", "description", "id", "meta", "notes"),
    *("library_metadata", "rendered_content", "result_format", "row_condition", "severity", "windows"),
}
QUERY = "asks a SQL database of its own, which GX has none of here. Use rule: sql, or check a table an sql task made"


def expectations() -> dict[str, dict[str, Any]]:
    """Every expectation of the installed GX: its kind, arguments, and why it cannot be used here."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations.expectations as gxe
    from great_expectations.expectations import expectation as bases
    from great_expectations.expectations.registry import _registered_expectations, _registered_metrics

    from forebay.checks.kinds import KINDS
    from forebay.checks.names import snake

    kinds = {
        "column_map": bases.ColumnMapExpectation,
        "column_pair_map": bases.ColumnPairMapExpectation,
        "multicolumn_map": bases.MulticolumnMapExpectation,
        "column_aggregate": bases.ColumnAggregateExpectation,
    }
    found = {}
    for name, made in sorted(_registered_expectations.items()):
        if not hasattr(gxe, made.__name__) and made.__module__.split(".")[0] != "great_expectations":
            continue
        fields = {key: field for key, field in made.__fields__.items() if key not in COMMON}
        entry: dict[str, Any] = {
            "kind": next((kind for kind, base in kinds.items() if issubclass(made, base)), "table"),
            "arguments": sorted(fields),
            "required": sorted(key for key, field in fields.items() if field.required),
        }
        # The names are turned into each other without GX.
        assert snake(made.__name__) == name, (name, made.__name__)
        metrics = [getattr(made, "map_metric", None), *(getattr(made, "metric_dependencies", ()) or ())]
        asks_sql = issubclass(made, bases.QueryExpectation) or "query" in " ".join(fields)
        on_pandas = all(_on_pandas(metric, _registered_metrics) for metric in metrics if metric)
        if name not in KINDS and (asks_sql or not on_pandas or "other_table_name" in fields):
            entry["note"] = f"{name} {QUERY}"
        found[name] = entry
    return found


def _on_pandas(metric: str, registered: dict[str, Any]) -> bool:
    """Whether GX can work a metric out on a pandas frame."""
    known = [
        registered[name] for name in (metric, f"{metric}.condition", f"{metric}.map") if name in registered
    ]
    return not known or any("PandasExecutionEngine" in each["providers"] for each in known)


def main(arguments: list[str]) -> int:
    text = json.dumps(expectations(), indent=1) + "\n"
    if arguments == ["--check"]:
        return 0 if TARGET.read_text("utf-8") == text else 1
    TARGET.write_text(text, "utf-8")
    print(f"wrote {TARGET.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
