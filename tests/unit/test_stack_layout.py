"""Ports, secrets, folders and configuration files of a stack, before anything of it runs."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from forebay.stack import layout, services
from forebay.stack.layout import INNER_PORTS, PORTS, Stack, StackError


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    found = Stack(tmp_path, tmp_path / ".forebay")
    found.create()
    return found


def again(stack: Stack) -> Stack:
    """The same stack as another command sees it."""
    return Stack(stack.root, stack.state)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@contextmanager
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free() -> dict[str, int]:
    """Ports for a start, free in this moment."""
    chosen: set[int] = set()
    for _ in PORTS:
        chosen.add(layout.free_port(chosen))
    return dict(zip(PORTS, chosen, strict=True))


def test_only_the_owner_sees_the_state(stack: Stack) -> None:
    os.umask(os.umask(0))
    stack.state.chmod(0o755)
    stack.create()
    assert len(stack.secrets) == len(set(stack.secrets.values())) > 6
    for folder in (stack.state, stack.airflow_home, stack.logs, stack.sockets):
        assert mode(folder) == 0o700
    secrets = stack.state / "secrets.json"
    assert mode(secrets) == 0o600
    secrets.chmod(0o644)
    assert again(stack).secrets == stack.secrets
    assert mode(secrets) == 0o600


def test_two_first_commands_agree_on_the_secrets(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from forebay.stack.layout import Stack\n"
        "print(Stack(Path(sys.argv[1]), Path(sys.argv[1], 'state')).secrets['jwt_secret'])"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({process.communicate(timeout=30)[0] for process in started}) == 1
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["secrets.json"]


def test_secrets_lost_beside_a_database_are_not_made_anew(stack: Stack) -> None:
    (stack.state / "postgres").mkdir()
    with pytest.raises(StackError, match=r"secrets\.json: postgres_password is missing\. Restore it"):
        _ = stack.secrets


def test_a_secret_that_an_earlier_release_had_not_is_made(stack: Stack) -> None:
    earlier = {name: value for name, value in stack.secrets.items() if name != "store_signing_key"}
    (stack.state / "secrets.json").write_text(json.dumps(earlier))
    found = again(stack).secrets
    assert len(found["store_signing_key"]) > 20
    assert {**found, **earlier} == found == again(stack).secrets
    assert mode(stack.state / "secrets.json") == 0o600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read (Expecting property name"),
        ("[]", "not a JSON object"),
        ('{"admin_password": "x"}', "postgres_password is missing"),
    ],
)
def test_broken_secrets(stack: Stack, text: str, message: str) -> None:
    (stack.state / "secrets.json").write_text(text)
    with pytest.raises(StackError) as refusal:
        _ = stack.secrets
    assert str(refusal.value).startswith(f"{stack.state}/secrets.json: {message}")
    assert "Restore it; without it the database in" in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\udcff", "cannot be read ("),
        ("8080", "not a JSON object. Correct it, or remove it to have it made anew."),
        (
            '{"airflow": "a"}',
            "airflow is 'a', which is no port. Correct it, or remove it to have it made anew.",
        ),
        ('{"s3": 0}', "s3 is 0, which is no port."),
        ('{"store-admin": 70000}', "store-admin is 70000, which is no port."),
        ('{"catalog": true}', "catalog is True, which is no port."),
    ],
)
def test_broken_ports(stack: Stack, text: str, message: str) -> None:
    (stack.state / "ports.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(StackError) as refusal:
        _ = stack.ports
    assert str(refusal.value).startswith(f"{stack.state}/ports.json: {message}")


def test_ports_are_settled_and_remembered(stack: Stack, free: dict[str, int]) -> None:
    stack.choose_ports(free, free=False)
    assert {name: stack.ports[name] for name in PORTS} == free
    assert len(set(stack.ports.values())) == len(PORTS) + len(INNER_PORTS)
    assert again(stack).ports == stack.ports
    assert mode(stack.state / "ports.json") == 0o600


def test_a_taken_port_is_named_with_its_holder_and_the_way_out(stack: Stack, free: dict[str, int]) -> None:
    with listener() as taken:
        with pytest.raises(StackError) as refusal:
            stack.choose_ports({**free, "s3": taken}, free=False)
        assert f"port {taken} (s3) is in use by " in str(refusal.value)
        assert f"(process {os.getpid()})" in str(refusal.value)
        assert "Stop what uses it, or move ours: forebay up --port s3=" in str(refusal.value)
        assert not (stack.state / "ports.json").exists()
        stack.choose_ports({**free, "s3": taken}, free=True)
        assert stack.ports["s3"] != taken
        assert stack.ports["airflow"] == free["airflow"]


def test_a_port_of_another_stack_says_so(stack: Stack, free: dict[str, int]) -> None:
    program = (
        "import socket; server = socket.create_server(('127.0.0.1', 0))\n"
        "print(server.getsockname()[1], flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program],
        env={services.STATE_VARIABLE: "/other/.forebay"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        with pytest.raises(StackError, match=r"of the Forebay stack in /other/\.forebay\. Stop what uses it"):
            stack.choose_ports({**free, "airflow": port}, free=False)
    finally:
        other.communicate("\n", timeout=10)


def test_a_taken_inner_port_is_moved_without_a_word(stack: Stack, free: dict[str, int]) -> None:
    with listener() as taken:
        (stack.state / "ports.json").write_text(
            json.dumps({**free, "store-admin": taken, "store-filer": taken})
        )
        stack.choose_ports({}, free=False)
        assert taken not in stack.ports.values()


def test_wrong_port_names_and_two_services_on_one(stack: Stack, free: dict[str, int]) -> None:
    with pytest.raises(
        StackError,
        match=r"unknown port name 'airflw'. Did you mean 'airflow'\? Known: airflow, catalog, lens, s3",
    ):
        stack.choose_ports({"airflw": 8081}, free=False)
    with pytest.raises(
        StackError,
        match=r"two services on one port: airflow=\d+, s3=(\d+), catalog=\1, lens=\d+\. Move one: ",
    ):
        stack.choose_ports({**free, "catalog": free["s3"]}, free=False)


def test_two_stacks_side_by_side(tmp_path: Path, free: dict[str, int]) -> None:
    first, second = (Stack(tmp_path / name, tmp_path / name / ".forebay") for name in "ab")
    for each in (first, second):
        each.create()
    first.choose_ports(free, free=False)
    with listener() as taken:
        second.choose_ports({**free, "s3": taken}, free=True)
    assert first.secrets["access_key"] != second.secrets["access_key"]
    assert first.supervisor_socket != second.supervisor_socket


def test_a_long_path_has_its_sockets_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("ä" * 50) / ".forebay"
    stack = Stack(tmp_path, long)
    assert stack.sockets.parent == Path("/tmp")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert again(stack).sockets == stack.sockets
    try:
        stack.create()
        assert mode(stack.sockets) == 0o700
        # The longest that is bound there, by supervisord.
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{stack.supervisor_socket}.4194304")
        Path(f"{stack.supervisor_socket}.4194304").unlink()
    finally:
        stack.sockets.rmdir()
    stack.sockets.symlink_to(tmp_path)
    try:
        with pytest.raises(
            StackError, match=r"forebay-\d+-\w+: is a link\. Remove it, or use a shorter FOREBAY_STATE"
        ):
            stack.create()
    finally:
        stack.sockets.unlink()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make another user's folder")
def test_a_folder_that_another_user_made_first_is_refused(tmp_path: Path) -> None:
    stack = Stack(tmp_path, tmp_path / ("x" * 90))
    stack.sockets.mkdir()
    os.chown(stack.sockets, 65534, 65534)
    try:
        with pytest.raises(StackError, match=r"belongs to another user\. Have it removed"):
            stack.create()
    finally:
        stack.sockets.rmdir()


def test_a_state_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"file/x: cannot be made a private folder \(Not a directory\)"):
        Stack(tmp_path, tmp_path / "file/x").create()


@pytest.fixture
def strange(tmp_path: Path, free: dict[str, int]) -> Stack:
    """A stack in a folder whose name is awkward for every file format on the way."""
    root = tmp_path / 'a 50% "it\'s", b'
    stack = Stack(root, root / ".forebay")
    stack.create()
    stack.choose_ports(free, free=False)
    return stack


def test_the_environment_of_the_processes(strange: Stack) -> None:
    inherited = {
        "PATH": "/usr/bin", "HOME": "/home/me", "AIRFLOW__CORE__PARALLELISM": "1", "AIRFLOW_HOME": "/other",
        "AIRFLOW_CONFIG": "/other.cfg", "PYTHONPATH": "/other", "PYTHONHOME": "/other", "SPARK_HOME": "/other",
        "PGPORT": "5999", "PGHOST": "elsewhere", "https_proxy": "http://proxy:3128", "NO_PROXY": ".corp",
        "SSL_CERT_FILE": "/company.pem",
    }  # fmt: skip
    found = services.environment(strange, inherited)
    for name in (
        "AIRFLOW__CORE__PARALLELISM",
        "AIRFLOW_CONFIG",
        "PYTHONHOME",
        "SPARK_HOME",
        "PGPORT",
        "PGHOST",
    ):
        assert name not in found
    assert found["AIRFLOW_HOME"] == str(strange.airflow_home)
    assert "/other" not in found["PYTHONPATH"]
    assert found["https_proxy"] == "http://proxy:3128"
    assert found["no_proxy"] == found["NO_PROXY"] == ".corp,127.0.0.1,localhost"
    assert (found["HOME"], found["SSL_CERT_FILE"]) == ("/home/me", "/company.pem")
    assert found["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert found[services.STATE_VARIABLE] == str(strange.state)
    assert services.environment(strange, {})["NO_PROXY"] == "127.0.0.1,localhost"


def test_airflow_reads_back_what_was_written(strange: Stack) -> None:
    services.write_configuration(strange, {})
    path = strange.airflow_home / "airflow.cfg"
    assert mode(path) == 0o600
    # As Airflow reads it.
    parser = configparser.ConfigParser(allow_no_value=True)
    parser.read(path)
    assert parser["core"]["dags_folder"] == str(strange.root / "dags")
    assert parser["logging"]["base_log_folder"] == str(strange.airflow_home / "logs")
    bundles = json.loads(parser["dag_processor"]["dag_bundle_config_list"])
    assert bundles[0]["kwargs"]["path"] == str(strange.root / "dags")
    query = parse_qs(urlsplit(parser["database"]["sql_alchemy_conn"]).query)
    assert query == {"host": [str(strange.sockets)], "port": ["5432"]}


@pytest.mark.parametrize("parts", [(), ("trino",)])
def test_supervisord_reads_back_what_was_written(strange: Stack, parts: tuple[str, ...]) -> None:
    from supervisor.options import ServerOptions

    strange.choose_parts(parts, ())

    services.write_configuration(strange, {})
    options = ServerOptions()
    options.realize(["-c", str(strange.state / "supervisord.conf"), "-n"])
    programs = {group.name: group.process_configs[0] for group in options.process_group_configs}
    assert list(programs) == list(services.names(strange))
    for service in services.services(strange):
        program = programs[service.name]
        assert shlex.split(program.command) == list(service.command)
        assert program.stdout_logfile == str(strange.logs / f"{service.name}.log")
        assert program.environment == dict(service.environment)
        assert program.autostart == service.start_with_supervisor
        assert program.directory == (str(service.directory) if service.directory else None)
    assert options.logfile == str(strange.logs / "supervisor.log")
    assert options.directory == str(strange.root)
    assert options.pidfile == str(strange.sockets / "supervisord.pid")


def test_postgres_makes_its_files_for_whoever_runs_it(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    options = ("-U", "airflow", "--auth=trust", "--no-sync", "--locale=C.UTF-8", "-D", str(folder))
    run = subprocess.run(
        [*services.postgres_program("initdb"), *options], capture_output=True, text=True, cwd="/"
    )
    assert run.returncode == 0, run.stderr
    assert (folder / "PG_VERSION").stat().st_uid == os.getuid()


def test_parts_are_remembered_until_they_are_not_wanted(stack: Stack) -> None:
    assert stack.choose_parts(["trino"], [])
    assert not stack.choose_parts([], [])
    assert again(stack).parts == ("trino",)
    assert services.names(stack) == (*services.FOUNDATION, "trino", *services.AIRFLOW)
    assert stack.choose_parts([], ["trino"])
    assert again(stack).parts == ()
    assert services.names(stack) == services.SERVICES


def test_a_port_counts_when_its_part_is_there(stack: Stack, free: dict[str, int]) -> None:
    with listener() as taken:
        stack.choose_ports({**free, "trino": taken}, free=False)
        stack.choose_ports({"trino": free["airflow"]}, free=False)
        stack.choose_parts(["trino"], [])
        with pytest.raises(StackError, match="two services on one port"):
            stack.choose_ports({}, free=False)
        with pytest.raises(StackError, match=rf"port {taken} \(trino\) is in use"):
            stack.choose_ports({"trino": taken}, free=False)
        stack.choose_ports({"trino": taken}, free=True, only=["trino"])
        assert stack.ports["trino"] not in (taken, *(free[name] for name in free if name != "trino"))


def test_trinos_files_hold_no_secret(stack: Stack) -> None:
    from forebay.stack import trino

    stack.choose_parts(["trino"], [])
    services.write_configuration(stack, {})
    leftover = trino.folder(stack) / "etc/catalog/run_lab_0000000000000000_1_00000000.properties"
    leftover.write_text("connector.name=iceberg\n")
    services.write_configuration(stack, {})
    assert not leftover.exists()
    text = "".join(path.read_text() for path in trino.folder(stack).rglob("*") if path.is_file())
    assert stack.secrets["secret_key"] not in text
    assert stack.secrets["access_key"] not in text
    assert "${ENV:FOREBAY_LAKE_SECRET_KEY}" in text
    for name in ("admin_password", "trino_password", "trino_worksheet_password", "trino_inner_secret"):
        assert stack.secrets[name] not in text
    assert f"http-server.https.port={stack.ports['trino']}\n" in text
    assert "http-server.http.enabled=false\n" in text


def test_the_engine_of_lake_sql(stack: Stack) -> None:
    from forebay.stack.connections import connections

    def sql() -> dict[str, object]:
        return next(one for one in connections(stack) if one["connection_id"] == "lake_sql")

    assert sql()["conn_type"] == "duckdb"
    stack.choose_parts(["trino"], [])
    assert (sql()["conn_type"], sql()["host"], sql()["port"]) == ("trino", "127.0.0.1", stack.ports["trino"])
    assert stack.secrets["secret_key"] not in str(sql())


def test_limits_become_resource_groups() -> None:
    from datetime import timedelta

    from forebay.spec.workspace import Limits
    from forebay.stack.trino_groups import resource_groups, session_limits, shares

    limits = {
        "sales": Limits(max_concurrent_tasks=2, max_concurrent_runs=3, timeout=timedelta(hours=2)),
        "hr": Limits(),
    }
    made = resource_groups(shares(limits), "reader")
    batch = made["rootGroups"][0]["subGroups"][1]
    sales = next(group for group in batch["subGroups"] if group["name"] == "sales")
    assert sales["hardConcurrencyLimit"] == 6
    assert [(job["name"], job["hardConcurrencyLimit"]) for job in sales["subGroups"]] == [("${job}", 2)]
    assert made["selectors"][-2:] == [
        {"source": r"forebay/sales\.(?<job>[^.]+)", "group": "forebay.batch.sales.${job}"},
        {"group": "forebay.interactive"},
    ]
    # It cannot pass for a job, whatever it says of itself.
    assert made["selectors"][0] == {"user": "reader", "group": "forebay.interactive"}
    assert session_limits(shares(limits)) == [
        {
            "group": r"forebay\.batch\.sales\..*",
            "sessionProperties": {"query_max_run_time": "7200s"},
        },
    ]
