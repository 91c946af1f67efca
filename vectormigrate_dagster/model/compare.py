"""Compare two batches record by record: what was promised against what is there.

Vectors are compared as whole arrays first; rows are looked at one by one only where those differ.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from vectormigrate_dagster.model.batch import Batch, Payload
from vectormigrate_dagster.model.ids import id_text
from vectormigrate_dagster.model.vectors import Dense, Floats, Mask, Multi, Packed, Sparse, VectorColumn, is_valid

_SHOWN_CHARACTERS = 200
_MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What is demanded of each vector.

    Args:
        min_cosine: name of a dense or multi vector -> least cosine between each row that was promised and what is
            there, for targets that keep only a vector's direction. Every vector that is not named must be equal bit
            for bit.
    """

    min_cosine: Mapping[str, float] = field(default_factory=dict)


EXACT = Tolerance()
"""Every vector bit for bit."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing about one record that is not as promised.

    Args:
        id: the record's id in text form.
        where: "vector 'v'" or "field 'a'".
        expected, actual: text for people; JSON for payload values, cut after 200 characters.
        detail: how they differ.
    """

    id: str
    where: str
    expected: str
    actual: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came out of comparing two batches.

    Args:
        checked: records that were expected.
        missing: expected ids that are not there.
        extra: ids that are there and were not expected, or are there twice.
        differences: everything that differs in records that are on both sides.
    """

    checked: int
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether nothing is missing, extra or different."""
        return not (self.missing or self.extra or self.differences)

    @property
    def mismatched(self) -> int:
        """Records that are on both sides and differ in at least one thing."""
        return len({difference.id for difference in self.differences})

    @property
    def counts(self) -> dict[str, int]:
        """Differences per vector and field, most frequent first."""
        return dict(Counter(difference.where for difference in self.differences).most_common())


def compare(expected: Batch, actual: Batch, *, tolerance: Tolerance = EXACT) -> Comparison:
    """Compare the records of `expected` with those of `actual` that have the same id; order does not matter."""
    left, right, missing, extra = _match(expected, actual)
    aligned_left, aligned_right = expected.take(left), actual.take(right)
    differences: list[Difference] = []
    for name in sorted({*expected.vectors, *actual.vectors}):
        differences += _vector_differences(name, aligned_left, aligned_right, tolerance)
    for i, (one, two) in enumerate(zip(aligned_left.payloads, aligned_right.payloads, strict=True)):
        differences += _payload_differences(aligned_left, i, one, two)
    return Comparison(checked=len(expected), missing=missing, extra=extra, differences=tuple(differences))


def same_value(one: Any, two: Any) -> bool:
    """Whether two JSON values are the same, types included: 1, 1.0 and True differ; NaN equals NaN.

    The order of keys means nothing; that of a list does.
    """
    if type(one) is not type(two):
        return False
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same_value(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same_value, one, two))
    return bool(one == two or (one != one and two != two))  # noqa: PLR0124  # the definition of NaN


def _match(
    expected: Batch, actual: Batch
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], tuple[str, ...], tuple[str, ...]]:
    """Rows of both batches that belong together, ids that are missing, and ids that are extra."""
    if expected.ids == actual.ids:
        rows = np.arange(len(expected), dtype=np.int64)
        return rows, rows, (), ()
    if expected.ids.kind is actual.ids.kind:
        found: Any = pc.index_in(expected.ids.array, value_set=actual.ids.array)
        at = np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)
    else:
        at = np.full(len(expected), -1, dtype=np.int64)
    left = np.flatnonzero(at >= 0)
    unmatched = np.setdiff1d(np.arange(len(actual)), at[left])
    return left, at[left], _texts(expected, np.flatnonzero(at < 0)), _texts(actual, unmatched)


