"""`cutover`, `reverse`, `complete`: which side the application writes to; each may be called again, and goes on."""

from __future__ import annotations

import time
from functools import partial

from vectormigrate_dagster.defs.cutting_over import ASKED, Moved, look_ahead, move_primary
from vectormigrate_dagster.defs.journal import principal
from vectormigrate_dagster.live.steps import Action
from vectormigrate_dagster.live.verification import Progress
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.foreground import in_foreground
from vectormigrate_dagster.services.models import CutoverDocument, CutoverStep
from vectormigrate_dagster.services.status import live_status


def _show_nobody(done: int, of: int, left: float | None) -> None:
    del done, of, left


def cutover(
    context: Context,
    migration_id: str,
    *,
    dry_run: bool = False,
    by: str | None = None,
    reason: str = ASKED,
    progress: Progress = _show_nobody,
) -> CutoverDocument:
    """Make the target the primary: the application writes to it from then on, and the source follows.

    Args:
        context: the folders to work in.
        migration_id: the migration.
        dry_run: say what would be done and what is in the way; opens no database.
        by: who wants it; None is the user of this process.
        reason: why, for whoever reads the history.
        progress: is told how many parts of both sides are compared, of how many, and how many seconds are left.

    Raises:
        PlanOutdated: there is no plan, nothing was moved by it yet, or it was replaced or is being taken back.
        NotFound: a dry run, and the plan is from before there were journals.
        DatabaseError: a database could not be reached or refused us; writes are not frozen any more.
        Stopped: a signal ended it; writes are not frozen any more.
    """
    return _move(context, migration_id, "cutover", dry_run=dry_run, by=by, reason=reason, progress=progress)


def reverse(
    context: Context,
    migration_id: str,
    *,
    dry_run: bool = False,
    by: str | None = None,
    reason: str = ASKED,
    progress: Progress = _show_nobody,
) -> CutoverDocument:
    """Make the source the primary again, with everything that was written since the cutover; see `cutover`."""
    return _move(context, migration_id, "reverse", dry_run=dry_run, by=by, reason=reason, progress=progress)


def complete(
    context: Context,
    migration_id: str,
    *,
    dry_run: bool = False,
    by: str | None = None,
    reason: str = ASKED,
    progress: Progress = _show_nobody,
) -> CutoverDocument:
    """End: compare everything once more, then let the other side be; there is no way back. See `cutover`."""
    return _move(context, migration_id, "complete", dry_run=dry_run, by=by, reason=reason, progress=progress)


def _move(
    context: Context,
    migration_id: str,
    action: Action,
    *,
    dry_run: bool,
    by: str | None,
    reason: str,
    progress: Progress,
) -> CutoverDocument:
    migration = context.migration(migration_id)
    began = time.monotonic()
    with context.instance() as instance:
        if dry_run:
            moved = look_ahead(instance, migration, action)
        else:
            source, target = endpoints(migration)
            who = by or principal()
            work = partial(move_primary, instance, migration, source, target, action, by=who, reason=reason)
            moved = in_foreground(partial(work, progress=progress))
    return _document(migration.id, action, moved, dry_run=dry_run, seconds=time.monotonic() - began)


def _document(migration_id: str, action: Action, moved: Moved, *, dry_run: bool, seconds: float) -> CutoverDocument:
    return CutoverDocument(
        migration_id=migration_id,
        action=action,
        dry_run=dry_run,
        done=moved.done,
        blocked_by=moved.blocked_by,
        steps=tuple(CutoverStep(does=step.does, done=step.done, blocked_by=step.blocked_by) for step in moved.steps),
        seconds=round(seconds, 3),
        live=live_status(moved.live),
    )
