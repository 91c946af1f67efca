"""Which queries are asked: the user's, or vectors of sampled records; and which fields they can be filtered by."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases import Queries
from vectormigrate_dagster.databases.columns import joined
from vectormigrate_dagster.model import (
    Batch,
    Dense,
    IdColumn,
    IdKind,
    Multi,
    Packed,
    Sparse,
    VectorColumn,
    id_text,
    is_valid,
)
from vectormigrate_dagster.model.vectors import Mask
from vectormigrate_dagster.validation.sample import Reservoir
from vectormigrate_dagster.validation.scores import components
from vectormigrate_dagster.validation.search.settings import AUTO, Searched, SearchSettings

Value = bool | int | str
Held = tuple[tuple[type, Value], ...]
"""The values that a record holds in some fields, each with its type: True is no 1."""

MOST_SCOPES = 20
_MOST_CANDIDATES = 3
_FREQUENT = 0.05
"""Share of the sample that a value must have to be filtered by unasked: of rare ones, approximate indexes miss some."""

_LARGEST_INT = 2**53
LONGEST_TEXT = 200


@dataclass(frozen=True)
class Questions:
    """Queries by one vector in one scope.

    Args:
        vectors: q queries.
        names: what each is called.
        payloads: of the record that each was taken from; what it is filtered by.
        given: the payloads are the filters of the user's, each to be asked as a whole.
    """

    searched: Searched
    scope: str | None
    vectors: Queries
    names: tuple[str, ...]
    payloads: Sequence[Mapping[str, Any]]
    given: bool = False

    def filtered(self, choice: Choice) -> dict[Held, list[int]]:
        """The queries that are filtered so, by the values that they demand."""
        found: dict[Held, list[int]] = {}
        for row, payload in enumerate(self.payloads):
            values = held(payload, choice.fields)
            another = self.given and len(payload) != len(choice.fields)
            if values is not None and not another and (choice.among is None or values in choice.among):
                found.setdefault(values, []).append(row)
        return found


@dataclass(frozen=True)
class Choice:
    """Fields that queries are filtered by at once.

    Args:
        fields: their names in the target.
        among: the values that are demanded; None is whatever a query brings.
    """

    fields: tuple[str, ...]
    among: frozenset[Held] | None = None

    @property
    def name(self) -> str:
        """The fields, for people."""
        return ", ".join(self.fields)


def questions(settings: SearchSettings, searched: Searched, sample: Sequence[Batch]) -> list[Questions]:
    """What is asked by one vector, scope by scope of the target, in at most 20 scopes."""
    scopes = list(dict.fromkeys(part.scope for part in sample))[:MOST_SCOPES]
    if settings.given is not None:
        return _given(settings, searched, scopes, sample)
    reservoir = Reservoir(settings.queries, seed=settings.seed)
    for part in sample:
        column = part.vectors.get(searched.vector)
        if part.scope in scopes and column is not None:
            reservoir.add(part.take(np.flatnonzero(is_valid(column) & _something(column))))
    drawn: dict[str | None, list[Batch]] = {}
    for part in reservoir.sample().parts:
        drawn.setdefault(part.scope, []).append(_only(part, searched.vector))
    return [_sampled(searched, scope, parts) for scope, parts in drawn.items()]


def rows_of(vectors: Queries, rows: Sequence[int]) -> Queries:
    """Some of the queries."""
    if isinstance(vectors, Sparse | Multi):
        return vectors.take(list(rows))
    return vectors[list(rows)]


def condition_value(value: Any) -> Value | None:
    """A value that every database can filter by, or None; a whole float is an int, as some databases give it back."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST_INT else None
    plain = isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT and value == value.strip()
    return value if plain else None


def held(payload: Mapping[str, Any], fields: Sequence[str]) -> Held | None:
    """What a record holds in all of these fields; None if it cannot be filtered by one of them."""
    values = [condition_value(payload.get(name)) for name in fields]
    return None if None in values else tuple((type(value), value) for value in values if value is not None)


def choices(settings: SearchSettings, sample: Sequence[Batch]) -> list[Choice]:
    """What queries may be filtered by, the most promising first."""
    if settings.given is not None:
        return [Choice(fields) for fields in sorted({tuple(sorted(one)) for one in settings.given.filters if one})]
    if settings.filter is None:
        return []
    return _candidates(sample) if settings.filter == AUTO else [Choice((settings.filter,))]


def _candidates(sample: Sequence[Batch]) -> list[Choice]:
    """Fields of which every sampled record holds a value of one type, and of which several values are frequent."""
    counts: defaultdict[str, Counter[Held]] = defaultdict(Counter)
    for part in sample:
        for payload in part.payloads:
            for key in payload:
                values = held(payload, [key])
                if values is not None:
                    counts[key][values] += 1
    total = sum(map(len, sample))
    useful = []
    for key, counted in counts.items():
        # Databases differ in whether 1 is true, so a field of several types has no one answer.
        if counted.total() == total and len({kind for ((kind, _),) in counted}) == 1:
            frequent = frozenset(value for value, count in counted.items() if count >= max(2, _FREQUENT * total))
            useful += [Choice((key,), frequent)] if len(frequent) > 1 else []
    return sorted(useful, key=lambda choice: (len(choice.among or ()), choice.name))[:_MOST_CANDIDATES]


def _given(
    settings: SearchSettings, searched: Searched, scopes: Sequence[str | None], sample: Sequence[Batch]
) -> list[Questions]:
    given = settings.given
    dims = {_dim(part.vectors.get(searched.vector)) for part in sample} - {None}
    if given is None or len(given.vectors) == 0 or given.vectors.shape[1] not in dims:
        return []
    return [Questions(searched, scope, given.vectors, given.names, given.filters, given=True) for scope in scopes]


def _dim(column: VectorColumn | None) -> int | None:
    return column.dim if isinstance(column, Dense | Packed) else None


def _only(part: Batch, vector: str) -> Batch:
    return Batch(part.ids, part.scope, {vector: part.vectors[vector]}, part.payloads)


def _sampled(searched: Searched, scope: str | None, parts: Sequence[Batch]) -> Questions:
    names = tuple(_names(parts))
    payloads = [dict(payload) for part in parts for payload in part.payloads]
    columns = [part.vectors[searched.vector] for part in parts]
    vectors: Queries
    if isinstance(columns[0], Sparse | Multi):
        whole = joined([_renumbered(part) for part in parts]).vectors[searched.vector]
        assert isinstance(whole, Sparse | Multi)  # noqa: S101  # as its first part is
        vectors = whole
    else:
        vectors = _floats(columns)
    return Questions(searched, scope, vectors, names, payloads)


def _renumbered(part: Batch) -> Batch:
    """The same vectors under ids of one kind: parts may have ids of several."""
    return Batch(IdColumn.of(IdKind.U64, range(len(part))), part.scope, part.vectors, part.payloads)


def _something(column: VectorColumn) -> Mask:
    """Which vectors point anywhere: others have no neighbours, and some databases refuse them as queries."""
    if isinstance(column, Sparse | Multi):
        ends = column.indptr if isinstance(column, Sparse) else column.offsets
        return np.asarray(np.diff(ends) > 0)
    values = components(column)
    return np.asarray((values != 0).any(axis=1) & np.isfinite(values).all(axis=1))


def _names(parts: Sequence[Batch]) -> Iterator[str]:
    for part in parts:
        yield from map(id_text, part.ids.to_pylist())


def _floats(columns: Sequence[VectorColumn]) -> npt.NDArray[np.float32]:
    return np.concatenate([components(column).astype(np.float32) for column in columns])
