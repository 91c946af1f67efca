"""`lookup`: where a record is on both sides, by its original or its mapped id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from vectormigrate_dagster import databases
from vectormigrate_dagster.config import EndpointConfig
from vectormigrate_dagster.databases import Database, Source
from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.errors import NotFound
from vectormigrate_dagster.mapping.ids import RefusedId
from vectormigrate_dagster.mapping.plan import Plan
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.model import Batch, Id, IdColumn, IdKind, id_text
from vectormigrate_dagster.services.context import Context, endpoints
from vectormigrate_dagster.services.models import LookupDocument, RecordPlace


def lookup(context: Context, migration_id: str, record_id: str) -> LookupDocument:
    """Find a record in source and target.

    Args:
        context: the folders to work in.
        migration_id: the migration.
        record_id: the id that the record has in the source, or in the target.

    Raises:
        PlanOutdated: there is no plan that says how ids are mapped.
        DatabaseError: a database could not be reached or refused us.
    """
    migration = context.migration(migration_id)
    source, target = endpoints(migration)
    with context.instance() as instance:
        plan = MigrationLog(instance, migration.id).require_plan()
    mapper = RecordMapper(plan.mapping)
    with databases.open_source(source) as src, databases.open_target(target) as dst:
        original = _find(src, plan.mapping.source_schema.ids.kinds, record_id)
        mapped = None
        if original is not None:
            mapped = _counterpart(dst, mapper.map(original).batches)
        else:
            mapped = _find_if_there(dst, plan.mapping.target_schema.ids.kinds, record_id)
            if mapped is not None:
                original = _original(src, mapper, mapped)
    return LookupDocument(
        migration_id=migration.id,
        record_id=record_id,
        source=_place(migration.source, original),
        target=_place(migration.target, mapped, expected=_expected(mapper, original)),
        partition=_partition(plan, original),
    )


def _find(side: Source | Database, kinds: Iterable[IdKind], text: str) -> Batch | None:
    """The record whose id reads `text`, in whichever scope and kind; the first if there are several."""
    for kind, value in _readings(kinds, text):
        scopes: Sequence[str | None] = side.scopes() or [None]
        for scope in scopes:
            found = side.fetch(IdColumn.of(kind, [value]), scope).batch
            if len(found):
                return found
    return None


def _find_if_there(target: Database, kinds: Iterable[IdKind], text: str) -> Batch | None:
    """As `_find`, in a target that may not have been created yet."""
    try:
        return _find(target, kinds, text)
    except NotFound:
        return None


def _readings(kinds: Iterable[IdKind], text: str) -> Iterator[tuple[IdKind, Id]]:
    for kind in kinds:
        try:
            yield kind, kind.decode(text)
        except ValueError:
            continue  # not an id of this kind


def _counterpart(target: Database, promised: Iterable[Batch]) -> Batch | None:
    try:
        for batch in promised:
            found = target.fetch(batch.ids, batch.scope).batch
            if len(found):
                return found
    except NotFound:
        return None
    return None


def _original(source: Source, mapper: RecordMapper, mapped: Batch) -> Batch | None:
    try:
        ((kind, value),) = mapper.original_ids(mapped)
    except RefusedId:
        return None  # somebody else's record
    return _find(source, [kind], id_text(value))


def _expected(mapper: RecordMapper, original: Batch | None) -> str | None:
    """The id that the target has, or will have, for a record."""
    if original is None:
        return None
    batches = mapper.map(original).batches
    return id_text(batches[0].ids[0]) if batches else None


def _place(config: EndpointConfig, found: Batch | None, *, expected: str | None = None) -> RecordPlace:
    if found is None:
        return RecordPlace(type=config.type, collection=config.collection, id=expected, found=False)
    return RecordPlace(
        type=config.type,
        collection=config.collection,
        id=id_text(found.ids[0]),
        found=True,
        scope=found.scope,
        payload=found.payloads[0],
    )


def _partition(plan: Plan, original: Batch | None) -> str | None:
    if original is None:
        return None
    for planned in plan.splits:
        split = planned.split
        if split.scope == original.scope and split.kind is original.ids.kind and split.contains(original.ids[0]):
            return planned.key
    return None
