"""Columns of vectors: one object for n records, views over bytes, no Python floats.

Every column knows which records have the vector (`valid`, bool (n,); None means all of them).
Rows that are not valid hold zeros (dense, packed) or nothing (sparse, multi).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Indices = Sequence[int] | npt.NDArray[np.int64]


class Element(StrEnum):
    """What one component of a vector is stored as."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    UINT8 = "uint8"
    BINARY = "binary"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype that carries it; bfloat16 travels as raw uint16, binary as packed uint8."""
        return _DTYPES[self]

    def width(self, dim: int) -> int:
        """How many array columns a vector of `dim` components takes (binary packs 8 into one)."""
        return (dim + 7) // 8 if self is Element.BINARY else dim


_DTYPES: dict[Element, np.dtype[Any]] = {
    Element.FLOAT32: np.dtype(np.float32),
    Element.FLOAT16: np.dtype(np.float16),
    Element.BFLOAT16: np.dtype(np.uint16),
    Element.INT8: np.dtype(np.int8),
    Element.UINT8: np.dtype(np.uint8),
    Element.BINARY: np.dtype(np.uint8),
}


@dataclass(frozen=True, eq=False)
class Dense:
    """Dense float32 vectors: `values` float32 (n, d), `valid` bool (n,) or None."""

    values: Floats
    valid: Mask | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        """Components per vector."""
        return int(self.values.shape[1])

    def take(self, indices: Indices) -> Dense:
        """The rows at `indices`, in that order."""
        return Dense(self.values[indices], _take(self.valid, indices))


@dataclass(frozen=True, eq=False)
class Packed:
    """Vectors of small components: `values` (n, element.width(dim)) of `element.dtype`."""

    element: Element
    dim: int
    values: npt.NDArray[Any]
    valid: Mask | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, indices: Indices) -> Packed:
        """The rows at `indices`, in that order."""
        return Packed(self.element, self.dim, self.values[indices], _take(self.valid, indices))


@dataclass(frozen=True, eq=False)
class Sparse:
    """Sparse vectors in CSR form.

    Args:
        indptr: int64 (n+1,); row i is entries `indptr[i]:indptr[i+1]`.
        indices: uint32 (nnz,), ascending within a row.
        values: float32 (nnz,).
        valid: bool (n,) or None; an empty vector that is there differs from a missing one.
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.uint32]
    values: Floats
    valid: Mask | None = None

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def take(self, indices: Indices) -> Sparse:
        """The rows at `indices`, in that order."""
        indptr, entries = _take_ragged(self.indptr, indices)
        return Sparse(indptr, self.indices[entries], self.values[entries], _take(self.valid, indices))


@dataclass(frozen=True, eq=False)
class Multi:
    """Several dense vectors per record (late interaction).

    Args:
        offsets: int64 (n+1,); record i has rows `offsets[i]:offsets[i+1]`.
        values: float32 (m, d).
        valid: bool (n,) or None.
    """

    offsets: npt.NDArray[np.int64]
    values: Floats
    valid: Mask | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def dim(self) -> int:
        """Components per vector."""
        return int(self.values.shape[1])

    def take(self, indices: Indices) -> Multi:
        """The rows at `indices`, in that order."""
        offsets, rows = _take_ragged(self.offsets, indices)
        return Multi(offsets, self.values[rows], _take(self.valid, indices))


VectorColumn = Dense | Packed | Sparse | Multi


def is_valid(column: VectorColumn) -> Mask:
    """Which records have the vector: bool (n,), never None."""
    if column.valid is None:
        return np.ones(len(column), dtype=np.bool_)
    return column.valid


def slice_rows(column: VectorColumn, start: int, stop: int) -> VectorColumn:
    """The rows from `start` up to, not including, `stop`, without a copy of their components."""
    rows = slice(start, stop)
    valid = None if column.valid is None else column.valid[rows]
    if isinstance(column, Dense | Packed):
        return replace(column, values=column.values[rows], valid=valid)
    ends = column.indptr if isinstance(column, Sparse) else column.offsets
    ends = ends[start : stop + 1]
    entries = slice(ends[0], ends[-1])
    if isinstance(column, Sparse):
        return Sparse(ends - ends[0], column.indices[entries], column.values[entries], valid)
    return Multi(ends - ends[0], column.values[entries], valid)


def _take(valid: Mask | None, indices: Indices) -> Mask | None:
    return None if valid is None else valid[indices]


def _take_ragged(
    offsets: npt.NDArray[np.int64], indices: Indices
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """New offsets and the positions of all entries of the rows at `indices`."""
    rows = np.asarray(indices, dtype=np.int64)
    lengths = offsets[1:][rows] - offsets[:-1][rows]
    taken = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(lengths, out=taken[1:])
    entries = np.repeat(offsets[:-1][rows] - taken[:-1], lengths) + np.arange(taken[-1], dtype=np.int64)
    return taken, entries


def all_finite(values: npt.NDArray[Any]) -> bool:
    """Whether no number is NaN or infinite, without an array of answers in between.

    NaN and infinity stay in every sum. A sum of float16, or of large numbers, may be infinite without one.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        at_once = values.sum(dtype=np.float32 if values.dtype.itemsize < 4 else None)
    return bool(np.isfinite(at_once) or np.isfinite(values).all())
