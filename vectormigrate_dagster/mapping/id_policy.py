"""Choose, in the plan, what becomes of every kind of id that the source may hold."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from vectormigrate_dagster.config import IdsConfig
from vectormigrate_dagster.errors import ConfigurationError
from vectormigrate_dagster.mapping.ids import KEEP_APART, QDRANT_MIGRATION, IdMapping, IdRule, Kept, namespace_of
from vectormigrate_dagster.mapping.loss import Grade, LossRow
from vectormigrate_dagster.mapping.profile_models import Profile
from vectormigrate_dagster.mapping.scopes import ScopeMapping, ScopeRule
from vectormigrate_dagster.model import Capabilities, IdKind, IdSchema

_MAX_I64 = 2**63 - 1
_CANONICAL_BYTES = 36
"""The longest canonical text of a number or UUID."""


def map_ids(
    source: IdSchema,
    target: Capabilities,
    options: IdsConfig,
    profile: Profile,
    scope: ScopeMapping,
    *,
    existing: IdSchema | None = None,
    marker: Mapping[str, Any] | None = None,
    before: tuple[IdKind, ...] = (),
) -> tuple[IdMapping, list[LossRow]]:
    """Choose a rule for every kind of id that the source may hold.

    `native` keeps ids where the target can; `uuid5` makes all of them; `auto` is native where the profile
    says that every id survives and can be turned back, else uuid5.

    Args:
        existing: ids of the target collection, if there is one already.
        marker: what an earlier migration wrote into the source about its ids.
        before: kinds of id that the collection had before that migration; they come back if they can.

    Raises:
        ConfigurationError: `mapping.ids.namespace` is not a UUID.
    """
    namespace, keeps_uuids = _namespace(options.namespace)
    kept = _kept(marker, options.field, namespace, profile, keeps_uuids=keeps_uuids)
    choice = _Choice(source, target, profile, existing, before)
    originals = choice.kinds_of(kept.kinds) if kept is not None and options.policy != "uuid5" else None
    restores = originals is not None and _scope_comes_back(kept, scope, target)
    kinds = originals if restores and originals is not None else choice.native_kinds()
    rules = choice.native_rules(kinds)
    native = options.policy == "native" or restores
    if not native and (options.policy == "uuid5" or scope.folds_ids or choice.problems(kinds, rules)):
        kinds = choice.kinds_of((IdKind.UUID,)) or choice.kinds_of((IdKind.TEXT,)) or kinds
        rules = dict.fromkeys(source.kinds, IdRule.UUID5)
    mapping = IdMapping(
        rules=rules,
        target_kinds=kinds,
        field=options.field,
        namespace=namespace,
        tagged=IdKind.TEXT in source.kinds and len(source.kinds) > 1 and not keeps_uuids,
        scoped=scope.folds_ids,
        restore=kept if restores else None,
        keeps_uuids=keeps_uuids and not scope.folds_ids,
        max_bytes=choice.max_bytes(kinds, rules, restores=restores),
        pattern=target.id_pattern if IdKind.TEXT in kinds else None,
    )
    return mapping, _rows(mapping, choice, options, profile, scope)


@dataclass(frozen=True)
class _Choice:
    """What is possible between this source and this target."""

    source: IdSchema
    target: Capabilities
    profile: Profile
    existing: IdSchema | None
    before: tuple[IdKind, ...]

    @property
    def seen(self) -> tuple[IdKind, ...]:
        """Kinds that the profile met; all that are possible if it met none."""
        return tuple(kind for kind in self.source.kinds if self.profile.ids.kinds.get(kind)) or self.source.kinds

    def native_kinds(self) -> tuple[IdKind, ...]:
        """The kinds that the target collection is to hold if ids are kept."""
        if self.existing is not None:
            return self.existing.kinds
        available = self.target.id_kinds
        if self.target.mixed_id_kinds:
            return available
        earlier = self.kinds_of(self.before)
        if earlier is not None and not self.problems(earlier, self.native_rules(earlier)):
            return earlier
        wanted = set(self.seen)
        if len(wanted) == 1:
            kind = next(iter(wanted))
            if kind in available:
                return (kind,)
            highest = self.profile.ids.max_int
            if kind is IdKind.U64 and IdKind.I64 in available and highest is not None and highest <= _MAX_I64:
                return (IdKind.I64,)
        return (IdKind.TEXT,) if IdKind.TEXT in available else available[:1]

    def kinds_of(self, wanted: tuple[IdKind, ...]) -> tuple[IdKind, ...] | None:
        """The kinds of a target collection that holds all of `wanted` as they are; None if it cannot."""
        available = self.existing.kinds if self.existing is not None else self.target.id_kinds
        if not wanted or not set(wanted) <= set(available):
            return None
        if self.existing is not None or self.target.mixed_id_kinds:
            return available
        return wanted if len(wanted) == 1 else None

    def native_rules(self, kinds: tuple[IdKind, ...]) -> dict[IdKind, IdRule]:
        """A rule for each source kind that has a place among `kinds`."""
        rules = {kind: _native_rule(kind, kinds) for kind in self.source.kinds}
        return {kind: rule for kind, rule in rules.items() if rule is not None}

    def problems(self, kinds: tuple[IdKind, ...], rules: Mapping[IdKind, IdRule]) -> list[tuple[str, str]]:
        """Why ids of this data do not all survive `rules`: (code, reason)."""
        ids, of = self.profile.ids, self.profile.of
        found: list[tuple[str, str]] = []
        for kind in self.seen:
            if kind not in rules:
                found.append(("ids.kind", f"{of(ids.kinds.get(kind, 0))} have {kind.value} ids, which have no place"))
        if IdRule.SIGNED in rules.values() and (ids.max_int or 0) > _MAX_I64:
            found.append(("ids.range", f"the greatest sampled id is {ids.max_int}, the target holds {_MAX_I64}"))
        if IdRule.UNSIGNED in rules.values() and (ids.min_int or 0) < 0:
            found.append(("ids.negative", f"the smallest sampled id is {ids.min_int}, the target holds none below 0"))
        if IdRule.PARSE in rules.values():
            parsed = self._parsed(kinds)
            if parsed < ids.text or not ids.text:
                names = " or ".join(kind.value for kind in kinds)
                reason = f"{of(ids.text - parsed)} have an id that is not the canonical text of a {names} id"
                found.append(("ids.not_canonical", reason))
        limit = self.max_bytes(kinds, rules)
        if rules.get(IdKind.TEXT) is IdRule.COPY and limit is not None and ids.max_bytes > limit:
            found.append(("ids.length", f"the longest sampled id has {ids.max_bytes} bytes, the target holds {limit}"))
        for reason, count in self._odd(rules).items():
            found.append(("ids.spelling", f"{of(count)} have an id that {reason}, which the target cannot spell"))
        if ids.collisions and {IdRule.COPY, IdRule.TEXT} <= set(rules.values()):
            found.append(("ids.collision", f"{of(ids.collisions)} have the same text as an id of another kind"))
        return found

    def _odd(self, rules: Mapping[IdKind, IdRule]) -> dict[str, int]:
        """Profiled text ids that would be copied and that the target's pattern leaves out: why -> records."""
        pattern = self.target.id_pattern
        if rules.get(IdKind.TEXT) is not IdRule.COPY or pattern is None:
            return {}
        return {
            _ODD[example]: count
            for example, count in self.profile.ids.odd.items()
            if re.fullmatch(pattern, example, re.DOTALL) is None
        }

    def _parsed(self, kinds: tuple[IdKind, ...]) -> int:
        ids = self.profile.ids
        numbers = ids.unsigned if IdKind.U64 in kinds else ids.signed if IdKind.I64 in kinds else 0
        return numbers + (ids.uuids if IdKind.UUID in kinds else 0)

    def refused_beside(self, kept: Kept, rules: Mapping[IdKind, IdRule], kinds: tuple[IdKind, ...]) -> int:
        """Profiled records without an original id that cannot move beside restored ones.

        They move only if the rules make an id of a kind that no original has (see `id_columns.restore_column`).
        """
        ids, field = self.profile.ids, self.profile.fields.get(kept.field)
        marked = sum(field.marked_ids.values()) if field is not None else 0
        earlier = IdKind.UUID if IdKind.UUID in self.source.kinds else IdKind.TEXT
        free = tuple(kind for kind in kinds if kind not in kept.kinds)
        moving = 0
        for kind, rule in rules.items():
            parses = rule is IdRule.PARSE
            found = self._parsed(free) if parses else ids.kinds.get(kind, 0) if _MADE.get(rule, kind) in free else 0
            restored = marked if kind is earlier and (not parses or IdKind.UUID in free) else 0
            moving += max(0, found - restored)
        return max(0, self.profile.records - marked - moving)

    def max_bytes(
        self, kinds: tuple[IdKind, ...], rules: Mapping[IdKind, IdRule], *, restores: bool = False
    ) -> int | None:
        """Longest text id of the target; None where it holds no texts or does not limit them."""
        if IdKind.TEXT not in kinds:
            return None
        if self.existing is not None:
            return self.existing.max_length or self.target.id_max_bytes
        if restores or rules.get(IdKind.TEXT) is IdRule.COPY:
            known = [self.target.id_max_bytes, None if restores else self.source.max_length]
            return min((limit for limit in known if limit), default=None)
        return _CANONICAL_BYTES


