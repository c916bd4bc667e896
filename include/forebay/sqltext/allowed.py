"""What a statement may be made of: anything not listed here is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sqlglot import exp

from forebay.errors import suggestion
from forebay.sqltext.dialect import PREFIX
from forebay.sqltext.words import words

CATALOG = "lake"
_NAME = re.compile(r"[a-z_][a-z0-9_]*\Z")

# Nothing in this list opens a file, a connection, an extension or a setting.
_NODES = words(
    """
    Add Alias All Alter And Anonymous Any Array AtTimeZone Between BitwiseNot Boolean Bracket CTE
    Case Cast Coalesce Column ColumnConstraint ColumnDef Create Cube CurrentDate CurrentTimestamp
    DPipe DataType DataTypeParam Delete Distinct Div Dot Drop EQ Escape Except Exists Extract Fetch
    Filter From GT GTE Group GroupingSets Having HexString Identifier If IgnoreNulls In Insert
    Intersect Interval IntervalSpan Is Join LT LTE Lambda Lateral Like Limit
    LimitOptions Literal Localtimestamp
    Map Merge Mod Mul NEQ Neg Not NotNullColumnConstraint Null NullSafeEQ NullSafeNEQ Offset Or
    Order Ordered ParseJSON Paren Placeholder Properties Property RenameColumn RespectNulls Rollup
    Schema Select Star StrPosition Struct Sub Subquery Substring Table TableAlias Trim TruncateTable
    TryCast Tuple UnicodeString Union Unnest Update Values Var When Whens Where Window WindowSpec
    With WithinGroup
    """
)
_WORDS = {
    "TableSample": "TABLESAMPLE is not available here: a sample changes from run to run",
    "MatchRecognize": "MATCH_RECOGNIZE is not available on the embedded engine",
    "Version": "time travel (FOR VERSION / TIMESTAMP AS OF) is not available on the embedded engine",
    "CurrentUser": "current_user is not available here",
    "CurrentTime": "current_time is not available here; use current_timestamp",
    "Localtime": "localtime is not available here; use localtimestamp",
    "ILike": "Trino has no ILIKE; write lower(x) LIKE 'pattern'",
    "SimilarTo": "Trino has no SIMILAR TO; use regexp_like(x, pattern)",
    "RegexpLike": "Trino has no REGEXP operator; use regexp_like(x, pattern)",
    "Glob": "Trino has no GLOB; use LIKE",
    "Qualify": "Trino has no QUALIFY; put the window function into a subquery",
    "IntDiv": "Trino has no DIV; / between integers already divides whole",
    "Pow": "Trino has no power operator; use power(x, y)",
    "FunctionSpecification": "functions cannot be defined here",
    "Returning": "Trino has no RETURNING",
    "NamedArgument": "Trino has no such argument",
    "SessionParameter": "session variables are not available here",
    "Parameter": "use :name for a value",
}
_KINDS: dict[type[exp.Expr], str] = {
    exp.Select: "select",
    exp.SetOperation: "select",
    exp.Subquery: "select",
    exp.Values: "select",
    exp.Insert: "insert",
    exp.Update: "update",
    exp.Delete: "delete",
    exp.Merge: "merge",
    exp.TruncateTable: "truncate",
    exp.Alter: "alter table",
}
_FIRST = words("SELECT WITH VALUES TABLE ( INSERT UPDATE DELETE MERGE CREATE DROP ALTER TRUNCATE")
_ENOUGH = 100
"""Mistakes of a statement; nobody reads more at once."""
_SYSTEM = words("information_schema pg_catalog main temp system")
_ADVICE = "a job runs SELECT, INSERT, UPDATE, DELETE, MERGE, TRUNCATE, and CREATE, DROP and ALTER TABLE"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something to refuse, at an offset in the text."""

    offset: int
    message: str


@dataclass(slots=True)
class Inspection:
    """What was found out about a statement."""

    kind: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    _reads: dict[str, None] = field(default_factory=dict)
    _writes: dict[str, None] = field(default_factory=dict)


def offset_of(node: exp.Expr, default: int) -> int:
    """Where a node is written: its own place, else the first known inside it, else the default."""
    for inner in node.walk():
        meta = inner._meta
        if meta and "start" in meta:
            return int(meta["start"])
    return default


