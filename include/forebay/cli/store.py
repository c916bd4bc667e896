"""forebay store"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from forebay.cli.common import (
    confirmed,
    counted,
    human_bytes,
    output_option,
    print_json,
    print_table,
    progress,
    running_stack,
)
from forebay.errors import ForebayError

if TYPE_CHECKING:
    from forebay.buckets.client import Store
    from forebay.connections.model import Connection

_SHOWN = 20
"""So many names are shown of what is wrong; JSON has all."""


@click.group("store")
def command() -> None:
    """Make buckets as a file says, and move a lake from one S3 store to another.

    Stores are Airflow connections of type aws, by their id: from AIRFLOW_CONN_<ID>, as JSON, where that is set, else
    those of the running stack.

    \b
    Examples:
      forebay store plan buckets.yaml --store lake_s3
      forebay store move --from old_s3 --to new_s3 --bucket lake
    """


@command.command("plan")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--store", "conn_id", default="lake_s3", show_default=True, help="Connection of the store.")
@output_option
def plan_command(file: Path, conn_id: str, output: str) -> None:
    """Show what of a store's buckets is not as the file says. Changes nothing.

    \b
    Examples:
      forebay store plan buckets.yaml
    """
    from forebay.buckets.apply import differences
    from forebay.buckets.declared import read

    declared = read(file)
    with _store(conn_id) as store:
        _show_differences(differences(store, declared), output)


@command.command("apply")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--store", "conn_id", default="lake_s3", show_default=True, help="Connection of the store.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
def apply_command(file: Path, conn_id: str, yes: bool, output: str) -> None:
    """Make buckets, versions, deletion by age and object lock as the file says. No bucket is ever deleted.

    \b
    Examples:
      forebay store apply buckets.yaml --store lake_s3
    """
    from forebay.buckets.apply import apply, differences
    from forebay.buckets.declared import read

    declared = read(file)
    with _store(conn_id) as store:
        found = differences(store, declared)
        if found and output == "text":
            _show_differences(found, output)
        if found:
            confirmed(f"Change the store {conn_id} so?", yes)
            found = apply(store, declared)
        if output == "json" or not found:
            _show_differences(found, output)


@command.command("move")
@click.option("--from", "old", required=True, metavar="ID", help="Connection of the store that has the lake.")
@click.option("--to", "new", required=True, metavar="ID", help="Connection of the store that gets it.")
@click.option("--bucket", "buckets", multiple=True, required=True, help="A bucket; it keeps its name.")
@click.option("--copy-only", is_flag=True, help="A first copy while all runs; without the proof.")
@click.option("--check-only", is_flag=True, help="The proof alone.")
@click.option(
    "--catalog",
    metavar="ID",
    help="Connection of the catalog: each table's files are looked for in the new store.",
)
@output_option
def move_command(
    old: str,
    new: str,
    buckets: tuple[str, ...],
    copy_only: bool,
    check_only: bool,
    catalog: str | None,
    output: str,
) -> None:
    """Copy buckets to another store, then prove that both are the same, byte by byte. Deletes nothing.

    It may be repeated: what is there already is not copied again. docs/runbooks/move-the-store.md says when to stop
    what writes. Exit code 1 where something is missing or differs.

    \b
    Examples:
      forebay store move --from old_s3 --to new_s3 --bucket lake --copy-only
      forebay store move --from old_s3 --to new_s3 --bucket lake --catalog lake_catalog
    """
    from forebay.buckets.copy import Compared, Copied, compare, copy, missing_buckets
    from forebay.buckets.tables import Needed, needed

    if copy_only and (check_only or catalog):
        raise click.UsageError("--copy-only goes with neither --check-only nor --catalog.")
    copied: list[Copied] = []
    compared: list[Compared] = []
    tables: Needed | None = None
    with ExitStack() as stack:
        source, target = (stack.enter_context(_store(each)) for each in (old, new))
        if source.s3.endpoint == target.s3.endpoint:
            raise ForebayError(f"{old} and {new} are one store, {source.s3.endpoint}.")
        missing_buckets(source, buckets)
        missing_buckets(target, buckets)
        if not check_only:
            for bucket in buckets:
                progress(f"copying {bucket}")
                copied.append(copy(source, target, bucket, counted(f"objects of {bucket} copied")))
        if not copy_only:
            for bucket in buckets:
                progress(f"reading {bucket} from both stores")
                compared.append(compare(source, target, bucket, counted(f"objects of {bucket} compared")))
        if catalog:
            from forebay.lake.connection import CatalogConfig

            given = _connection(catalog)
            config = CatalogConfig.from_connection(given.host, given.login, given.password, given.extra)
            progress("looking for each table's files in the new store")
            tables = needed(config, target, counted("tables looked at"))
    if output == "json":
        print_json(
            {
                "copied": [asdict(each) for each in copied],
                "compared": [asdict(each) for each in compared],
                "tables": None if tables is None else asdict(tables),
            }
        )
    else:
        for each in copied:
            click.echo(
                f"{each.bucket}: copied {each.objects:,} objects, {human_bytes(each.bytes)}; {each.before:,} were there"
            )
        _show_proof(compared, tables)
    wrong = sum(len(each.missing) + len(each.different) for each in compared)
    wrong += len(tables.missing) if tables else 0
    if wrong:
        raise ForebayError(
            f"{wrong:,} objects are missing in {new} or differ: it is not the lake yet. Does something still write to "
            f"{old}? Stop it, and repeat the command. An object that stays different was changed in {new}: delete it there."
        )


def _show_proof(compared: Sequence[Any], tables: Any) -> None:
    for each in compared:
        word = "the same" if each.same else "NOT the same"
        click.echo(
            f"{each.bucket}: {word}: {each.objects:,} objects, {human_bytes(each.bytes)} read from both stores"
        )
        _names("missing", each.missing)
        _names("different", each.different)
        _names("only in the new store", each.more)
    if tables is not None:
        click.echo(
            f"tables: {tables.tables:,}, {tables.snapshots:,} snapshots, {tables.files:,} files; "
            f"{len(tables.missing):,} of them are not as they should be in the new store"
        )
        _names("wrong", tables.missing)


def _names(what: str, names: Sequence[str]) -> None:
    for name in names[:_SHOWN]:
        click.echo(f"  {what}: {name}")
    if len(names) > _SHOWN:
        click.echo(f"  {what}: and {len(names) - _SHOWN:,} more (--output json has all)")


def _show_differences(found: Sequence[Any], output: str) -> None:
    if output == "json":
        names = ("bucket", "setting", "now", "wanted")
        print_json([{name: getattr(each, name) for name in names} for each in found])
    elif not found:
        click.echo("The buckets are as the file says.")
    else:
        print_table(
            ["bucket", "setting", "now", "wanted"],
            [(each.bucket, each.setting, each.now, each.wanted) for each in found],
        )


def _store(conn_id: str) -> Store:
    from forebay.buckets.client import Store

    return Store.of(_connection(conn_id))


def _connection(conn_id: str) -> Connection:
    """A connection of the environment, else of the running stack."""
    from forebay.buckets.client import connection, variable
    from forebay.connections.model import Connection
    from forebay.stack.connections import connections

    if (found := connection(conn_id)) is not None:
        return found
    try:
        known = connections(running_stack())
    except ForebayError as error:
        raise ForebayError(f"There is no {variable(conn_id)}, and {error}") from None
    for each in known:
        if each["connection_id"] == conn_id:
            values = {name: each[name] for name in ("host", "login", "password", "extra")}
            return Connection.of(conn_id, str(each["conn_type"]), **values)  # type: ignore[arg-type]
    named = ", ".join(str(each["connection_id"]) for each in known)
    raise ForebayError(
        f"There is no connection {conn_id}: {variable(conn_id)} is not set, and the stack has {named}."
    )
