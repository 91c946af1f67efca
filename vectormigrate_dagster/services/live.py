"""`catch-up` and `report-changes`: what the application changes while its collection moves, without any daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import Migration
from vectormigrate_dagster.defs.catching_up import Caught, catch_up_migration
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.journal import open_for_application
from vectormigrate_dagster.defs.live import note_live
from vectormigrate_dagster.errors import ConfigurationError, InvalidRecord, NotSo
from vectormigrate_dagster.live.journal import Journal, Key, State
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.model import Id, IdKind, id_text
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.foreground import in_foreground
from vectormigrate_dagster.services.models import CatchUpDocument, ChangesDocument, LiveStatus, UnsettledRecord
from vectormigrate_dagster.services.status import live_status

_NOTED_AT_ONCE = 10_000
_SHOWN = 10


def catch_up(
    context: Context,
    migration_id: str,
    *,
    follow: bool = False,
    progress: Callable[[LiveStatus], None] = lambda live: None,  # noqa: ARG005  # nobody looks
) -> CatchUpDocument:
    """Carry over what the application has changed, in whichever direction the migration is.

    Args:
        context: the folders to work in.
        migration_id: the migration.
        follow: go on until somebody ends it, instead of until the other side is level.
        progress: is told every few seconds how far it is.

    Raises:
        PlanOutdated: there is no plan, nothing was moved by it yet, or it is being taken back.
        NotSo: the migration is completed.
        DatabaseError: a database could not be reached or refused us; it goes on when called again.
        Stopped: a signal or `stop` ended it; what was carried over is noted.
    """
    migration = context.migration(migration_id)
    source, target = endpoints(migration)
    began = time.monotonic()

    def tell(caught: Caught) -> None:
        progress(live_status(caught.live))

    with context.instance() as instance:
        until = "stopped" if follow else "level"
        caught = in_foreground(
            partial(catch_up_migration, instance, migration, source, target, until=until, tell=tell)  # type: ignore[arg-type]  # until is one of the two
        )
    return CatchUpDocument(
        migration_id=migration.id,
        carried=caught.carried,
        records={outcome.value: number for outcome, number in caught.outcomes.items()},
        unsettled=tuple(
            UnsettledRecord(id=one.key.text, scope=one.key.scope, outcome=one.outcome.value, reason=one.reason)
            for one in caught.unmoved
        ),
        unlike_file=str(context.unlike(migration.id)) if caught.live.unlike else None,
        seconds=round(time.monotonic() - began, 3),
        live=live_status(caught.live),
    )


def report_changes(
    context: Context,
    migration_id: str,
    ids: Iterable[Id],
    scope: str | None = None,
    kind: IdKind | None = None,
) -> ChangesDocument:
    """Note records that an application has inserted, updated or deleted, once its writes are over; opens no database.

    Args:
        context: the folders to work in.
        migration_id: the migration.
        ids: as they are in the source; a text is read as what the source can hold. All are good, or none is noted.
        scope: where they are in the source; None where it is not divided, or has a scope of that meaning.
        kind: of the ids, where a text could be of several kinds.

    Raises:
        PlanOutdated: there is no plan.
        ConfigurationError: the source can hold no such ids, or a scope is needed, or there are none.
        NotSo: the migration is completed.
    """
    migration = context.migration(migration_id)
    with context.instance() as instance:
        log = MigrationLog(instance, migration.id)
        log.refresh()
        plan = log.require_plan()
        where = scope_of(migration, plan, scope)
        kinds = plan.mapping.source_schema.ids.kinds if kind is None else (kind,)
        keys = list(dict.fromkeys(_keys(ids, kinds, where)))
        with open_for_application(instance, migration, plan) as journal:
            require_followed(journal)
            note_all(journal, keys, kind="change")
            live = note_live(log, plan, journal)
    return ChangesDocument(migration_id=migration.id, noted=len(keys), live=live_status(live))


def require_followed(journal: Journal) -> None:
    """Refuse to note what nobody will look at.

    Raises:
        NotSo: the migration is completed.
    """
    control = journal.control()
    if control.state is State.COMPLETED:
        raise NotSo(
            f"'{journal.migration}' was completed by {control.changed_by}, so nobody carries changes over any more"
        )


def note_all(journal: Journal, keys: Iterable[Key], *, kind: str) -> int:
    """Note keys, so many in one transaction; return how many."""
    rest, count = iter(keys), 0
    while block := list(islice(rest, _NOTED_AT_ONCE)):
        journal.note(block, kind=kind)  # type: ignore[arg-type]  # the callers' words are the journal's
        count += len(block)
    return count


def scope_of(migration: Migration, plan: Plan, scope: str | None) -> str | None:
    """The scope of reported ids as the plan names it.

    Raises:
        ConfigurationError: the source is divided and none was given, or it is not and one was.
    """
    known = {planned.split.scope for planned in plan.splits}
    if scope is not None:
        if known == {None}:
            raise ConfigurationError(f"the source of '{migration.id}' is not divided, so there is no scope '{scope}'")
        return scope
    side = migration.source
    usual = databases.capabilities_of(side.type, embedded=side.embedded).default_scope
    if None in known or usual is not None or len(known) == 1:
        return None if None in known or usual is not None else next(iter(known))
    named = ", ".join(f"'{name}'" for name in sorted(filter(None, known))[:_SHOWN])
    raise ConfigurationError(f"the source of '{migration.id}' is divided; say where the ids are: {named}")


def _keys(ids: Iterable[Id], kinds: tuple[IdKind, ...], scope: str | None) -> Iterator[Key]:
    """The keys of ids.

    Raises:
        ConfigurationError: some are no ids of the source; all were looked at.
    """
    wrong, count = [], 0
    for value in ids:
        try:
            yield Key.parse(value, kinds, scope) if isinstance(value, str) else Key.of(value, kinds, scope)
        except InvalidRecord:
            wrong.append(id_text(value))
        count += 1
    if wrong:
        shown = ", ".join(f"'{text}'" for text in wrong[:_SHOWN])
        known = " or ".join(kind.value for kind in kinds)
        raise ConfigurationError(
            f"{len(wrong):,} of {count:,} are no ids of the source, which are {known}: {shown}; nothing was noted"
        )
    if count == 0:
        raise ConfigurationError("no ids were given")
