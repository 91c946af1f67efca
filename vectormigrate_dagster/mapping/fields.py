"""What becomes of payload keys and declared fields: one decision for each key that is known or was seen."""

from __future__ import annotations

from dataclasses import replace

from vectormigrate_dagster.mapping.field_decision import FieldDecision
from vectormigrate_dagster.mapping.field_indexes import unindexed
from vectormigrate_dagster.mapping.field_models import FieldContext, FieldMapping, MappedFields
from vectormigrate_dagster.mapping.field_rows import payload_rows, row, rows_of, uncovered_row
from vectormigrate_dagster.mapping.keys import column_names
from vectormigrate_dagster.mapping.loss import Grade, LossRow
from vectormigrate_dagster.model import FieldSchema, FieldType


def map_fields(context: FieldContext) -> MappedFields:
    """Decide for each key that the source declares, indexes or was seen to hold."""
    known, profiled = context.known, context.profile.fields
    wanted = [key for key in dict.fromkeys([*known, *profiled]) if key not in context.removed]
    context = _with_names(context, wanted)
    mappings: list[FieldMapping] = []
    schemas: list[FieldSchema] = []
    rows: list[LossRow] = []
    origin: dict[str, str] = {}
    for key in wanted:
        target = context.keys.target_of(key)
        if target is None:
            rows.append(row("", key, ("any", "dropped"), Grade.EXACT, "as asked for"))
            continue
        decision = FieldDecision(context, key, target, known.get(key), profiled.get(key))
        mappings.append(decision.mapping())
        rows += rows_of(decision)
        schemas += decision.schemas()
        if context.json_field is not None and not context.dynamic and mappings[-1].column is None:
            continue  # it keeps its own key, in the JSON field
        if target in origin:
            reason = f"'{origin[target]}' and '{key}' would both be '{target}'; change mapping.rename"
            rows.append(row("rename", key, (key, target), Grade.REFUSED, reason))
        origin[target] = key
    for column in _uncovered(context, {*origin, *context.added, context.json_field}):
        mappings.append(
            FieldMapping(source=column.name, target=column.name, column=column, absent_as_null=column.nullable)
        )
        rows.append(uncovered_row(column))
    rows += payload_rows(context)
    return MappedFields(tuple(mappings), (*schemas, *_own_columns(context)), tuple(rows), context.keys.names)


def _with_names(context: FieldContext, wanted: list[str]) -> FieldContext:
    """The context with names for the columns of keys that no column can be called after.

    Only where every key needs a column, where the collection is ours to make, and where a note in it leads back.
    """
    target = context.target
    if context.dynamic or context.existing is not None or context.json_field is None or not target.keeps_marker:
        return context
    free = [key for key in wanted if key not in context.options.rename and key not in context.options.drop]
    columns = [key for key in free if _becomes_column(context, key)]
    taken = {*target.reserved_keys, *context.added, context.json_field, *context.options.rename.values()}
    names = column_names(columns, target.field_name_pattern or ".*", taken)
    return replace(context, keys=context.keys.model_copy(update={"names": names}))


def _becomes_column(context: FieldContext, key: str) -> bool:
    # A stand-in name that any column may have: only values decide here.
    decision = FieldDecision(context, key, "a", context.known.get(key), context.profile.fields.get(key))
    return decision.column is not None


def _own_columns(context: FieldContext) -> list[FieldSchema]:
    """Columns for what we add ourselves, in a collection to create that keeps declared fields only."""
    if context.existing is not None or context.dynamic or not context.target.declared_fields:
        return []
    columns = [FieldSchema(name=name, type=FieldType.TEXT, declared=True) for name in sorted(context.added)]
    if context.json_field is not None:
        # Nobody searches for the text of a whole object.
        columns.append(
            FieldSchema(name=context.json_field, type=FieldType.TEXT, declared=True, index=unindexed(context.target))
        )
    return columns


def _uncovered(context: FieldContext, covered: set[str | None]) -> list[FieldSchema]:
    """Columns of a target that is there already for which the source has nothing."""
    there = context.existing.fields if context.existing is not None else ()
    return [field for field in there if field.declared and field.name not in covered]
