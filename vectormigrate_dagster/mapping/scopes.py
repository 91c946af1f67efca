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
    unique: bool = False,
) -> tuple[ScopeMapping, list[LossRow]]:
    """Choose what becomes of scopes; rows only where the source is divided.

    Args:
        marker: where an earlier migration kept scopes.
        unique: ids were unique over all scopes before an earlier migration.

    Raises:
        ConfigurationError: `scope_as: collection` and the migration covers several scopes.
    """
    own = _native_kind(source.scope, target) if existing is None or _needs_no_declaration(target) else existing.scope
    own = ScopeKind.NONE if own is ScopeKind.FIELD else own
    default = source_capabilities.default_scope
    by_default = default is not None and set(profile.scopes) <= {default} and scope_as == "auto"
    if source.scope in (ScopeKind.NONE, ScopeKind.FIELD) or by_default:
        kept = (marker or {}).get("field") if scope_as in ("auto", "native") and own is not ScopeKind.NONE else None
        return _undivided(source, default, own, kept)
    if scope_as == "collection":
        return _single(source, profile)
    proven = unique and profile.complete and profile.ids.in_scopes == 0
    folding = source_capabilities.ids_are_unique_per_scope and not proven
    bad = sorted(name for name in profile.scopes if not may_be_named(name, target))
    if scope_as == "native" or (scope_as == "auto" and own is not ScopeKind.NONE and not bad):
        return _native(source, target, own, bad, folding=folding)
    mapping = ScopeMapping(rule=ScopeRule.TO_FIELD, folds_ids=folding)
    if SCOPE_FIELD in profile.fields:
        reason = f"the payload has a key '{SCOPE_FIELD}' already; rename it under mapping.rename"
        return mapping, [_row(source.scope.value, f"payload field '{SCOPE_FIELD}'", Grade.REFUSED, reason)]
    reason = f"the target collection has no {source.scope.value}s; filter on '{SCOPE_FIELD}' instead"
    return mapping, [_row(source.scope.value, f"payload field '{SCOPE_FIELD}'", Grade.WIDENED, reason)]


def _undivided(
    source: CollectionSchema, default: str | None, own: ScopeKind, kept: str | None
) -> tuple[ScopeMapping, list[LossRow]]:
    """What becomes of a collection that nobody has divided.

    Args:
        default: the scope that all records are in, where every record is in one.
        kept: payload field with the scopes of an earlier migration, if they can come back.
    """
    if kept is not None:
        mapping = ScopeMapping(rule=ScopeRule.FROM_FIELD, kind=own, field=kept)
        return mapping, [_row(f"payload field '{kept}'", own.value, Grade.EXACT, "scopes come back as they were")]
    if source.scope in (ScopeKind.NONE, ScopeKind.FIELD):
        # A field that divides a collection is a field: its rows say what becomes of it.
        return ScopeMapping(), []
    # A scope that appears later stops the work (see `records.RecordMapper`).
    reason = f"all records are in the default {source.scope.value}; the target is not divided either"
    row = _row(f"{source.scope.value} '{default}'", "the whole collection", Grade.EXACT, reason)
    return ScopeMapping(rule=ScopeRule.SINGLE, only=default), [row]


def _native_kind(wanted: ScopeKind, target: Capabilities) -> ScopeKind:
    """The target's own way to divide a collection; the source's if it has that too."""
    kinds = [kind for kind in target.scope_kinds if kind not in (ScopeKind.NONE, ScopeKind.FIELD)]
    if wanted in kinds:
        return wanted
    return kinds[0] if kinds else ScopeKind.NONE


def _needs_no_declaration(target: Capabilities) -> bool:
    """Whether any collection there can be divided at any time."""
    return ScopeKind.NAMESPACE in target.scope_kinds


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
    source: CollectionSchema, target: Capabilities, kind: ScopeKind, bad: list[str], *, folding: bool
) -> tuple[ScopeMapping, list[LossRow]]:
    if kind is ScopeKind.NONE:
        reason = "the target collection is not divided; set mapping.scope_as to field or collection"
        return ScopeMapping(), [_row(source.scope.value, "nothing", Grade.REFUSED, reason)]
    folds = folding and not target.ids_are_unique_per_scope
    mapping = ScopeMapping(rule=ScopeRule.NATIVE, kind=kind, folds_ids=folds)
    if bad:
        names = ", ".join(f"'{name}'" for name in bad[:5])
        reason = f"the target does not accept {names} as names of {kind.value}s; set mapping.scope_as to field"
        return mapping, [_row(source.scope.value, kind.value, Grade.REFUSED, reason)]
    grade = Grade.EXACT if kind is source.scope else Grade.WIDENED
    return mapping, [_row(source.scope.value, kind.value, grade, "one for each, under the same name")]


def may_be_named(name: str, target: Capabilities) -> bool:
    """Whether a database accepts a name for a scope."""
    return target.scope_name_pattern is None or re.fullmatch(target.scope_name_pattern, name) is not None


def _row(source: str, target: str, grade: Grade, reason: str) -> LossRow:
    return LossRow(code="scope", subject="scope", source=source, target=target, grade=grade, reason=reason)
