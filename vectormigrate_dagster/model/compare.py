"""Compare two batches record by record: what was promised against what is there.

Vectors are compared as whole arrays first; rows are looked at one by one only where those differ.
"""

from __future__ import annotations

import json
import marshal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from vectormigrate_dagster.model.batch import Batch
from vectormigrate_dagster.model.id_kinds import id_text
from vectormigrate_dagster.model.payloads import EncodedPayloads, Payload, taken
from vectormigrate_dagster.model.vector_compare import (
    angles,
    entries_of,
    first_difference,
    furthest_component,
    rows_that_differ,
    shape_of,
)
from vectormigrate_dagster.model.vectors import Dense, Mask, Multi, Packed, VectorColumn, is_valid

_SHOWN_CHARACTERS = 200
_MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What is demanded of each vector.

    Args:
        min_cosine: name of a dense or multi vector -> least cosine between each row that was promised and what is
            there, for targets that keep only a vector's direction. Every vector that is not named must be equal bit
            for bit.
        normalised: names of those that the target scales to length 1. Each component must be the promised one so
            scaled, but for what rounding explains (`vector_compare`).
        written_back: names of those that the side which promises them scales to length 1 when it is written to, and
            it was: what is promised may be what is there, so scaled.
    """

    min_cosine: Mapping[str, float] = field(default_factory=dict)
    normalised: frozenset[str] = frozenset()
    written_back: frozenset[str] = frozenset()


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
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    checked = len(expected)
    if expected.ids != actual.ids:
        left, right, missing, extra = _match(expected, actual)
        expected, actual = expected.take(left), actual.take(right)
    differences: list[Difference] = []
    for name in sorted({*expected.vectors, *actual.vectors}):
        differences += _vector_differences(name, expected, actual, tolerance)
    for row in _payloads_that_differ(expected.payloads, actual.payloads):
        differences += _payload_differences(expected, row, expected.payloads[row], actual.payloads[row])
    return Comparison(checked=checked, missing=missing, extra=extra, differences=tuple(differences))


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
    wrong = there != here
    if one is not None and two is not None:
        wrong |= both & _wrong_rows(name, one, two, tolerance)
    where = f"vector '{name}'"
    found = []
    for row in np.flatnonzero(wrong).tolist():
        text = id_text(expected.ids[row])
        if one is None or two is None or not both[row]:
            texts = ["present" if side[row] else _MISSING for side in (there, here)]
            detail = "the vector is on one side only"
        else:
            texts, detail = _explain(one, two, row, name, tolerance)
        found.append(Difference(id=text, where=where, expected=texts[0], actual=texts[1], detail=detail))
    return found


def _present(column: VectorColumn | None, records: int) -> Mask:
    return np.zeros(records, dtype=np.bool_) if column is None else is_valid(column)


def _by_angle(name: str, one: VectorColumn, two: VectorColumn, tolerance: Tolerance) -> bool:
    return name in tolerance.min_cosine and isinstance(one, Dense | Multi) and shape_of(one) == shape_of(two)


def _wrong_rows(name: str, one: VectorColumn, two: VectorColumn, tolerance: Tolerance) -> Mask:
    """Which rows are not what is demanded: bool (n,)."""
    differ = rows_that_differ(one, two)
    if not (differ.any() and _by_angle(name, one, two, tolerance)):
        return differ
    back = name in tolerance.written_back
    ways = [(one, two, back or name in tolerance.normalised)]
    if back:
        ways.append((two, one, True))
    for promised, found, scaled in ways:
        rows = np.flatnonzero(differ)
        seen = angles(promised, found, rows, scaled=scaled)
        differ[rows] = (seen.cosine < tolerance.min_cosine[name]) | seen.off
    return differ


def _explain(one: VectorColumn, two: VectorColumn, row: int, name: str, tolerance: Tolerance) -> tuple[list[str], str]:
    """Two short texts and a sentence about a row that is wrong."""
    if shape_of(one) != shape_of(two):
        names = [" ".join(str(getattr(part, "__name__", part)) for part in shape_of(column)) for column in (one, two)]
        return names, "the vectors are of different kinds"
    if _by_angle(name, one, two, tolerance):
        return _explain_angle(one, two, row, tolerance.min_cosine[name])
    if isinstance(one, Dense | Packed) and isinstance(two, Dense | Packed):
        number, at, *values = first_difference(one, two, row)
        components = one.values.shape[1]
        detail = f"{number} of {components} stored components differ, the first at {at}"
        return [repr(value) for value in values], detail
    texts = [_shown([part.tolist() for part in entries_of(column, row)]) for column in (one, two)]
    return texts, "the vectors have other entries"


def _explain_angle(one: VectorColumn, two: VectorColumn, row: int, least: float) -> tuple[list[str], str]:
    cosine = float(angles(one, two, np.array([row]), scaled=False).cosine[0])
    a, b = (entries_of(column, row)[0] for column in (one, two))
    if not np.isfinite(cosine) or cosine < least:
        detail = f"the cosine is {cosine:.9f}" if np.isfinite(cosine) else "the numbers of rows differ"
        return [_shown(values.tolist()) for values in (a, b)], detail
    furthest = [furthest_component(*pair) for pair in zip(a.reshape(-1, a.shape[-1]), b, strict=True)]
    at, promised, found = max(furthest, key=lambda far: abs(far[2] - far[1]) / max(abs(far[1]), 1e-30))
    return [f"{promised:.9g}", f"{found:.9g}"], f"component {at} is off by more than scaling to length 1 explains"


def _payloads_that_differ(expected: Sequence[Payload], actual: Sequence[Payload]) -> list[int]:
    """Rows whose payloads are not the same value."""
    rows = _rows_to_look_at(expected, actual)
    one, two = (list(taken(payloads, rows)) for payloads in (expected, actual))
    frozen = _frozen(one)
    if frozen is not None and frozen == _frozen(two):
        return []
    return [row for row, *pair in zip(rows, one, two, strict=True) if not same_value(*pair)]


def _rows_to_look_at(expected: Sequence[Payload], actual: Sequence[Payload]) -> list[int]:
    """All rows, but for those whose payloads came in the same octets: these are not even decoded."""
    if isinstance(expected, EncodedPayloads) and isinstance(actual, EncodedPayloads) and expected.form is actual.form:
        octets = zip(expected.octets, actual.octets, strict=True)
        return [row for row, (one, two) in enumerate(octets) if one != two]
    return list(range(len(expected)))


def _frozen(value: list[Payload]) -> bytes | None:
    """JSON values as bytes that are equal only for the same values in the same order; None if there is no such form.

    Version 2 of Python's own format keeps every type and refers to nothing that it wrote before
    (https://docs.python.org/3/library/marshal.html); it is several times as fast as a look at each value.
    """
    try:
        return marshal.dumps(value, 2)
    except ValueError:
        return None


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
