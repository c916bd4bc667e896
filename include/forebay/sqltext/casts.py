"""CAST and TRY_CAST: the same types, rounding and texts as Trino's."""

from __future__ import annotations

import re

from sqlglot import exp

from forebay.sqltext.zones import Refusal, local_time

_T = exp.DType
_WHOLE = {_T.TINYINT: "tinyint", _T.SMALLINT: "smallint", _T.INT: "integer", _T.BIGINT: "bigint"}
_PLAIN = frozenset((_T.BOOLEAN, _T.FLOAT, _T.DOUBLE, _T.DATE, _T.TIME, _T.UUID, *_WHOLE))
_TEXT = frozenset((_T.VARCHAR, _T.TEXT))
_MOMENTS = frozenset((_T.TIMESTAMP, _T.TIMESTAMPTZ))
_OFFSET = re.compile(r"(?<=\d) +(?=[+-]\d{2}:\d{2}$)")
_ROUND = {0: "trino_seconds", 3: "trino_millis"}


def translate_cast(node: exp.Expr) -> exp.Expr:
    """The cast in DuckDB's words. Raises Refusal for a type it does not have."""
    to, value = node.args["to"], node.this
    kind = to.this
    if kind in _WHOLE:
        if _is_whole(value):
            return node
        prefix = "trino_try_" if isinstance(node, exp.TryCast) else "trino_to_"
        return exp.Anonymous(this=prefix + _WHOLE[kind], expressions=[value])
    if kind in _TEXT:
        return _to_text(value, to)
    if kind == _T.JSON:
        return exp.Anonymous(this="to_json", expressions=[value])
    if kind in _MOMENTS:
        return _to_moment(node, value, to)
    if (exact := literal_type(node)) is not None:
        node.set("to", exact)
        return node
    node.set("to", column_type(to))
    return node


def literal_type(node: exp.Expr) -> exp.DataType | None:
    """The type of a literal such as DECIMAL '1.50', which its digits say; None for anything else."""
    to, value = node.args.get("to"), node.this
    if to is None or to.this != _T.DECIMAL or to.expressions:
        return None
    if not isinstance(value, exp.Literal) or not value.is_string:
        return None
    digits = value.name.strip().lstrip("+-")
    scale = len(digits.partition(".")[2])
    precision = max(len(digits.replace(".", "").lstrip("0")), scale, 1)
    return exp.DataType.build(f"DECIMAL({precision}, {scale})")


def column_type(to: exp.Expr) -> exp.Expr:
    """A Trino type in DuckDB's words, whatever it is made of. Raises Refusal."""
    kind = to.this
    if kind in _PLAIN:
        return exp.DataType(this=kind, nested=False)
    if kind in _TEXT:
        return exp.DataType.build("TEXT")
    if kind == _T.DECIMAL:
        return to if to.expressions else exp.DataType.build("DECIMAL(38, 0)")
    if kind in _MOMENTS:
        if _precision(to) > 6:
            raise Refusal("a timestamp holds six decimals here: write timestamp(6)")
        return exp.DataType(this=kind, nested=False)
    if kind in (_T.VARBINARY, _T.JSON):
        return to
    if kind in (_T.ARRAY, _T.MAP, _T.STRUCT) and to.expressions:
        for part in list(to.expressions):
            if isinstance(part, exp.ColumnDef):
                part.set("kind", column_type(part.args["kind"]))
            else:
                part.replace(column_type(part))
        return to
    raise Refusal(f"the type {to.sql(dialect='trino')[:60]} is not available on the embedded engine")


def _is_whole(value: exp.Expr) -> bool:
    return isinstance(value, exp.Literal) and not value.is_string and value.name.isdigit()


def _to_text(value: exp.Expr, to: exp.Expr) -> exp.Expr:
    plain = isinstance(value, exp.Literal) and (value.is_string or _is_whole(value))
    text = exp.cast(value, "TEXT") if plain else exp.Anonymous(this="trino_to_text", expressions=[value])
    if not to.expressions:
        return text
    return exp.Anonymous(this="left", expressions=[text, to.expressions[0].this.copy()])


def _precision(to: exp.Expr) -> int:
    return int(to.expressions[0].name) if to.expressions else 3


def _to_moment(node: exp.Expr, value: exp.Expr, to: exp.Expr) -> exp.Expr:
    precision = _precision(to)
    if precision > 6 or (precision not in (0, 3, 6) and not isinstance(value, exp.Literal)):
        raise Refusal("a timestamp is (0), (3) or (6) here: write timestamp(6)")
    node.set("to", exp.DataType(this=to.this, nested=False))
    if isinstance(value, exp.Literal):
        if to.this == _T.TIMESTAMPTZ and (local := local_time(node, value.name)) is not None:
            value.set("this", local)
            node.set("to", exp.DataType(this=_T.TIMESTAMP, nested=False))
        # DuckDB takes what stands apart for a zone's name.
        value.set("this", _OFFSET.sub("", value.name))
    exact = isinstance(value, exp.Literal) and len(value.name.partition(".")[2].split(" ")[0]) <= precision
    if precision not in _ROUND or exact:
        return node
    return exp.Anonymous(this=_ROUND[precision], expressions=[node.copy()])
