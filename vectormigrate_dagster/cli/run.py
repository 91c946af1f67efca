"""Verbs that start something: ui, demo."""

from __future__ import annotations

import click

from vectormigrate_dagster.cli.command import Settings, answer, json_option, verb
from vectormigrate_dagster.errors import Stopped

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
@json_option
def demo(settings: Settings) -> int:
    """Move 2,992 real records, Qdrant to Milvus Lite, and prove it.

    It writes migrations/demo.yaml and the databases data/qdrant and data/milvus.db in this folder;
    with --home DIR, everything is in DIR. Run again, it goes on or checks again.
    """
    from vectormigrate_dagster.cli.progress import Progress
    from vectormigrate_dagster.cli.render import show_demo
    from vectormigrate_dagster.services.demo import demo as show
    from vectormigrate_dagster.services.models import DemoDocument

    context = settings.context(demo=True)

    def run() -> DemoDocument:
        with Progress("demo") as progress:
            return show(context, progress=progress)

    try:
        result = answer(settings, run, show_demo)
    except KeyboardInterrupt as error:
        raise Stopped("interrupted; run the demo again to go on") from error
    settings.note(f"look on with: {settings.command('status', 'demo')}\n         and: {settings.command('ui')}")
    return 0 if result.validation.passed else 1
