"""Which rows of two columns of vectors differ: bit by bit, by their angle, or by more than normalising explains.

Arrays are looked at in blocks that stay in a core's cache, so that two equal ones are compared about as fast as memory
can be read, and rows that differ cost a copy of a block and never one of everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.model.vectors import Dense, Floats, Mask, Multi, Packed, Sparse, VectorColumn

_BLOCK_BYTES = 512 * 1024
_ANGLE_BYTES = 64 * 1024
_PIECE = 64
_WORDS = (8, 4, 2, 1)

COMPONENT_ROUNDING = 2.0**-20
"""What normalising may change of a component, relative to it: a millionth, 8 to 16 float32 units in the last place.

A division rounds once, a multiplication with a reciprocal twice; twice that is room to tell by float32 arithmetic,
which rounds as often.
"""

_SURELY = 0.45
"""Of what is allowed; a little less than half, for the rounding of the arithmetic that tells."""

_SMALLEST = 2.0**-124
"""Components below this may be lost: some processors take numbers near the smallest float32 for zero."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Angles:
    """How rows that differ in bits compare otherwise.

    Args:
        cosine: of the angle between each pair, float64 (n,); -1 where one alone is zero or not finite, -inf where
            a record has another number of rows.
        off: whether a row is anything else than the promised one scaled to length 1, bool (n,).
    """

    cosine: Doubles
    off: Mask


def length_rounding(dim: int) -> float:
    """How far from 1 the length of a normalised float32 vector of `dim` components may be.

    Rounding errors of a sum of squares grow with the root of the number of summands when they are added one by one.
    """
    return float((8 + 2 * np.sqrt(dim)) * 2.0**-23)


def rows_that_differ(one: VectorColumn, two: VectorColumn) -> Mask:
    """Which rows differ in any bit: bool (n,). Columns of other kinds or dimensions differ everywhere."""
    if shape_of(one) != shape_of(two):
        return np.ones(len(one), dtype=np.bool_)
    if isinstance(one, Dense | Packed) and isinstance(two, Dense | Packed):
        return array_rows_that_differ(one.values, two.values)
    rows = [_rows_of(column) for column in (one, two)]
    return np.array([left != right for left, right in zip(*rows, strict=True)], dtype=np.bool_)