_ODD = {
    "": "is empty",
    " ": "holds a space or control character",
    "\0": "holds a NUL character",
    "é": "holds a character outside ASCII",
}
"""Why an id is unusual, by the examples of `IdProfile.odd`."""

_MADE = {IdRule.TEXT: IdKind.TEXT, IdRule.SIGNED: IdKind.I64, IdRule.UNSIGNED: IdKind.U64}
"""The kind of id that a rule makes, where that is not the kind it was."""


def _native_rule(kind: IdKind, kinds: tuple[IdKind, ...]) -> IdRule | None:
    if kind in kinds:
        return IdRule.COPY
    if IdKind.TEXT in kinds:
        return IdRule.TEXT
    if kind is IdKind.U64 and IdKind.I64 in kinds:
        return IdRule.SIGNED
    if kind is IdKind.I64 and IdKind.U64 in kinds:
        return IdRule.UNSIGNED
    return IdRule.PARSE if kind is IdKind.TEXT else None


def _namespace(text: str | None) -> tuple[uuid.UUID, bool]:
    """See `ids.namespace_of`."""
    try:
        return namespace_of(text)
    except ValueError:
        raise ConfigurationError(
            f"mapping.ids.namespace '{text}' is not a UUID; write one, or '{QDRANT_MIGRATION}', or remove the key"
        ) from None


