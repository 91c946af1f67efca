"""Map batches of records by a plan: the hot path between reading and writing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vectormigrate_dagster.databases import Refusal
from vectormigrate_dagster.errors import PlanOutdated
from vectormigrate_dagster.mapping.id_columns import MappedIds, Rows, map_column, restore_column
from vectormigrate_dagster.mapping.id_ranges import target_split
from vectormigrate_dagster.mapping.ids import IdRule, RefusedId, mapped_uuid, mark, parse, unmark
from vectormigrate_dagster.mapping.payloads import PayloadMapper, RefusedPayload
from vectormigrate_dagster.mapping.schema import Mapping
from vectormigrate_dagster.mapping.scopes import ScopeRule
from vectormigrate_dagster.mapping.vector_columns import map_vector_columns
from vectormigrate_dagster.model import Batch, Id, IdColumn, IdKind, Payload, Split, id_text


@dataclass(frozen=True)
class Mapped:
    """What a batch became.

    Args:
        batches: what to write; one for each kind of target id and each scope.
        refused: records that the target cannot hold, by their original ids.
    """

    batches: tuple[Batch, ...]
    refused: tuple[Refusal, ...] = ()


class RecordMapper:
    """Maps records by a plan. Holds no state that depends on records, so threads and processes may share a plan."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self._payloads = PayloadMapper(mapping)
        vectors = (vector.name for vector in mapping.source_schema.vectors)
        self._dropped = frozenset(name for name in vectors if f"vector.{name}" in mapping.drop)

    def map(self, batch: Batch) -> Mapped:
        """Map a batch. Vectors that do not change are not copied; payloads of the source are not changed.

        Raises:
            PlanOutdated: the source has a vector or scope that the plan does not know.
        """
        carried, held = self._carries(batch), self._payloads.holds(batch.payloads)
        if not carried:
            batch = batch.decoded()
        scopes, refused = self._scopes(batch)
        ids = self._ids(batch)
        refused |= {row: reason for row, reason in ids.refused.items() if row not in refused}
        vectors, misfits = map_vector_columns(self.mapping.vectors, self._dropped, batch.vectors, len(batch))
        refused |= {row: reason for row, reason in misfits.items() if row not in refused}
        payloads = batch.payloads if carried else self._map_payloads(batch, ids, refused, held=held)
        _refuse_repeated(ids, scopes, refused)
        whole = Batch(ids=batch.ids, vectors=vectors, payloads=payloads)
        batches = tuple(_assemble(whole, ids, scopes, refused))
        return Mapped(batches, tuple(self._refusal(batch, row, refused[row]) for row in sorted(refused)))

    def target_scope(self, scope: str | None) -> str | None:
        """The target's scope for records of a source scope, as long as it does not come from payloads."""
        return scope if self.mapping.scope.rule is ScopeRule.NATIVE else None

    @property
    def keeps_ids_apart(self) -> bool:
        """Whether no two records of the source can become one, whatever is in it.

        Within a scope no rule turns two ids into one, but texts may be the numbers of another kind; and scopes that
        come together keep equal ids apart only where the scope is part of the id.
        """
        rules = self.mapping.ids.rules
        texts = sum(rule is IdRule.TEXT or (kind, rule) == (IdKind.TEXT, IdRule.COPY) for kind, rule in rules.items())
        mixed = texts > 1 and IdKind.TEXT in rules
        joined = self.mapping.scope.rule is ScopeRule.TO_FIELD and not self.mapping.ids.scoped
        return not (mixed or joined)

    def target_split(self, split: Split) -> Split | None:
        """The part of the target that holds the records of a split and no others, in the same order, if there is one.

        Where there is one for a split, there is one for every split of its kind of which anything is promised.
        """
        return target_split(self.mapping.ids, self.mapping.scope, split, self.target_scope(split.scope))

    def original_ids(self, batch: Batch) -> list[tuple[IdKind, Id]]:
        """Source ids of records that were read from the target, in their order.

        Where ids are restored, ids of the originals' kinds are restored ones; ids of other kinds are of records
        that the application wrote into the source after the earlier migration, which follow the rules.

        Raises:
            RefusedId: a record was not written by this migration.
        """
        return [
            self._original(value, batch.ids.kind, payload, batch.scope)
            for value, payload in zip(batch.ids.to_pylist(), batch.payloads, strict=True)
        ]

    def original_scopes(self, batch: Batch) -> list[str | None]:
        """Source scopes of records that were read from the target, in their order."""
        scope = self.mapping.scope
        if scope.rule is ScopeRule.TO_FIELD:
            named = (payload.get(scope.field) for payload in batch.payloads)
            return [name if isinstance(name, str) else None for name in named]
        same = {ScopeRule.NATIVE: batch.scope, ScopeRule.SINGLE: scope.only}
        return [same.get(scope.rule)] * len(batch)

    def _original(self, value: Id, kind: IdKind, payload: Payload, scope: str | None) -> tuple[IdKind, Id]:
        ids = self.mapping.ids
        if ids.keeps_original:
            original = unmark(payload.get(ids.field))
            if original is None:
                raise RefusedId(f"record '{id_text(value)}' has no original id in payload field '{ids.field}'")
            return original
        if ids.restore is not None and kind in ids.restore.kinds:
            kept = ids.restore
            part = scope if kept.scope_field or kept.scoped else None
            made = mapped_uuid(kept.namespace, value, kind, part, tagged=kept.tagged, keeps_uuids=kept.keeps_uuids)
            uuids = IdKind.UUID in self.mapping.source_schema.ids.kinds
            return (IdKind.UUID, made) if uuids else (IdKind.TEXT, str(made))
        return self._unruled(value, kind)

    def _unruled(self, value: Id, kind: IdKind) -> tuple[IdKind, Id]:
        """The source id that the rules turn into a target id."""
        rules = self.mapping.ids.rules
        if rules.get(kind) is IdRule.COPY:
            return kind, value
        if IdRule.PARSE in rules.values():
            return IdKind.TEXT, id_text(value)
        return parse(id_text(value), tuple(rules))

    def _carries(self, batch: Batch) -> bool:
        """Whether all payloads pass as they are: no id or scope comes out of them or goes in, and no value changes."""
        ids, scope = self.mapping.ids, self.mapping.scope
        apart = ids.restore is None and not ids.keeps_original
        apart = apart and scope.rule not in (ScopeRule.FROM_FIELD, ScopeRule.TO_FIELD)
        return apart and self._payloads.carries(batch.payloads)

    def _scopes(self, batch: Batch) -> tuple[list[str | None], dict[int, str]]:
        """The target scope of each row."""
        scope = self.mapping.scope
        if scope.rule is ScopeRule.SINGLE and batch.scope not in (None, scope.only):
            raise PlanOutdated(
                f"the plan is for scope '{scope.only}', these records are of '{batch.scope}'; plan again"
            )
        if scope.rule is not ScopeRule.FROM_FIELD:
            return [self.target_scope(batch.scope)] * len(batch), {}
        found = [payload.get(scope.field) for payload in batch.payloads]
        refused = {
            row: f"payload field '{scope.field}', which names the scope, holds {name!r}"
            for row, name in enumerate(found)
            if not isinstance(name, str)
        }
        return [name if isinstance(name, str) else None for name in found], refused

    def _ids(self, batch: Batch) -> MappedIds:
        if self.mapping.ids.restore is not None:
            return restore_column(self.mapping.ids, batch.ids, batch.payloads, batch.scope)
        return map_column(self.mapping.ids, batch.ids, batch.scope)

    def _map_payloads(self, batch: Batch, ids: MappedIds, refused: dict[int, str], *, held: bool) -> list[Payload]:
        """Payloads of the target, {} for a row that is refused."""
        rule, scope = self.mapping.ids.rules.get(batch.ids.kind), self.mapping.scope
        originals = batch.ids.to_pylist() if rule is IdRule.UUID5 else None
        fixed: Payload = {}
        if scope.rule is ScopeRule.TO_FIELD and batch.scope is not None:
            fixed[scope.field] = batch.scope
        scope_key = (scope.field,) if scope.rule is ScopeRule.FROM_FIELD else ()
        kept = self.mapping.ids.restore
        id_key = () if kept is None else (kept.field,)
        mapped: list[Payload] = []
        for row, payload in enumerate(batch.payloads):
            if row in refused:
                mapped.append({})
                continue
            added = fixed
            if originals is not None:
                added = {**fixed, self.mapping.ids.field: mark(originals[row], batch.ids.kind)}
            without = (*scope_key, *id_key) if row in ids.restored else scope_key
            try:
                mapped.append(self._payloads.map(payload, without=without, added=added, held=held))
            except RefusedPayload as reason:
                refused[row] = str(reason)
                mapped.append({})
        return mapped

    def _refusal(self, batch: Batch, row: int, reason: str) -> Refusal:
        return Refusal(id=id_text(batch.ids[row]), reason=reason, scope=batch.scope)


