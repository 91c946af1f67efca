"""Verbs that start something: ui, demo."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from vectormigrate_dagster.cli.command import Settings, answer, json_option, verb
from vectormigrate_dagster.errors import Stopped

if TYPE_CHECKING:
    from vectormigrate_dagster.services.context import Context
    from vectormigrate_dagster.services.models import DemoDocument

__all__ = ["demo", "ui"]


@verb
@click.option(
    "--port", type=click.IntRange(1, 65535), default=3000, metavar="N", help="Port of the web page.  [default: 3000]"
)
def ui(settings: Settings, *, port: int) -> None:
    """Open Dagster's web page and start its daemon."""
    from vectormigrate_dagster.services.ui import ui as serve

    serve(settings.context(), port=port)


@verb
@click.option("--live", is_flag=True, help="Move 1,000 of them while four writers change them, cut over, and go back.")
@json_option
def demo(settings: Settings, *, live: bool) -> int:
    """Move 2,992 real records, Qdrant to Milvus Lite, and prove it.

    It writes migrations/demo.yaml and the databases data/qdrant and data/milvus.db in this folder;
    with --home DIR, everything is in DIR. Run again, it goes on or checks again.
    """
    from vectormigrate_dagster.cli.render import show_demo

    context = settings.context(demo=True)
    run = partial(_move_live if live else _move, context)
    try:
        result = answer(settings, run, show_demo)
    except KeyboardInterrupt as error:
        raise Stopped("interrupted; run the demo again to go on") from error
    settings.note(
        f"look on with: {settings.command('status', result.migration_id)}\n         and: {settings.command('ui')}"
    )
    return 0 if result.validation.passed and not (result.live and result.live.lost) else 1


def _move(context: Context) -> DemoDocument:
    from vectormigrate_dagster.cli.progress import Progress
    from vectormigrate_dagster.services.demo import demo as show

    with Progress("demo") as progress:
        return show(context, progress=progress)


def _move_live(context: Context) -> DemoDocument:
    from vectormigrate_dagster.cli.progress import show_moment
    from vectormigrate_dagster.services.demo_live import demo_live

    return demo_live(context, tell=show_moment)