def _kept(
    marker: Mapping[str, Any] | None, field: str, namespace: uuid.UUID, profile: Profile, *, keeps_uuids: bool
) -> Kept | None:
    """Where an earlier migration kept original ids: told by its marker, else by what the records hold."""
    if marker:
        try:
            return Kept.model_validate(dict(marker))
        except ValidationError as error:
            raise ConfigurationError(f"the source's marker of an earlier migration cannot be read: {error}") from error
    found = profile.fields.get(field)
    if found is None or not profile.records or sum(found.marked_ids.values()) < profile.records:
        return None
    kinds = tuple(sorted(IdKind(kind) for kind in found.marked_ids))
    return Kept(field=field, namespace=namespace, kinds=kinds, keeps_uuids=keeps_uuids)


def _scope_comes_back(kept: Kept | None, scope: ScopeMapping, target: Capabilities) -> bool:
    """Ids that were unique only within a scope may come back only if the scopes do, and keep them apart."""
    if kept is None or (kept.scope_field is None and not kept.scoped):
        return kept is not None
    rule = ScopeRule.NATIVE if kept.scoped else ScopeRule.FROM_FIELD
    return scope.rule is rule and target.ids_are_unique_per_scope


_GRADES = {
    IdRule.COPY: (Grade.EXACT, "kept as it is"),
    IdRule.SIGNED: (Grade.EXACT, "the same number"),
    IdRule.UNSIGNED: (Grade.EXACT, "the same number"),
    IdRule.TEXT: (Grade.WIDENED, "its canonical text, which can be turned back"),
    IdRule.PARSE: (Grade.WIDENED, "what the canonical text stands for, which can be turned back"),
}


