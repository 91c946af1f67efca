"""From a source's schema and profile to a mapping and its loss report. Connects to nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.mapping.digested import Digested
from vectormigrate_dagster.mapping.field_models import FieldContext, FieldMapping, MappedFields, json_field
from vectormigrate_dagster.mapping.fields import map_fields
from vectormigrate_dagster.mapping.id_policy import map_ids
from vectormigrate_dagster.mapping.ids import IdMapping
from vectormigrate_dagster.mapping.indexes import collection_rows, kept_settings, setting_rows
from vectormigrate_dagster.mapping.keys import KeyRules
from vectormigrate_dagster.mapping.limits import Limits
from vectormigrate_dagster.mapping.loss import Grade, LossReport, LossRow
from vectormigrate_dagster.mapping.marker import marker_of
from vectormigrate_dagster.mapping.origin import Before, Origin
from vectormigrate_dagster.mapping.profile_models import Profile
from vectormigrate_dagster.mapping.scopes import ScopeMapping, ScopeRule, map_scope
from vectormigrate_dagster.mapping.vectors import MappedVectors, VectorMapping, map_vectors
from vectormigrate_dagster.model import (
    Capabilities,
    CollectionSchema,
    FieldType,
    IdSchema,
    Metric,
    ScopeKind,
)

_ID_FIELDS = ("id", "pk", "record_id", "vectormigrate_id")
"""What the id's field may be called in a target that has one; the first that no payload key needs."""


class Mapping(Digested):
    """What becomes of every record: all that is needed to map, as data.

    Args:
        source_schema: what the source looked like when the plan was made.
        target_schema: the collection to create, or the one that is there already.
        before: how payloads are seen as they were before an earlier migration; fields and keys speak of those.
        json_field: payload field of the target that keeps values without a place of their own.
        drop: keys and vectors (`vector.NAME`) that are left behind.
    """

    source_schema: CollectionSchema
    target_schema: CollectionSchema
    ids: IdMapping
    scope: ScopeMapping
    vectors: tuple[VectorMapping, ...]
    fields: tuple[FieldMapping, ...]
    before: Before = Before()
    keys: KeyRules
    limits: Limits
    json_field: str | None = None
    drop: tuple[str, ...] = ()
    dynamic: bool = True

    def decides(self) -> Any:
        """See `Digested.decides`."""
        # Settings hold counters and states that change while nothing of the mapping does.
        return self.model_dump(mode="json", exclude={"source_schema": {"settings"}, "target_schema": {"settings"}})


def map_schema(
    source: CollectionSchema,
    source_capabilities: Capabilities,
    target_capabilities: Capabilities,
    options: MappingConfig,
    profile: Profile,
    *,
    collection: str,
    existing: CollectionSchema | None = None,
) -> tuple[Mapping, LossReport]:
    """Decide what becomes of everything in the source.

    Args:
        profile: what records hold; the report speaks of them.
        collection: name of the target collection.
        existing: its schema, if it is there already; the source is then mapped onto it.

    Raises:
        ConfigurationError: `options` cannot be meant so.
        SchemaMismatch: the existing collection has other vectors.
    """
    _check_options(options, source, profile)
    origin = Origin.of(source)
    scope, scope_rows = map_scope(
        source,
        source_capabilities,
        target_capabilities,
        options.scope_as,
        profile,
        existing=existing,
        marker=None if origin.scope_field is None else {"field": origin.scope_field},
        unique=origin.unique_ids,
    )
    ids, id_rows = map_ids(
        source.ids,
        target_capabilities,
        options.ids,
        profile,
        scope,
        existing=None if existing is None else existing.ids,
        marker=origin.ids,
        before=origin.id_kinds,
    )
    vectors = map_vectors(
        source,
        source_capabilities,
        target_capabilities,
        options,
        profile,
        existing=existing,
        marker=origin.vectors,
    )
    id_field = _id_field(source, target_capabilities, profile, vectors, existing)
    context = _field_context(
        (source, source_capabilities),
        (existing, target_capabilities),
        options,
        profile,
        ids=ids,
        scope=scope,
        vectors=vectors,
        id_field=id_field,
    )
    fields = map_fields(context)
    context = replace(context, keys=context.keys.model_copy(update={"names": fields.names}))
    marker, marker_rows = marker_of(context, ids, scope, vectors, origin)
    mapping = Mapping(
        source_schema=source,
        target_schema=existing
        or _new_schema(
            context,
            ids,
            scope,
            collection=collection,
            vectors=vectors,
            fields=fields,
            id_field=id_field,
            marker=marker,
        ),
        ids=ids,
        scope=scope,
        vectors=vectors.mappings,
        fields=fields.mappings,
        before=context.before,
        keys=context.keys,
        limits=context.limits,
        json_field=context.json_field,
        drop=options.drop,
        dynamic=context.dynamic,
    )
    rows = [*id_rows, *scope_rows, *vectors.rows, *fields.rows, *_added_rows(mapping, context)]
    rows += collection_rows(source, same=context.same, existed=existing is not None)
    rows += marker_rows
    rows += setting_rows(source, source_capabilities, mapping.target_schema, existed=existing is not None)
    return mapping, LossReport.of(rows, options.allow)


