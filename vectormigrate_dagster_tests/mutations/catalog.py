"""The mutations: what is changed in a target, which tier has to notice it, and which records it has to name."""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from vectormigrate_dagster.model import (
    Batch,
    Dense,
    Id,
    IdColumn,
    IdKind,
    Multi,
    Payload,
    Sparse,
    VectorColumn,
    id_text,
    is_valid,
)
from vectormigrate_dagster.model.compare import Tolerance, compare
from vectormigrate_dagster.model.vector_compare import COMPONENT_ROUNDING

COUNT, IDS, RECORDS, SEARCH = "count", "ids", "records", "search"
_LEAST_SIZE = 1e-6
"""Of a component whose rounding can be told."""

_PLACES = 6
"""Places at which a mutation is tried until the target takes it."""


@dataclass(frozen=True, eq=False)
class Change:
    """Records of a target that are written or deleted: each a batch of one."""

    puts: Sequence[Batch] = ()
    removes: Sequence[Batch] = ()

    @property
    def named(self) -> set[str]:
        """The ids that it concerns."""
        return {id_text(one.ids[0]) for one in (*self.puts, *self.removes)}


@dataclass(frozen=True, eq=False)
class Mutation:
    """One way of being wrong.

    Args:
        tiers: those that must fail.
        changes: the same at several places; the first that the target takes counts.
    """

    name: str
    tiers: frozenset[str]
    changes: Sequence[Change] = field(default=())


def mutations_of(records: Sequence[Batch], tolerance: Tolerance, scopes: Sequence[str | None]) -> Iterator[Mutation]:
    """Every mutation of what a target holds.

    Args:
        records: all of it, record by record.
        tolerance: what is demanded of vectors.
        scopes: how the target is divided.
    """
    yield from _of_vectors(records, tolerance)
    yield from _of_payloads(records)
    yield from _of_records(records, scopes)


########## Vectors ##########


def _of_vectors(records: Sequence[Batch], tolerance: Tolerance) -> Iterator[Mutation]:
    for name in sorted({name for one in records for name in one.vectors}):
        there = [one for one in records if name in one.vectors and is_valid(one.vectors[name])[0]]
        column = there[0].vectors[name]
        if isinstance(column, Dense):
            yield from _of_dense(name, there, tolerance)
        elif isinstance(column, Sparse):
            yield _vector(f"sparse '{name}': a weight by one ulp", name, there, _next_weight)
            yield _vector(f"sparse '{name}': an index by one", name, there, _next_index)
        elif isinstance(column, Multi):
            yield _vector(f"multi '{name}': a component by one ulp", name, there, _next_component)
            yield _vector(f"multi '{name}': a row less", name, there, _row_less)
        yield _swapped(f"vector '{name}': two swapped", name, there)


def _of_dense(name: str, there: Sequence[Batch], tolerance: Tolerance) -> Iterator[Mutation]:
    if name in tolerance.normalised:
        yield _vector(f"vector '{name}': a float by more than scaling explains", name, there, _beyond_rounding)
    if name in tolerance.min_cosine:
        least = tolerance.min_cosine[name]
        yield _vector(f"vector '{name}': just beyond the angle", name, there, lambda one: _turned(one, least - 1e-6))
    else:
        yield _vector(f"vector '{name}': a float by one ulp", name, there, _by_one_ulp)
        yield _vector(f"vector '{name}': the last float by one ulp", name, there[::-1], _last_by_one_ulp)
    yield _vector(f"vector '{name}': by a lot", name, there, lambda one: Dense(-one.values - np.float32(0.5)))


def covered(name: str, records: Sequence[Batch], tolerance: Tolerance) -> Change:
    """A vector changed by no more than the tolerance covers: nothing may fail."""
    there = [one for one in records if name in one.vectors and is_valid(one.vectors[name])[0]]
    column = there[0].vectors[name]
    assert isinstance(column, Dense)
    least = tolerance.min_cosine[name]
    changed = _by_one_ulp(column) if name in tolerance.normalised else _turned(column, least + 1e-6)
    return Change([_with_vector(there[0], name, changed)])


