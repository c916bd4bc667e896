"""What a connection of type `spark` says: where programs go, with which executors, and where YARN is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from forebay.engines.background import EngineError
from forebay.errors import ForebayError
from forebay.machine import hadoop
from forebay.operators.spark import master, of_connection

FIXED = {"min": 3, "cores": 2, "memory": "4g"}


def settings(folder: Path, **said: str) -> Path:
    lines = (
        f"<property><name>{name.replace('__', '-').replace('_', '.')}</name><value>{value}</value></property>"
        for name, value in said.items()
    )
    (folder / "yarn-site.xml").write_text(f"<configuration>{''.join(lines)}</configuration>")
    return folder


@pytest.mark.parametrize(
    ("where", "extra", "own", "conf"),
    [
        ("local[*]", {"executors": {"instances": 2}}, FIXED, {}),
        ("yarn", {}, {}, {}),
        ("yarn", {}, FIXED, {"executor.instances": "3", "executor.cores": "2", "executor.memory": "4g"}),
        ("spark://a:7077", {}, FIXED, {"cores.max": "6", "executor.cores": "2", "executor.memory": "4g"}),
        ("spark://a:7077", {}, {"min": 2}, {"cores.max": "2", "executor.cores": "1"}),
        ("yarn", {"executors": {"instances": 4, "memory": "2g"}}, {"memory": "1g"}, {"executor.instances": "4", "executor.memory": "1g"}),
        ("yarn", {"executors": {"min": 1, "max": 9}}, {"min": 3}, {"executor.instances": "3"}),
        (
            "yarn", {}, {"max": 5},
            {
                "dynamicAllocation.enabled": "true", "dynamicAllocation.shuffleTracking.enabled": "true",
                "dynamicAllocation.minExecutors": "1", "dynamicAllocation.maxExecutors": "5",
            },
        ),
        ("yarn", {"queue": "night"}, {}, {"yarn.queue": "night"}),
        ("yarn", {"conf": {"spark.yarn.archive": "hdfs:///a", "spark.eventLog.compress": True}}, {}, {"yarn.archive": "hdfs:///a", "eventLog.compress": "true"}),
    ],
)  # fmt: skip
def test_executors_and_settings(
    where: str, extra: dict[str, Any], own: dict[str, Any], conf: dict[str, str]
) -> None:
    assert of_connection(extra, where, own) == {f"spark.{name}": value for name, value in conf.items()}


def test_a_number_of_executors_that_is_none() -> None:
    with pytest.raises(
        EngineError, match=r"executors\.min: 'many' in the Spark connection's extra is no number"
    ):
        of_connection({"executors": {"instances": "many"}}, "yarn", {})


def test_the_driver_is_with_the_task() -> None:
    connection: Any = SimpleNamespace(conn_id="lake_spark", host="yarn", port=None, extra_dejson={})
    assert master(connection) == "yarn"
    connection.extra_dejson = {"deploy-mode": "cluster"}
    with pytest.raises(ForebayError, match="connection lake_spark: deploy-mode is cluster"):
        master(connection)


def test_the_folder_with_the_settings(tmp_path: Path) -> None:
    with pytest.raises(hadoop.HadoopError, match="in the environment of Airflow's parts as HADOOP_CONF_DIR"):
        hadoop.folder({})
    with pytest.raises(
        hadoop.HadoopError, match=f"There is no yarn-site.xml where HADOOP_CONF_DIR={tmp_path} says"
    ):
        hadoop.folder({"HADOOP_CONF_DIR": str(tmp_path)})
    settings(tmp_path)
    assert hadoop.folder({"HADOOP_CONF_DIR": str(tmp_path)}) == tmp_path
    assert hadoop.folder({"HADOOP_CONF_DIR": "/nowhere", "YARN_CONF_DIR": str(tmp_path)}) == tmp_path


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"yarn_resourcemanager_hostname": "a"}, [("a", 8032)]),
        ({"yarn_resourcemanager_address": "a:9"}, [("a", 9)]),
        (
            {"yarn_resourcemanager_hostname": "a", "yarn_resourcemanager_address": "${yarn.resourcemanager.hostname}:9"},
            [("a", 9)],
        ),
        (
            {
                "yarn_resourcemanager_ha_enabled": "true", "yarn_resourcemanager_ha_rm__ids": "one, two",
                "yarn_resourcemanager_hostname_one": "a", "yarn_resourcemanager_address_two": "b:9",
            },
            [("a", 8032), ("b", 9)],
        ),
    ],
)  # fmt: skip
def test_where_yarn_is(tmp_path: Path, said: dict[str, str], found: list[tuple[str, int]]) -> None:
    assert hadoop.resource_managers(settings(tmp_path, **said)) == found


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, "yarn.resourcemanager.hostname is 'not set'"),
        ({"yarn_resourcemanager_address": "a:b"}, "yarn.resourcemanager.hostname is 'a:b'"),
        ({"yarn_resourcemanager_hostname": "${it}", "it": "${it}"}, "is 'not set'"),
    ],
)
def test_settings_that_do_not_say_it(tmp_path: Path, said: dict[str, str], why: str) -> None:
    with pytest.raises(hadoop.HadoopError, match="does not say where YARN is") as told:
        hadoop.resource_managers(settings(tmp_path, **said))
    assert why in str(told.value)


def test_settings_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "yarn-site.xml").write_text("<configuration>")
    with pytest.raises(hadoop.HadoopError, match=r"yarn-site\.xml cannot be read: no element found"):
        hadoop.resource_managers(tmp_path)
