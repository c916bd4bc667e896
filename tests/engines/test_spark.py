"""PySpark programs through the engine: the catalog is there, values arrive, failures say why."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from forebay.engines.background import EngineError
from forebay.engines.spark import SparkEngine, last_words
from forebay.lake.connection import CatalogConfig

PROGRAM = """\
import json, os, sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate()
(table,) = sys.argv[1:]
values = json.loads(os.environ["FOREBAY_PARAMETERS"])
spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {table.split('.')[0]}")
spark.sql(f"CREATE TABLE {table} AS SELECT id, DATE '{values['day']}' AS day FROM range(10)")
print("zone", spark.conf.get("spark.sql.session.timeZone"))
print(spark.conf.get("spark.sql.catalog.lake.s3.secret-access-key"))
raise ValueError("no such luck")
"""


def test_program(config: CatalogConfig, namespace: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    lines: list[str] = []
    engine = SparkEngine(config, jars=os.environ["FOREBAY_JARS"], master="local[1]", driver_memory="700m")
    with pytest.raises(EngineError) as caught:
        engine.run(str(program), [f"{namespace}.t"], values={"day": date(2020, 1, 1)}, log=lines.append)
    assert str(caught.value).endswith("ValueError: no such luck")
    assert "program.py ended with code 1" in str(caught.value)
    assert "zone UTC" in lines
    assert not any(config.secret_key in line for line in lines)
    assert "***" in lines
    program.write_text(
        "from pyspark.sql import SparkSession as S\n"
        f"S.builder.getOrCreate().sql('DELETE FROM {namespace}.t WHERE id < 4')\n"
    )
    (result,) = engine.run(str(program), writes=[f"{namespace}.t"], log=lines.append)
    assert (result.rows, result.deleted - result.inserted) == (6, 4)


def test_missing_jars_and_program(config: CatalogConfig, tmp_path: Path) -> None:
    program = tmp_path / "p.py"
    with pytest.raises(EngineError, match="no program"):
        SparkEngine(config, jars="").run(str(program))
    program.write_text("")
    with pytest.raises(EngineError, match="FOREBAY_JARS"):
        SparkEngine(config, jars=str(tmp_path)).run(str(program))


def test_last_words() -> None:
    lines = ["a", "Traceback (most recent call last):", "  x", "WARN y", "ValueError: z"]
    assert last_words(lines) == "Traceback (most recent call last):\n  x\nValueError: z"
    assert last_words([str(number) for number in range(50)]).splitlines()[0] == "30"
