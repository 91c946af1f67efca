"""Verbs that look: status, validate, lookup, export, recommend."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vectormigrate_dagster.cli.command import Settings, answer, interruptible, json_option, verb

if TYPE_CHECKING:
    from vectormigrate_dagster.services.models import MigrationStatus, ValidationDocument

__all__ = ["export", "lookup", "recommend", "status", "validate"]

_FILE = click.Path(path_type=Path, dir_okay=False)
_STATES = ("not_started", "planned", "in_progress", "completed", "failed", "stopped", "rolled_back")


@verb
@click.argument("id", required=False)
@click.option("--watch", is_flag=True, help="Show it again every two seconds until the work has ended.")
@click.option("--status", "state", type=click.Choice(_STATES), help="Without ID: only migrations in this state.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=10, metavar="N", help="Without ID: at most so many.  [default: 10]"
)
@click.option(
    "--offset", type=click.IntRange(0), default=0, metavar="N", help="Without ID: leave out the first so many."
)
@json_option
def status(
    settings: Settings, *, id: str | None, watch: bool, state: MigrationStatus | None, limit: int, offset: int
) -> None:
    """Show where a migration stands, or list all; opens no database."""
    from vectormigrate_dagster.cli.render import show_list, show_status
    from vectormigrate_dagster.services.status import list_migrations
    from vectormigrate_dagster.services.status import status as status_of

    context = settings.context()
    if watch:
        if id is None or settings.json:
            raise click.UsageError("--watch needs an ID, and cannot go with --json")
        from vectormigrate_dagster.cli.progress import watch as watch_status
        from vectormigrate_dagster.services.warm import Reader

        with Reader(context, max_age=0.0) as reader:
            watch_status(lambda: reader.status(id))
    elif id is None:
        answer(
            settings,
            lambda: list_migrations(context, status=state, limit=limit, offset=offset),
            lambda found: show_list(found, context.migrations),
        )
    else:
        answer(settings, lambda: status_of(context, id), show_status)


@verb
@click.argument("id")
@click.option("--sample-size", type=click.IntRange(1), metavar="N", help="Compare so many records.")
@click.option("--full", is_flag=True, help="Compare every record; goes on if it was interrupted.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="With --full: processes that compare at a time.")
@click.option("--again", is_flag=True, help="With --full: begin anew instead of going on.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Draw another sample; the same number, the same one.")
@click.option("--queries", type=_FILE, metavar="FILE", help="Search for these: .npy, .parquet or .jsonl.")
@click.option(
    "--report", type=_FILE, metavar="FILE", help="Write the result as a page, FILE.html, and its data beside it."
)
@json_option
def validate(
    settings: Settings,
    *,
    id: str,
    sample_size: int | None,
    full: bool,
    workers: int | None,
    again: bool,
    seed: int | None,
    queries: Path | None,
    report: Path | None,
) -> int:
    """Compare target and source: count, ids, records, search."""
    from vectormigrate_dagster.cli.progress import Progress
    from vectormigrate_dagster.cli.render import show_validation
    from vectormigrate_dagster.services.validate import validate as compare

    if full and sample_size is not None:
        raise click.UsageError("--full and --sample-size exclude each other")
    if not full and (workers is not None or again):
        raise click.UsageError("--workers and --again go with --full")
    context = settings.context()
    how = ["--full"] if full else [] if sample_size is None else [f"--sample-size={sample_size}"]
    command = settings.command("validate", id, *how)
    kept = "what was compared is recorded; go on with" if full else "nothing is recorded; validate again with"
    work = partial(
        compare,
        context,
        id,
        sample_size=sample_size,
        full=full,
        workers=workers,
        seed=seed,
        again=again,
        queries=queries,
        report_file=report,
    )

    def run() -> ValidationDocument:
        with Progress(id) as progress:
            return work(progress=progress)

    with interruptible(f"{kept}: {command}"):
        result = answer(settings, run, show_validation)
    return 0 if result.passed else 1


@verb
@click.argument("id")
@click.argument("record_id")
@json_option
def lookup(settings: Settings, *, id: str, record_id: str) -> int:
    """Show where a record is on both sides, by its old or new id."""
    from vectormigrate_dagster.cli.render import show_lookup
    from vectormigrate_dagster.services.lookup import lookup as look_up

    context = settings.context()
    result = answer(settings, lambda: look_up(context, id, record_id), show_lookup)
    return 0 if result.source.found or result.target.found else 1


@verb
@click.argument("id")
@click.option("--to", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder to write into.")
@click.option("--for-import", is_flag=True, help="Mapped by the plan, as the target's own bulk import wants it.")
@click.option("--create", is_flag=True, help="With --for-import: make the target's collection as planned.")
@json_option
def export(settings: Settings, *, id: str, to: Path, for_import: bool, create: bool) -> int:
    """Write the source as Parquet, one folder per scope."""
    from vectormigrate_dagster.cli.render import show_export, show_import_files

    if create and not for_import:
        raise click.UsageError("--create needs --for-import")
    context, folder = settings.context(), to.absolute()
    if not for_import:
        from vectormigrate_dagster.services.export import export as write

        answer(settings, lambda: write(context, id, to=folder), show_export)
        return 0
    from vectormigrate_dagster.services.bulk_export import export_for_import

    with interruptible(f"the files in {folder} are not whole; remove them and export again"):
        written = answer(settings, lambda: export_for_import(context, id, to=folder, create=create), show_import_files)
    return 1 if written.refused else 0


@verb
@click.option("--source-type", required=True, metavar="TYPE", help="Type of the source, such as qdrant.")
@click.option("--target-type", required=True, metavar="TYPE", help="Type of the target, such as milvus.")
@click.option(
    "--schema",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="YAML or JSON that gives each field's type, such as 'year: int'.",
)
@json_option
def recommend(settings: Settings, *, source_type: str, target_type: str, schema: Path | None) -> None:
    """Recommend a schema for the target; connects to nothing."""
    from vectormigrate_dagster.cli.render import show_recommendation
    from vectormigrate_dagster.migration_file.fields import read_fields
    from vectormigrate_dagster.services.recommend import recommend as advise

    fields = {} if schema is None else read_fields(schema)
    answer(
        settings,
        lambda: advise(source_type=source_type, target_type=target_type, fields=fields),
        show_recommendation,
    )
