"""The `vectormigrate` command: a face. It parses, calls one service, and shows what the service answers.

Services and everything below them are imported when a verb runs, so that `--help` stays quick.
"""

from __future__ import annotations

import gc

from vectormigrate_dagster.cli.changes import catch_up, poll, report_changes
from vectormigrate_dagster.cli.command import cli
from vectormigrate_dagster.cli.live import complete, cutover, reverse
from vectormigrate_dagster.cli.look import export, lookup, recommend, status, validate
from vectormigrate_dagster.cli.move import init, migrate, plan, stop, throttle
from vectormigrate_dagster.cli.run import demo, ui
from vectormigrate_dagster.cli.serve import serve
from vectormigrate_dagster.cli.undo import repair, rollback

__all__ = ["cli", "main"]

_VERBS = (
    init,
    plan,
    migrate,
    status,
    stop,
    throttle,
    validate,
    repair,
    rollback,
    catch_up,
    report_changes,
    poll,
    cutover,
    reverse,
    complete,
    lookup,
    export,
    recommend,
    ui,
    serve,
    demo,
)
"""In the order in which one uses them."""

for _verb in _VERBS:
    cli.add_command(_verb)


_COLLECT_AFTER = 50_000
"""Allocations between two collections of garbage: at Python's 700, a sixth of `status` is looking at new modules."""


def main() -> None:
    """Run the command and end the process with its exit code."""
    gc.set_threshold(_COLLECT_AFTER)
    try:
        cli()
    finally:
        # At its end the interpreter looks for garbage in all that was imported: a quarter of a second for nothing.
        gc.freeze()