def _rows(
    mapping: IdMapping, choice: _Choice, options: IdsConfig, profile: Profile, scope: ScopeMapping
) -> list[LossRow]:
    targets = " or ".join(kind.value for kind in mapping.target_kinds)
    rows: list[LossRow] = []
    if mapping.restore is not None:
        rows += _restore_rows(mapping, mapping.restore, choice, targets)
    for kind in choice.seen:
        rule = mapping.rules.get(kind)
        if rule is IdRule.UUID5:
            reason = f"UUIDv5 in namespace {mapping.namespace}, the original is kept in payload field '{mapping.field}'"
            reason += "; the name holds the scope" if mapping.scoped else ""
            rows.append(_row(f"ids.{kind.value}", kind.value, targets, Grade.WIDENED, reason))
        elif rule is not None and mapping.restore is None:
            rows.append(_row(f"ids.{kind.value}", kind.value, targets, *_GRADES[rule]))
    if mapping.keeps_original and mapping.field in profile.fields:
        reason = f"the payload has a key '{mapping.field}' already; set mapping.ids.field to another name"
        rows.append(_row("ids.field_taken", "id", f"payload field '{mapping.field}'", Grade.REFUSED, reason))
    if choice.existing is not None and choice.existing.auto:
        reason = "the target collection makes its own ids; name one that does not"
        rows.append(_row("ids.auto", "id", "made by the target", Grade.REFUSED, reason))
    if scope.folds_ids and not mapping.keeps_original:
        reason = "equal ids of two scopes would overwrite each other; set mapping.ids.policy to auto or uuid5"
        rows.append(_row("ids.scope", "id", targets, Grade.REFUSED, reason))
    if profile.records and not mapping.keeps_original and mapping.restore is None:
        advice = "; such records are refused one by one; mapping.ids.policy: uuid5 moves them"
        rows += [
            _row(code, options.policy, targets, Grade.LOSSY, reason + advice)
            for code, reason in choice.problems(mapping.target_kinds, mapping.rules)
        ]
    return rows


def _restore_rows(mapping: IdMapping, kept: Kept, choice: _Choice, targets: str) -> list[LossRow]:
    originals = " or ".join(kind.value for kind in kept.kinds)
    refused = f"records without an original id are refused one by one if they would get a {originals} id"
    reason = f"the original ids come back from '{kept.field}', which is then removed; {refused}"
    rows = [_row("ids", "made by an earlier migration", targets, Grade.EXACT, reason)]
    count = choice.refused_beside(kept, mapping.rules, mapping.target_kinds)
    if count:
        reason = (
            f"{choice.profile.of(count)} have no original id in '{kept.field}' and would get an id that a restored "
            f"record may have; they are refused one by one; {KEEP_APART}"
        )
        rows.append(_row("ids.added_since", "written after the earlier migration", "none", Grade.LOSSY, reason))
    return rows


def _row(code: str, source: str, target: str, grade: Grade, reason: str) -> LossRow:
    return LossRow(code=code, subject="id", source=source, target=target, grade=grade, reason=reason)
