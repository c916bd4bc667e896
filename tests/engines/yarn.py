"""YARN as Hadoop ships it: a ResourceManager and one node, each a process of its own, on loopback."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
from second_stack import Process, java_program, of_spark, pinned
from store import free_ports

from forebay.machine import jars

_SERVER = "org.apache.hadoop.yarn.server"


class Yarn:
    """A running one; `settings` is the folder that a cluster's administrator hands out."""

    def __init__(self, folder: Path) -> None:
        self.settings = folder / "settings"
        self.manager, self._page, *self._others = free_ports(8)
        self._folder = folder

    def said(self) -> dict[str, int]:
        """What YARN counts, by its own names."""
        answer = httpx.get(
            f"http://127.0.0.1:{self._page}/ws/v1/cluster/metrics", timeout=20, trust_env=False
        )
        return dict(answer.json())

    def start(self, stack: contextlib.ExitStack) -> None:
        tracker, scheduler, admin, node, localizer, page = self._others
        write(self.settings / "core-site.xml", {
            "fs.defaultFS": "file:///", "hadoop.tmp.dir": str(self._folder / "tmp"), "hadoop.http.filter.initializers": "",
        })  # fmt: skip
        write(self.settings / "yarn-site.xml", {
            "yarn.resourcemanager.hostname": "127.0.0.1",
            "yarn.resourcemanager.bind-host": "127.0.0.1",
            "yarn.resourcemanager.address": f"${{yarn.resourcemanager.hostname}}:{self.manager}",
            "yarn.resourcemanager.resource-tracker.address": f"127.0.0.1:{tracker}",
            "yarn.resourcemanager.scheduler.address": f"127.0.0.1:{scheduler}",
            "yarn.resourcemanager.admin.address": f"127.0.0.1:{admin}",
            "yarn.resourcemanager.webapp.address": f"127.0.0.1:{self._page}",
            "yarn.nodemanager.hostname": "127.0.0.1",
            "yarn.nodemanager.bind-host": "127.0.0.1",
            "yarn.nodemanager.address": f"127.0.0.1:{node}",
            "yarn.nodemanager.localizer.address": f"127.0.0.1:{localizer}",
            "yarn.nodemanager.webapp.address": f"127.0.0.1:{page}",
            "yarn.nodemanager.local-dirs": str(self._folder / "local"),
            "yarn.nodemanager.log-dirs": str(self._folder / "logs"),
            "yarn.nodemanager.resource.memory-mb": "2048",
            "yarn.nodemanager.resource.cpu-vcores": "4",
            "yarn.nodemanager.vmem-check-enabled": "false",
            # It counts a disk that is nine tenths full as broken, and what is on it is none of the tests' business.
            "yarn.nodemanager.disk-health-checker.enable": "false",
            "yarn.scheduler.minimum-allocation-mb": "128",
            "yarn.scheduler.maximum-allocation-mb": "2048",
        })  # fmt: skip
        write(self.settings / "capacity-scheduler.xml", {
            "yarn.scheduler.capacity.root.queues": "default",
            "yarn.scheduler.capacity.root.default.capacity": "100",
            "yarn.scheduler.capacity.maximum-am-resource-percent": "0.9",
        })  # fmt: skip
        self._part(stack, "manager", f"{_SERVER}.resourcemanager.ResourceManager")
        self._part(stack, "node", f"{_SERVER}.nodemanager.NodeManager")
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if self.said()["activeNodes"] == 1:
                    return
            time.sleep(0.2)
        raise AssertionError("".join(log.read_text()[-3000:] for log in self._folder.glob("*/log")))

    def _part(self, stack: contextlib.ExitStack, name: str, main: str) -> None:
        needed = pinned("yarn_jars.toml")
        jars.fetch(print, needed)
        libraries = [
            str(self.settings),
            *(str(jars.folder() / jar.file_name) for jar in needed),
            *of_spark("hadoop-client-api", "hadoop-client-runtime", "jcl-over-slf4j"),
            *of_spark("slf4j-api", "log4j-api", "log4j-core", "log4j-1.2-api", "log4j-slf4j2-impl"),
        ]
        options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=INFO"]
        opened = ["--add-opens", "java.base/java.lang=ALL-UNNAMED"]
        (self._folder / name).mkdir()
        process = Process(self._folder / name)
        process.begin([*java_program(), *options, *opened, "-cp", os.pathsep.join(libraries), main])
        stack.callback(process.stop)


def write(file: Path, said: Mapping[str, str]) -> None:
    """One of Hadoop's files of settings."""
    file.parent.mkdir(exist_ok=True)
    lines = (
        f"<property><name>{name}</name><value>{value}</value></property>" for name, value in said.items()
    )
    file.write_text("\n".join(["<configuration>", *lines, "</configuration>"]))


@contextlib.contextmanager
def running_yarn(folder: Path) -> Iterator[Yarn]:
    """One that ends with the block."""
    with contextlib.ExitStack() as stack:
        found = Yarn(folder)
        found.start(stack)
        yield found
