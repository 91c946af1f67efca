"""Make the target the primary, go back, or end: the job `<id>_cutover`, and what it is assembled of.

The journal's row decides everything; each change of it is written to the state too, with who made it and why.
"""

# Dagster reads the annotations of ops when they are defined: they may not be put off.
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
from pydantic import Field

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Endpoint
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.blockers import what_blocks
from vectormigrate_dagster.defs.catching_up import RESTING
from vectormigrate_dagster.defs.coordinating import coordinating
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.exceptions import exceptions_of, note_unlike
from vectormigrate_dagster.defs.jobs import job_of, title
from vectormigrate_dagster.defs.journal import open_journal, principal
from vectormigrate_dagster.defs.live import live_state, note_live, open_sides, settle_state
from vectormigrate_dagster.defs.refusals import LoadLists
from vectormigrate_dagster.defs.resources import DatabaseResource, WorkLease
from vectormigrate_dagster.defs.state import LiveState
from vectormigrate_dagster.defs.throttling import throttle_of
from vectormigrate_dagster.defs.waiting import until_stopped
from vectormigrate_dagster.defs.work import explained, require_planned
from vectormigrate_dagster.errors import NotSo
from vectormigrate_dagster.live.catch_up import CatchUp
from vectormigrate_dagster.live.cutover import Cutover, Ended
from vectormigrate_dagster.live.journal import Control, Journal, State
from vectormigrate_dagster.live.journal.held import require_plan
from vectormigrate_dagster.live.shadow import shadow_gate
from vectormigrate_dagster.live.sides import Sides
from vectormigrate_dagster.live.steps import Action, Gate, Limits, Step, is_done, refusal, steps_of
from vectormigrate_dagster.live.verification import Progress, Verification, chunks_of
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.model.counting import agreeing, counted
from vectormigrate_dagster.validation import Exceptions

ASKED = "asked for"
"""The reason where nobody has given one."""

_LOG_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Moved:
    """How a cutover, the way back, or the end went.

    Args:
        done: it is so.
        blocked_by: what is in the way, and what to do.
        steps: what would be done, where that was all that was asked for.
        live: how it stands.
    """

    done: bool
    blocked_by: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    live: LiveState


def look_ahead(instance: dg.DagsterInstance, migration: Migration, action: Action) -> Moved:
    """The steps of an action as they would be made now; opens no database and changes nothing.

    Raises:
        PlanOutdated: there is no plan, or it was replaced in another home.
        NotFound: it has no journal yet.
    """
    log = MigrationLog(instance, migration.id)
    log.refresh()
    plan = log.require_plan()
    with open_journal(instance, migration) as journal:
        require_plan(journal.control(), plan.digest)
        steps = steps_of(
            journal, _chunks(plan), action, gates=_gates(log, plan, migration, journal), limits=limits_of(migration)
        )
        blockers = tuple(what for step in steps for what in step.blocked_by)
        live = live_state(log, plan, journal)
        return Moved(done=is_done(journal.control(), action), blocked_by=blockers, steps=tuple(steps), live=live)


def move_primary(
    instance: dg.DagsterInstance,
    migration: Migration,
    source: Endpoint,
    target: Endpoint,
    action: Action,
    *,
    by: str,
    reason: str,
    progress: Progress = lambda done, of, left: None,  # noqa: ARG005  # nobody looks
) -> Moved:
    """Do what an action says, from wherever an earlier run has left off.

    Args:
        instance: Dagster's storage.
        migration: the migration file.
        source: one side.
        target: the other.
        action: what to do.
        by: who wants it.
        reason: why.
        progress: is told how far comparing both sides is, which may take hours.

    Raises:
        PlanOutdated: there is no plan, nothing was moved by it yet, or it was replaced or is being taken back.
        DatabaseError: a database could not be reached or refused us; writes are not frozen any more.
        Stopped: it was asked to end; writes are not frozen any more.
    """
    log = MigrationLog(instance, migration.id)
    log.refresh()
    plan = log.require_plan()
    with open_journal(instance, migration, plan) as journal:
        control = settle_state(log, plan, journal)
        why = refusal(control, action)
        if why is None and not is_done(control, action):
            if action == "cutover" and control.state is not State.FROZEN:
                why_not = tuple(what for gate in _gates(log, plan, migration, journal) for what in gate())
                if why_not:  # known before a database is opened
                    return Moved(done=False, blocked_by=why_not, live=note_live(log, plan, journal))
            sides = source, target
            with coordinating(log), _coordinator(log, plan, migration, journal, *sides, progress) as cutover:
                verb = {"cutover": cutover.run, "reverse": cutover.reverse, "complete": cutover.complete}[action]
                ended = verb(by=by, reason=reason)
        else:
            ended = Ended(control=control, done=why is None, blocked_by=() if why is None else (why,))
        note_unlike(log, plan, journal)
        return Moved(done=ended.done, blocked_by=ended.blocked_by, live=note_live(log, plan, journal))


def limits_of(migration: Migration) -> Limits:
    """What the migration file allows a cutover."""
    given = migration.cutover
    return Limits(freeze_seconds=given.freeze_seconds, patience_seconds=given.patience_seconds)