def _check_options(options: MappingConfig, source: CollectionSchema, profile: Profile) -> None:
    """Refuse types that do not exist, and names that mean a vector but do not say so."""
    options_of_vectors = _vector_options(source)
    for name, wanted in options.types.items():
        known = set(Metric) if name in options_of_vectors else set(FieldType)
        if wanted not in known:
            raise ConfigurationError(
                f"mapping.types says '{wanted}' for '{name}'; possible are {', '.join(sorted(known))}"
            )
    fields = {*profile.fields, *(field.name for field in source.fields)}
    vectors = {vector.name for vector in source.vectors} - fields
    for name in (*options.drop, *options.rename, *options.types):
        if name in vectors:
            raise ConfigurationError(f"'{name}' under mapping is a vector of the source; write 'vector.{name}'")


def _vector_options(source: CollectionSchema) -> frozenset[str]:
    """The names that mean a vector of the source under `mapping`, even where a payload key has the same name."""
    return frozenset(f"vector.{vector.name}" for vector in source.vectors)


def _without_vectors(options: MappingConfig, source: CollectionSchema) -> MappingConfig:
    """What the owner asked for payload keys."""
    vectors = _vector_options(source)
    return options.model_copy(
        update={
            "drop": tuple(key for key in options.drop if key not in vectors),
            "rename": {key: name for key, name in options.rename.items() if key not in vectors},
            "types": {key: wanted for key, wanted in options.types.items() if key not in vectors},
        }
    )


def _id_field(
    source: CollectionSchema,
    target: Capabilities,
    profile: Profile,
    vectors: MappedVectors,
    existing: CollectionSchema | None,
) -> str | None:
    """The name of the id's field, where ids are a field among others."""
    if existing is not None:
        return existing.ids.field
    if not (target.declared_fields and target.shared_names):
        return None
    taken = {*profile.fields, *(field.name for field in source.fields), *(vector.target for vector in vectors.mappings)}
    wanted = [name for name in (source.ids.field, *_ID_FIELDS) if name is not None]
    return next((name for name in wanted if name not in taken), wanted[-1])


