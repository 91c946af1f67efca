"""Indexing of the target while it is loaded: put off, put back as it was, and waited for.

The state of the target tells that indexing is put off, and what is to be put back, before anything is changed. Whoever
ends last puts it back: the command at its very end, however it ends; without a command a run that ends, however it
ends, while no other is loading. Whoever is killed leaves that to who comes next: a partition that goes on, `migrate`,
`stop`, `validate`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from vectormigrate_dagster.databases import Database
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.lease import MIGRATE, Lease, held
from vectormigrate_dagster.defs.resources import DatabaseResource
from vectormigrate_dagster.defs.state import PlanSummary, TargetState, now, target_key
from vectormigrate_dagster.errors import NotFound, VectorMigrateError
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.transfer.throttle import Throttle

_WAIT_SECONDS = 120.0
"""Others hold the target's lease while they make it, which takes seconds on a server."""


def begin_load(log: MigrationLog, plan: Plan, target: Database, state: TargetState, *, defer: bool) -> TargetState:
    """Put indexing off, if it is wanted and the collection is ours; the target's lease is held by the caller.

    Args:
        log: where the state goes.
        plan: the plan that is loaded.
        target: its target, which exists.
        state: of the target.
        defer: whether the migration file leaves it to us.
    """
    if state.indexing == "deferred":
        return state
    settings = None
    # Somebody else's collection is used meanwhile, perhaps by searches that need its index.
    if defer and state.state == "created" and target.capabilities.defers_indexing:
        settings = target.index_settings()
    if settings is None and state.indexing is None:
        return state
    state = _record(log, plan, state, indexing=None if settings is None else "deferred", restore=settings)
    if settings is not None:
        target.prepare_bulk_load()
    return state


def put_back(log: MigrationLog, plan: Plan | PlanSummary, target: Database) -> None:
    """Put indexing back as it was, unless it is already or a partition is being loaded; does not wait for indexes.

    Raises:
        DatabaseError: the target could not be reached or refused us; the state still says what is to be put back.
    """
    with held(Lease(log.instance, log.migration_id, target_key(plan.generation)), _WAIT_SECONDS):
        log.refresh()
        state = log.target(plan)
        if state is None or state.restore is None or _loading(log, plan):
            return
        try:
            target.resume_indexing(state.restore)
        except NotFound:  # somebody dropped it
            _record(log, plan, state, indexing=None, restore=None)
        else:
            _record(log, plan, state, indexing="building", restore=None)


def finish_load(log: MigrationLog, plan: Plan | PlanSummary, target: Database, throttle: Throttle) -> None:
    """Put indexing back; once every partition is done, wait until the target's indexes are built.

    Raises:
        Stopped: the wait was ended; indexing goes on without it.
        DatabaseError: the target could not be reached, or cannot build an index.
    """
    throttle.target.call(partial(put_back, log, plan, target))
    state = log.target(plan)
    if not _complete(log, plan) or state is None or state.indexing in ("deferred", "built"):
        return
    if state.indexing is None:
        state = _record(log, plan, state, indexing="building", restore=None)
    throttle.target.call(target.finish_bulk_load)
    with held(Lease(log.instance, log.migration_id, target_key(plan.generation)), _WAIT_SECONDS):
        log.refresh()
        if log.target(plan) == state:  # else a partition is being loaded again
            _record(log, plan, state, indexing="built", restore=None)


def after_partition(log: MigrationLog, plan: Plan, target: DatabaseResource, throttle: Throttle) -> None:
    """See to the target's indexes when a run has loaded its partition, which it has written before; see `finish_load`.

    A command does so itself, at its end. Other runs may follow this one, or never: they put indexing off again.
    """
    with put_back_if_it_fails(log, plan, target):
        log.refresh()
        if not _commanded(log) and (_complete(log, plan) or _owed(log, plan)):
            with target.open_target(sleep=throttle.interrupt.sleep) as opened:
                finish_load(log, plan, opened, throttle)


def before_validation(log: MigrationLog, plan: Plan, target: Database, throttle: Throttle) -> None:
    """Put right what a killed load has left, so that a search meets the indexes that were planned.

    Raises:
        DatabaseError: the target could not be reached, or cannot build an index.
    """
    if _commanded(log):
        return
    throttle.target.call(partial(put_back, log, plan, target))
    state = log.target(plan)
    if state is not None and state.indexing == "building":
        finish_load(log, plan, target, throttle)


def leave(log: MigrationLog, plan: Plan | PlanSummary, open_target: Callable[[], Database]) -> None:
    """Put indexing back when work has ended before its end; the target is opened only if there is something to do.

    Raises:
        DatabaseError: the target could not be reached or refused us; the state still says what is to be put back.
    """
    log.refresh()
    if _owed(log, plan):
        with open_target() as target:
            put_back(log, plan, target)


@contextmanager
def put_back_if_it_fails(log: MigrationLog, plan: Plan, target: DatabaseResource) -> Iterator[None]:
    """Put indexing back if a block of a partition's run does not end well; a command sees to it at its own end."""
    try:
        yield
    except BaseException as error:
        with noted(error):
            if not _commanded(log):
                leave(log, plan, partial(target.open_target, sleep=time.sleep))
        raise


@contextmanager
def noted(error: BaseException) -> Iterator[None]:
    """Add to `error` that indexing could not be put back, instead of hiding it behind that; `status` tells it too."""
    try:
        yield
    except VectorMigrateError as failed:
        error.add_note(f"indexing of the target is still put off: {failed}")


def in_hands(log: MigrationLog, plan: Plan | PlanSummary) -> bool:
    """Whether somebody is at work who will put indexing back at the end, as far as `log` has been read."""
    return _commanded(log) or _loading(log, plan)


def _commanded(log: MigrationLog) -> bool:
    """Whether a `migrate` is at work."""
    return Lease(log.instance, log.migration_id, MIGRATE).is_held()


def _complete(log: MigrationLog, plan: Plan | PlanSummary) -> bool:
    """Whether every partition is done."""
    states = log.partitions(plan)
    return len(states) == len(plan.keys) and all(state.state == "done" for state in states.values())


def _owed(log: MigrationLog, plan: Plan | PlanSummary) -> bool:
    """Whether indexing is to be put back."""
    state = log.target(plan)
    return state is not None and state.restore is not None


def _loading(log: MigrationLog, plan: Plan | PlanSummary) -> bool:
    """Whether a partition is being loaded; a run that ends has written so before it asks."""
    return any(
        state.state == "loading" and Lease(log.instance, log.migration_id, key).is_held()
        for key, state in log.partitions(plan).items()
    )


def _record(log: MigrationLog, plan: Plan | PlanSummary, state: TargetState, **changes: object) -> TargetState:
    changed = state.model_copy(update={**changes, "at": now()})
    log.record(target_key(plan.generation), changed)
    return changed
