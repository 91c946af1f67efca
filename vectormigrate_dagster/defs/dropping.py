"""What a rollback sends is noted in the journal before; at its end a collection that is ours and empty is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Database, Refusal, Source
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.journal import open_journal
from vectormigrate_dagster.defs.refusals import RefusalList, left_path
from vectormigrate_dagster.defs.state import target_key
from vectormigrate_dagster.errors import NotFound
from vectormigrate_dagster.live.guard import UndoGuard
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.model import id_text
from vectormigrate_dagster.transfer.guard import NO_GUARD, WriteGuard
from vectormigrate_dagster.transfer.reader import PAGE_RECORDS, read_split
from vectormigrate_dagster.transfer.throttle import Throttle

_SPLIT_RECORDS = 1_000_000
_NOT_OURS = "it is in a collection that this migration made, and it cannot be told that this migration wrote it"


@contextmanager
def noted(log: MigrationLog, migration: Migration, plan: Plan, what: str) -> Iterator[WriteGuard]:
    """Note in the journal, before its first request, that something is taken back; the caller holds its lease.

    Not for an embedded database: what it was sent dies with the process that has opened it.

    Args:
        log: the migration's state.
        migration: the migration file.
        plan: by which it was written.
        what: a partition's key, or `target_key`.
    """
    if migration.target.embedded:
        yield NO_GUARD
        return
    with open_journal(log.instance, migration, plan) as journal, UndoGuard(journal, what) as guard:
        yield guard.writes


def drop_if_empty(
    log: MigrationLog, migration: Migration, plan: Plan, target: Database, throttle: Throttle
) -> tuple[bool, int]:
    """Drop a collection that we made and that is empty; whether that was done, and how much is in one of ours.

    The caller holds the target's lease.
    """
    whose = log.target(plan)
    if whose is None or whose.state == "existing":
        return False, 0
    if not is_there(target, throttle):
        return True, 0  # by a run that was killed before it had said so, or by somebody
    if not _is_ours(plan, target, throttle):
        return False, 0
    throttle.target.call(target.wait_visible)
    remaining = 0
    listed = RefusalList(left_path(log, f"g{plan.generation:04}-remaining"), keep=0)
    listed.trim()
    for split in throttle.target.call(partial(target.plan_splits, _SPLIT_RECORDS)):
        for batch in read_split(Source(target), split, throttle=throttle, page_records=PAGE_RECORDS):
            remaining += len(batch)
            listed.append(Refusal(id_text(value), _NOT_OURS, batch.scope) for value in batch.ids.to_pylist())
    # As late as can be: nobody keeps others from writing into it.
    if remaining or throttle.target.call(target.count):
        return False, remaining
    with noted(log, migration, plan, target_key(plan.generation)) as guard:

        def drop() -> None:
            with guard.sending():
                target.drop()

        throttle.target.call(drop, sleep=guard.after(throttle.interrupt.sleep), failed=guard.failed)
    return True, 0


def is_there(target: Database, throttle: Throttle) -> bool:
    """Whether there is a collection; somebody may have dropped it, and whoever finished a rollback has."""
    try:
        throttle.target.call(target.describe)
    except NotFound:
        return False
    return True


def _is_ours(plan: Plan, target: Database, throttle: Throttle) -> bool:
    """Whether the collection is the one that we made, and not another one of its name."""
    found = throttle.target.call(target.describe)
    return not target.capabilities.keeps_marker or found.marker == plan.mapping.target_schema.marker
