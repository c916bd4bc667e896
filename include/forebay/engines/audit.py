"""audit: true. Each row says which run wrote it, and when."""

from __future__ import annotations

from collections.abc import Iterable

from forebay.lake.connection import LakeError
from forebay.lake.tables import Audit, TableDefinition
from forebay.spec.table import AUDIT_COLUMNS
from forebay.sqlquote import literal


def audited(
    select: str, given: Iterable[str], definition: TableDefinition, source: str = "the SELECT"
) -> str:
    """The SELECT with the two columns more; `given` are the columns it has. As it is where no audit is asked for.

    Raises LakeError where it has one of them already: whose value would count?
    """
    if definition.audit is None:
        return select
    refuse_taken(given, definition, source)
    return f"SELECT *, {_values(definition.audit)} FROM ({select}\n)"


def refuse_taken(given: Iterable[str], definition: TableDefinition, source: str = "the SELECT") -> None:
    """Raises LakeError where one of the two columns is among those that are given."""
    if taken := sorted({name.lower() for name in given} & set(AUDIT_COLUMNS)):
        raise LakeError(
            f"{definition.name}: audit: true adds {' and '.join(taken)}, and {source} brings such a column already. "
            "Leave it out (name the columns you need instead of *), give it another name, or remove audit."
        )


def _values(audit: Audit) -> str:
    name, moment = AUDIT_COLUMNS
    return f"{literal(audit.run)} AS {name}, TIMESTAMPTZ '{audit.at.isoformat()}' AS {moment}"
