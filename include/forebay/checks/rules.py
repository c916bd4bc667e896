"""A rule as the run needs it: plain values, whatever way it was written in YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from forebay.checks.names import COMPOUND_UNIQUE, RULES, gx_expectations, snake

if TYPE_CHECKING:
    from forebay.tasks.checks import Expectation

QUARANTINE = "__quarantine"
"""What is added to a table's name for the table of its refused rows."""
COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list")


@dataclass(frozen=True)
class Rule:
    """One rule. `expectation` is GX's name, or empty for sql, references and type, which GX does not have."""

    label: str
    """How people read it: between(delay), or the name the YAML gives it. Unique in its task."""
    rule: str
    """The short name, or empty."""
    expectation: str
    arguments: dict[str, Any] = field(default_factory=dict)
    """By GX's names where there is an expectation."""
    severity: str = "fail"
    mostly: float = 1.0
    where: str = ""
    row_level: bool = True

    @property
    def kind(self) -> str:
        """What is compiled: GX's name, or the short one where GX has none."""
        return self.expectation or self.rule

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it names in its arguments."""
        found: list[str] = []
        for name in COLUMN_ARGUMENTS:
            value = self.arguments.get(name)
            found += value if isinstance(value, list | tuple) else [value] if value else []
        return tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for an operator's argument."""
        return asdict(self)


def rules_of(expect: Iterable[Expectation]) -> list[Rule]:
    """The rules of a task, in its order."""
    found: list[Rule] = []
    for expectation in expect:
        rule = _rule(expectation)
        taken = {one.label for one in found}
        number, label = 1, rule.label
        while label in taken:
            number += 1
            label = f"{rule.label}#{number}"
        found.append(Rule(**{**rule.as_dict(), "label": label}))
    return found


def from_dicts(rules: Iterable[Mapping[str, Any]]) -> list[Rule]:
    """The reverse of `Rule.as_dict` for several."""
    return [Rule(**rule) for rule in rules]


def _rule(given: Expectation) -> Rule:
    common: dict[str, Any] = {
        "severity": given.severity,
        # Without mostly, quarantine takes however many rows are refused.
        "mostly": float(given.mostly if given.mostly is not None else given.severity != "quarantine"),
        "where": given.where or "",
    }
    if given.expectation is not None:
        name = snake(given.expectation)
        arguments = {**given.arguments, **_named(given)}
        known = gx_expectations().get(name)
        if "mostly" in arguments and given.mostly is None:
            common["mostly"] = float(arguments.pop("mostly"))
        label = given.name or _label(name, arguments)
        return Rule(label, "", name, arguments, row_level=known.row_level if known else False, **common)
    assert given.rule is not None
    short = RULES[given.rule]
    arguments = {
        argument: _plain(getattr(given, key))
        for key, argument in short.keys.items()
        if key in given.model_fields_set
    }
    compound = given.rule == "unique" and given.columns
    expectation = COMPOUND_UNIQUE if compound else short.gx
    if given.rule == "columns":
        arguments.setdefault("exact_match", True)
    label = given.name or _label(given.rule, arguments)
    if compound and len(given.columns) == 1:
        expectation, arguments = short.gx, {"column": given.columns[0]}
    return Rule(label, given.rule, expectation, arguments, row_level=short.row_level, **common)


def _named(given: Expectation) -> dict[str, Any]:
    """GX's arguments that are keys of ours too."""
    found: dict[str, Any] = {}
    if given.column is not None:
        found["column"] = given.column
    return found


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump()
    return list(value) if isinstance(value, tuple) else value


def _label(name: str, arguments: Mapping[str, Any]) -> str:
    # A comma parts the rules in a quarantine table's column _rule.
    columns = [arguments[key] for key in COLUMN_ARGUMENTS if isinstance(arguments.get(key), str)]
    columns += arguments.get("column_list") or ()
    return f"{name}({'+'.join(columns)})" if columns else name
