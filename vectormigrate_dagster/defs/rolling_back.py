"""Take back what a migration wrote, partition by partition: the job `<id>_rollback` and what it decides.

A rollback begins by saying so in the state, once nobody loads: from then on no load by that plan begins. When every
partition is taken back, the collection is dropped if this migration made it and nothing is left in it; what told whose
the records were is put away, and the keys of the generation are deleted. The next plan begins anew. Before that, no
request of a rollback that was killed, or whose outcome is not known, can still be applied: it would take away what the
next plan loads.
"""

# Dagster reads the annotations of ops and checks when they are defined: they may not be put off.
import time
from collections.abc import Generator
from contextlib import ExitStack, closing
from functools import partial

import dagster as dg
from pydantic import Field

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Refusal, Source
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.bulk import leave
from vectormigrate_dagster.defs.dropping import drop_if_empty, is_there, noted
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.jobs import job_of, splits_of, title
from vectormigrate_dagster.defs.journal import open_journal, withdraw
from vectormigrate_dagster.defs.lease import MIGRATE, Lease, held
from vectormigrate_dagster.defs.ops import MANIFEST
from vectormigrate_dagster.defs.planning import is_rolled_back
from vectormigrate_dagster.defs.recorder import Recorder
from vectormigrate_dagster.defs.refusals import RefusalList, left_path
from vectormigrate_dagster.defs.resources import DatabaseResource, WorkLease
from vectormigrate_dagster.defs.state import (
    PartitionState,
    PlanSummary,
    RollbackState,
    rollback_key,
    target_key,
)
from vectormigrate_dagster.defs.target import logs_to_take_back, retire, sent_ranges
from vectormigrate_dagster.defs.throttling import throttle_of
from vectormigrate_dagster.defs.waiting import Tell, teller, wait_until_quiet
from vectormigrate_dagster.defs.work import Manifest, PartitionWork, explained, require_planned
from vectormigrate_dagster.errors import LeaseHeld
from vectormigrate_dagster.live.journal import Journal
from vectormigrate_dagster.live.journal.undoing import Undoing
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Batch, id_text
from vectormigrate_dagster.model.vectors import Mask
from vectormigrate_dagster.transfer.rollback import WORKERS, Rollback, Undone, entries_after
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.validation.tolerance import tolerance_of

_BEGIN = "rollback-begin"
_BEGIN_SECONDS = 60.0
_WAIT_SECONDS = 120.0
_LEAVING_SECONDS = 5.0
"""As long as a load that has just begun may take to see that it may not."""

_GONE = "the collection that it stood in is gone; what it was is kept in the ownership log"


class RollbackConfig(dg.Config):
    """How to take a partition back."""

    workers: int = Field(default=WORKERS, ge=1, description="batches at a time; one on an embedded database")


@dg.op(
    description="Take back what was written of this partition; refused while anything of the migration is loaded.",
    out=dg.Out(MANIFEST),
)
def roll_back_partition(
    context: dg.OpExecutionContext,
    config: RollbackConfig,
    *,
    migration: dg.ResourceParam[Migration],
    source: DatabaseResource,
    target: DatabaseResource,
    lease: WorkLease,
) -> Manifest:
    """Take back what was written of this partition."""
    with explained():
        lease.take(context.instance, migration.id)
        begin_rollback(MigrationLog(context.instance, migration.id), migration, tell=teller(context))
        work = PartitionWork(context, migration, lease, undoing=True)
        require_planned(target, work.plan.target)
        state = work.undoing()
        if state.state == "rolled_back":
            context.log.info(f"{work.split}: taken back before")
            return work.manifest
        throttle = throttle_of(work.log, migration.transfer)
        recorder = _UndoRecorder(work.log, work.key, state, throttle=throttle)
        with recorder.outcome():
            recorder.write("rolling_back")
            with ExitStack() as stack:
                written = stack.enter_context(target.open_target(sleep=throttle.interrupt.sleep))

                def open_source() -> Source:
                    require_planned(source, work.plan.source)
                    return stack.enter_context(source.open_source(sleep=throttle.interrupt.sleep))

                throttle.target.call(written.probe)
                guard = stack.enter_context(noted(work.log, migration, work.plan, work.key))
                rollback = Rollback(
                    written,
                    RecordMapper(work.plan.mapping),
                    open_source,
                    tolerance=tolerance_of(
                        work.plan.mapping.target_schema, written.capabilities, migration.validation.min_cosine
                    ),
                    workers=config.workers,
                    throttle=throttle,
                    stop=recorder.should_stop,
                    guard=guard,
                )
                undo = _undone if is_there(written, throttle) else _gone
                with closing(undo(work, rollback, after=state.undone_after)) as checkpoints:
                    for checkpoint in checkpoints:
                        recorder.note(checkpoint)
            recorder.write("rolled_back")
        context.add_output_metadata({"taken_back": recorder.state.undone, "left": recorder.state.left})
        return work.manifest


