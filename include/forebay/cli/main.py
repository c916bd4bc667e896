"""Entry point of the `forebay` command."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

import click

from forebay import cli
from forebay.errors import ForebayError

_NOT_COMMANDS = {"main", "common"}


class Commands(click.Group):
    """Finds each command in the file of its name, and imports only the one that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        modules = pkgutil.iter_modules(cli.__path__)
        return sorted(module.name for module in modules if module.name not in _NOT_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"forebay.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from forebay.errors import suggestion

            raise click.UsageError(
                error.message + suggestion(args[0], self.list_commands(ctx), "Commands"), ctx
            ) from None


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="forebay", message="%(version)s")
def group() -> None:
    """A lake on one machine: YAML jobs run as Airflow DAGs over Iceberg tables.

    \b
    Examples:
      forebay up                        start the stack
      forebay check                     check every job without starting anything
      forebay run flights.daily_delays  run a job and follow it
      forebay sql "SELECT count(*) FROM flights.silver_flights"

    Exit codes: 0 done, 1 refused or failed (the message says why), 2 wrong usage.
    """


def main() -> None:
    """Runs the command line; every refusal becomes a message and exit code 1."""
    # The stack is on this machine: a company's proxy must not be asked for it.
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1,localhost")))
    try:
        # Without standalone mode click returns the code of an Exit, and None after a command.
        code = group(standalone_mode=False)
    except click.Abort:
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ForebayError as error:
        click.echo(click.style("Error: ", fg="red") + str(error), err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
