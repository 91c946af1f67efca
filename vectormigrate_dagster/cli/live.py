"""Verbs that say which side the application writes to: cutover, reverse, complete."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from vectormigrate_dagster.cli.command import Settings, answer, interruptible, json_option, verb

if TYPE_CHECKING:
    from vectormigrate_dagster.services.models import CutoverDocument

__all__ = ["complete", "cutover", "reverse"]

_dry_run = click.option("--dry-run", is_flag=True, help="Show the steps and what is in the way; change nothing.")
_reason = click.option("--reason", metavar="TEXT", default="asked for", help="Why, for the history.")


@verb
@click.argument("id")
@_dry_run
@_reason
@json_option
def cutover(settings: Settings, *, id: str, dry_run: bool, reason: str) -> int:
    """Make the target the primary; the application's writes wait for seconds.

    Both sides are compared exactly before. From then on the source follows the target, so 'reverse' loses nothing.
    """
    from vectormigrate_dagster.services.cutover import cutover as move

    return _move(settings, "cutover", id, partial(move, settings.context(), id, dry_run=dry_run, reason=reason))


@verb
@click.argument("id")
@_dry_run
@_reason
@json_option
def reverse(settings: Settings, *, id: str, dry_run: bool, reason: str) -> int:
    """Go back: make the source the primary again, with all that was written since.

    As careful as 'cutover'; afterwards the target follows the source again.
    """
    from vectormigrate_dagster.services.cutover import reverse as move

    return _move(settings, "reverse", id, partial(move, settings.context(), id, dry_run=dry_run, reason=reason))


@verb
@click.argument("id")
@_dry_run
@_reason
@json_option
def complete(settings: Settings, *, id: str, dry_run: bool, reason: str) -> int:
    """End a live migration after its cutover; there is no way back.

    Both sides are compared once more, then the source is not kept equal any more and the journal is emptied.
    """
    from vectormigrate_dagster.services.cutover import complete as move

    return _move(settings, "complete", id, partial(move, settings.context(), id, dry_run=dry_run, reason=reason))


def _move(settings: Settings, name: str, id: str, work: Callable[..., CutoverDocument]) -> int:
    from vectormigrate_dagster.cli.progress import Comparing

    again = settings.command(name, id)

    def shown() -> CutoverDocument:
        with Comparing(id) as progress:
            return work(progress=progress)

    with interruptible(f"the application writes on; start over with: {again}"):
        result = answer(settings, shown, _show)
    if result.blocked_by and result.live.state != "completed":
        settings.note(f"then: {again}")
    return 1 if result.blocked_by else 0


def _show(result: CutoverDocument) -> None:
    live = result.live
    if result.dry_run:
        for number, step in enumerate(result.steps, 1):
            mark = "blocked" if step.blocked_by else "done" if step.done else "to do"
            click.echo(f"{number}. {step.does} [{mark}]")
            for what in step.blocked_by:
                click.echo(f"   in the way: {what}")
        return
    if result.done:
        since = f"since {live.changed_by}: {live.reason}"
        click.echo(f"{result.action} done: the {live.primary} is the primary ({live.state}, {since})")
        return
    click.echo(f"{result.action} is blocked; the {live.primary} stays the primary ({live.state})")
    for what in result.blocked_by:
        click.echo(f"in the way: {what}")
