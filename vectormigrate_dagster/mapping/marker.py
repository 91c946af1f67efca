"""Write into a new collection what a migration back needs."""

from __future__ import annotations

import json
from typing import Any

from vectormigrate_dagster.mapping.field_models import FieldContext
from vectormigrate_dagster.mapping.ids import IdMapping
from vectormigrate_dagster.mapping.loss import Grade, LossRow
from vectormigrate_dagster.mapping.origin import Origin
from vectormigrate_dagster.mapping.scopes import ScopeMapping, ScopeRule
from vectormigrate_dagster.mapping.vectors import MappedVectors
from vectormigrate_dagster.model import FieldSchema, FieldType


def marker_of(
    context: FieldContext, ids: IdMapping, scope: ScopeMapping, vectors: MappedVectors, before: Origin
) -> tuple[dict[str, Any], list[LossRow]]:
    """The marker of a collection to create, and what the loss report says where it is not kept, or not all of it."""
    if context.existing is None and not context.target.keeps_marker:
        why = "this server keeps no notes in a collection; a migration back has to be told what was renamed"
        return _written(_origin(context, ids, scope, vectors, before)), [_row("marker", "none", why)]
    origin = _origin(context, ids, scope, vectors, before)
    marker = _written(origin)
    room = context.target.max_marker_bytes
    if context.existing is not None or room is None or len(json.dumps(marker)) <= room:
        return marker, []
    why = "there is no room to note the types of declared fields; a migration back infers them from values"
    rows = [_row("marker.fields", "without types of fields", why)] if origin.fields else []
    without = _written(origin.model_copy(update={"fields": ()}))
    if len(json.dumps(without)) <= room:
        return without, rows
    why = f"they take more than {room:,} bytes; if they do not fit, a migration back has to be told what was renamed"
    return without, [_row("marker", "none, if they do not fit", why)]


def _written(origin: Origin) -> dict[str, Any]:
    # Without what is not set: a database may have little room for it.
    return {"mapping": {"version": origin.version, **origin.model_dump(mode="json", exclude_defaults=True)}}


def _origin(
    context: FieldContext, ids: IdMapping, scope: ScopeMapping, vectors: MappedVectors, before: Origin
) -> Origin:
    """What is to be noted; what an earlier migration kept and did not come back is kept on."""
    scope_field = scope.field if scope.rule is ScopeRule.TO_FIELD else None
    if scope.rule is ScopeRule.NONE:
        scope_field = before.scope_field
    made: dict[str, Any] | None = None if ids.restore is not None else before.ids
    if ids.keeps_original:
        made = {
            "field": ids.field,
            "namespace": str(ids.namespace),
            "tagged": ids.tagged,
            "keeps_uuids": ids.keeps_uuids,
            "kinds": [kind.value for kind in context.source.ids.kinds if kind in ids.rules],
            "scope_field": scope_field if ids.scoped else None,
            "scoped": ids.scoped and scope_field is None,
        }
    return Origin(
        id_kinds=context.source.ids.kinds,
        ids=made,
        unique_ids=not context.source_capabilities.ids_are_unique_per_scope or before.unique_ids,
        scope_field=scope_field,
        vectors={m.target: m.before for m in vectors.mappings if m.target != m.before},
        keys={
            target: key
            for key in (*context.options.rename, *context.keys.names)
            if (target := context.keys.target_of(key)) is not None
        },
        shadowed=context.keys.shadowed,
        json_field=context.json_field,
        fields=before.fields if context.source.dynamic else _declared(context),
    )


def _declared(context: FieldContext) -> tuple[FieldSchema, ...]:
    """Fields of a source that keeps no others, without their indexes, and without what needs other collections."""
    declared = {
        key: field
        for key, field in sorted(context.known.items())
        if field.type is not FieldType.REFERENCE and key not in context.removed
    }
    return tuple(field.model_copy(update={"name": key, "index": None}) for key, field in declared.items())


def _row(code: str, target: str, why: str) -> LossRow:
    return LossRow(
        code=code, subject="notes of this migration", source="made", target=target, grade=Grade.WIDENED, reason=why
    )