@dg.op(
    description="After the last partition: drop the collection if it is ours and empty; end the generation.",
    ins={"taken_back": dg.In(MANIFEST)},
)
def finish_rollback(
    context: dg.OpExecutionContext,
    taken_back: Manifest,
    *,
    migration: dg.ResourceParam[Migration],
    target: DatabaseResource,
    lease: WorkLease,
) -> None:
    """After the last partition: drop the collection if it is ours and empty; end the generation."""
    with explained():
        work = PartitionWork(context, migration, lease, taken_back, undoing=True)
        log, plan = work.log, work.plan
        missing = log.not_taken_back(plan)
        if missing:
            context.log.info(f"{len(missing)} partitions are not taken back yet, the first is '{missing[0]}'")
            return
        # Before the end is recorded, after which nobody comes back for it.
        leave(log, plan, partial(target.open_target, sleep=time.sleep))
        lease_of_target = partial(Lease, log.instance, migration.id, target_key(plan.generation))
        with held(lease_of_target(), _WAIT_SECONDS):
            log.refresh()
            if is_rolled_back(log, plan):
                return
            throttle = throttle_of(log, migration.transfer)
            with target.open_target(sleep=throttle.interrupt.sleep) as written:
                dropped, remaining = drop_if_empty(log, migration, plan, written, throttle)
        with open_journal(log.instance, migration, plan) as journal:
            wait_until_quiet(log, Undoing(journal).seconds, tell=teller(context))
        with held(lease_of_target(), _WAIT_SECONDS):
            log.refresh()
            if is_rolled_back(log, plan):
                return
            left = sum(state.left for state in log.partitions(plan).values())
            retire(log, plan, keep=left > 0)
            log.record(
                rollback_key(plan.generation),
                RollbackState(plan=plan.digest, state="finished", dropped=dropped, remaining=remaining),
            )
        for key in plan.keys:
            context.instance.delete_dynamic_partition(names.partitions_name(migration.id), key)
        context.add_output_metadata({"dropped": dropped, "left": left, "remaining": remaining})


@dg.graph(description="Take a partition back; after the last one, drop the collection if it is ours and empty.")
def undo_split() -> None:
    """Take a partition back."""
    finish_rollback(roll_back_partition())


def rollback_job(migration: Migration) -> dg.JobDefinition:
    """The job that takes one partition back."""
    return job_of(
        undo_split,
        migration,
        name=names.rollback_job_name(migration.id),
        phase="rollback",
        description=f"Take back a partition of {title(migration)}. Launched on all partitions, it undoes everything.",
        partitions_def=splits_of(migration),
    )


def begin_rollback(log: MigrationLog, migration: Migration, *, tell: Tell) -> None:
    """Note that a rollback has begun, unless it has; from then on nothing is loaded or caught up with by the plan.

    Returns once nothing that was sent before can still be applied.

    Args:
        log: the migration's state.
        migration: the migration file.
        tell: is told what is waited for.

    Raises:
        PlanOutdated: there is no plan, or the application writes to the target.
        LeaseHeld: a load is at work.
        Stopped: it was asked to end while it waited for catching up.
    """
    plan = log.require_plan()
    with open_journal(log.instance, migration, plan) as journal:
        with held(Lease(log.instance, log.migration_id, _BEGIN), _BEGIN_SECONDS):
            log.refresh()
            begins = log.rollback(plan) is None
            if begins:
                _begin(log, plan, journal)
            # Whoever has noted it may have died before this; who looked at the state before that has to look again.
            journal.leave_splits(over=begins)
            withdraw(journal)
        # What an embedded database was sent died with the process that had opened it.
        loads = not migration.target.embedded

        def seconds() -> float:
            return max(journal.busy_seconds(), journal.loading_seconds() if loads else 0.0)

        wait_until_quiet(log, seconds, tell=tell)