def _vector(name: str, vector: str, there: Sequence[Batch], change: Any) -> Mutation:
    changes = []
    for one in there[:_PLACES]:
        changed = change(one.vectors[vector])
        if changed is not None:
            changes.append(Change([_with_vector(one, vector, changed)]))
    return Mutation(name, frozenset({RECORDS}), changes)


def _swapped(name: str, vector: str, there: Sequence[Batch]) -> Mutation:
    pairs = [
        (one, two)
        for one, two in pairwise(there)
        if one.vectors[vector].values.tobytes() != two.vectors[vector].values.tobytes()
    ]
    changes = [
        Change([_with_vector(one, vector, two.vectors[vector]), _with_vector(two, vector, one.vectors[vector])])
        for one, two in pairs[:_PLACES]
    ]
    return Mutation(name, frozenset({RECORDS}), changes)


def _with_vector(record: Batch, name: str, column: VectorColumn) -> Batch:
    return replace(record, vectors={**record.vectors, name: column})


def _ulp(values: np.ndarray, at: tuple[int, ...]) -> np.ndarray:
    changed = values.copy()
    changed[at] = np.nextafter(values[at], np.float32(np.inf))
    return changed


def _by_one_ulp(column: Dense) -> Dense:
    return Dense(_ulp(column.values, (0, int(np.argmax(np.abs(column.values[0]))))))


def _beyond_rounding(column: Dense) -> Dense | None:
    """The smallest component off by twice what scaling a vector to length 1 may change of it."""
    sizes = np.abs(column.values[0])
    if not (sizes > _LEAST_SIZE).all():
        return None
    values = column.values.copy()
    values[0, int(np.argmin(sizes))] *= np.float32(1 + 2 * COMPONENT_ROUNDING)
    return Dense(values)


def _last_by_one_ulp(column: Dense) -> Dense | None:
    return Dense(_ulp(column.values, (0, -1))) if column.values[0, -1] else None


def _next_weight(column: Sparse) -> Sparse | None:
    return replace(column, values=_ulp(column.values, (0,))) if len(column.values) else None


def _next_index(column: Sparse) -> Sparse | None:
    if len(column.indices) == 0:
        return None
    indices = column.indices.copy()
    indices[-1] += 1
    return replace(column, indices=indices)


def _next_component(column: Multi) -> Multi | None:
    return replace(column, values=_ulp(column.values, (0, 0))) if len(column.values) else None


def _row_less(column: Multi) -> Multi | None:
    if len(column.values) < 2:
        return None
    return Multi(np.array([0, len(column.values) - 1], dtype=np.int64), column.values[:-1])


def _turned(column: VectorColumn, cosine: float) -> Dense:
    """The vector at an angle of that cosine, of the same length."""
    assert isinstance(column, Dense)
    one = column.values[0].astype(np.float64)
    length = np.linalg.norm(one)
    one /= length
    other = np.zeros_like(one)
    other[int(np.argmin(np.abs(one)))] = 1.0
    other -= (other @ one) * one
    other /= np.linalg.norm(other)
    return Dense(((one * cosine + other * np.sqrt(1 - cosine**2)) * length).astype(np.float32)[None, :])


########## Payloads ##########


def _of_payloads(records: Sequence[Batch]) -> Iterator[Mutation]:
    found: dict[str, list[Change]] = {}
    for record in records:
        for key, value in record.payloads[0].items():
            for name, changed in _changed(value):
                places = found.setdefault(name, [])
                if len(places) < _PLACES:
                    places.append(Change([_with_value(record, key, changed)]))
    for name in sorted(found):
        yield Mutation(f"payload: {name}", frozenset({RECORDS}), found[name])
    yield Mutation(
        "payload: absent to null",
        frozenset({RECORDS}),
        [Change([_with_value(one, "added", None)]) for one in records[:_PLACES]],
    )
    yield Mutation(
        "payload: a field more",
        frozenset({RECORDS}),
        [Change([_with_value(one, "added", "x")]) for one in records[:_PLACES]],
    )


