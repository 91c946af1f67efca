"""What becomes of namespaces, tenants, partitions and shard keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.mapping.loss import Grade, LossRow
from vectormigrate_dagster.mapping.profile_models import Profile
from vectormigrate_dagster.model import Capabilities, CollectionSchema, ScopeKind

SCOPE_FIELD = "_source_scope"
"""Payload field that keeps a record's scope where the target has no scopes of its own."""


class ScopeRule(StrEnum):
    """What happens to scopes.

    - none: the source is not divided.
    - native: the target is divided in the same way, scope by scope.
    - to_field: the target is not divided; each record keeps its scope in a payload field.
    - from_field: an earlier migration kept scopes in a payload field; they become scopes again.
    - single: one scope of the source becomes the whole target.
    """

    NONE = "none"
    NATIVE = "native"
    TO_FIELD = "to_field"
    FROM_FIELD = "from_field"
    SINGLE = "single"


class ScopeMapping(BaseModel):
    """What becomes of scopes.

    Args:
        kind: how the target is divided.
        field: the payload field, for `to_field` and `from_field`.
        only: the one scope, for `single`.
        folds_ids: equal ids of two scopes would meet in the target, so ids have to hold the scope.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: ScopeRule = ScopeRule.NONE
    kind: ScopeKind = ScopeKind.NONE
    field: str = SCOPE_FIELD
    only: str | None = None
    folds_ids: bool = False


def map_scope(
    source: CollectionSchema,
    source_capabilities: Capabilities,
    target: Capabilities,
    scope_as: Literal["auto", "native", "field", "collection"],
    profile: Profile,
    *,
    existing: CollectionSchema | None = None,
    marker: Mapping[str, Any] | None = None,
) -> tuple[ScopeMapping, list[LossRow]]:
    """Choose what becomes of scopes; rows only where the source is divided.

    Raises:
        ConfigurationError: `scope_as: collection` and the migration covers several scopes.
    """
    own = existing.scope if existing is not None else _native_kind(source.scope, target)
    own = ScopeKind.NONE if own is ScopeKind.FIELD else own
    if source.scope in (ScopeKind.NONE, ScopeKind.FIELD):
        # A field that divides a collection is a field: its rows say what becomes of it.
        kept = (marker or {}).get("field")
        if kept is None or own is ScopeKind.NONE or scope_as not in ("auto", "native"):
            return ScopeMapping(), []
        mapping = ScopeMapping(rule=ScopeRule.FROM_FIELD, kind=own, field=str(kept))
        return mapping, [_row(f"payload field '{kept}'", own.value, Grade.EXACT, "scopes come back as they were")]
    if scope_as == "collection":
        return _single(source, profile)
    bad = sorted(name for name in profile.scopes if not _may_be_named(name, target))
    if scope_as == "native" or (scope_as == "auto" and own is not ScopeKind.NONE and not bad):
        return _native(source, source_capabilities, target, own, bad)
    mapping = ScopeMapping(rule=ScopeRule.TO_FIELD, folds_ids=source_capabilities.ids_are_unique_per_scope)
    if SCOPE_FIELD in profile.fields:
        reason = f"the payload has a key '{SCOPE_FIELD}' already; rename it under mapping.rename"
        return mapping, [_row(source.scope.value, f"payload field '{SCOPE_FIELD}'", Grade.REFUSED, reason)]
    reason = f"the target collection has no {source.scope.value}s; filter on '{SCOPE_FIELD}' instead"
    return mapping, [_row(source.scope.value, f"payload field '{SCOPE_FIELD}'", Grade.WIDENED, reason)]


def _native_kind(wanted: ScopeKind, target: Capabilities) -> ScopeKind:
    """The target's own way to divide a collection; the source's if it has that too."""
    kinds = [kind for kind in target.scope_kinds if kind not in (ScopeKind.NONE, ScopeKind.FIELD)]
    if wanted in kinds:
        return wanted
    return kinds[0] if kinds else ScopeKind.NONE


def _single(source: CollectionSchema, profile: Profile) -> tuple[ScopeMapping, list[LossRow]]:
    if len(profile.scopes) > 1:
        names = ", ".join(f"'{name}'" for name in sorted(profile.scopes)[:5])
        raise ConfigurationError(
            f"mapping.scope_as is 'collection', and the migration covers {len(profile.scopes)} "
            f"{source.scope.value}s ({names}); write one migration for each, with source.scopes: [NAME]"
        )
    only = next(iter(profile.scopes), None)
    mapping = ScopeMapping(rule=ScopeRule.SINGLE, only=only)
    return mapping, [_row(f"{source.scope.value} '{only}'", "the whole collection", Grade.WIDENED, "as asked for")]


def _native(
    source: CollectionSchema, source_capabilities: Capabilities, target: Capabilities, kind: ScopeKind, bad: list[str]
) -> tuple[ScopeMapping, list[LossRow]]:
    if kind is ScopeKind.NONE:
        reason = "the target collection is not divided; set mapping.scope_as to field or collection"
        return ScopeMapping(), [_row(source.scope.value, "nothing", Grade.REFUSED, reason)]
    folds = source_capabilities.ids_are_unique_per_scope and not target.ids_are_unique_per_scope
    mapping = ScopeMapping(rule=ScopeRule.NATIVE, kind=kind, folds_ids=folds)
    if bad:
        names = ", ".join(f"'{name}'" for name in bad[:5])
        reason = f"the target does not accept {names} as names of {kind.value}s; set mapping.scope_as to field"
        return mapping, [_row(source.scope.value, kind.value, Grade.REFUSED, reason)]
    grade = Grade.EXACT if kind is source.scope else Grade.WIDENED
    return mapping, [_row(source.scope.value, kind.value, grade, "one for each, under the same name")]


def _may_be_named(name: str, target: Capabilities) -> bool:
    # Where columns have a name pattern (Milvus), partitions have the same.
    return target.field_name_pattern is None or re.fullmatch(target.field_name_pattern, name) is not None


def _row(source: str, target: str, grade: Grade, reason: str) -> LossRow:
    return LossRow(code="scope", subject="scope", source=source, target=target, grade=grade, reason=reason)
