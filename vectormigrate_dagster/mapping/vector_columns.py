"""Turn columns of vectors into those of the target, and find the rows that it cannot hold; all rows at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.errors import PlanOutdated
from vectormigrate_dagster.mapping.convert import widen
from vectormigrate_dagster.mapping.profiler import norms_are_unit
from vectormigrate_dagster.mapping.vectors import VectorMapping
from vectormigrate_dagster.model import Dense, Multi, Packed, Sparse, VectorColumn, all_finite, is_valid

_Mask = npt.NDArray[np.bool_]


def map_vector_columns(
    mappings: tuple[VectorMapping, ...], dropped: frozenset[str], columns: Mapping[str, VectorColumn], records: int
) -> tuple[dict[str, VectorColumn], dict[int, str]]:
    """Columns of the target, not copied unless components change, and row -> why it is refused.

    Raises:
        PlanOutdated: the source has a vector that the plan does not know.
    """
    unknown = sorted(columns.keys() - {m.source for m in mappings} - dropped)
    if unknown:
        raise PlanOutdated(f"the source has a vector '{unknown[0]}' that the plan does not know; plan again")
    mapped: dict[str, VectorColumn] = {}
    refused: dict[int, str] = {}
    for mapping in mappings:
        column = columns.get(mapping.source)
        if column is None:
            if mapping.required:
                refused |= dict.fromkeys(range(records), f"vector '{mapping.source}' is missing, the target needs it")
            continue
        if mapping.unseen:
            reason = f"vector '{mapping.source}' was in no record when the plan was made; plan again"
            refused |= dict.fromkeys(np.flatnonzero(is_valid(column)).tolist(), reason)
            continue
        if mapping.widen and isinstance(column, Packed):
            column = Dense(widen(column), column.valid)
        mapped[mapping.target] = column
        for mask, reason in _misfits(mapping, column):
            for row in np.flatnonzero(mask).tolist():
                refused.setdefault(row, f"vector '{mapping.source}' {reason}")
    return mapped, refused


def _misfits(mapping: VectorMapping, column: VectorColumn) -> Iterator[tuple[_Mask, str]]:
    """Rows bool (n,) that the target cannot hold, and why."""
    valid = is_valid(column)
    if mapping.required and not valid.all():
        yield ~valid, "is missing, the target needs it"
    if isinstance(column, Sparse):
        yield from _sparse_misfits(mapping, column, valid)
        return
    if mapping.dim is not None and column.dim != mapping.dim and valid.any():
        yield valid, f"has {column.dim} components, the target expects {mapping.dim}"
        return
    if isinstance(column, Packed):
        if mapping.finite and column.values.dtype == np.float16:
            yield ~np.isfinite(column.values).all(axis=1), "holds NaN or infinity"
        return
    whole = all_finite(column.values)
    if whole and not mapping.unit and not mapping.nonzero:
        return
    finite: _Mask = np.full(len(column.values), fill_value=True)
    if not whole:
        finite = np.atleast_1d(np.isfinite(column.values).all(axis=1))
    owners = np.repeat(np.arange(len(column)), np.diff(column.offsets)) if isinstance(column, Multi) else None
    if mapping.finite and not finite.all():
        yield _rows(owners, ~finite, len(column)), "holds NaN or infinity"
    if mapping.nonzero and owners is None:
        yield valid & _nothing_but_zeros(column.values), "holds nothing but zeros, which the target refuses"
    if mapping.unit:
        altered = np.zeros(len(column.values), dtype=np.bool_)
        altered[finite] = ~norms_are_unit(column.values[finite])
        yield _rows(owners, altered, len(column)), "does not have norm 1, and the target would make it so"


def _sparse_misfits(mapping: VectorMapping, column: Sparse, valid: _Mask) -> Iterator[tuple[_Mask, str]]:
    lengths = np.diff(column.indptr)
    rows = np.repeat(np.arange(len(column)), lengths)
    if mapping.finite:
        yield _any(rows, ~np.isfinite(column.values), len(column)), "holds NaN or infinity"
    if mapping.non_negative:
        yield _any(rows, column.values < 0, len(column)), "holds a weight below zero"
    if mapping.nonzero:
        yield valid & (lengths == 0), "has no entry, and the target refuses such a vector"
    if mapping.max_nonzeros is not None:
        yield lengths > mapping.max_nonzeros, f"has more than {mapping.max_nonzeros:,} entries"


def _nothing_but_zeros(values: npt.NDArray[np.float32]) -> _Mask:
    """Which rows are so; the other numbers are looked at only where the first one is zero."""
    zeros: _Mask = values[:, 0] == 0 if values.shape[1] else np.full(len(values), fill_value=True)
    zeros[zeros] = ~values[zeros].any(axis=1)
    return zeros


def _rows(rows: npt.NDArray[np.int64] | None, mask: _Mask, records: int) -> _Mask:
    return mask if rows is None else _any(rows, mask, records)


def _any(rows: npt.NDArray[np.int64], mask: _Mask, records: int) -> _Mask:
    """Which records have an entry for which `mask` holds."""
    return np.bincount(rows, weights=mask, minlength=records) > 0
