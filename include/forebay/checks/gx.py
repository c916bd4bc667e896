"""Great Expectations itself, on a pandas frame, for the rules that are not compiled.

Imported only when such a rule is there: the import costs seconds and some 300 MB. Nothing is sent
anywhere, no project folder is read or made.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from forebay.checks.columns import Column, Columns, value_of
from forebay.checks.compile import EXAMPLES
from forebay.checks.rules import Rule
from forebay.errors import ForebayError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Result = TypeVar("Result")
_EXACT = 2**53
_MOMENTS = ("date", "timestamp", "timestamptz")
_TYPED = ("min_value", "max_value", "value_set")


def frame(rows: pa.Table) -> pd.DataFrame:
    """Rows as GX gets them: NULL and NaN are both missing, dates are datetime64, decimals are floats.

    GX's own arithmetic fails on a decimal column with NULL, and compares datetime.date with nothing.
    """
    import pandas as pd
    import pyarrow as pa

    for number, field in enumerate(rows.schema):
        if pa.types.is_decimal(field.type):
            rows = rows.set_column(number, field.name, rows.column(number).cast(pa.float64()))
    made = rows.to_pandas(date_as_object=False)
    for field in rows.schema:
        column = made[field.name]
        # With NULL among them whole numbers are floats, which cannot hold every bigint.
        if pa.types.is_int64(field.type) and column.dtype.kind == "f" and column.abs().max() >= _EXACT:
            whole = {pa.int64(): pd.Int64Dtype()}.get
            made[field.name] = rows.column(field.name).to_pandas(types_mapper=whole)
    return made


def validate(rows: pd.DataFrame, rules: Sequence[Rule], columns: Columns) -> list[dict[str, Any]]:
    """GX's result for each rule, with `unexpected_index_list`: the positions of refused rows in the frame."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = (
        context.data_sources.add_pandas("rows")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("rows")
        .get_batch({"dataframe": rows})
    )
    found = []
    for rule in rules:
        arguments = _arguments(rule, columns)
        if rule.row_level:
            arguments["mostly"] = rule.mostly
        try:
            expectation = ExpectationConfiguration(type=rule.expectation, kwargs=arguments).to_domain_obj()
        except Exception as error:
            raise ForebayError(f"{rule.label}: Great Expectations refuses the arguments: {error}") from error
        form = {"result_format": "COMPLETE", "partial_unexpected_count": EXAMPLES}
        result: dict[str, Any] = batch.validate(expectation, result_format=form).to_json_dict()
        found.append({"success": bool(result["success"]), "result": dict(result.get("result") or {})})
        if message := _exception(result.get("exception_info") or {}):
            raise ForebayError(f"{rule.label}: Great Expectations could not look at the rows: {message}")
    return found


def _arguments(rule: Rule, columns: Columns) -> dict[str, Any]:
    """The rule's arguments with dates and times that are texts in YAML as GX needs them."""
    given = dict(rule.arguments)
    name = str(given.get("column"))
    if name not in columns or columns[name].kind not in _MOMENTS:
        return given
    for key in _TYPED:
        value, what = given.get(key), f"{rule.label}: {key}"
        if isinstance(value, list):
            given[key] = [_moment(columns[name], one, what) for one in value]
        elif value is not None:
            given[key] = _moment(columns[name], value, what)
    return given


def _moment(column: Column, value: Any, what: str) -> Any:
    # A number counts something: how many values differ, say.
    made = value_of(column, value, what) if isinstance(value, str) else value
    if isinstance(made, date) and not isinstance(made, datetime):
        return datetime(made.year, made.month, made.day)
    return made


def _exception(info: dict[str, Any]) -> str:
    """What GX says went wrong; empty when nothing did."""
    if "raised_exception" in info:
        return str(info.get("exception_message") or "") if info["raised_exception"] else ""
    found = (each for each in info.values() if isinstance(each, dict) and each.get("raised_exception"))
    return next((str(each.get("exception_message") or "an unknown reason") for each in found), "")


def beside(work: Callable[[], Result], check: Callable[[], None]) -> Result:
    """Run pure Python in a thread that is left behind when `check` raises: it cannot be interrupted."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  handed to the caller below
            errors.append(error)

    thread = threading.Thread(target=body, name="forebay-gx", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
        check()
    if errors:
        raise errors[0]
    return results[0]
