"""One try of a task of a run, as a process that tests kill: `transaction_task.py JSON`."""

from __future__ import annotations

import json
import sys
import time

from forebay.engines.duckdb import DuckDBEngine
from forebay.lake.connection import CatalogConfig
from forebay.lake.identity import TaskTry
from forebay.lake.publish import publish
from forebay.lake.rest import Rest
from forebay.lake.retry import put_back
from forebay.lake.tables import TableDefinition


def main(text: str) -> None:
    order = json.loads(text)
    config = CatalogConfig(**order["config"])
    tables = tuple(order["tables"])
    who = TaskTry(
        job="job.job",
        run=order["run"],
        task="write",
        number=order["number"],
        writes=tables,
        began=time.time(),
    )
    with Rest(config) as rest:
        if order["step"] == "publish":
            publish(rest, who, tables, {"write": who.number}, tables)
            return
        if who.number > 1:
            put_back(rest, who)
    with DuckDBEngine(config.seen_by(who)) as engine:
        first, second = tables[:2]
        engine.write("SELECT 2 AS n", TableDefinition(first), "append")
        engine.write("SELECT 2 AS n UNION ALL SELECT 3", TableDefinition(second), "overwrite")
        for table in tables[2:]:
            engine.write("SELECT 2 AS n", TableDefinition(table), "append")


if __name__ == "__main__":
    main(sys.argv[1])
