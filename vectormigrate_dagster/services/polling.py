"""`poll`: find changes of an application that cannot report them, by a field that only grows, or by comparing all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import dagster as dg

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.databases.source import FieldSource, Source
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.exceptions import exceptions_of
from vectormigrate_dagster.defs.journal import open_journal
from vectormigrate_dagster.defs.live import note_live, tolerance_now
from vectormigrate_dagster.defs.planning import require_current, require_not_rolled_back
from vectormigrate_dagster.defs.state import POLL, LiveState, PollState
from vectormigrate_dagster.defs.throttling import throttle_of
from vectormigrate_dagster.errors import ConfigurationError, NotSo, PlanOutdated
from vectormigrate_dagster.live.journal import Journal, Key
from vectormigrate_dagster.live.polling import Poll, Watermark, mark_of_text
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Batch, IdKind
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.foreground import in_foreground
from vectormigrate_dagster.services.live import note_all, require_followed
from vectormigrate_dagster.services.models import PollDocument
from vectormigrate_dagster.services.status import live_status
from vectormigrate_dagster.transfer.reader import PAGE_RECORDS, read_split
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.validation.mismatches import Mismatch
from vectormigrate_dagster.validation.validate import validate_full

OVERLAP = 60.0

_FIELD_LIMITS = (
    "polling sees no deletions, and no record without a number or a time in the field; 'poll --sweep' finds those, and "
    "is to be run before the cutover while nobody writes"
)
_READ_ALL = "every record of the source was read"
_READ_SOME = "only records that may have changed were asked for"
_SWEEP_LIMITS = "a sweep reads both sides whole; what is written after it has read a record is for the next one"


def poll(
    context: Context,
    migration_id: str,
    *,
    field: str | None = None,
    since: str | None = None,
    overlap: float = OVERLAP,
    sweep: bool = False,
) -> PollDocument:
    """Note in the journal what has changed, for catch-up to carry over.

    Args:
        context: the folders to work in.
        migration_id: the migration.
        field: a top-level field of every record whose value grows with every change: a number, or a time in ISO 8601.
        since: look from this value on, instead of from where the polls before have come.
        overlap: looked at again each time, in the field's unit (seconds for times).
        sweep: compare every record of both sides instead, which finds deletions too.

    Raises:
        PlanOutdated: there is no plan, or nothing was moved by it yet (for a sweep).
        ConfigurationError: it is not known from where on to look.
        NotSo: the application writes to the target, or the migration is completed.
        DatabaseError: a database could not be reached or refused us.
        Stopped: a signal ended it; what was noted is noted, and the next poll begins where this one did.
    """
    if sweep == (field is not None):
        raise ConfigurationError("give a field that grows with every change, or ask for a sweep; not both")
    migration = context.migration(migration_id)
    with context.instance() as instance:
        work = _Polling(instance, migration)
        call = work.sweep if field is None else partial(work.field, field, since, overlap)
        return in_foreground(call)


class _Polling:
    """Polls of one migration."""

    def __init__(self, instance: dg.DagsterInstance, migration: Migration) -> None:
        self._instance = instance
        self._migration = migration
        self._source, self._target = endpoints(migration)
        self._log = MigrationLog(instance, migration.id)
        self._log.refresh()
        self._plan = self._log.require_plan()
        require_not_rolled_back(self._log, self._plan)
        require_current(self._plan, migration)
        self._throttle = throttle_of(self._log, migration.transfer)

    def field(self, field: str, since: str | None, overlap: float) -> PollDocument:
        """Look for changes by a field."""
        log, plan, sleep = self._log, self._plan, self._throttle.interrupt.sleep
        after = _begin(log, plan, field, since)
        found = Poll(field, after, overlap=overlap)
        noted = 0
        with open_journal(self._instance, self._migration, plan) as journal:
            _require_source(journal)
            with databases.open_source(self._source, sleep=sleep) as source:
                at_least = self._at_least(source, field, found)
                for keys in found.changed(_records(FieldSource(source, field, at_least), plan, self._throttle)):
                    noted += note_all(journal, keys, kind="change")
            _require_source(journal)
            reached = found.watermark()
            if after is None and _is_moved(log, plan):
                raise NotSo(f"'{self._migration.id}' began to be moved while this looked; {_since(field)}")
            if reached is None:
                raise ConfigurationError(
                    f"no record of the source has a number or a time in '{field}', so it cannot be polled by it"
                )
            # Last: whatever this poll has found is in the journal by now.
            log.record(POLL, PollState(field=field, unit=reached.unit, floor=reached.floor, high=reached.high))
            live = note_live(log, plan, journal)
        return PollDocument(
            migration_id=self._migration.id,
            way="field",
            read=found.seen,
            noted=noted,
            without=found.without,
            began=after is None,
            limits=f"{_READ_ALL if at_least is None else _READ_SOME}; {_FIELD_LIMITS}",
            live=live_status(live),
        )

    def _at_least(self, source: Source, field: str, found: Poll) -> float | None:
        """From which number on records are to be read; None is all of them.

        The first poll of a field reads all, also from a given value on: it tells how many records have no such field.
        """
        if found.at_least is None or self._log.poll(field) is None:
            return None
        filters = self._throttle.source.call(partial(source.filters_by, field))
        return found.at_least if filters else None

    def sweep(self) -> PollDocument:
        """Compare every record of both sides, and note those that are not alike."""
        log, plan, sleep = self._log, self._plan, self._throttle.interrupt.sleep
        if log.target(plan) is None:
            raise PlanOutdated(f"nothing was moved by generation {plan.generation} yet; move it first")
        with open_journal(self._instance, self._migration, plan) as journal:
            _require_source(journal)
            touched = _Touches(journal, plan)
            with (
                databases.open_source(self._source, sleep=sleep) as source,
                databases.open_target(self._target, sleep=sleep) as target,
            ):
                target.probe()
                sides = source.capabilities, target.capabilities
                report = validate_full(
                    source,
                    target,
                    RecordMapper(plan.mapping),
                    [planned.split for planned in plan.splits],
                    tolerance=tolerance_now(plan, self._migration, *sides, journal),
                    # What the target has refused may be mended, which nobody else would tell.
                    exceptions=replace(exceptions_of(log, plan, journal=journal), refused_ids=frozenset()),
                    throttle=self._throttle,
                    sink=touched.add,
                )
            touched.flush()
            live: LiveState = note_live(log, plan, journal)
        return PollDocument(
            migration_id=self._migration.id,
            way="sweep",
            read=report.tier("ids").checked,
            noted=touched.noted,
            without=touched.strangers,
            limits=_SWEEP_LIMITS,
            live=live_status(live),
        )


class _Touches:
    """Notes records that are not alike, each once while few enough are in memory."""

    def __init__(self, journal: Journal, plan: Plan) -> None:
        self._journal = journal
        scopes = {planned.split.scope for planned in plan.splits}
        self._only = next(iter(scopes)) if len(scopes) == 1 else None
        self._scopes = scopes
        self._waiting: dict[Key, None] = {}
        self.noted = self.strangers = 0

    def add(self, found: Iterable[Mismatch]) -> None:
        """Note what was found wrong."""
        for one in found:
            if one.source_id is None or one.source_id_kind is None:
                self.strangers += 1
                continue
            # A source that is not divided has one name for its whole, which the plan's splits use.
            scope = one.source_scope if one.source_scope in self._scopes else self._only
            self._waiting[Key(scope, IdKind(one.source_id_kind), one.source_id)] = None
        if len(self._waiting) >= PAGE_RECORDS:
            self.flush()

    def flush(self) -> None:
        """Note what waits."""
        self.noted += note_all(self._journal, self._waiting, kind="touch")
        self._waiting.clear()


def _begin(log: MigrationLog, plan: Plan, field: str, since: str | None) -> Watermark | None:
    """From where on to look; None to find that out, while nothing is moved."""
    if since is not None:
        unit, value = mark_of_text(since)
        return Watermark(unit=unit, floor=value, high=value)
    known = log.poll(field)
    if known is not None:
        return Watermark(unit=known.unit, floor=known.floor, high=known.high)
    if _is_moved(log, plan):
        raise ConfigurationError(_since(field))
    return None


def _since(field: str) -> str:
    return (
        f"nobody knows from which '{field}' on records may have changed since they were moved; give --since a value "
        "from before that, or poll once before anything is moved"
    )


def _is_moved(log: MigrationLog, plan: Plan) -> bool:
    log.refresh()
    return bool(log.partitions(plan))


def _records(source: Source, plan: Plan, throttle: Throttle) -> Iterator[Batch]:
    for planned in plan.splits:
        yield from read_split(source, planned.split, throttle=throttle, page_records=PAGE_RECORDS)


def _require_source(journal: Journal) -> None:
    """Refuse to look for changes where nobody makes them any more.

    Raises:
        NotSo: the application writes to the target, or nobody follows it.
    """
    require_followed(journal)
    if journal.control().primary == "target":
        raise NotSo(
            f"'{journal.migration}' was switched, so the application writes to the target; polling looks at the source"
        )
