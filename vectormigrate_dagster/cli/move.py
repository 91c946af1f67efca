"""Verbs that move records: init, plan, migrate, stop, throttle."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from vectormigrate_dagster.cli.command import INTERRUPTED, Settings, answer, interruptible, json_option, verb
from vectormigrate_dagster.errors import ConfigurationError, DatabaseError, Stopped, StorageFailed

if TYPE_CHECKING:
    from vectormigrate_dagster.migration_file import Side
    from vectormigrate_dagster.services.models import Status

__all__ = ["init", "migrate", "plan", "stop", "throttle"]

_EXIT = {"failed": 1, "stopped": INTERRUPTED}


@verb
@click.argument("id")
def init(settings: Settings, *, id: str) -> None:
    """Write a commented migration file to fill in."""
    from vectormigrate_dagster.migration_file import write_template

    file = write_template(settings.folder, id)
    click.echo(f"wrote {file}\nfill it in, then: {settings.command('plan', id)}")


@verb
@click.argument("id")
@click.option(
    "--profile",
    type=click.Choice(["sample", "full"]),
    default="sample",
    help="Look at a sample of the records, or at all of them.  [default: sample]",
)
@click.option("--replan", is_flag=True, help="Make a new plan although there is one.")
@click.option("--adopt", is_flag=True, help="With --replan: keep what the old plan wrote into the target.")
@json_option
def plan(settings: Settings, *, id: str, profile: Literal["sample", "full"], replan: bool, adopt: bool) -> None:
    """Show and store what would be done; writes to neither database."""
    from vectormigrate_dagster.cli.render import show_plan
    from vectormigrate_dagster.services.plan import plan as make_plan

    if adopt and not replan:
        raise click.UsageError("--adopt needs --replan")
    context = settings.context()
    again = settings.command("plan", id, *(["--replan"] if replan else []), *(["--adopt"] if adopt else []))
    with interruptible(f"there is no new plan; plan again with: {again}"):
        make = partial(make_plan, context, id, profile=profile, replan=replan, adopt=adopt, tell=settings.note)
        answer(settings, make, show_plan)


_SIDES = ("source", "target")


def _side_options(function: Any) -> Any:
    """The flags that describe both sides, in the order of the original tool."""
    for side in reversed(_SIDES):
        for option in (
            click.option(f"--{side}-api-key", metavar="KEY", help="Its key: - (standard input), @FILE, or plainly."),
            click.option(f"--{side}-index", metavar="NAME", help="Its collection."),
            click.option(
                f"--{side}-path",
                metavar="PATH",
                type=click.Path(path_type=Path),
                help="Its folder, if the database is embedded.",
            ),
            click.option(f"--{side}-url", metavar="URL", help="Its address, if it is a server."),
            click.option(f"--{side}-type", metavar="TYPE", help=f"Type of the {side}, such as qdrant."),
        ):
            function = option(function)
    return function


@verb
@click.argument("id")
@click.option("--dry-run", is_flag=True, help="Plan and show what would be done; move nothing.")
@click.option("--workers", type=click.IntRange(1, 256), metavar="N", help="Partitions at a time.")
@click.option("--batch-size", type=click.IntRange(1, 100_000), metavar="N", help="Records in one write.")
@click.option("--max-retries", type=click.IntRange(0, 100), metavar="N", help="Times that a call is repeated.")
@click.option(
    "--validate-every", type=click.IntRange(0), metavar="N", help="Compare a sample after every N batches; 0 is never."
)
@_side_options
@json_option
def migrate(
    settings: Settings,
    *,
    id: str,
    dry_run: bool,
    workers: int | None,
    batch_size: int | None,
    max_retries: int | None,
    validate_every: int | None,
    **sides: Any,
) -> int:
    """Move what is not moved yet; run it again to go on.

    With --source-... and --target-... the migration file is written first. A key never reaches the file.
    """
    from vectormigrate_dagster.cli.progress import Progress
    from vectormigrate_dagster.cli.render import show_status
    from vectormigrate_dagster.services.migrate import migrate as move

    tuning = {"batch_size": batch_size, "max_retries": max_retries, "validate_every": validate_every}
    if any(value is not None for value in sides.values()):
        _write_file(settings, id, sides, {key: value for key, value in tuning.items() if value is not None})
    context = settings.context()
    go_on = f"go on with: {settings.command('migrate', id)}"

    def run() -> Status:
        with Progress(id) as progress:
            return move(context, id, dry_run=dry_run, workers=workers, progress=progress, **tuning)

    try:
        status = answer(settings, run, show_status)
    except Stopped as error:
        # The service cannot know which options reach these migrations and this home.
        reason, _, _ = str(error).partition("; go on with")
        raise Stopped(f"{reason}; {go_on}") from error
    except KeyboardInterrupt as error:
        raise Stopped(f"interrupted; everything acknowledged is recorded; {go_on}") from error
    except (DatabaseError, StorageFailed):
        settings.note(f"everything acknowledged is recorded; {go_on}")
        raise
    code = _EXIT.get(status.status, 0)
    if code:
        settings.note(f"{status.status}; {go_on}")
    elif status.refused:
        settings.note(f"{status.refused:,} records were refused; {context.refusals(id)} lists them with the reasons")
        code = 1
    if status.vanished:
        settings.note(
            f"{status.vanished:,} records were listed by the source and could not be read; the files *-vanished.jsonl "
            f"in {context.refusals(id)} list them"
        )
    return code


@verb
@click.argument("id")
@json_option
def stop(settings: Settings, *, id: str) -> None:
    """End running work at the next batch; 'migrate' goes on later."""
    from vectormigrate_dagster.cli.render import show_status
    from vectormigrate_dagster.services.control import stop as ask_to_stop

    context = settings.context()
    answer(settings, lambda: ask_to_stop(context, id), show_status)


def _rate(context: click.Context, parameter: click.Parameter, value: str) -> float | None:
    """A rate above zero; None is no limit."""
    if value == "none":
        return None
    try:
        rate = float(value)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise click.BadParameter(f"'{value}' is not a number above 0, nor 'none'", context, parameter)
    return rate


@verb
@click.argument("id")
@click.option("--rate", metavar="N", required=True, callback=_rate, help="Records per second, or 'none'.")
@json_option
def throttle(settings: Settings, *, id: str, rate: float | None) -> None:
    """Change the rate limit of running work."""
    from vectormigrate_dagster.cli.render import show_status
    from vectormigrate_dagster.services.control import throttle as limit

    context = settings.context()
    answer(settings, lambda: limit(context, id, rate=rate), show_status)


def _write_file(settings: Settings, id: str, flags: dict[str, Any], transfer: dict[str, int]) -> None:
    """Write the migration file from flags, and put the keys where this process looks for them."""
    from vectormigrate_dagster.migration_file import migration_from_flags

    keys = {side: _read_key(settings, side, flags[f"{side}_api_key"]) for side in _SIDES}
    source, target = (_side(side, flags, has_key=keys[side] is not None) for side in _SIDES)
    migration, is_new = migration_from_flags(settings.folder, id, source=source, target=target, transfer=transfer)
    settings.note(f"{'wrote' if is_new else 'using'} {settings.folder / f'{id}.yaml'}")
    for side in _SIDES:
        key, variable = keys[side], getattr(migration, side).api_key_env
        if key is not None:
            if variable is None:
                raise ConfigurationError(f"the {side} in '{id}.yaml' names no key; add 'api_key_env: NAME' to it")
            os.environ[variable] = key
            settings.note(f"later commands, the UI and the daemon need the {side}'s key in ${variable}")


def _side(side: str, flags: dict[str, Any], *, has_key: bool) -> Side:
    from vectormigrate_dagster.migration_file import Side

    given = {name: flags[f"{side}_{name}"] for name in ("type", "url", "path", "index")}
    missing = [f"--{side}-{name}" for name in ("type", "index") if given[name] is None]
    if (given["url"] is None) == (given["path"] is None):
        missing.append(f"one of --{side}-url and --{side}-path")
    if missing:
        raise click.UsageError(f"a migration from flags needs {', '.join(missing)}")
    return Side(type=given["type"], collection=given["index"], url=given["url"], path=given["path"], has_key=has_key)


def _read_key(settings: Settings, side: str, value: str | None) -> str | None:
    """A key from standard input, a file, or the flag itself; an empty flag is no key."""
    if not value:
        return None
    option = f"--{side}-api-key"
    if value == "-":
        prompt = sys.stdin.isatty()
        key = click.prompt(f"{side} key", hide_input=True, err=True) if prompt else sys.stdin.readline()
    elif value.startswith("@"):
        from vectormigrate_dagster.migration_file.document import read_text

        key = read_text(Path(value[1:]))
    else:
        settings.note(f"warning: {option} shows in the list of processes; use {option} - or {option} @FILE")
        key = value
    if not key.strip():
        raise ConfigurationError(f"{option} {value} gave no key")
    return str(key.strip())