def _field_context(
    source_side: tuple[CollectionSchema, Capabilities],
    target_side: tuple[CollectionSchema | None, Capabilities],
    options: MappingConfig,
    profile: Profile,
    *,
    ids: IdMapping,
    scope: ScopeMapping,
    vectors: MappedVectors,
    id_field: str | None,
) -> FieldContext:
    """What decisions about payload keys depend on, once ids, scopes and vectors are decided."""
    (source, source_capabilities), (existing, target) = source_side, target_side
    before = Before.of(source, options)
    wishes = before.options(_without_vectors(options, source))
    packs = None
    if options.json_field is not None and not target.holds_any_json:
        same = source_capabilities.type == target.type
        packs = json_field(options.json_field, source, before, existing, same=same)
    used = set(target.reserved_keys)
    if target.shared_names:
        used |= {vector.target for vector in vectors.mappings}
        used |= {id_field} if id_field is not None else set()
    # Without a note that leads back, a key whose name is taken goes into the JSON field; a column gets its own name.
    noted = target.keeps_marker and target.dynamic_fields and existing is None
    shadowed = tuple(sorted(used)) if packs is None or noted else ()
    return FieldContext(
        source=source,
        source_capabilities=source_capabilities,
        target=target,
        options=wishes,
        profile=profile,
        before=before,
        keys=KeyRules(drop=wishes.drop, rename=wishes.rename, shadowed=shadowed),
        limits=Limits.of(target, reserved=() if shadowed else tuple(sorted(used))),
        json_field=packs,
        existing=existing,
        declared_before=Origin.of(source).fields,
        removed=frozenset(_removed(ids, scope)),
        added=frozenset(_added(ids, scope)),
    )


def _removed(ids: IdMapping, scope: ScopeMapping) -> Iterator[str]:
    """Keys that an earlier migration added and that do not reach the target."""
    if ids.restore is not None:
        yield ids.restore.field
    if scope.rule is ScopeRule.FROM_FIELD:
        yield scope.field


def _added(ids: IdMapping, scope: ScopeMapping) -> Iterator[str]:
    """Keys of the target that keep an id or scope."""
    if ids.keeps_original:
        yield ids.field
    if scope.rule is ScopeRule.TO_FIELD:
        yield scope.field


def _new_schema(
    context: FieldContext,
    ids: IdMapping,
    scope: ScopeMapping,
    *,
    collection: str,
    vectors: MappedVectors,
    fields: MappedFields,
    id_field: str | None,
    marker: dict[str, Any] | None,
) -> CollectionSchema:
    """The collection to create."""
    source = context.source
    same = context.source_capabilities.type == context.target.type
    tenants = any(field.tenant for field in fields.schemas)
    undeclared = (
        ids.keeps_original or scope.rule is ScopeRule.TO_FIELD or any(m.column is None for m in fields.mappings)
    )
    closed = same and not source.dynamic and not undeclared
    return CollectionSchema(
        name=collection,
        ids=IdSchema(kinds=ids.target_kinds, field=id_field, max_length=ids.max_bytes),
        vectors=vectors.schemas,
        fields=fields.schemas,
        dynamic=context.target.dynamic_fields and not closed,
        scope=scope.kind if scope.kind is not ScopeKind.NONE or not tenants else ScopeKind.FIELD,
        shards=source.shards if same else None,
        replicas=source.replicas if same else None,
        settings=kept_settings(source, context.source_capabilities, context.target),
        marker=marker,
    )


def _added_rows(mapping: Mapping, context: FieldContext) -> Iterator[LossRow]:
    """Rows for the payload fields that we add, where the target may have no place for them."""
    if context.dynamic:
        return
    declared = {field.name for field in mapping.target_schema.fields if field.declared}
    pattern = context.target.field_name_pattern or ".*"
    for name in (*_added(mapping.ids, mapping.scope), *([mapping.json_field] if mapping.json_field else [])):
        if name in declared and re.fullmatch(pattern, name):
            continue
        reason = "the target keeps declared fields only; add a text column of that name to it"
        if name in declared:
            reason = "the target does not accept this as a column's name; choose another under mapping"
        yield LossRow(
            code=f"added.{name}",
            subject=f"added field '{name}'",
            source="none",
            target="no such column",
            grade=Grade.REFUSED,
            reason=reason,
        )