def _texts(batch: Batch, rows: npt.NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(id_text(value) for value in batch.ids.take(rows).to_pylist())


def _vector_differences(name: str, expected: Batch, actual: Batch, tolerance: Tolerance) -> list[Difference]:
    one, two = expected.vectors.get(name), actual.vectors.get(name)
    there, here = _present(one, len(expected)), _present(two, len(actual))
    both = there & here
    if one is None or two is None:
        differ = np.zeros(len(expected), dtype=np.bool_)
    elif name in tolerance.min_cosine and isinstance(one, Dense | Multi) and _shape(one) == _shape(two):
        differ = both & (_cosines(one, two) < tolerance.min_cosine[name])
    else:
        differ = both & _rows_that_differ(one, two)
    where = f"vector '{name}'"
    found = []
    for row in np.flatnonzero(differ | (there != here)):
        text = id_text(expected.ids[int(row)])
        if one is None or two is None or not both[row]:
            texts = ["present" if side[row] else _MISSING for side in (there, here)]
            detail = "the vector is on one side only"
        else:
            texts, detail = _explain(one, two, int(row), angle=name in tolerance.min_cosine)
        found.append(Difference(id=text, where=where, expected=texts[0], actual=texts[1], detail=detail))
    return found


def _present(column: VectorColumn | None, records: int) -> Mask:
    return np.zeros(records, dtype=np.bool_) if column is None else is_valid(column)


def _rows_that_differ(one: VectorColumn, two: VectorColumn) -> Mask:
    """Which rows differ in any bit: bool (n,). Columns of other kinds or dimensions differ everywhere."""
    if _shape(one) != _shape(two):
        return np.ones(len(one), dtype=np.bool_)
    if isinstance(one, Dense | Packed) and isinstance(two, Dense | Packed):
        a, b = _bits(one.values), _bits(two.values)
        return np.zeros(len(one), dtype=np.bool_) if np.array_equal(a, b) else np.any(a != b, axis=1)
    rows = [_rows_of(column) for column in (one, two)]
    return np.array([left != right for left, right in zip(*rows, strict=True)], dtype=np.bool_)


def _rows_of(column: VectorColumn) -> list[tuple[bytes, bytes]]:
    """Each row of a ragged column as its bytes."""
    if isinstance(column, Sparse):
        spans = zip(column.indptr[:-1], column.indptr[1:], strict=True)
        return [(column.indices[low:high].tobytes(), column.values[low:high].tobytes()) for low, high in spans]
    if isinstance(column, Multi):
        spans = zip(column.offsets[:-1], column.offsets[1:], strict=True)
        return [(column.values[low:high].tobytes(), b"") for low, high in spans]
    return [(row.tobytes(), b"") for row in column.values]


def _shape(column: VectorColumn) -> tuple[object, ...]:
    """What must be equal before rows can be: kind, element, dimension."""
    if isinstance(column, Packed):
        return Packed, column.element, column.dim
    return (Sparse,) if isinstance(column, Sparse) else (type(column), column.dim)


def _bits(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array as unsigned integers, so that NaN equals NaN and 0.0 differs from -0.0."""
    return np.ascontiguousarray(values).view(np.dtype(f"u{values.dtype.itemsize}"))


def _cosines(one: VectorColumn, two: VectorColumn) -> npt.NDArray[np.float64]:
    """Least cosine per record of dense or multi vectors, float64 (n,); -inf where the numbers of rows differ.

    Raises:
        TypeError: the vectors are of another kind, or of two kinds.
    """
    if isinstance(one, Dense) and isinstance(two, Dense):
        return _row_cosines(one.values, two.values)
    if not (isinstance(one, Multi) and isinstance(two, Multi)):
        raise TypeError(f"{type(one).__name__} and {type(two).__name__} vectors have no angle between them")
    lengths = np.diff(one.offsets)
    same = np.flatnonzero(lengths == np.diff(two.offsets))
    least, cosines = np.ones(len(same)), np.full(len(one), -np.inf)
    record_of_row = np.repeat(np.arange(len(same)), lengths[same])
    np.minimum.at(least, record_of_row, _row_cosines(one.take(same).values, two.take(same).values))
    cosines[same] = least
    return cosines


def _row_cosines(one: Floats, two: Floats) -> npt.NDArray[np.float64]:
    """Cosine of each pair of rows, float64 (n,): 1 where bits are equal, -1 where one alone is zero or not finite."""
    equal = np.all(_bits(one) == _bits(two), axis=1)
    if equal.all():
        return np.ones(len(one))
    with np.errstate(all="ignore"):
        a, b = one.astype(np.float64), two.astype(np.float64)
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines = np.einsum("ij,ij->i", a, b) / lengths
    zero = ~a.any(axis=1) & ~b.any(axis=1)
    cosines = np.where(np.isfinite(cosines), cosines, -1.0)
    return np.where(equal | zero, 1.0, cosines)


def _explain(one: VectorColumn, two: VectorColumn, row: int, *, angle: bool) -> tuple[list[str], str]:
    """Two short texts and a sentence about a row that differs."""
    if _shape(one) != _shape(two):
        names = [" ".join(str(getattr(part, "__name__", part)) for part in _shape(column)) for column in (one, two)]
        return names, "the vectors are of different kinds"
    if angle and isinstance(one, Dense | Multi):
        one, two = one.take([row]), two.take([row])
        cosine = float(_cosines(one, two)[0])
        detail = f"the cosine is {cosine:.9f}" if np.isfinite(cosine) else "the numbers of rows differ"
        return [_shown(column.values.tolist()) for column in (one, two)], detail
    if isinstance(one, Dense | Packed) and isinstance(two, Dense | Packed):
        at = np.flatnonzero(_bits(one.values[row]) != _bits(two.values[row]))
        values = [repr(column.values[row][at[0]].item()) for column in (one, two)]
        return values, f"{len(at)} of {one.values.shape[1]} stored components differ, the first at {at[0]}"
    texts = [_shown([part.tolist() for part in _ragged(column, row)]) for column in (one, two)]
    return texts, "the vectors have other entries"


def _ragged(column: VectorColumn, row: int) -> Sequence[npt.NDArray[Any]]:
    taken = column.take([row])
    return (taken.indices, taken.values) if isinstance(taken, Sparse) else (taken.values,)


def _payload_differences(batch: Batch, row: int, expected: Payload, actual: Payload) -> list[Difference]:
    found = []
    for key in sorted({*expected, *actual}):
        if key in expected and key in actual:
            if same_value(expected[key], actual[key]):
                continue
            types = type(expected[key]).__name__, type(actual[key]).__name__
            detail = "the values differ" if types[0] == types[1] else f"expected {types[0]}, found {types[1]}"
        else:
            detail = "the field is not there" if key in expected else "nothing was expected in this field"
        texts = [_shown(side[key]) if key in side else "absent" for side in (expected, actual)]
        text = id_text(batch.ids[row])
        found.append(Difference(id=text, where=f"field '{key}'", expected=texts[0], actual=texts[1], detail=detail))
    return found


def _shown(value: Any) -> str:
    """JSON of a value, cut to a length that people can read."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
