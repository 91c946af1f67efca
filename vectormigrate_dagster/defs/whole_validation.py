"""A full validation, partition by partition: by one process or by a run for each, and gone on with if interrupted.

What a partition shows is recorded as state, and listed in a file. Once every partition of the plan has been through the
same round, whoever completes it adds the count and the searches, which look at everything, and concludes.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import dagster as dg

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases import Database, Endpoint, Source
from vectormigrate_dagster.defs.bulk import before_validation
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.evidence import tier_check, whole_partition_check
from vectormigrate_dagster.defs.exceptions import exceptions_of, pre_existing
from vectormigrate_dagster.defs.home import migration_folder
from vectormigrate_dagster.defs.journal import known_journal
from vectormigrate_dagster.defs.lease import Lease, held
from vectormigrate_dagster.defs.live import JournalMotion, tolerance_now
from vectormigrate_dagster.defs.searching import given_queries, search_settings, unsearched
from vectormigrate_dagster.defs.state import (
    VALIDATION,
    VALIDATION_ROUND,
    PartitionValidation,
    ValidationRound,
    ValidationState,
    now,
    partition_validation_key,
)
from vectormigrate_dagster.defs.throttling import throttle_of
from vectormigrate_dagster.errors import LeaseHeld, ValidationFailed
from vectormigrate_dagster.live.journal import Journal
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Split
from vectormigrate_dagster.model.digests import DigestSet
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.validation import Context, Exceptions, GivenQueries, ValidationReport
from vectormigrate_dagster.validation.conclude import conclude
from vectormigrate_dagster.validation.mismatches import listed, note_different, read_mismatches
from vectormigrate_dagster.validation.outcome import Outcome
from vectormigrate_dagster.validation.validate import search_whole
from vectormigrate_dagster.validation.whole import compare_split

FULL = "full"
_BEYOND = "beyond"
_LEASE = "validation"
_LEASE_SECONDS = 60.0
_GOES_ON = timedelta(hours=24)
"""A round on which nobody has worked for this long is not gone on with: what it says grows old."""

EventSink = Callable[[dg.AssetCheckEvaluation], None]


def current_round(log: MigrationLog, plan: Plan, *, seed: int | None = None, again: bool = False) -> ValidationRound:
    """The round that is under way, or a new one.

    Args:
        log: the state.
        plan: the plan.
        seed: what random choices begin with; one that differs from that of the round under way begins another.
        again: begin a new one in any case.
    """
    with held(Lease(log.instance, log.migration_id, _LEASE), _LEASE_SECONDS):
        log.refresh()
        known = log.validation_round(plan)
        if known is not None and not again and seed in (None, known.seed) and _goes_on(log, plan, known):
            return known
        begun = now()
        name = f"{begun:%Y%m%dT%H%M%S}{begun.microsecond:06}Z"
        begin = ValidationRound(plan=plan.digest, name=name, seed=seed or 0, at=begun)
        log.record(VALIDATION_ROUND, begin)
        return begin


def _goes_on(log: MigrationLog, plan: Plan, known: ValidationRound) -> bool:
    """Whether a round is under way. One over very much takes longer than a day, so its newest partition counts."""
    worked_on = [known.at, *(state.at for state in log.validated(plan, known.name).values())]
    return known.concluded_at is None and now() - max(worked_on) < _GOES_ON


class WholeValidation:
    """A full validation in the hands of one process, with both sides open.

    Args:
        log: the state.
        plan: the plan.
        migration: the migration file.
        source, target: both sides.
        throttle: retry policy, rate, and what ends the work.
        publish: where check evaluations go.
        journal: knows what an application changes meanwhile; None if nobody notes it.
    """

    def __init__(
        self,
        log: MigrationLog,
        plan: Plan,
        migration: Migration,
        source: Source,
        target: Database,
        *,
        throttle: Throttle,
        publish: EventSink,
        journal: Journal | None = None,
    ) -> None:
        self._log = log
        self._plan = plan
        self._migration = migration
        self._source = source
        self._target = target
        self._throttle = throttle
        self._publish = publish
        self._journal = journal
        self._splits = {planned.key: planned.split for planned in plan.splits}

    def partition(self, key: str, known: ValidationRound) -> PartitionValidation:
        """Compare every record of a partition and record what was found. The caller has the partition's lease."""
        log, plan = self._log, self._plan
        exceptions = replace(
            exceptions_of(log, plan, [key], journal=self._journal), pre_existing=pre_existing(log, plan, self._journal)
        )
        path = self._folder(known) / f"{key}.parquet"
        context = self._context([self._splits[key]], exceptions)
        with listed(path) as file:
            outcome = compare_split(context, self._splits[key], sink=file.add)
        too_many = outcome.others > exceptions.pre_existing
        wrong = outcome.mismatched or outcome.missing or outcome.extra or outcome.repeated or too_many
        found = path if file.count else None
        state = PartitionValidation(
            plan=plan.digest,
            round=known.name,
            passed=not wrong,
            outcome=outcome.model_dump(mode="json"),
            mismatches=None if found is None else str(found),
            position=None if context.motion is None else context.since,
        )
        log.record(partition_validation_key(key), state)
        check = whole_partition_check(self._migration.id, key, outcome, passed=state.passed, mismatches=found)
        self._publish(check)
        return state

    def conclude(self, known: ValidationRound, queries: GivenQueries | None = None) -> ValidationReport | None:
        """Add what looks at everything and record the outcome of the whole; None while partitions are missing.

        Nothing happens if somebody else has concluded the round, or is about it.

        Args:
            known: the round.
            queries: what to search for; None takes those of the migration file.
        """
        lease = Lease(self._log.instance, self._log.migration_id, f"{_LEASE}-{known.name}")
        try:
            lease.acquire(_LEASE_SECONDS)
        except LeaseHeld:
            return None  # who holds it for so long has found every partition, ours as well, and concludes
        try:
            return self._conclude(known, queries)
        finally:
            lease.release()

    def _conclude(self, known: ValidationRound, queries: GivenQueries | None) -> ValidationReport | None:
        log, plan = self._log, self._plan
        log.refresh()
        newest, states = log.validation_round(plan), log.validated(plan, known.name)
        concluded = newest is not None and newest.name == known.name and newest.concluded_at is not None
        if concluded or len(states) < len(plan.keys):
            return None
        report = self._report(known, list(states.values()), queries or given_queries(self._migration))
        for tier in report.tiers:
            self._publish(tier_check(self._migration.id, tier))
        log.record(VALIDATION, state_of(plan, report))
        if newest is not None and newest.name == known.name:
            log.record(VALIDATION_ROUND, known.model_copy(update={"concluded_at": report.ended_at}))
        return report

    def _report(
        self, known: ValidationRound, states: list[PartitionValidation], queries: GivenQueries | None
    ) -> ValidationReport:
        context = self._context(
            list(self._splits.values()),
            exceptions_of(self._log, self._plan, journal=self._journal),
            began=min((state.position for state in states if state.position is not None), default=sys.maxsize),
        )
        folder = self._folder(known)
        outcome = Outcome.sum(Outcome.model_validate(state.outcome) for state in states)
        with listed(folder / f"{_BEYOND}.parquet") as file:
            tiers = conclude(context, outcome, sink=file.add, different=partial(_different, states))
        sides = (self._source.probe(), self._target.probe())
        search = search_settings(self._plan, self._migration, sides, queries, seed=known.seed)
        searched = search_whole(context, search, seed=known.seed)
        ended = now()
        found = file.count or any(state.mismatches for state in states)
        return ValidationReport.of(*tiers, *searched, seconds=(ended - known.at).total_seconds()).sealed(
            skipped=() if search is not None else tuple(unsearched(self._plan, sides)),
            plan=self._plan.digest,
            seed=known.seed,
            began_at=known.at,
            ended_at=ended,
            looked_at=FULL,
            mismatches=str(folder) if found else None,
        )

    def _context(self, splits: list[Split], exceptions: Exceptions, began: int = sys.maxsize) -> Context:
        sides = self._source.capabilities, self._target.capabilities
        return Context(
            source=self._source,
            target=self._target,
            mapper=RecordMapper(self._plan.mapping),
            splits=splits,
            tolerance=tolerance_now(self._plan, self._migration, *sides, self._journal),
            exceptions=exceptions,
            throttle=self._throttle,
            began=began,
            motion=JournalMotion.of(self._journal),
        )

    def _folder(self, known: ValidationRound) -> Path:
        folder = migration_folder(self._log.instance, self._log.migration_id) / "validation"
        return folder / f"{self._plan.digest[:12]}-{known.name}"