def _refuse_repeated(ids: MappedIds, scopes: Sequence[str | None], refused: dict[int, str]) -> None:
    """Refuse the later of two rows that would get the same target id.

    Between batches this cannot happen: every rule is one-to-one on what it accepts (see `mapping.ids`).
    """
    for rows, column in ids.parts:
        if column.are_distinct():
            continue
        values = column.to_pylist()
        first: dict[tuple[str | None, Id], int] = {}
        for row, value in zip(rows.tolist(), values, strict=True):
            if row in refused:
                continue
            if first.setdefault((scopes[row], value), row) != row:
                refused[row] = f"another record of this batch becomes '{id_text(value)}' in the target too"


def _assemble(whole: Batch, ids: MappedIds, scopes: Sequence[str | None], refused: dict[int, str]) -> Iterator[Batch]:
    """One batch for each kind of target id and each scope, in the order of rows."""
    for rows, column in ids.parts:
        for scope in dict.fromkeys(scopes[row] for row in rows):
            kept = [i for i, row in enumerate(rows.tolist()) if row not in refused and scopes[row] == scope]
            if kept:
                yield replace(_rows(whole, column, rows, kept), scope=scope)


def _rows(whole: Batch, column: IdColumn, rows: Rows, kept: list[int]) -> Batch:
    if len(kept) == len(whole):
        return replace(whole, ids=column)
    taken = rows[np.asarray(kept, dtype=np.int64)]
    return replace(whole.take(taken), ids=column.take(kept))
