"""SQL in Trino's dialect: read, checked, given its values, and put into DuckDB's dialect."""

from forebay.sqltext.dialect import Placeholder
from forebay.sqltext.duckdb import SqlError, to_duckdb, untranslatable
from forebay.sqltext.macros import MACROS, macros_for
from forebay.sqltext.script import Script, Statement, parse
from forebay.sqltext.trino import located, to_trino
from forebay.sqltext.values import Scalar, Value, bind, literal_of

__all__ = [
    "MACROS",
    "Placeholder",
    "Scalar",
    "Script",
    "SqlError",
    "Statement",
    "Value",
    "bind",
    "literal_of",
    "located",
    "macros_for",
    "parse",
    "to_duckdb",
    "to_trino",
    "untranslatable",
]