def validate_whole(
    log: MigrationLog,
    migration: Migration,
    source: Endpoint,
    target: Endpoint,
    *,
    publish: EventSink,
    queries: GivenQueries | None = None,
    seed: int | None = None,
    again: bool = False,
) -> ValidationReport:
    """Compare everything in this process, partition by partition.

    Args:
        log: the state.
        migration: the migration file.
        source, target: both sides.
        publish: where check evaluations go.
        queries: what to search for; None takes those of the migration file.
        seed: what random choices begin with.
        again: do not go on with a round that was interrupted.

    Raises:
        PlanOutdated: there is no plan to validate against.
        LeaseHeld: a partition is being worked on.
        DatabaseError: a database could not be reached or refused us.
        Stopped: it was asked to end; partitions that were compared are recorded, and the next time goes on.
    """
    plan = log.require_plan()
    known = current_round(log, plan, seed=seed, again=again)
    with opened(log, plan, migration, source, target, publish=publish) as whole:
        log.refresh()
        validated = log.validated(plan, known.name)
        for key in plan.keys:
            if key not in validated:
                with held(Lease(log.instance, migration.id, key)):
                    whole.partition(key, known)
        report = whole.conclude(known, queries)
    if report is None:
        raise ValidationFailed(
            f"partitions of migration '{migration.id}' were written to while they were validated, or another process "
            "concludes the validation; validate again"
        )
    return report


