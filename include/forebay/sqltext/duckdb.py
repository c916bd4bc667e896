"""Trino's syntax tree put into DuckDB's dialect; what would mean something else there is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp

from forebay.errors import JobSpecError, Mistake
from forebay.sqltext.allowed import CATALOG, offset_of
from forebay.sqltext.calls import call, translate_call
from forebay.sqltext.casts import column_type, translate_cast
from forebay.sqltext.dialect import DUCKDB
from forebay.sqltext.script import Lines, Statement
from forebay.sqltext.zones import Refusal, at_time_zone


class SqlError(JobSpecError):
    """SQL that the embedded engine cannot run as Trino would; `mistakes` says where and what to write."""


def to_duckdb(statement: Statement | exp.Expr, catalog: str = CATALOG) -> str:
    """DuckDB SQL of a statement, every table written catalog.namespace.table.

    The connection must have run MACROS, or those that `macros_for` names, and `SET TimeZone = 'UTC'`. Raises SqlError with everything that
    cannot be carried over, and for a `:name` that was not bound.
    """
    tree, mistakes = _translate(statement, catalog)
    mistakes += _unbound(statement, tree)
    if mistakes:
        raise SqlError(mistakes)
    try:
        return str(tree.sql(dialect=DUCKDB, comments=False))
    except RecursionError as error:
        raise SqlError([_mistake(statement, _start(statement), _TOO_DEEP)]) from error


_TOO_DEEP = "this statement is nested too deeply"


def _start(statement: Statement | exp.Expr) -> int:
    return statement.offset if isinstance(statement, Statement) else 0


def _unbound(statement: Statement | exp.Expr, tree: exp.Expr) -> list[Mistake]:
    if isinstance(statement, Statement) and statement.placeholders:
        file = statement.lines.file
        return [
            Mistake(file, mark.line, mark.column, "", f":{mark.name} has no value yet")
            for mark in statement.placeholders
        ]
    return [
        _mistake(statement, 0, f":{mark.name} has no value yet") for mark in tree.find_all(exp.Placeholder)
    ]


def untranslatable(statement: Statement | exp.Expr, *, keep: bool = True) -> list[Mistake]:
    """Everything in a statement that the embedded engine cannot carry over; `:name` may still be open.

    Without `keep` the statement's tree is used up: copying it takes as long as all else.
    """
    return _translate(statement, CATALOG, keep=keep)[1]


def _translate(
    statement: Statement | exp.Expr, catalog: str, *, keep: bool = True
) -> tuple[exp.Expr, list[Mistake]]:
    source = statement.tree if isinstance(statement, Statement) else statement
    start = _start(statement)
    mistakes: list[Mistake] = []
    # A holder, so that the root can be replaced like any other node.
    holder = exp.Paren(this=source.copy() if keep else source)
    for node in reversed(list(holder.this.bfs())):
        try:
            _rewrite(node, catalog)
        except Refusal as refusal:
            mistakes.append(_mistake(statement, _offset(node, start), str(refusal)))
        except RecursionError:
            return source, [_mistake(statement, start, _TOO_DEEP)]
    return holder.this, sorted(set(mistakes))


def _offset(node: exp.Expr, start: int) -> int:
    here: exp.Expr | None = node
    while here is not None:
        if (found := offset_of(here, -1)) >= 0:
            return found
        here = here.parent
    return start


def _mistake(statement: Statement | exp.Expr, offset: int, message: str) -> Mistake:
    lines = statement.lines if isinstance(statement, Statement) else Lines("", "", 0, 0)
    return lines.mistake(offset, message)


def _rewrite(node: exp.Expr, catalog: str) -> None:
    if isinstance(node, exp.Table):
        if node.args.get("db"):
            node.set("catalog", exp.to_identifier(catalog))
        return
    rule = _RULES.get(type(node))
    if rule is not None and (new := rule(node)) is not None and new is not node:
        node.replace(new)


def _binary(name: str) -> Callable[[exp.Expr], exp.Expr]:
    return lambda node: call(name, node.this, node.expression)


def _sum(node: exp.Expr) -> exp.Expr | None:
    left, right = node.this, node.expression
    if _is_interval(right):
        return call("trino_plus" if isinstance(node, exp.Add) else "trino_minus", left, right)
    if _is_interval(left) and isinstance(node, exp.Add):
        return call("trino_plus", right, left)
    return None


def _is_interval(node: exp.Expr) -> bool:
    while isinstance(node, (exp.Paren, exp.Neg, exp.Mul)):
        if isinstance(node, exp.Mul) and _is_interval(node.expression):
            return True
        node = node.this
    return isinstance(node, exp.Interval)


def _interval(node: exp.Expr) -> exp.Expr | None:
    unit = node.args.get("unit")
    if not isinstance(unit, exp.Var) or not isinstance(node.this, exp.Literal):
        raise Refusal("write an interval with one unit, such as INTERVAL '3' DAY")
    if unit.name.upper() not in ("YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"):
        raise Refusal(f"an interval is in YEAR, MONTH, DAY, HOUR, MINUTE or SECOND, not {unit.name[:40]}")
    return None


_FIELDS = {
    **{name: name for name in ("year", "quarter", "month", "week", "day", "hour", "minute", "second")},
    "day_of_month": "day",
    "day_of_week": "isodow",
    "dow": "isodow",
    "dayofweek": "isodow",
    "dayofweekiso": "isodow",
    "day_of_year": "dayofyear",
    "doy": "dayofyear",
    "dayofyear": "dayofyear",
    "year_of_week": "isoyear",
    "yow": "isoyear",
    "yearofweek": "isoyear",
    "yearofweekiso": "isoyear",
}


def _extract(node: exp.Expr) -> exp.Expr:
    field = _FIELDS.get(node.this.name.lower())
    if field is None:
        raise Refusal(f"extract cannot take {node.this.name[:40]} out here")
    return call(field, node.expression)


def _column(node: exp.Expr) -> None:
    if node.args.get("kind") is not None:
        node.set("kind", column_type(node.args["kind"]))


def _trim(node: exp.Expr) -> exp.Expr:
    side = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position") or "").upper(), "trim")
    characters = node.args.get("expression")
    return call(side, node.this, characters) if characters is not None else call(f"trino_{side}", node.this)


def _substring(node: exp.Expr) -> exp.Expr:
    length = node.args.get("length")
    return call("trino_substr", node.this, node.args["start"], *([length] if length is not None else []))


def _unicode(node: exp.Expr) -> exp.Expr:
    if node.args.get("escape") or "\\" in node.name:
        raise Refusal("write the characters themselves instead of U&'…' escapes")
    return exp.Literal.string(node.name)


def _now(node: exp.Expr) -> exp.Expr:
    now = call("now")
    return exp.cast(now, "TIMESTAMP") if isinstance(node, exp.Localtimestamp) else now


def _group(node: exp.Expr) -> None:
    if node.args.get("all") is not None or node.args.get("totals"):
        raise Refusal("GROUP BY ALL and DISTINCT are not available here: list the columns")


def _unnest(node: exp.Expr) -> None:
    if len(node.expressions) != 1:
        raise Refusal("UNNEST of several arrays is not available here: unnest each with ordinality and join")


def _limit(node: exp.Expr) -> None:
    options = node.args.get("limit_options")
    if options is not None and (options.args.get("with_ties") or options.args.get("percent")):
        raise Refusal("FETCH … WITH TIES is not available here: use rank() in a subquery")


def _distinct(node: exp.Expr) -> None:
    if isinstance(node.parent, exp.Anonymous) and len(node.expressions) > 1:
        raise Refusal("DISTINCT inside a function takes one column")
    if node.args.get("on") is not None:
        raise Refusal("Trino has no DISTINCT ON; use row_number() in a subquery")


def core(node: exp.Expr) -> exp.Expr:
    """The function inside OVER, FILTER, WITHIN GROUP and IGNORE NULLS."""
    while isinstance(node, _WRAPPERS):
        node = node.this
    return node


_WRAPPERS = (exp.Window, exp.Filter, exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls)
_NULLS = {
    "lag": exp.Lag,
    "lead": exp.Lead,
    "first_value": exp.FirstValue,
    "last_value": exp.LastValue,
    "nth_value": exp.NthValue,
}


def _wrapped(node: exp.Expr) -> exp.Expr | None:
    """OVER and FILTER need a function of DuckDB itself; an avg is replaced together with them."""
    inner = core(node)
    if isinstance(inner, exp.Identifier) or inner is None:
        return None  # a definition in WINDOW w AS (…)
    if not isinstance(inner, (exp.Anonymous, *_NULLS.values())) or str(inner.this).startswith("trino_"):
        raise Refusal("this function cannot carry OVER, FILTER or IGNORE NULLS here")
    if isinstance(node, exp.IgnoreNulls):
        return _ignore_nulls(node)
    if isinstance(node, exp.RespectNulls):
        return inner
    if isinstance(node, exp.WithinGroup):
        if inner.this != "string_agg":
            raise Refusal("WITHIN GROUP is available for listagg only")
        text, separator = inner.expressions
        order = node.expression
        order.set("this", separator)
        return call("string_agg", text, order)
    return _averaged(node)


def _ignore_nulls(node: exp.Expr) -> exp.Expr:
    inner = node.this
    if not isinstance(node.parent, exp.Window):
        raise Refusal("IGNORE NULLS needs OVER")
    cls = _NULLS.get(str(inner.this).lower())
    if cls is None:
        raise Refusal("IGNORE NULLS is for lag, lead, first_value, last_value and nth_value")
    names = ("this", "offset", "default") if cls in (exp.Lag, exp.Lead) else ("this", "offset")
    made = cls(**dict(zip(names, inner.expressions, strict=False)))
    return exp.IgnoreNulls(this=made)


def _averaged(node: exp.Expr) -> exp.Expr | None:
    if isinstance(node.parent, _WRAPPERS) and node.parent.this is node:
        return None
    inner = core(node)
    if not isinstance(inner, exp.Anonymous) or inner.this != "avg":
        return None
    total, count = node.copy(), node.copy()
    core(total).set("this", "sum")
    core(count).set("this", "count")
    return call("trino_avg_of", total, count)


def _anonymous(node: exp.Expr) -> exp.Expr | None:
    new = translate_call(node)
    return _averaged(node) if new is None or new is node else new


_RULES: dict[type[exp.Expr], Callable[[exp.Expr], exp.Expr | None]] = {
    exp.Anonymous: _anonymous,
    exp.Div: _binary("trino_divide"),
    exp.Mod: _binary("trino_mod"),
    exp.Add: _sum,
    exp.Sub: _sum,
    exp.Interval: _interval,
    exp.Cast: translate_cast,
    exp.TryCast: translate_cast,
    exp.ColumnDef: _column,
    exp.Extract: _extract,
    exp.Trim: _trim,
    exp.Substring: _substring,
    exp.StrPosition: lambda node: call("strpos", node.this, node.args["substr"]),
    exp.Struct: lambda node: call("row", *node.expressions),
    exp.ParseJSON: lambda node: exp.cast(node.this, "JSON"),
    exp.AtTimeZone: lambda node: at_time_zone(node, node.this, node.args["zone"]),
    exp.UnicodeString: _unicode,
    exp.CurrentTimestamp: _now,
    exp.Localtimestamp: _now,
    exp.Group: _group,
    exp.Unnest: _unnest,
    exp.Fetch: _limit,
    exp.Distinct: _distinct,
    **dict.fromkeys(_WRAPPERS, _wrapped),
}


def translated(statement: Statement | exp.Expr) -> exp.Expr:
    """The tree in DuckDB's words, whatever is wrong with it."""
    return _translate(statement, CATALOG)[0]


def functions_of(tree: exp.Expr) -> Iterator[str]:
    """The DuckDB functions a translated tree calls (for tests against duckdb_functions())."""
    for node in tree.find_all(exp.Anonymous):
        yield str(node.this).lower()