def _changed(value: Any) -> Iterator[tuple[str, Any]]:
    """Other values of each type; `...` is no value at all."""
    if value is None:
        yield from (("null to absent", ...), ("null to text", "null"))
    elif isinstance(value, bool):
        yield from (("a bool flipped", not value), ("bool to int", int(value)), ("bool to text", str(value).lower()))
    elif isinstance(value, int):
        yield from (("an int by one", value + 1 if value < 2**60 else value - 1), ("int to text", str(value)))
        if float(value) == value and abs(value) < 2**53:
            yield "int to float (1 to 1.0)", float(value)
    elif isinstance(value, float):
        yield "a float by one ulp", float(np.nextafter(value, np.inf if value < 1e300 else 0))
        if value.is_integer() and abs(value) < 2**53:
            yield "float to int (1.0 to 1)", int(value)
    elif isinstance(value, str):
        yield from (("a text by one character", f"{value}x"), ("text to absent", ...), ("text to null", None))
        if unicodedata.normalize("NFD", value) != value:
            yield "a text in another normal form", unicodedata.normalize("NFD", value)
    elif isinstance(value, list):
        if len(value) > 1 and value[::-1] != value:
            yield "a list reversed", value[::-1]
        yield from (("a list cut", value[:-1]),) if value else (("an empty list to absent", ...),)
        for name, changed in _changed(value[0]) if value and not isinstance(value[0], str) else ():
            if changed is not ...:
                yield f"in a list: {name}", [changed, *value[1:]]
    else:
        yield "an object to absent", ...
        for key, inner in value.items():
            for name, changed in _changed(inner):
                yield f"in an object: {name}", _set(value, key, changed)


def _with_value(record: Batch, key: str, value: Any) -> Batch:
    return replace(record, payloads=[_set(record.payloads[0], key, value)])


def _set(payload: Payload, key: str, value: Any) -> Payload:
    return {name: one for name, one in {**payload, key: value}.items() if one is not ...}


########## Records ##########


def _of_records(records: Sequence[Batch], scopes: Sequence[str | None]) -> Iterator[Mutation]:
    places = records[:: max(1, len(records) // 3)]
    added = [_as_new(one) for one in places]
    yield Mutation("a record dropped", frozenset({COUNT, IDS}), [Change(removes=[one]) for one in places])
    yield Mutation("a record added", frozenset({COUNT, IDS}), [Change([one]) for one in added])
    yield Mutation(
        "a record under another id",
        frozenset({IDS}),
        [Change([new], [one]) for one, new in zip(places, added, strict=True)],
    )
    like = [one for one in records if _group(one) == _group(records[0])]
    pairs = [(one, replace(two, ids=one.ids)) for one, two in zip(like, [*like[1:], like[0]], strict=True)]
    shuffled = [two for one, two in pairs if not compare(one, two).equal]
    yield Mutation("ids shuffled", frozenset({RECORDS}), [Change(shuffled)])
    if len(scopes) > 1:
        moved = [(one, replace(one, scope=next(s for s in scopes if s != one.scope))) for one in places]
        free = [(one, two) for one, two in moved if _place(two) not in {_place(record) for record in records}]
        yield Mutation("a record in another scope", frozenset({IDS}), [Change([two], [one]) for one, two in free])


def _group(record: Batch) -> tuple[str | None, IdKind]:
    return record.scope, record.ids.kind


def _place(record: Batch) -> tuple[str | None, str]:
    return record.scope, id_text(record.ids[0])


def _as_new(record: Batch) -> Batch:
    """The record under an id that nothing has."""
    new: dict[IdKind, Id] = {
        IdKind.U64: 987_654_321,
        IdKind.I64: 987_654_321,
        IdKind.UUID: uuid.UUID(int=987_654_321),
        IdKind.TEXT: "nobody has this id",
    }
    return replace(record, ids=IdColumn.of(record.ids.kind, [new[record.ids.kind]]))