@contextmanager
def _coordinator(  # noqa: PLR0917  # what a coordinator is made of
    log: MigrationLog,
    plan: Plan,
    migration: Migration,
    journal: Journal,
    source: Endpoint,
    target: Endpoint,
    progress: Progress,
) -> Iterator[Cutover]:
    throttle = throttle_of(log, migration.transfer)
    sleep = until_stopped(log, throttle.interrupt.sleep, left="writes are not frozen")

    def note(control: Control) -> None:
        del control  # the row is read again, which may have gone on
        note_live(log, plan, journal, always=True)

    def tell(done: int, of: int, left: float | None) -> None:
        note_live(log, plan, journal, seldom=True)  # what is told is in the journal
        progress(done, of, left)

    with open_sides(log, plan, migration, journal, source, target, throttle) as sides:
        verification = Verification(
            journal,
            sides,
            _splits(plan),
            exceptions=lambda: _exceptions(log, plan, journal, sides),
            sleep=sleep,
            progress=tell,
        )
        yield Cutover(
            journal,
            CatchUp(
                journal,
                sides,
                holder="cutover",
                rests=RESTING,
                generation=plan.generation,
                load_lists=LoadLists(log, plan),
            ),
            verification,
            _gates(log, plan, migration, journal),
            limits=limits_of(migration),
            changed=note,
            sleep=sleep,
        )


def _gates(log: MigrationLog, plan: Plan, migration: Migration, journal: Journal) -> Sequence[Gate]:
    """What else must be so: the load and its checks, and what shadow reads have shown if that is asked for."""

    def checked() -> Iterator[str]:
        log.refresh()
        control = journal.control()
        for what in what_blocks(log, plan, primary=control.primary, state=control.state):
            yield f"{what}; see 'vectormigrate status {migration.id}'"

    wanted = migration.cutover
    return (checked, shadow_gate(journal, reads=wanted.shadow_reads, min_overlap=wanted.shadow_overlap))


def _splits(plan: Plan) -> dict[str, Any]:
    return {planned.key: planned.split for planned in plan.splits}


def _chunks(plan: Plan) -> tuple[str, ...]:
    return chunks_of(planned.key for planned in plan.splits)


def _exceptions(log: MigrationLog, plan: Plan, journal: Journal, sides: Sides) -> Exceptions:
    """What is known to differ; catching up has made more records ours than the load."""
    log.refresh()
    known = exceptions_of(log, plan, journal=journal)
    return replace(known, ours=None if sides.ownership is None else sides.ownership.wrote)


class CutoverConfig(dg.Config):
    """What to do with the primary."""

    action: str = Field(default="cutover", description="cutover (the target becomes the primary), reverse, or complete")
    dry_run: bool = Field(default=True, description="only say what would be done, and what is in the way")
    reason: str = Field(default=ASKED, description="why, for whoever reads the history")


@dg.op(description="Make the target the primary, go back, or end; by default it only says what would be done.")
def switch_primary(
    context: dg.OpExecutionContext,
    config: CutoverConfig,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
    lease: WorkLease,
) -> None:
    """Make the target the primary, go back, or end."""
    with explained():
        lease.take(context.instance, migration.id)
        action = _action(config.action)
        plan = MigrationLog(context.instance, migration.id).require_plan()
        if config.dry_run:
            moved = look_ahead(context.instance, migration, action)
        else:
            require_planned(source, plan.source)
            require_planned(target, plan.target)
            moved = move_primary(
                context.instance,
                migration,
                source.endpoint(),
                target.endpoint(),
                action,
                by=context.run.tags.get(names.PRINCIPAL_TAG, principal()),
                reason=config.reason,
                progress=_logged(context),
            )
        context.add_output_metadata(_metadata(action, moved))
        if moved.blocked_by and not config.dry_run:
            raise NotSo(f"{action} of '{migration.id}' is blocked: {'; '.join(moved.blocked_by)}")


@dg.graph(description="Make the target the primary, go back, or end.")
def cutover_graph() -> None:
    """Move the primary."""
    switch_primary()


def cutover_job(migration: Migration) -> dg.JobDefinition:
    """The job that makes the target the primary, goes back, or ends."""
    return job_of(
        cutover_graph,
        migration,
        name=names.cutover_job_name(migration.id),
        phase="cutover",
        description=f"Cut over {title(migration)}, go back, or complete it; by default it only shows the steps.",
        tags={"dagster/priority": "2"},
    )


def _action(text: str) -> Action:
    """An action by its name.

    Raises:
        NotSo: there is none of that name.
    """
    known: tuple[Action, ...] = ("cutover", "reverse", "complete")
    for action in known:
        if text == action:
            return action
    raise NotSo(f"'{text}' is no action of this job; give one of {', '.join(known)}")


def _logged(context: dg.OpExecutionContext) -> Progress:
    """Tells the run's log how far comparing is, at most every half minute, and when it has ended."""
    told = 0.0

    def tell(done: int, of: int, left: float | None) -> None:
        nonlocal told
        at = time.monotonic()
        if told and at - told < _LOG_SECONDS and done < of:
            return
        told = at
        rest = "" if left is None or done == of else f", about {left:,.0f} s left"
        context.log.info(f"{done:,} of {counted(of, 'part')} {agreeing(done, 'is')} compared{rest}")

    return tell


def _metadata(action: Action, moved: Moved) -> dict[str, Any]:
    live = moved.live
    marks = {True: "done", False: "to do"}
    steps = [f"1. {step.does} ({'blocked' if step.blocked_by else marks[step.done]})" for step in moved.steps]
    listed = {"steps": dg.MetadataValue.md("\n".join(steps))} if steps else {}
    blocked = "\n".join(f"- {what}" for what in moved.blocked_by)
    return {
        "action": action,
        "done": moved.done,
        "primary": live.primary,
        "state": live.state,
        "epoch": live.epoch,
        "changed_by": live.changed_by,
        "reason": live.reason,
        "lag_records": live.lag_records,
        **listed,
        **({"blocked_by": dg.MetadataValue.md(blocked)} if blocked else {}),
    }