@contextlib.contextmanager
def opened(
    log: MigrationLog, plan: Plan, migration: Migration, source: Endpoint, target: Endpoint, *, publish: EventSink
) -> Iterator[WholeValidation]:
    """Open both sides for a full validation, with the target's indexes as they are to be."""
    throttle = throttle_of(log, migration.transfer)
    sleep = throttle.interrupt.sleep
    with (
        known_journal(log.instance, migration) as journal,
        databases.open_source(source, sleep=sleep) as src,
        databases.open_target(target, sleep=sleep) as dst,
    ):
        before_validation(log, plan, dst, throttle)
        yield WholeValidation(log, plan, migration, src, dst, throttle=throttle, publish=publish, journal=journal)


def _different(states: Sequence[PartitionValidation]) -> DigestSet:
    """The ids under which partitions have found something else than was promised, as they have listed them."""
    known = DigestSet()
    for path in (Path(state.mismatches) for state in states if state.mismatches is not None):
        if path.exists():
            note_different(known, read_mismatches(path))
    return known


def state_of(plan: Plan, report: ValidationReport) -> ValidationState:
    """What the state of a migration keeps of a report."""
    return ValidationState(
        plan=plan.digest,
        passed=report.passed,
        tier=report.looked_at or FULL,
        checked=report.tier("records").checked,
        # A query whose answer is not perfect is no record that is wrong; whether search passed is in `passed`.
        mismatched=sum(t.mismatched + t.missing + t.extra for t in report.tiers if t.tier != "search"),
        mismatches=report.mismatches,
        seed=report.seed,
        digest=report.digest,
    )
