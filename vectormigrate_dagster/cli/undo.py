"""Verbs that put something right or back: repair, rollback."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from vectormigrate_dagster.cli.command import Settings, answer, interruptible, json_option, verb

if TYPE_CHECKING:
    from vectormigrate_dagster.services.models import RollbackDocument

__all__ = ["repair", "rollback"]

_WORKERS = 5


@verb
@click.argument("id")
@json_option
def repair(settings: Settings, *, id: str) -> int:
    """Rewrite exactly the records that the last validation listed.

    They are read from the source, mapped as planned, written, and looked at again, until none is left. What somebody
    else wrote, and what changed on both sides since, is reported and left as it is.
    """
    from vectormigrate_dagster.cli.render import show_repair
    from vectormigrate_dagster.services.repair import repair as rewrite

    context = settings.context()
    with interruptible(f"what was written is right; go on with: {settings.command('repair', id)}"):
        result = answer(settings, lambda: rewrite(context, id), show_repair)
    if result.passed and result.listed:
        settings.note(f"the other records are as unproven as before: {settings.command('validate', id, '--full')}")
    return 0 if result.passed else 1


@verb
@click.argument("id")
@click.option("--force", is_flag=True, help="Do not ask.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=_WORKERS,
    metavar="N",
    help=f"Batches at a time.  [default: {_WORKERS}]",
)
@json_option
def rollback(settings: Settings, *, id: str, force: bool, workers: int) -> int:
    """Take back what a migration wrote; run it again to go on.

    What stood in the target before is written back, what the migration added is deleted, and a collection that it made
    is dropped if nothing else is in it. What somebody has changed since is theirs: it is left, and listed.
    """
    from vectormigrate_dagster.cli.progress import Progress
    from vectormigrate_dagster.cli.render import show_rollback
    from vectormigrate_dagster.services.rollback import rollback as take_back

    context = settings.context()
    if not force:
        _confirm(settings, id)

    def run() -> RollbackDocument:
        with Progress(id) as progress:
            return take_back(context, id, workers=workers, progress=progress, tell=progress.say)

    again = settings.command("rollback", id)
    with interruptible(f"what was taken back is recorded; go on with: {again}"):
        result = answer(settings, run, show_rollback)
    if result.listed is not None:
        settings.note(f"what was left is listed in {result.listed}")
    return 1 if result.listed is not None else 0


def _confirm(settings: Settings, id: str) -> None:
    """Ask on a terminal; refuse where nobody can answer."""
    from vectormigrate_dagster.services.status import status

    target = status(settings.context(), id).target
    what = f"collection '{target.collection}' ({target.type}) at {target.address}"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError(f"a rollback deletes from {what} and nobody can be asked here; add --force")
    click.confirm(f"Take back what migration '{id}' wrote into {what}?", abort=True, err=True)
