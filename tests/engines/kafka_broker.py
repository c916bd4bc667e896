"""A Kafka of the tests' own: one broker that is its own controller, on loopback, from jars of Maven Central."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from second_stack import Process, java_program, of_spark, pinned
from store import free_ports, wait_until

from forebay.machine import jars

USERS = {"admin": "right-one", "reader": "read-only", "nobody": "sees-none"}
_CREATE_TOPICS, _CREATE_ACLS = 19, 30
_TOPIC, _LITERAL, _READ, _ALLOW = 2, 3, 3, 3


class Kafka(Process):
    """Its ports: `plain`, `login` (SASL PLAIN) and `tls` (the same over TLS). `certificate` is a PEM file with its key."""

    def __init__(self, folder: Path, certificate: Path) -> None:
        super().__init__(folder)
        self.plain, self.login, self.tls, self._controller = free_ports(4)
        self.cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self._certificate = certificate

    def start(self, stack: contextlib.ExitStack) -> None:
        needed = pinned("kafka_jars.toml")
        jars.fetch(print, needed)
        libraries = [
            *(str(jars.folder() / jar.file_name) for jar in needed),
            *of_spark("scala-library", "scala-reflect", "jackson-annotations", "jackson-core", "jackson-databind"),
            *of_spark("jackson-dataformat-yaml", "snakeyaml", "slf4j-api", "log4j-api", "log4j-core", "log4j-slf4j2-impl"),
        ]  # fmt: skip
        flags = [
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dorg.apache.logging.log4j.level=INFO",
        ]
        command = [*java_program(), *flags, "-cp", os.pathsep.join(libraries)]
        file = self.folder / "server.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in self._settings().items()))
        form = [
            *command,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={self.cluster}",
            "-c",
            str(file),
        ]
        formed = subprocess.run(form, capture_output=True, text=True, cwd=self.folder)
        assert formed.returncode == 0, formed.stdout + formed.stderr
        self.begin([*command, "kafka.Kafka", str(file)])
        stack.callback(self.stop)
        wait_until(lambda: "Kafka Server started" in self.log.read_text(), self.process, self.log)
        # What is sent to the port that asks nobody for a login is its owner's.
        topics = ("orders", "returns")
        self._ask(_CREATE_TOPICS, 2, _array(_text(each) + struct.pack("!ihii", 1, 1, 0, 0) for each in topics) + struct.pack("!i?", 20_000, False))  # fmt: skip
        acl = struct.pack("!b", _TOPIC) + _text("orders") + struct.pack("!b", _LITERAL)
        acl += _text("User:reader") + _text("*") + struct.pack("!bb", _READ, _ALLOW)
        self._ask(_CREATE_ACLS, 1, _array([acl]))

    def _settings(self) -> dict[str, str]:
        ports = {"PLAIN": self.plain, "LOGIN": self.login, "TLS": self.tls, "CONTROLLER": self._controller}
        users = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
        login = f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAIN",
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items()),
            "listener.security.protocol.map": "PLAIN:PLAINTEXT,LOGIN:SASL_PLAINTEXT,TLS:SASL_SSL,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.login.plain.sasl.jaas.config": login,
            "listener.name.tls.plain.sasl.jaas.config": login,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._certificate),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:admin;User:ANONYMOUS",
            "log.dirs": str(self.folder / "data"),
            "offsets.topic.replication.factor": "1",
            "num.network.threads": "1",
            "num.io.threads": "2",
            "log.cleaner.enable": "false",
        }

    def _ask(self, key: int, version: int, body: bytes) -> None:
        """One request of the protocol, as Kafka's own commands send it. Its answer names no error, or the tests do."""
        request = struct.pack("!hhi", key, version, 1) + _text("tests") + body
        with socket.create_connection(("127.0.0.1", self.plain), timeout=30) as line:
            line.sendall(struct.pack("!i", len(request)) + request)
            assert line.recv(4), self.log.read_text()


@contextlib.contextmanager
def running_kafka(folder: Path, certificate: Path) -> Iterator[Kafka]:
    kafka = Kafka(folder, certificate)
    with contextlib.ExitStack() as stack:
        kafka.start(stack)
        yield kafka


def _text(value: str) -> bytes:
    return struct.pack("!h", len(value)) + value.encode()


def _array(items: Iterator[bytes] | list[bytes]) -> bytes:
    parts = list(items)
    return struct.pack("!i", len(parts)) + b"".join(parts)
