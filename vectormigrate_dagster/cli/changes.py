"""Verbs for changes that an application makes during its migration: catch-up, report-changes, poll."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vectormigrate_dagster.cli.command import Settings, answer, interruptible, json_option, verb
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.model.counting import agreeing, counted

if TYPE_CHECKING:
    from vectormigrate_dagster.services.models import CatchUpDocument, ChangesDocument, LiveStatus, PollDocument

__all__ = ["catch_up", "poll", "report_changes"]

_OVERLAP = 60.0


@verb
@click.argument("id")
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C, instead of until the other side is level.")
@json_option
def catch_up(settings: Settings, *, id: str, follow: bool) -> int:
    """Carry over what the application has changed since it was moved.

    Dagster's daemon does so by itself. The direction is the migration's: after the cutover, the source follows.
    """
    from vectormigrate_dagster.services.live import catch_up as carry_over

    context = settings.context()
    again = settings.command("catch-up", id, *(["--follow"] if follow else []))
    with interruptible(f"what was carried over is noted; go on with: {again}"):
        work = partial(carry_over, context, id, follow=follow, progress=partial(_note, settings))
        result = answer(settings, work, _show_caught)
    # What the target cannot hold was counted by the load as well, and is no surprise.
    return 1 if any(one.outcome != "refused" for one in result.unsettled) else 0


@verb
@click.argument("id")
@click.argument("ids", nargs=-1)
@click.option("--scope", metavar="NAME", help="Where they are: namespace, tenant, partition or shard key.")
@click.option(
    "--ids-from",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Read the ids from a file, one a line; - is standard input.",
)
@json_option
def report_changes(
    settings: Settings, *, id: str, ids: tuple[str, ...], scope: str | None, ids_from: Path | None
) -> None:
    """Note ids that the application inserted, updated or deleted.

    Report a change when its write is over. Catch-up then makes these records alike on both sides.
    """
    from vectormigrate_dagster.services.live import report_changes as report

    if bool(ids) == (ids_from is not None):
        raise click.UsageError("give ids, or --ids-from FILE")
    context = settings.context()
    given = iter(ids) if ids_from is None else _lines(ids_from)
    answer(settings, lambda: report(context, id, given, scope=scope), partial(_show_noted, settings))


@verb
@click.argument("id")
@click.option("--field", metavar="NAME", help="A field that grows with every change, such as updated_at.")
@click.option("--since", metavar="VALUE", help="Look from this value on, not from where the last polls have come.")
@click.option(
    "--overlap",
    type=click.FloatRange(0),
    default=_OVERLAP,
    metavar="N",
    help=f"Look again at so much each time, in the field's unit or seconds.  [default: {_OVERLAP:g}]",
)
@click.option("--sweep", is_flag=True, help="Compare every record instead; finds deletions too.")
@json_option
def poll(settings: Settings, *, id: str, field: str | None, since: str | None, overlap: float, sweep: bool) -> None:
    """Find changes by a field that only grows, or by comparing all.

    For applications that neither write through DualWriter nor report changes. By a field it reads no vectors if the
    source can leave them out, and only what may have changed if that can filter by a number; it sees no deletions: a
    sweep does, which reads both sides whole.
    """
    from vectormigrate_dagster.services.polling import poll as look

    if sweep == (field is not None):
        raise click.UsageError("give --field NAME or --sweep")
    if sweep and since is not None:
        raise click.UsageError("--since goes with --field")
    context = settings.context()
    again = settings.command("poll", id, *(["--sweep"] if sweep else [f"--field={field}"]))
    with interruptible(f"what was found is noted; look again with: {again}"):
        work = partial(look, context, id, field=field, since=since, overlap=overlap, sweep=sweep)
        result = answer(settings, work, partial(_show_poll, settings))
    settings.note(result.limits)


def _lines(path: Path) -> Iterator[str]:
    """The ids of a file, one a line."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"'{path}' cannot be read as text: {error}") from error
    return (line.strip() for line in text.splitlines() if line.strip())


def _behind(live: LiveStatus) -> str:
    from vectormigrate_dagster.cli.render import duration

    if not live.lag_records:
        return f"both sides are level; the {live.primary} is primary"
    writes = f", {live.open:,} of them {agreeing(live.open, 'is')} being written" if live.open else ""
    waiting = f"{counted(live.lag_records, 'change')} {agreeing(live.lag_records, 'waits')}"
    behind = f"{waiting}, the oldest for {duration(live.lag_seconds or 0)}{writes}"
    return f"{behind}; the {live.primary} is primary"


def _note(settings: Settings, live: LiveStatus) -> None:
    settings.note(_behind(live))


def _show_caught(result: CatchUpDocument) -> None:
    found = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in result.records.items())
    click.echo(
        f"{counted(result.carried, 'change')} carried over in {result.seconds:.1f} s" + (f" ({found})" if found else "")
    )
    for one in result.unsettled:
        where = "" if one.scope is None else f" in {one.scope}"
        click.echo(f"not alike: {one.id}{where}: {one.outcome.replace('_', ' ')}: {one.reason}")
    if result.unlike_file is not None:
        unlike = result.live.unlike or 0
        found = f"{counted(unlike, 'record')} {agreeing(unlike, 'is')} not alike on both sides"
        click.echo(f"{found}; listed in {result.unlike_file}")
    click.echo(_behind(result.live))


def _show_noted(settings: Settings, result: ChangesDocument) -> None:
    click.echo(f"{counted(result.noted, 'changed id')} noted; {_behind(result.live)}")
    settings.note(f"carry them over with: {settings.command('catch-up', result.migration_id)}")


def _show_poll(settings: Settings, result: PollDocument) -> None:
    if result.began:
        click.echo(f"{counted(result.read, 'record')} read; later polls look for what changes from now on")
    else:
        noted = f"{result.noted:,} of {counted(result.read, 'record')} {agreeing(result.noted, 'is')}"
        click.echo(f"{noted} to be looked at again; {_behind(result.live)}")
        settings.note(f"carry them over with: {settings.command('catch-up', result.migration_id)}")
    if result.without:
        without, sweeps = result.without, result.way == "sweep"
        lacks = (
            f"{agreeing(without, 'names')} no record as the origin"
            if sweeps
            else f"{agreeing(without, 'has')} no such field"
        )
        click.echo(f"{counted(without, 'record')} {lacks}, and {agreeing(without, 'is')} not watched")
