"""Put records of the target back into the source, onto those that stand there: the way back of one and the same plan.

A record that still stands in the source keeps all that the target's record does not say: fields and vectors that were
dropped, ints that became floats, floats that were rounded, keys whatever they are called there. Only what differs from
what the standing record becomes in the target is put back. So a record that nobody has changed comes back bit for bit.

What is put back has to lead to the target's record again; a record for which it does not is refused, and says why.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vectormigrate_dagster.databases import Refusal
from vectormigrate_dagster.mapping.ids import IdRule, mark
from vectormigrate_dagster.mapping.limit_check import RefusedPayload
from vectormigrate_dagster.mapping.limits import Limits
from vectormigrate_dagster.mapping.records import Mapped, RecordMapper
from vectormigrate_dagster.mapping.reverse_payloads import ReversePayloads
from vectormigrate_dagster.mapping.reverse_vectors import Rows, vectors_back
from vectormigrate_dagster.mapping.schema import Mapping
from vectormigrate_dagster.mapping.scopes import ScopeRule
from vectormigrate_dagster.model import Batch, Capabilities, IdColumn, Payload, id_text
from vectormigrate_dagster.model.compare import EXACT, Tolerance, compare


class ReverseMapper:
    """Maps records of the target back by the plan that brought them there.

    Args:
        mapping: of the plan.
        source: what the source can hold.
        tolerance: how far vectors in the target may be from what was written, for what it does to them itself.
    """

    def __init__(self, mapping: Mapping, source: Capabilities, *, tolerance: Tolerance = EXACT) -> None:
        self.mapping = mapping
        self.forward = RecordMapper(mapping)
        self._payloads = ReversePayloads(mapping, Limits.of(source))
        self._elements = {vector.name: vector.element for vector in mapping.source_schema.vectors}
        self._tolerance = tolerance

    def put(self, changed: Batch, ids: IdColumn, scope: str | None, standing: Batch | None) -> Mapped:
        """Map records of the target back.

        Args:
            changed: n records of the target, of one scope.
            ids: their ids in the source, row by row.
            scope: their scope in the source.
            standing: those of them that stand in the source; None if none does.

        Returns:
            One batch at most, of records of the source; refusals name ids of the target.
        """
        if len(changed) == 0:
            return Mapped(())
        changed = changed.decoded()
        there = replace(standing.decoded() if standing is not None else _nothing(ids), scope=scope)
        rows = _rows_of(ids, there.ids)
        promised = self._promised(there, changed)
        differences = _differences(promised, changed, self._tolerance)
        unchanged = {
            name: np.array([f"vector '{name}'" not in differences.get(text, ()) for text in changed.ids.texts()])
            for name in {mapping.target for mapping in self.mapping.vectors}
        }
        known = set() if promised is None else set(promised.ids.texts())
        rows_kept = np.array(
            [row if text in known else -1 for row, text in zip(rows, changed.ids.texts(), strict=True)]
        )
        vectors, refused = vectors_back(
            self.mapping.vectors, self._elements, changed.vectors, there.vectors, rows_kept.astype(np.int64), unchanged
        )
        payloads = self._payloads_back(changed, ids, scope, there, rows, promised, refused)
        back = Batch(ids, scope, vectors, payloads)
        self._check(back, changed, refused)
        kept = [row for row in range(len(back)) if row not in refused]
        texts = changed.ids.texts()
        return Mapped(
            (back.take(kept),) if kept else (),
            tuple(Refusal(texts[row], refused[row], changed.scope) for row in sorted(refused)),
        )

    def _promised(self, there: Batch, changed: Batch) -> Batch | None:
        """What the records that stand in the source become in the target; None if none of them has a place there."""
        for part in self.forward.map(there).batches if len(there) else ():
            if part.ids.kind is changed.ids.kind and part.scope == changed.scope:
                return part.decoded()
        return None

    def _payloads_back(  # noqa: PLR0917  # one record, seen from every side
        self,
        changed: Batch,
        ids: IdColumn,
        scope: str | None,
        there: Batch,
        rows: Rows,
        promised: Batch | None,
        refused: dict[int, str],
    ) -> list[Payload]:
        ours = self._added(ids, scope)
        by_id = {} if promised is None else dict(zip(promised.ids.texts(), promised.payloads, strict=True))
        found: list[Payload] = []
        for row, (text, payload) in enumerate(zip(changed.ids.texts(), changed.payloads, strict=True)):
            at = int(rows[row])
            standing = there.payloads[at] if at >= 0 else None
            try:
                back = self._payloads.back(payload, promised=by_id.get(text), standing=standing, ours=ours)
                found.append(self._with_what_goes(back, changed, row))
            except RefusedPayload as reason:
                refused.setdefault(row, str(reason))
                found.append({})
        return found

    def _added(self, ids: IdColumn, scope: str | None) -> frozenset[str]:
        """Keys of the target that keep an id or scope of these records."""
        mapped = self.mapping
        id_key = {mapped.ids.field} if mapped.ids.rules.get(ids.kind) is IdRule.UUID5 else set()
        scope_key = {mapped.scope.field} if mapped.scope.rule is ScopeRule.TO_FIELD and scope is not None else set()
        return frozenset(id_key | scope_key)

    def _with_what_goes(self, payload: Payload, changed: Batch, row: int) -> Payload:
        """With the fields of the source that become ids and scopes of the target."""
        kept, scope = self.mapping.ids.restore, self.mapping.scope
        added: Payload = {}
        if kept is not None and changed.ids.kind in kept.kinds and kept.field not in payload:
            added[kept.field] = mark(changed.ids[row], changed.ids.kind)
        if scope.rule is ScopeRule.FROM_FIELD:
            added[scope.field] = changed.scope
        return {**payload, **added} if added else payload

    def _check(self, back: Batch, changed: Batch, refused: dict[int, str]) -> None:
        """Refuse records that would not lead to the target's again."""
        texts = changed.ids.texts()
        mapped = self.forward.map(back)
        by_source = {text: row for row, text in enumerate(back.ids.texts())}
        for refusal in mapped.refused:
            refused.setdefault(by_source[refusal.id], f"the target holds what the plan refuses: {refusal.reason}")
        added = self._added(back.ids, back.scope)
        again: dict[str, str] = dict.fromkeys(texts, "its id or scope in the target would be another")
        for part in mapped.batches:
            if part.ids.kind is not changed.ids.kind or part.scope != changed.scope:
                continue
            seen = dict(zip(texts, changed.payloads, strict=True))
            payloads = [
                {key: value for key, value in payload.items() if key not in added or key in seen.get(text, {})}
                for text, payload in zip(part.ids.texts(), part.payloads, strict=True)
            ]
            comparison = compare(replace(part, payloads=payloads), changed, tolerance=self._tolerance)
            missing = {*comparison.missing, *comparison.extra}
            again = {text: reason for text, reason in again.items() if text in missing}
            for one in comparison.differences:
                again.setdefault(one.id, f"the plan does not lead back: {one.where}: {one.detail}")
        for row, text in enumerate(texts):
            if text in again:
                refused.setdefault(row, again[text])


def _nothing(ids: IdColumn) -> Batch:
    return Batch(ids.slice(0, 0))


def _rows_of(ids: IdColumn, among: IdColumn) -> Rows:
    """Where in `among` each of `ids` is, -1 if nowhere: int64 (n,)."""
    at = {id_text(value): row for row, value in enumerate(among.to_pylist())}
    return np.array([at.get(text, -1) for text in ids.texts()], dtype=np.int64)


def _differences(promised: Batch | None, changed: Batch, tolerance: Tolerance) -> dict[str, set[str]]:
    """What of each record of the target is not as promised, by its id."""
    found: dict[str, set[str]] = {}
    for one in () if promised is None else compare(promised, changed, tolerance=tolerance).differences:
        found.setdefault(one.id, set()).add(one.where)
    return found
