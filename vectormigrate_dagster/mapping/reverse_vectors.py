"""Put vectors of the target back into those of the source; what does not change there stays as it is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases.columns import joined_column
from vectormigrate_dagster.mapping.convert import narrow
from vectormigrate_dagster.mapping.vectors import VectorMapping
from vectormigrate_dagster.model import Dense, Element, Multi, Packed, Sparse, VectorColumn
from vectormigrate_dagster.model.vectors import Mask

Rows = npt.NDArray[np.int64]


def vectors_back(  # noqa: PLR0917  # two sides and how they differ
    mappings: tuple[VectorMapping, ...],
    elements: Mapping[str, Element],
    changed: Mapping[str, VectorColumn],
    standing: Mapping[str, VectorColumn],
    rows: Rows,
    unchanged: Mapping[str, Mask],
) -> tuple[dict[str, VectorColumn], dict[int, str]]:
    """Columns of the source, and row -> why it is refused.

    Args:
        mappings: of the plan.
        elements: what each vector of the source is stored as.
        changed: columns of the target's n records.
        standing: columns of the records that stand in the source.
        rows: int64 (n,); which of those is the record of each row, -1 if none is.
        unchanged: vector of the target -> bool (n,); which rows hold what the record that stands becomes.
    """
    back: dict[str, VectorColumn] = {}
    refused: dict[int, str] = {}
    carried = {mapping.source: mapping for mapping in mappings if not mapping.unseen}
    for name in dict.fromkeys([*carried, *standing]):
        mapping = carried.get(name)
        new = None if mapping is None else changed.get(mapping.target)
        if mapping is not None and mapping.widen and isinstance(new, Dense):
            new, lost = narrow(new, elements[name])
            reason = f"vector '{name}' holds components that are no {elements[name].value} of the source"
            refused |= dict.fromkeys(np.flatnonzero(lost & ~_kept(mapping, unchanged, rows)).tolist(), reason)
        kept = rows >= 0 if mapping is None else _kept(mapping, unchanged, rows)
        column = _chosen(new, standing.get(name), rows, kept)
        if column is not None:
            back[name] = column
    return back, refused


def _kept(mapping: VectorMapping, unchanged: Mapping[str, Mask], rows: Rows) -> Mask:
    """Rows whose vector stays as it stands in the source: bool (n,)."""
    same = unchanged.get(mapping.target)
    return rows >= 0 if same is None else same & (rows >= 0)


def _chosen(new: VectorColumn | None, old: VectorColumn | None, rows: Rows, kept: Mask) -> VectorColumn | None:
    """The rows of `old` where `kept`, those of `new` elsewhere; a column that is None lacks all of them."""
    if new is None and old is None:
        return None
    if new is not None and not kept.any():
        return new
    known = [column for column in (new, old) if column is not None]
    offset = 0 if new is None else len(new)
    last = sum(map(len, known))  # a row without the vector
    from_old = np.full(len(rows), last, dtype=np.int64) if old is None else offset + rows
    from_new = np.full(len(rows), last, dtype=np.int64) if new is None else np.arange(len(rows), dtype=np.int64)
    return joined_column([*known, _missing(known[0])]).take(np.where(kept, from_old, from_new))


def _missing(like: VectorColumn) -> VectorColumn:
    """A column of one record that lacks the vector."""
    none = np.zeros(1, dtype=np.bool_)
    ends = np.zeros(2, dtype=np.int64)
    if isinstance(like, Sparse):
        return Sparse(ends, like.indices[:0], like.values[:0], none)
    if isinstance(like, Multi):
        return Multi(ends, like.values[:0], none)
    values = np.zeros((1, like.values.shape[1]), dtype=like.values.dtype)
    return Packed(like.element, like.dim, values, none) if isinstance(like, Packed) else Dense(values, none)
