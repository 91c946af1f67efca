"""A live migration: both sides as catching up needs them, and what the state in Dagster's storage tells of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs.blockers import what_blocks
from vectormigrate_dagster.defs.coordinating import rest_if_left, somebody_coordinates
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.journal import KEPT_SECONDS, principal
from vectormigrate_dagster.defs.lease import numbered
from vectormigrate_dagster.defs.planning import require_current, require_not_rolled_back
from vectormigrate_dagster.defs.state import LIVE, LiveState, PlanSummary, now
from vectormigrate_dagster.defs.target import changes_key, ownership_of_changes, sent_of, sent_ranges
from vectormigrate_dagster.errors import NotSo, PlanOutdated
from vectormigrate_dagster.live.journal import Control, Journal, Key, State
from vectormigrate_dagster.live.journal.chunks import MAX_AGE_SECONDS
from vectormigrate_dagster.live.journal.generations import Generations
from vectormigrate_dagster.live.sides import Sides
from vectormigrate_dagster.live.verification import chunks_of
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.model import Capabilities, id_text
from vectormigrate_dagster.model.compare import Tolerance
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.validation.listing import Original
from vectormigrate_dagster.validation.tolerance import tolerance_between, tolerance_of

_SLOTS = 16
"""Processes that may catch up at the same time: each writes logs of its own, and more would not be faster."""

_FRESH = timedelta(seconds=15)
"""A state that says nothing new is written again after this long, so that its age says whether anybody still looks."""

_CLOCKS_SECONDS = 60.0


def settle_state(log: MigrationLog, plan: Plan, journal: Journal) -> Control:
    """Bring the journal's state up to what the partitions say: being moved, or moved and catching up.

    What a coordinator that was killed has left there is put right too. Several may do so at the same time. What is
    being taken back stays planned; `log` is refreshed.
    """
    while True:
        # Before the log is read: a rollback notes itself there, and then ends the epoch that this counts on.
        control = rest_if_left(log, plan, journal)
        log.refresh()
        states = log.partitions(plan)
        before, to, reason = {State.PLANNED}, State.BACKFILLING, f"generation {plan.generation} is being moved"
        if len(states) == len(plan.keys) and all(state.state == "done" for state in states.values()):
            before, to, reason = {*before, to}, State.CATCHING_UP, "every partition is moved"
        if not states or control.state not in before or log.rollback(plan) is not None:
            return control
        with suppress(NotSo):  # somebody else has changed it, perhaps to the same
            return journal.enter(to, since=control, by=principal(), reason=reason)


@contextmanager
def open_sides(  # noqa: PLR0917  # what both sides are made of
    log: MigrationLog,
    plan: Plan,
    migration: Migration,
    journal: Journal,
    source: Endpoint,
    target: Endpoint,
    throttle: Throttle,
) -> Iterator[Sides]:
    """Both sides of a live migration, open for a re-sync in either direction.

    Raises:
        PlanOutdated: nothing was moved by the plan yet, or it is being taken back.
        LeaseHeld: too many processes catch up.
        DatabaseError: a database could not be reached or refused us.
    """
    require_not_rolled_back(log, plan)
    require_current(plan, migration)
    whose = log.target(plan)
    if whose is None or whose.state == "creating":
        raise PlanOutdated(f"nothing was moved by generation {plan.generation} of '{log.migration_id}'; move it first")
    sleep = throttle.interrupt.sleep
    with ExitStack() as stack:
        slot = stack.enter_context(numbered(log.instance, log.migration_id, "changes", _SLOTS))
        src = stack.enter_context(databases.open_source(source, sleep=sleep))
        dst = stack.enter_context(databases.open_target(target, sleep=sleep))
        throttle.source.call(src.probe)
        throttle.target.call(dst.probe)
        sides = Sides(
            plan.mapping,
            source=src,
            target=dst,
            open_source=partial(databases.open_target, source, sleep=sleep),
            throttle=throttle,
            on_conflict=migration.transfer.on_conflict,
            ownership=ownership_of_changes(log, plan, slot, whose),
            sent=sent_of(log, changes_key(plan, slot), whose),
            sent_before=lambda: sent_ranges(log) or None,
            tolerance=tolerance_now(plan, migration, src.capabilities, dst.capabilities, journal),
            source_tolerance=tolerance_of(
                plan.mapping.source_schema, src.capabilities, migration.validation.min_cosine
            ),
            scopes=None if migration.source.scopes == "all" else migration.source.scopes,
        )
        stack.callback(sides.close)
        yield sides


def tolerance_now(
    plan: Plan, migration: Migration, source: Capabilities, target: Capabilities, journal: Journal | None
) -> Tolerance:
    """What is demanded of the target's vectors, for whoever compares both sides, by what the journal says was written.

    Args:
        plan: of the mapping.
        migration: the migration file.
        source, target: what both sides do to vectors.
        journal: the migration's; None for a plan that was made before there were journals.
    """
    written_back = journal is not None and journal.control().written_back
    minimum = migration.validation.min_cosine
    return tolerance_between(plan.mapping, source, target, minimum, written_back=written_back)


class JournalMotion:
    """Which records the application changes while both sides are compared, as the journal tells.

    Args:
        journal: the migration's.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @classmethod
    def of(cls, journal: Journal | None) -> JournalMotion | None:
        """What a validation has to know of a writing application; None if nobody notes what it changes."""
        return None if journal is None else cls(journal)

    def position(self) -> int:
        """See `Motion.position`."""
        return self._journal.position()

    def moving(self, originals: Collection[Original], since: int) -> set[Original]:
        """See `Motion.moving`."""
        # An application names no scope where the source is not divided, or means the default one.
        spellings = {one: {Key(scope, one.kind, id_text(one.id)) for scope in (one.scope, None)} for one in originals}
        found = self._journal.moving(list(set().union(*spellings.values())), since=since)
        return {one for one, keys in spellings.items() if not keys.isdisjoint(found)}

    def changed(self, since: int) -> int:
        """See `Motion.changed`."""
        return self._journal.changed(since=since)

    def changed_after(self, began: datetime) -> int:
        """How many were changed since a time at most, taken generously, as the journal has a clock of its own."""
        seconds = (now() - began).total_seconds() + _CLOCKS_SECONDS
        return self._journal.changed_within(seconds) if seconds < KEPT_SECONDS else self._journal.newest()


