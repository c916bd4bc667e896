"""Conditions in Trino's SQL (`where`, `sql`): one expression about one row, read into a syntax tree."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from forebay import sqltext
from forebay.errors import Mistake
from forebay.sqltext.allowed import function_name
from forebay.sqltext.words import words

if TYPE_CHECKING:
    from forebay.sqltext import Placeholder

_HEAD = "SELECT * FROM checks.rows WHERE (\n"
_AGGREGATES = words(
    """
    any_value approx_distinct approx_percentile arbitrary array_agg avg bool_and bool_or corr count count_if
    every geometric_mean histogram listagg max max_by min min_by stddev stddev_pop stddev_samp sum var_pop
    var_samp variance
    """
)


class Condition:
    """A condition as written: its tree, its values (`:name`), and everything that is wrong with it."""

    def __init__(self, text: str, file: str = "", line_offset: int = 0, column_offset: int = 0) -> None:
        # The text stands on lines of its own, so that places in it are places in its file.
        script = sqltext.parse(f"{_HEAD}{text}\n)", file, line_offset - 1, column_offset)
        found = list(script.mistakes)
        self.tree: exp.Expr | None = None
        self.placeholders: tuple[Placeholder, ...] = script.placeholders
        if not found:
            statement = script.statements[0]
            problem = _shape(statement.tree) if len(script.statements) == 1 else _ONE
            if problem:
                found.append(Mistake(file, line_offset + 1, column_offset + 1, "", problem))
            else:
                found += sqltext.untranslatable(statement)
                self.tree = statement.tree.args["where"].this
        if found and ";" in text:
            found = [Mistake(file, line_offset + 1, column_offset + 1, "", _ONE)]
        self.mistakes = [_own(each, line_offset, text, column_offset) for each in found]

    @property
    def columns(self) -> list[str]:
        """The columns it names, each once."""
        if self.tree is None:
            return []
        local = {
            name.name.lower() for function in self.tree.find_all(exp.Lambda) for name in function.expressions
        }
        # a.b is the field b of the column a.
        named = (node.parts[0].name for node in self.tree.find_all(exp.Column))
        return [name for name in dict.fromkeys(named) if name.lower() not in local]


def _own(mistake: Mistake, above: int, text: str, column_offset: int) -> Mistake:
    """A mistake at one of the brackets around the text, as one at the text's end."""
    rows = text.splitlines() or [""]
    if above < mistake.line <= above + len(rows):
        return mistake
    message = (
        "the condition ends too early" if mistake.message.startswith("syntax error") else mistake.message
    )
    column = column_offset + max(len(rows[-1].rstrip()), 1)
    return replace(mistake, line=above + len(rows), column=column, message=message)


_ONE = "must be one condition about a row, such as delay < 3000 AND carrier <> 'XX'"


def _shape(tree: exp.Expr) -> str | None:
    """Why a tree is no SELECT with this condition and nothing more; None when it is."""
    if not isinstance(tree, exp.Select):
        return _ONE
    given = {name for name, value in tree.args.items() if value}
    where = tree.args.get("where")
    if given - {"expressions", "from_", "from", "where", "kind"} or where is None:
        return _ONE
    if not isinstance(where.this, exp.Paren):
        return _ONE
    for node in where.this.walk():
        if isinstance(node, (exp.Select, exp.SetOperation, exp.Subquery)):
            return "looks at one row, so it holds no SELECT. Use rule: references, or check a table an sql task made"
        name = function_name(node) if isinstance(node, exp.Anonymous) else ""
        if isinstance(node, exp.Window) or name in _AGGREGATES:
            return "looks at one row, so it holds no aggregate. Use a rule such as mean, sum or row_count"
    return None