def inspect(tree: exp.Expr, start: int, problems: list[Problem]) -> Inspection:
    """Finds the kind and tables of a statement and adds everything to refuse to `problems`."""
    kind = _kind(tree)
    if kind is None:
        problems.append(Problem(start, f"{_first_word(tree)} is not allowed here: {_ADVICE}"))
        return Inspection("refused")
    found = Inspection(kind)
    targets = _targets(tree, kind)
    for node in tree.walk():
        if len(problems) >= _ENOUGH:
            # Each is looked for in what is around it.
            break
        name = type(node).__name__
        if name == "Table":
            _table(node, targets, found, start, problems)
        elif name not in _NODES:
            message = _WORDS.get(name) or f"{_plain(name)} is not available here"
            problems.append(Problem(offset_of(node, _near(node, start)), message))
        elif name in _CHECKS:
            _CHECKS[name](node, start, problems)
    found.reads, found.writes = tuple(found._reads), tuple(found._writes)
    return found


def refused_word(word: str) -> str | None:
    """Why no statement may begin with this word, or None."""
    upper = word.upper()
    if upper in _FIRST:
        return None
    near = suggestion(word, _FIRST, listing="")
    return f"{upper[:40]} is not allowed here: {_ADVICE}.{near}".rstrip(".")


def _kind(tree: exp.Expr) -> str | None:
    if isinstance(tree, exp.Create):
        if str(tree.args.get("kind")).upper() != "TABLE":
            return None
        return "create table as" if tree.args.get("expression") is not None else "create table"
    if isinstance(tree, exp.Drop):
        return "drop table" if str(tree.args.get("kind")).upper() == "TABLE" else None
    if isinstance(tree, exp.Alter) and str(tree.args.get("kind")).upper() != "TABLE":
        return None
    return next((kind for cls, kind in _KINDS.items() if isinstance(tree, cls)), None)


def _first_word(tree: exp.Expr) -> str:
    if isinstance(tree, exp.Command):
        return str(tree.this).upper()
    word = re.sub(r"(?<!^)(?=[A-Z])", " ", type(tree).__name__).split()[0].upper()
    kind = tree.args.get("kind")
    return (
        f"{word} {str(kind).upper()}"
        if isinstance(tree, (exp.Create, exp.Drop, exp.Alter)) and kind
        else word
    )


def _targets(tree: exp.Expr, kind: str) -> set[int]:
    if kind == "select":
        return set()
    if isinstance(tree, exp.Drop):
        named = tree.args.get("tables") or [tree.this]
    elif isinstance(tree, exp.TruncateTable):
        named = tree.expressions
    else:
        named = [tree.this]
    tables = (item.this if isinstance(item, exp.Schema) else item for item in named)
    return {id(table) for table in tables if isinstance(table, exp.Table)}


def _table(node: exp.Expr, targets: set[int], found: Inspection, start: int, problems: list[Problem]) -> None:
    parts = [offset_of(part, -1) for part in node.args.values() if isinstance(part, exp.Identifier)]
    place = min(parts, default=-1)
    if place < 0:
        place = offset_of(node, _near(node, start))
    this = node.this
    if isinstance(this, exp.Anonymous) or not isinstance(this, exp.Identifier):
        problems.append(
            Problem(place, "a table is written namespace.table; table functions are not available here")
        )
        return
    name, db, catalog = this.name.lower(), node.text("db").lower(), node.text("catalog").lower()
    if not db:
        if id(node) not in targets and _is_cte(node, name):
            return
        problems.append(Problem(place, f"write namespace.table: '{this.name[:80]}' names no namespace"))
        return
    if db in _SYSTEM:
        problems.append(Problem(place, f"{db} is not available here: `forebay tables` lists the tables"))
        return
    if catalog and catalog != CATALOG:
        problems.append(Problem(place, f"unknown catalog '{catalog[:80]}': the only one is '{CATALOG}'"))
        return
    if "$" in name:
        problems.append(Problem(place, f"metadata tables such as {db}.{name}"[:120] + " cannot be read here"))
        return
    if not _NAME.match(name) or not _NAME.match(db):
        problems.append(
            Problem(
                place,
                f"'{db}.{name}'"[:120] + " is not a table's name: use a-z, 0-9 and _ in namespace.table",
            )
        )
        return
    full = f"{db}.{name}"
    if id(node) in targets:
        found._writes[full] = None
    else:
        found._reads[full] = None


def _is_cte(table: exp.Expr, name: str) -> bool:
    """Whether WITH gives this name to a query, as seen from where the table is written."""
    inner: exp.Expr = table
    outer = table.parent
    while outer is not None:
        holder = outer.args.get("with_")
        if isinstance(holder, exp.With) and holder is not inner:
            if any(cte.alias.lower() == name for cte in holder.expressions):
                return True
        elif isinstance(outer, exp.With):
            for cte in outer.expressions:
                if cte is inner:
                    if outer.args.get("recursive") and cte.alias.lower() == name:
                        return True
                    break
                if cte.alias.lower() == name:
                    return True
        inner, outer = outer, outer.parent
    return False