def note_live(
    log: MigrationLog,
    plan: Plan | PlanSummary,
    journal: Journal,
    *,
    always: bool = False,
    seldom: bool = False,
) -> LiveState:
    """Look at the journal and keep what it tells in the state; an unchanged one at most four times a minute.

    What a coordinator that was killed has left in the journal is put right before.

    Args:
        log: the state; its validation and partitions should be fresh.
        plan: the plan.
        journal: the authority.
        always: write it in any case.
        seldom: that the lag is another number is no change; for who looks every few seconds, for weeks.
    """
    rest_if_left(log, plan, journal)
    state = live_state(log, plan, journal)
    before = log.live(plan)
    if (
        always
        or before is None
        or state.at - before.at > _FRESH
        or _tells(state, seldom=seldom) != _tells(before, seldom=seldom)
    ):
        log.record(LIVE, state)
    return state


def live_state(log: MigrationLog, plan: Plan | PlanSummary, journal: Journal) -> LiveState:
    """How far it is, as the journal tells; writes nothing."""
    control, lag = journal.control(), journal.lag()
    parts = chunks_of(plan.keys)
    compared = Generations(journal).compared(parts, max_age=MAX_AGE_SECONDS) if somebody_coordinates(log) else None
    compares = compared is not None and compared < len(parts)
    return LiveState(
        plan=plan.digest,
        state=control.state.value,
        primary=control.primary,
        epoch=control.epoch,
        lag_records=lag.records,
        lag_seconds=round(lag.seconds, 3),
        open=lag.open,
        compared=compared or 0 if compares else 0,
        parts=len(parts) if compares else 0,
        unlike=journal.verdicts(plan.generation).unlike(),
        blocked_by=tuple(what_blocks(log, plan, primary=control.primary, state=control.state)),
        changed_by=control.changed_by,
        reason=control.reason,
    )


def _tells(state: LiveState, *, seldom: bool) -> LiveState:
    """A state without what changes by itself, or with every write; who shows what blocks looks that up again."""
    numbers = {"lag_records": min(1, state.lag_records), "open": 0, "compared": 0} if seldom else {}
    return state.model_copy(update={"at": None, "lag_seconds": 0.0, "blocked_by": (), **numbers})