def _begin(log: MigrationLog, plan: Plan, journal: Journal) -> None:
    """Note that a rollback has begun.

    Raises:
        PlanOutdated, LeaseHeld: see `begin_rollback`.
    """
    require_nobody_loads(log, plan)
    withdraw(journal)  # so that the sides are not switched meanwhile
    log.record(rollback_key(plan.generation), RollbackState(plan=plan.digest, state="begun"))
    try:
        # A load takes its lease, then looks at the state. Now either it has seen ours, or we see its lease.
        require_nobody_loads(log, plan, seconds=_LEAVING_SECONDS)
    except LeaseHeld:
        log.record(rollback_key(plan.generation), RollbackState(plan=plan.digest, state="abandoned"))
        raise


def require_nobody_loads(log: MigrationLog, plan: Plan | PlanSummary, *, seconds: float = 0) -> None:
    """Refuse to go on while somebody works on a partition of the plan, or is between two of them.

    Raises:
        LeaseHeld: somebody does, for longer than `seconds`.
    """
    for what in (MIGRATE, *plan.keys):
        lease = Lease(log.instance, log.migration_id, what)
        try:
            if lease.is_held():
                lease.acquire(seconds)
                lease.release()
        except LeaseHeld as error:
            which = "" if what == MIGRATE else f" (partition '{what}')"
            raise LeaseHeld(
                f"migration '{log.migration_id}' is at work{which}, so nothing was taken back; end that first with "
                f"'vectormigrate stop {log.migration_id}'"
            ) from error


class _UndoRecorder(Recorder):
    """Records how far a partition is taken back."""

    def __init__(self, log: MigrationLog, key: str, state: PartitionState, *, throttle: Throttle) -> None:
        super().__init__(log, key, state, throttle=throttle)
        self._first = state.undone
        self._left = RefusalList(left_path(log, key), keep=state.left)
        self._left.trim()

    def note(self, undone: Undone) -> None:
        """Note a checkpoint; write a state event if it is time for one."""
        if undone.left:
            self._left.append(undone.left)
        self.state = self.state.model_copy(
            update={
                "undone": self._first + undone.undone,
                "left": self.state.left + len(undone.left),
                "undone_after": undone.after,
            }
        )
        if self.is_due:
            self.write("rolling_back")


def _undone(work: PartitionWork, rollback: Rollback, *, after: str | None) -> Generator[Undone]:
    """Take back what belongs to a partition of the plan."""
    target = work.log.target(work.plan)
    if target is None:
        return  # nothing was written
    if target.state == "existing":
        yield from rollback.logs(*logs_to_take_back(work.log, work.plan, work.key), after=after)
        return
    sent, state = sent_ranges(work.log), work.log.partition(work.plan, work.key)
    reached = None if state is None or state.after is None else work.split.kind.decode(state.after)
    if sent or reached is not None:

        def may_be_sent(batch: Batch) -> Mask:
            mask = sent.contains(batch.ids, batch.scope)
            if reached is not None:
                mask |= [value <= reached for value in batch.ids.to_pylist()]  # type: ignore[operator]
            return mask

        yield from rollback.split(work.split, may_be_sent, after=after)


def _gone(work: PartitionWork, rollback: Rollback, *, after: str | None) -> Generator[Undone]:
    """Name the records that stood in a collection which somebody has dropped since: they cannot be written back."""
    del rollback
    logs, _ = logs_to_take_back(work.log, work.plan, work.key)
    for name, entry in entries_after(logs, after):
        texts = map(id_text, entry.batch.ids.to_pylist()) if entry.form == "before" else ()
        yield Undone(after=name, undone=0, left=tuple(Refusal(text, _GONE, entry.batch.scope) for text in texts))
