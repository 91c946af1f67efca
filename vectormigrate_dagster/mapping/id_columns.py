"""Turn a column of source ids into ids of the target, as the plan decided; by Arrow where it can be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vectormigrate_dagster.mapping.ids import (
    KEEP_APART,
    IdMapping,
    IdRule,
    Kept,
    RefusedId,
    mapped_uuid,
    target_id,
    unmark,
)
from vectormigrate_dagster.model import Id, IdColumn, IdKind, Payload, id_text

Rows = npt.NDArray[np.int64]


@dataclass
class MappedIds:
    """Ids of the target for the rows of a batch.

    Args:
        parts: one column per kind of target id, and the rows it stands for.
        refused: row -> why its id has no place in the target.
        restored: rows whose original id came back, so that the field that held it goes.
    """

    parts: list[tuple[Rows, IdColumn]]
    refused: dict[int, str] = field(default_factory=dict)
    restored: frozenset[int] = frozenset()


def map_column(mapping: IdMapping, ids: IdColumn, scope: str | None) -> MappedIds:
    """Map ids that stand for themselves, nothing being restored from payloads."""
    rule = mapping.rules.get(ids.kind)
    array: Any = ids.array
    whole = np.arange(len(ids), dtype=np.int64)
    if (
        rule is IdRule.COPY
        and ids.kind is IdKind.TEXT
        and (mapping.max_bytes is not None or mapping.pattern is not None)
    ):
        return _checked(mapping, ids, _spelt(mapping, array), IdKind.TEXT)
    if rule is IdRule.COPY:
        return MappedIds([(whole, ids)])
    if rule is IdRule.SIGNED:
        return _checked(mapping, ids, pc.less_equal(array, pa.scalar(2**63 - 1, pa.uint64())), IdKind.I64)
    if rule is IdRule.UNSIGNED:
        return _checked(mapping, ids, pc.greater_equal(array, pa.scalar(0)), IdKind.U64)
    if rule is IdRule.TEXT and ids.kind is not IdKind.UUID:
        return MappedIds([(whole, IdColumn(IdKind.TEXT, ids.array.cast(pa.string())))])
    return _one_by_one(mapping, ids, scope)


def restore_column(
    mapping: IdMapping, ids: IdColumn, payloads: Sequence[Payload], scope: str | None = None
) -> MappedIds:
    """Bring back the original ids that an earlier migration kept in payloads.

    A kept id counts only if it hashes to the record's own id: that proves that we wrote it, and that no two
    records bring back the same id. Records without one, written since by the application, follow the rules,
    as long as these make an id of a kind that no original has; else both could get the same id, in batches
    that do not know of each other, and the later would overwrite the earlier.
    """
    kept = mapping.restore
    if kept is None:
        raise ValueError("this plan restores no ids")
    values: dict[int, tuple[IdKind, Id]] = {}
    refused: dict[int, str] = {}
    restored: set[int] = set()
    for row, (value, payload) in enumerate(zip(ids.to_pylist(), payloads, strict=True)):
        try:
            original = _original(mapping, kept, value, payload, scope)
            values[row] = original or _added_since(mapping, kept, value, ids.kind)
        except RefusedId as reason:
            refused[row] = str(reason)
        else:
            restored |= {row} if original is not None else set()
    return MappedIds(_by_kind(values), refused, frozenset(restored))


def _original(
    mapping: IdMapping, kept: Kept, value: Id, payload: Payload, scope: str | None
) -> tuple[IdKind, Id] | None:
    """The id that an earlier migration kept; None if the payload holds none."""
    original = unmark(payload.get(kept.field))
    if original is None:
        return None
    kind, before = original
    part = kept.scope_of(scope, payload)
    made = mapped_uuid(kept.namespace, before, kind, part, tagged=kept.tagged, keeps_uuids=kept.keeps_uuids)
    if id_text(made) != id_text(value):
        raise RefusedId(
            f"payload field '{kept.field}' says {payload[kept.field]!r}, but the id was not made from that "
            f"in namespace {kept.namespace}"
        )
    if kind not in mapping.target_kinds:
        raise RefusedId(f"the original id is a {kind.value} id, the target holds none")
    if kind not in kept.kinds:
        raise RefusedId(f"the original id is a {kind.value} id; the plan knows of no such originals, plan again")
    return original


def _added_since(mapping: IdMapping, kept: Kept, value: Id, kind: IdKind) -> tuple[IdKind, Id]:
    """The target id of a record that the application wrote after the earlier migration."""
    made, text = target_id(mapping, value, kind)
    if made not in kept.kinds:
        return made, text
    raise RefusedId(
        f"payload field '{kept.field}' holds no original id, so the application wrote the record after the earlier "
        f"migration; as the {made.value} id '{text}' it could overwrite a record whose original id comes back; "
        f"{KEEP_APART}"
    )


def _spelt(mapping: IdMapping, texts: Any) -> Any:
    """Which text ids the target can hold: Arrow bool (n,)."""
    fits = pc.is_valid(texts)
    if mapping.max_bytes is not None:
        fits = pc.less_equal(pc.binary_length(texts), pa.scalar(mapping.max_bytes))
    if mapping.pattern is None:
        return fits
    # Python's own expressions: those of Arrow (RE2) refuse some that a database may name.
    possible = re.compile(mapping.pattern, re.DOTALL)
    spelt = [possible.fullmatch(text) is not None for text in texts.to_pylist()]
    return pc.and_(fits, pa.array(spelt, pa.bool_()))


def _checked(mapping: IdMapping, ids: IdColumn, fits: Any, kind: IdKind) -> MappedIds:
    """Take the ids for which `fits`, bool (n,), holds; say of each other one why not."""
    mask = fits.to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(mask).astype(np.int64)
    array = ids.array if len(rows) == len(ids) else ids.array.filter(fits)
    refused: dict[int, str] = {}
    for row in np.flatnonzero(~mask).tolist():
        try:
            target_id(mapping, ids[row], ids.kind)
        except RefusedId as reason:
            refused[row] = str(reason)
    return MappedIds([(rows, IdColumn(kind, array.cast(kind.arrow_type)))], refused)


def _one_by_one(mapping: IdMapping, ids: IdColumn, scope: str | None) -> MappedIds:
    values: dict[int, tuple[IdKind, Id]] = {}
    refused: dict[int, str] = {}
    for row, value in enumerate(ids.to_pylist()):
        try:
            values[row] = target_id(mapping, value, ids.kind, scope)
        except RefusedId as reason:
            refused[row] = str(reason)
    return MappedIds(_by_kind(values), refused)


def _by_kind(values: dict[int, tuple[IdKind, Id]]) -> list[tuple[Rows, IdColumn]]:
    groups: dict[IdKind, tuple[list[int], list[Id]]] = {}
    for row, (kind, value) in values.items():
        rows, ids = groups.setdefault(kind, ([], []))
        rows.append(row)
        ids.append(value)
    return [
        (np.asarray(rows, dtype=np.int64), IdColumn.of(kind, found)) for kind, (rows, found) in sorted(groups.items())
    ]
