"""The table in docs/reference/trino-functions.md, made from the same lists the translation uses.

Written anew by `python -m forebay.sqltext.reference > docs/reference/trino-functions.md`.
"""

from __future__ import annotations

from forebay.sqltext.functions import NOT_HERE, NOTES, REFUSED, RENAMED, carried, known_functions

_HEAD = """# Trino functions on the embedded engine

SQL in jobs is written in Trino's dialect. The embedded stack runs it on DuckDB, or on Trino itself. A job gives the same
rows on both, so what DuckDB cannot do is refused for both. This is every function of Trino 476, and what becomes of it on
DuckDB.

- *same*: both engines agree.
- *renamed*: DuckDB has it under another name.
- *rewritten*: put into other words.
- *macro*: a macro of Forebay stands in for it.
- *refused*: `forebay check` says so at the line, because DuckDB lacks it or means something else by it.

A test asks a real Trino for its list of functions, and runs each that is carried over on both engines. A function that is
not listed is unknown, and refused too.

Operators are carried over as well: `/` and `%` between integers stay whole and fail on zero, decimals keep
Trino's scale, a date plus an interval stays a date, casts round and print as Trino's do, NULLs sort last.

| function | on DuckDB | notes |
|---|---|---|
"""

_TAIL = """
## Known differences

- `a[i]` and `element_at` past the end of an array give NULL; Trino fails for `a[i]`.
- `d1 - d2` between two dates gives days as a number; Trino gives an interval. Use `date_diff`.
- `sum` of integers is a HUGEINT inside a query and becomes a BIGINT when it is written to a table.
- A timestamp has six decimals: cast to varchar prints all of them, as Trino does for `timestamp(6)`.
- A time zone is not kept with a value: `AT TIME ZONE` is carried over only where local time is asked for.
  A moment that is written with another zone than UTC works where the moment or its local time is asked for, and is
  refused where the result would be in that zone (`date_trunc`, `date_add`, a cast to varchar).
- Texts that become moments while a query runs (`cast`, `from_iso8601_timestamp`, `parse_datetime`), and moments that come
  out of a subquery, are in UTC here and in their own zone in Trino: the same moment, but `hour`, `date_trunc` and the like
  see UTC's clocks. Say which clocks are meant: `hour(x AT TIME ZONE 'UTC')` is the same on both.
- A local time that a zone's clocks show twice (the end of summer time) is the first of both in Trino, the second here.
- `ORDER BY … DESC` puts NaN last in Trino and first here; ascending, both put it last.
- The fields of a row without names are `field0`, `field1` in Trino; those of `map_entries` are `key` and `value` here.
- Regular expressions are RE2's: no look-around and no back references (they fail, they do not differ).
- An average of decimals is computed in double precision before it is rounded to Trino's scale.
"""


def reference() -> str:
    """The page as Markdown."""
    rows = []
    for name in sorted({*known_functions(), *REFUSED, *NOT_HERE}):
        how = carried(name)
        if how == "renamed":
            how = f"renamed: `{RENAMED[name]}`"
        note = REFUSED.get(name) or NOTES.get(name, "")
        rows.append(f"| `{name}` | {how} | {note.replace('|', chr(92) + '|')} |")
    return _HEAD + "\n".join(rows) + "\n" + _TAIL


if __name__ == "__main__":
    print(reference(), end="")