def array_rows_that_differ(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> Mask:
    """Which rows of two arrays of one shape (n, d) and dtype differ in any bit: bool (n,)."""
    rows = len(one)
    differ = np.zeros(rows, dtype=np.bool_)
    row_bytes = one.shape[1] * one.itemsize
    if rows == 0 or row_bytes == 0:
        return differ
    word = np.dtype(f"u{next(size for size in _WORDS if row_bytes % size == 0)}")
    step = max(1, _BLOCK_BYTES // row_bytes)
    unequal = np.empty((min(step, rows), row_bytes // word.itemsize), dtype=np.bool_)
    for start in range(0, rows, step):
        a, b = (np.ascontiguousarray(array[start : start + step]).view(word) for array in (one, two))
        block = np.not_equal(a, b, out=unequal[: len(a)])
        if block.any():
            block.any(axis=1, out=differ[start : start + step])
    return differ


def angles(one: VectorColumn, two: VectorColumn, rows: npt.NDArray[np.int64], *, scaled: bool) -> Angles:
    """How the vectors at `rows` of two dense or two multi columns of one dimension compare.

    A record of several vectors is as far off as the worst of its rows.

    Args:
        scaled: the rows of `two` should be those of `one` scaled to length 1; False leaves `off` out, all False.

    Raises:
        TypeError: the vectors are of another kind, or of two kinds.
    """
    if isinstance(one, Dense) and isinstance(two, Dense):
        return _array_angles(one.values, two.values, rows, scaled=scaled)
    if not (isinstance(one, Multi) and isinstance(two, Multi)):
        raise TypeError(f"{type(one).__name__} and {type(two).__name__} vectors have no angle between them")
    one, two = one.take(rows), two.take(rows)
    lengths = np.diff(one.offsets)
    same = np.flatnonzero(lengths == np.diff(two.offsets))
    a, b = one.take(same).values, two.take(same).values
    found = _array_angles(a, b, np.arange(len(a)), scaled=scaled)
    least, any_off = np.ones(len(same)), np.zeros(len(same), dtype=np.bool_)
    record_of_row = np.repeat(np.arange(len(same)), lengths[same])
    np.minimum.at(least, record_of_row, found.cosine)
    np.logical_or.at(any_off, record_of_row, found.off)
    cosine, off = np.full(len(one), -np.inf), np.ones(len(one), dtype=np.bool_)
    cosine[same], off[same] = least, any_off
    return Angles(cosine=cosine, off=off)


def _array_angles(one: Floats, two: Floats, rows: npt.NDArray[np.int64], *, scaled: bool) -> Angles:
    cosine, off = np.ones(len(rows)), np.zeros(len(rows), dtype=np.bool_)
    step = max(1, _ANGLE_BYTES // max(1, one.itemsize * one.shape[1]))
    for start in range(0, len(rows), step):
        at = np.arange(start, min(start + step, len(rows)))
        chosen = _window(rows[at])
        a, b = one[chosen], two[chosen]
        if scaled and one.shape[1]:
            doubtful = ~_plainly_scaled(a, b)
            at, a, b = at[doubtful], a[doubtful], b[doubtful]
        if len(at):
            cosine[at], off[at] = _block_angles(a, b)
    return Angles(cosine=cosine, off=off if scaled else np.zeros_like(off))


def _window(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | slice:
    """Ascending rows as a slice if they follow each other, which takes no copy."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows


def _plainly_scaled(one: Floats, two: Floats) -> Mask:
    """Which rows of `two` are so surely those of `one` scaled to length 1 that float32 arithmetic can tell.

    Where every component is within half of what is allowed of its promised one by some factor, it is within all of that
    by the best factor, which cannot be further away.
    """
    with np.errstate(all="ignore"):
        factor = _products(one, two) / _products(one, one)
        unit = one * factor.astype(np.float32)[:, None]
        apart = np.subtract(two, unit)
        np.abs(apart, out=apart)
        np.abs(unit, out=unit)
        unit *= np.float32(COMPONENT_ROUNDING * _SURELY)
        near = np.less_equal(apart, unit).all(axis=1) & (factor > 0)  # the opposite vector is a multiple too
        length = np.einsum("ij,ij->i", two, two)  # squared, which doubles how far it is from 1
        mask: Mask = near & (np.abs(length - 1) <= length_rounding(one.shape[1]))
    return mask


def _products(one: Floats, two: Floats) -> Doubles:
    """Scalar products of rows, float64 (n,), of which only short pieces are added in float32."""
    rows, dim = one.shape
    pieces = (rows, dim // _PIECE, _PIECE) if dim % _PIECE == 0 else (rows, 1, dim)
    products: Doubles = np.einsum("ijk,ijk->ij", one.reshape(pieces), two.reshape(pieces)).sum(axis=1, dtype=np.float64)
    return products


def _block_angles(one: Floats, two: Floats) -> tuple[Doubles, Mask]:
    """Cosines, and which rows of `two` are not those of `one` scaled to length 1."""
    with np.errstate(all="ignore"):
        a, b = one.astype(np.float64), two.astype(np.float64)
        squares, length = np.einsum("ij,ij->i", a, a), np.linalg.norm(b, axis=1)
        products = np.einsum("ij,ij->i", a, b)
        cosine = products / (np.sqrt(squares) * length)
        # The length was rounded as well, by which all components are off alike: the best factor leaves that out.
        a *= (products / squares)[:, None]
        b -= a
        right = np.all(np.abs(b) <= np.abs(a) * COMPONENT_ROUNDING + _SMALLEST, axis=1)
        right &= np.abs(length - 1) <= length_rounding(one.shape[1])
    cosine = np.where(np.isfinite(cosine), cosine, -1.0)
    same = ~one.any(axis=1) & ~two.any(axis=1) | ~array_rows_that_differ(one, two)
    return np.where(same, 1.0, cosine), ~(right | same)


def shape_of(column: VectorColumn) -> tuple[object, ...]:
    """What must be equal before rows can be: kind, element, dimension."""
    if isinstance(column, Packed):
        return Packed, column.element, column.dim
    return (Sparse,) if isinstance(column, Sparse) else (type(column), column.dim)


def first_difference(one: Dense | Packed, two: Dense | Packed, row: int) -> tuple[int, int, Any, Any]:
    """How many stored components of a row differ, the first of them, and its two values."""
    a, b = (np.ascontiguousarray(column.values[row]) for column in (one, two))
    word = np.dtype(f"u{a.dtype.itemsize}")
    at = np.flatnonzero(a.view(word) != b.view(word))
    return len(at), int(at[0]), a[at[0]].item(), b[at[0]].item()


def furthest_component(one: Floats, two: Floats) -> tuple[int, float, float]:
    """The component of a row that is furthest from the promised row scaled to length 1: where, promised, found."""
    with np.errstate(all="ignore"):
        unit = one.astype(np.float64) / np.linalg.norm(one.astype(np.float64))
        at = int(np.nanargmax(np.abs(two - unit) / np.maximum(np.abs(unit), _SMALLEST)))
    return at, float(unit[at]), float(two[at])


def entries_of(column: VectorColumn, row: int) -> Sequence[npt.NDArray[Any]]:
    """The arrays that a row consists of."""
    taken = column.take([row])
    return (taken.indices, taken.values) if isinstance(taken, Sparse) else (taken.values,)


def _rows_of(column: VectorColumn) -> list[tuple[bytes, bytes]]:
    """Each row of a ragged column as its bytes."""
    if isinstance(column, Sparse):
        spans = zip(column.indptr[:-1], column.indptr[1:], strict=True)
        return [(column.indices[low:high].tobytes(), column.values[low:high].tobytes()) for low, high in spans]
    if isinstance(column, Multi):
        spans = zip(column.offsets[:-1], column.offsets[1:], strict=True)
        return [(column.values[low:high].tobytes(), b"") for low, high in spans]
    return [(row.tobytes(), b"") for row in column.values]
