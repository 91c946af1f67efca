"""Start, stop, validate, roll back and cut over through Dagster's webserver: every one of them is runs that it shows.

Nothing is waited for. Whoever asks twice gets the work that is at it already, from whichever process they asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs import names
from vectormigrate_dagster.defs.automation import may_begin, open_partitions
from vectormigrate_dagster.defs.dead_runs import report_dead_runs
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.lease import MIGRATE, ROLLBACK, Lease, held
from vectormigrate_dagster.defs.planning import is_rolled_back, require_current, require_not_rolled_back
from vectormigrate_dagster.defs.storage import storage
from vectormigrate_dagster.errors import PlanOutdated
from vectormigrate_dagster.services import control
from vectormigrate_dagster.services import cutover as primary
from vectormigrate_dagster.services.context import Context
from vectormigrate_dagster.services.models import ActionDocument
from vectormigrate_dagster.services.models.actions import Action
from vectormigrate_dagster.services.webserver import Webserver

Move = Literal["cutover", "reverse", "complete"]

_MOVES = {"cutover": primary.cutover, "reverse": primary.reverse, "complete": primary.complete}

_LAUNCH = "launch"
"""The lease of whoever launches something: two at once would not see each other's runs."""
_LAUNCH_SECONDS = 30.0
_STOPPED_BY_TAG = "vectormigrate/stop_requested_by"
_WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED)
_UNFINISHED = (
    *_WAITING,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def start(context: Context, webserver: Webserver, migration_id: str, *, principal: str) -> ActionDocument:
    """Plan a migration if it has no plan, then load what is not loaded; goes on after a stop, or a failure.

    The run of the job `<id>_plan` carries the tag that makes the sensor `<id>_continue` launch the partitions.

    Args:
        context: the folders to work in.
        webserver: where runs are launched.
        migration_id: the migration.
        principal: who asks, as tags of the runs show it.

    Raises:
        PlanOutdated: the file was changed since its plan was made, or a rollback is unfinished.
        Unavailable: the webserver does not answer.
        NotSo: the webserver refuses.
    """
    with _launching(context, webserver, migration_id) as work:
        jobs = (names.plan_job_name(migration_id), names.job_name(migration_id))
        if found := work.at_work("start", jobs, MIGRATE):
            return found
        plan = work.log.plan()
        if plan is not None and not is_rolled_back(work.log, plan):
            require_not_rolled_back(work.log, plan)
            require_current(plan, work.migration)
            waiting = open_partitions(work.log, plan)
            if not waiting:
                return work.answer("start", "nothing_to_do", "every record of the plan is loaded; validate it next")
            wish = work.log.continues(plan)
            if wish is not None and any(may_begin(state, wish) for state in waiting.values()):
                message = "the sensor is launching the partitions that are left; the daemon must run for that"
                return work.answer("start", "already_running", message)
        run = webserver.launch(jobs[0], tags={**work.tags(principal), names.CONTINUE_TAG: "load"})
        message = "the plan is being made or looked up, and the load follows by itself; ask for the status to see it"
        return work.answer("start", "launched", message, runs=(run,))


def stop(context: Context, webserver: Webserver, migration_id: str, *, principal: str) -> ActionDocument:
    """End running work at its next batch and what waits in the queue at once; `start` goes on where it stopped."""
    with _launching(context, webserver, migration_id) as work:
        runs = work.runs(_UNFINISHED)  # before they know: a run may end at once
        by_command = Lease(work.instance, migration_id, MIGRATE).is_held()
        planned = work.log.summary() is not None
        if planned:
            control.stop(context, migration_id)
        for backfill in webserver.backfills(_tag(work.migration)):
            webserver.cancel_backfill(backfill)
        # What is planned notices by itself; before there is a plan, nothing is lost by ending at once.
        webserver.cancel([run.run_id for run in runs if run.status in _WAITING or not planned])
        with storage():
            for run in runs:
                work.instance.add_run_tags(run.run_id, {_STOPPED_BY_TAG: principal})
        if not runs and not by_command:
            return work.answer("stop", "nothing_to_do", "nothing runs; nothing more will be started by itself")
        message = "running work ends at its next batch, and all that is acknowledged is kept; 'start' goes on there"
        return work.answer("stop", "stopping", message, runs=tuple(run.run_id for run in runs))


def validate(
    context: Context,
    webserver: Webserver,
    migration_id: str,
    *,
    principal: str,
    full: bool = False,
    sample_size: int | None = None,
    seed: int | None = None,
) -> ActionDocument:
    """Compare source and target in a run; the status shows its outcome.

    Args:
        context, webserver, migration_id, principal: as of `start`.
        full: every record.
        sample_size: records to compare; None is the migration file's.
        seed: what random choices begin with.

    Raises:
        PlanOutdated: there is no plan to validate against.
        Unavailable, NotSo: as of `start`.
    """
    job = names.validate_job_name(migration_id)
    with _launching(context, webserver, migration_id) as work:
        work.log.require_summary()
        if found := work.at_work("validate", (job,)):
            return found
        size = None if full else sample_size or work.migration.validation.sample_size
        settings = {name: value for name, value in (("sample_size", size), ("seed", seed)) if value is not None}
        run = webserver.launch(job, tags=work.tags(principal), ops={"validate_all": settings} if settings else None)
        what = "every record" if size is None else f"a sample of {size:,} records"
        message = f"{what} is being compared; 'validation' of the status holds the outcome"
        return work.answer("validate", "launched", message, runs=(run,))


def rollback(
    context: Context,
    webserver: Webserver,
    migration_id: str,
    *,
    principal: str,
    dry_run: bool = False,
    plan: str | None = None,
) -> ActionDocument:
    """Take back what a migration wrote, a run for each partition.

    Args:
        context, webserver, migration_id, principal: as of `start`.
        dry_run: say what would be done, and do nothing.
        plan: digest of the one plan that may be taken back; None is whichever there is.

    Raises:
        PlanOutdated: there is no plan, or another one.
        Unavailable, NotSo: as of `start`.
    """
    job = names.rollback_job_name(migration_id)
    with _launching(context, webserver, migration_id) as work:
        stored = work.log.require_summary()
        if plan not in (None, stored.digest):
            raise PlanOutdated(f"migration '{migration_id}' has another plan by now; look at what would be done anew")
        if is_rolled_back(work.log, stored):
            message = f"generation {stored.generation} was rolled back before"
            return work.answer("rollback", "nothing_to_do", message)
        if found := work.at_work("rollback", (job,), ROLLBACK):
            return found
        keys = work.log.not_taken_back(stored) or stored.keys[-1:]
        loading = work.runs(_UNFINISHED, (names.job_name(migration_id), names.plan_job_name(migration_id)))
        if dry_run:
            return work.answer(
                "rollback",
                "to_confirm",
                "nothing was done yet",
                steps=_rollback_steps(work.migration, stored.generation, len(keys)),
                blocked_by=("the migration is being loaded; stop it first",) if loading else (),
            )
        title = f"roll back {migration_id}, generation {stored.generation}"
        tags = {**work.tags(principal), names.PHASE_TAG: "rollback"}
        backfill = webserver.backfill(job, keys, tags=tags, title=title)
        message = f"{len(keys):,} partitions are being taken back; the status says when that is done"
        return work.answer("rollback", "launched", message, backfill=backfill)


def cutover(
    context: Context,
    webserver: Webserver,
    migration_id: str,
    move: Move = "cutover",
    *,
    principal: str,
    dry_run: bool = False,
    reason: str | None = None,
) -> ActionDocument:
    """Make the target the primary, go back to the source, or end a live migration, in a run.

    Args:
        context, webserver, migration_id, principal: as of `start`.
        move: which of the three.
        dry_run: say what would be done, and do nothing.
        reason: why, for whoever reads the history.

    Raises:
        PlanOutdated: there is no plan, or nothing was moved by it yet.
        Unavailable, NotSo: as of `start`.
    """
    job = names.cutover_job_name(migration_id)
    with _launching(context, webserver, migration_id) as work:
        if found := work.at_work("cutover", (job,)):
            return found
        ahead = _MOVES[move](context, migration_id, dry_run=True)
        steps = tuple(step.does for step in ahead.steps if not step.done)
        if ahead.done:
            return work.answer("cutover", "nothing_to_do", f"'{move}' was done before")
        if dry_run or ahead.blocked_by:
            message = "it is blocked, and nothing was done" if ahead.blocked_by else "nothing was done yet"
            return work.answer("cutover", "to_confirm", message, steps=steps, blocked_by=ahead.blocked_by)
        settings = {"action": move, "dry_run": False, **({} if reason is None else {"reason": reason})}
        run = webserver.launch(job, tags=work.tags(principal), ops={"switch_primary": settings})
        return work.answer("cutover", "launched", "'live' of the status says how it goes", runs=(run,), steps=steps)


def _rollback_steps(migration: Migration, generation: int, partitions: int) -> tuple[str, ...]:
    target = migration.target
    return (
        f"end all loading by generation {generation} of migration '{migration.id}'",
        f"take out of collection '{target.collection}' ({target.type}) what the migration added, and write back "
        f"what it overwrote, in {partitions:,} partitions; what somebody has changed since is left and listed",
        "drop the collection if this migration made it and nothing else is in it",
    )


@dataclass(frozen=True)
class _Launching:
    """One migration in the hands of somebody who may launch runs of it."""

    instance: dg.DagsterInstance
    webserver: Webserver
    migration: Migration
    log: MigrationLog

    def runs(
        self, statuses: tuple[dg.DagsterRunStatus, ...], jobs: tuple[str, ...] | None = None
    ) -> list[dg.DagsterRun]:
        """Runs of the migration with one of some statuses, of all jobs or of some."""
        chosen = dg.RunsFilter(tags={names.MIGRATION_TAG: self.migration.id}, statuses=list(statuses))
        with storage():
            records = self.instance.get_run_records(chosen)
        found = [record.dagster_run for record in records]
        return [run for run in found if jobs is None or run.job_name in jobs]

    def at_work(self, action: Action, jobs: tuple[str, ...], command: str | None = None) -> ActionDocument | None:
        """The answer to a wish that is being fulfilled; None if nobody is at it.

        Args:
            command: the lease of the command that does the same.
        """
        runs = tuple(run.run_id for run in self.runs(_UNFINISHED, jobs))
        by_command = command is not None and Lease(self.instance, self.migration.id, command).is_held()
        backfills = self.webserver.backfills({**_tag(self.migration), names.PHASE_TAG: action})
        if not (runs or by_command or backfills):
            return None
        message = "it is being done already; nothing was launched"
        return self.answer(action, "already_running", message, runs=runs, backfill=next(iter(backfills), None))

    def answer(self, action: Action, outcome: Any, message: str, **more: Any) -> ActionDocument:
        """What a wish led to."""
        plan = self.log.summary()
        return ActionDocument(
            migration_id=self.migration.id,
            action=action,
            outcome=outcome,
            message=message,
            plan=None if plan is None else plan.digest,
            **more,
        )

    def tags(self, principal: str) -> dict[str, str]:
        """What tells runs that somebody asked for from others."""
        return {**_tag(self.migration), names.PRINCIPAL_TAG: principal}


def _tag(migration: Migration) -> dict[str, str]:
    return {names.MIGRATION_TAG: migration.id}


@contextmanager
def _launching(context: Context, webserver: Webserver, migration_id: str) -> Iterator[_Launching]:
    """Hold the right to launch runs of a migration.

    Raises:
        UnknownMigration: there is none of that name.
        LeaseHeld: somebody else has been launching for long.
    """
    migration = context.migration(migration_id)
    with context.instance() as instance, held(Lease(instance, migration.id, _LAUNCH), _LAUNCH_SECONDS):
        report_dead_runs(instance, migration.id)
        log = MigrationLog(instance, migration.id)
        log.refresh()
        yield _Launching(instance, webserver, migration, log)
