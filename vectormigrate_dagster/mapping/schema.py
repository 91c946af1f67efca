"""From a source's schema and profile to a mapping and its loss report. Connects to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.mapping.digested import Digested
from vectormigrate_dagster.mapping.fields import FieldContext, FieldMapping, Limits, MappedFields, map_fields
from vectormigrate_dagster.mapping.id_policy import map_ids
from vectormigrate_dagster.mapping.ids import IdMapping
from vectormigrate_dagster.mapping.indexes import collection_rows, kept_settings, marker_rows, setting_rows
from vectormigrate_dagster.mapping.keys import KeyRules
from vectormigrate_dagster.mapping.loss import Grade, LossReport, LossRow
from vectormigrate_dagster.mapping.profile_models import Profile
from vectormigrate_dagster.mapping.scopes import ScopeMapping, ScopeRule, map_scope
from vectormigrate_dagster.mapping.vectors import MappedVectors, VectorMapping, map_vectors
from vectormigrate_dagster.model import Capabilities, CollectionSchema, FieldType, IdKind, IdSchema, Metric, ScopeKind

_ID_FIELDS = ("id", "pk", "record_id", "vectormigrate_id")
"""What the id's field may be called in a target that has one; the first that no payload key needs."""


class Origin(BaseModel):
    """What a migration writes into a collection that it creates, so that a migration back is its inverse.

    It stands under the key `mapping` of `CollectionSchema.marker`.

    Args:
        id_kinds: kinds of id of the source.
        ids: how ids were made and where originals are kept; None if ids were kept.
        scope_field: payload field with the original scope.
        vectors: vector here -> its name in the source, where they differ.
        keys: payload key here -> key in the source, where the owner renamed it.
        shadowed: names that shadow payload keys here; see `mapping.keys`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    id_kinds: tuple[IdKind, ...] = ()
    ids: dict[str, Any] | None = None
    scope_field: str | None = None
    vectors: dict[str, str] = Field(default_factory=dict)
    keys: dict[str, str] = Field(default_factory=dict)
    shadowed: tuple[str, ...] = ()

    @classmethod
    def of(cls, schema: CollectionSchema) -> Origin:
        """What an earlier migration wrote into a collection; empty if none did."""
        found = (schema.marker or {}).get("mapping")
        return cls.model_validate(found) if found else cls()


class Mapping(Digested):
    """What becomes of every record: all that is needed to map, as data.

    Args:
        source_schema: what the source looked like when the plan was made.
        target_schema: the collection to create, or the one that is there already.
        drop: keys and vectors (`vector.NAME`) that are left behind.
    """

    source_schema: CollectionSchema
    target_schema: CollectionSchema
    ids: IdMapping
    scope: ScopeMapping
    vectors: tuple[VectorMapping, ...]
    fields: tuple[FieldMapping, ...]
    keys: KeyRules
    limits: Limits
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
    asked, options = options, _without_vectors(options, source)
    keys = _key_rules(options, origin, target_capabilities, id_field=id_field, vectors=vectors)
    context = FieldContext(source, source_capabilities, target_capabilities, options, profile, keys, existing)
    removed = frozenset(_removed(ids, scope))
    fields = map_fields(context, removed, frozenset(_added(ids, scope)))
    same = source_capabilities.type == target_capabilities.type
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
            origin=_origin(context, ids, scope, vectors, origin),
        ),
        ids=ids,
        scope=scope,
        vectors=vectors.mappings,
        fields=fields.mappings,
        keys=keys,
        limits=Limits.of(target_capabilities),
        drop=asked.drop,
        dynamic=context.dynamic,
    )
    rows = [*id_rows, *scope_rows, *vectors.rows, *fields.rows, *_added_rows(mapping, context)]
    rows += collection_rows(source, same=same, existed=existing is not None)
    rows += marker_rows(target_capabilities, existed=existing is not None)
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
    if not target.declared_fields:
        return None
    taken = {*profile.fields, *(field.name for field in source.fields), *(vector.target for vector in vectors.mappings)}
    wanted = [name for name in (source.ids.field, *_ID_FIELDS) if name is not None]
    return next((name for name in wanted if name not in taken), wanted[-1])


def _key_rules(
    options: MappingConfig, origin: Origin, target: Capabilities, *, id_field: str | None, vectors: MappedVectors
) -> KeyRules:
    shadowed = set(target.reserved_keys)
    if target.declared_fields:
        # Id, vectors and payload share one space of names.
        shadowed |= {vector.target for vector in vectors.mappings}
        shadowed |= {id_field} if id_field is not None else set()
    return KeyRules(
        drop=options.drop,
        rename={**origin.keys, **options.rename},
        shadowed_before=tuple(sorted(origin.shadowed)),
        shadowed=tuple(sorted(shadowed)),
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
    origin: Origin,
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
        marker={"mapping": origin.model_dump(mode="json")},
    )


def _origin(
    context: FieldContext, ids: IdMapping, scope: ScopeMapping, vectors: MappedVectors, before: Origin
) -> Origin:
    """What to write into the new collection; what an earlier migration kept and did not come back is kept on."""
    scope_field = scope.field if scope.rule is ScopeRule.TO_FIELD else None
    if scope.rule is ScopeRule.NONE:
        scope_field = before.scope_field
    made: dict[str, Any] | None = None if ids.restore is not None else before.ids
    if ids.keeps_original:
        made = {
            "field": ids.field,
            "namespace": str(ids.namespace),
            "tagged": ids.tagged,
            "kinds": [kind.value for kind in context.source.ids.kinds if kind in ids.rules],
            "scope_field": scope_field if ids.scoped else None,
        }
    return Origin(
        id_kinds=context.source.ids.kinds,
        ids=made,
        scope_field=scope_field,
        vectors={m.target: m.source for m in vectors.mappings if m.target != m.source},
        keys={target: key for key in context.options.rename if (target := context.keys.target_of(key)) is not None},
        shadowed=context.keys.shadowed,
    )


def _added_rows(mapping: Mapping, context: FieldContext) -> Iterator[LossRow]:
    """Rows for the payload fields that we add, where the target may have no place for them."""
    declared = {field.name for field in mapping.target_schema.fields if field.declared}
    for name in _added(mapping.ids, mapping.scope):
        if not context.dynamic and name not in declared:
            yield LossRow(
                code=f"added.{name}",
                subject=f"added field '{name}'",
                source="none",
                target="no such column",
                grade=Grade.REFUSED,
                reason="the target keeps declared fields only; add a text column of that name to it",
            )