def _near(node: exp.Expr, start: int) -> int:
    parent = node.parent
    return offset_of(parent, start) if parent is not None else start


def _plain(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).upper()


def _placeholder(node: exp.Expr, start: int, problems: list[Problem]) -> None:
    parent = node.parent
    if not node.this:
        problems.append(Problem(_near(node, start), "write a value as :name; '?' has no name"))
    elif isinstance(parent, (exp.Alias, exp.TableAlias, exp.Table, exp.Interval)) and parent.this is not node:
        problems.append(Problem(_near(node, start), f":{node.name} stands where only a name can stand"))
    elif isinstance(parent, (exp.Interval, exp.Table, exp.Dot)):
        problems.append(Problem(_near(node, start), f":{node.name} cannot be used here"))


def _star(node: exp.Expr, start: int, problems: list[Problem]) -> None:
    if any(node.args.get(word) for word in ("except_", "except", "replace", "rename", "ilike")):
        problems.append(Problem(_near(node, start), "Trino has no * EXCLUDE / REPLACE: name the columns"))


def _call(node: exp.Expr, start: int, problems: list[Problem]) -> None:
    if not isinstance(node.this, str):
        problems.append(Problem(offset_of(node, start), "a function's name is written without quotes"))
    elif isinstance(node.parent, exp.Dot):
        problems.append(Problem(_near(node, start), "functions of a schema are not available here"))


def _select(node: exp.Expr, start: int, problems: list[Problem]) -> None:
    for key, message in _CLAUSES.items():
        if node.args.get(key):
            problems.append(Problem(_near(node, start), message))


def _create(node: exp.Expr, start: int, problems: list[Problem]) -> None:
    if node.args.get("replace"):
        problems.append(
            Problem(start, "CREATE OR REPLACE TABLE would drop the table's history; use DELETE and INSERT")
        )
    if node.args.get("properties"):
        problems.append(
            Problem(start, "WITH (…) is not available here: give the task `table` and `partitioned_by`")
        )


def _join(node: exp.Expr, start: int, problems: list[Problem]) -> None:
    for key, known in (("kind", ("INNER", "CROSS", "OUTER")), ("method", ("NATURAL",))):
        word = node.text(key).upper()
        if word and word not in known:
            problems.append(Problem(_near(node, start), f"Trino has no {word} JOIN"))


def _by_name(node: exp.Expr, start: int, problems: list[Problem]) -> None:
    for key, word in (("by_name", "BY NAME"), ("overwrite", "OVERWRITE"), ("alternative", "OR …")):
        if node.args.get(key):
            problems.append(Problem(start, f"Trino has no {type(node).__name__.upper()} {word}"))


def _bracket(node: exp.Expr, start: int, problems: list[Problem]) -> None:
    for index in node.expressions:
        if re.fullmatch(r"-\s*\d+", index.sql()):  # the parser counts a written index from 0
            message = "arrays begin at [1]; element_at(a, -1) counts from the end"
            problems.append(Problem(_near(node, start), message))


def _literal(node: exp.Expr, start: int, problems: list[Problem]) -> None:
    if isinstance(node.parent, exp.Alias) and node.arg_key == "alias":
        problems.append(Problem(_near(node, start), "an alias is a name, not a string"))


_CLAUSES = {
    "qualify": _WORDS["Qualify"],
    "locks": "Trino has no FOR UPDATE",
    "into": "Trino has no SELECT INTO",
    "cluster": "Trino has no CLUSTER BY",
    "distribute": "Trino has no DISTRIBUTE BY",
    "sort": "Trino has no SORT BY",
    "connect": "Trino has no CONNECT BY",
    "match": _WORDS["MatchRecognize"],
    "sample": _WORDS["TableSample"],
    "prewhere": "Trino has no PREWHERE",
}
_CHECKS = {
    "Placeholder": _placeholder,
    "Star": _star,
    "Anonymous": _call,
    "Select": _select,
    "Create": _create,
    "Literal": _literal,
    "Join": _join,
    "Union": _by_name,
    "Except": _by_name,
    "Intersect": _by_name,
    "Insert": _by_name,
    "Bracket": _bracket,
}


def function_name(node: exp.Expr) -> str:
    """The function's name as it was written, in lower case."""
    return str(node.this).lower().removeprefix(PREFIX)
