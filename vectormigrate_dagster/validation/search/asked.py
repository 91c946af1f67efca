"""One database's answers to queries by one vector in one scope, and the truth about them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases import Hits, Queries, Where
from vectormigrate_dagster.model import Batch, Dense, IdColumn, Packed, VectorColumn, is_valid
from vectormigrate_dagster.model.vectors import Mask
from vectormigrate_dagster.validation.scores import scores_of, unit_scores
from vectormigrate_dagster.validation.search.questions import Held, Questions, Value, held, rows_of
from vectormigrate_dagster.validation.search.truth import Labels, Truth

_FLOATS_AT_ONCE = 2 * 2**20
"""Components of records, and scores of all queries for them: 16 MiB each, of which a few copies are made."""

Ask = Callable[[Queries, Where | None], Hits]
"""Searches one database by one vector in one scope."""


@dataclass(frozen=True)
class Filter:
    """What queries are filtered by, under the names that the fields have in one database.

    Args:
        demanded: the queries by the values that they demand.
    """

    fields: tuple[str, ...]
    demanded: Mapping[Held, list[int]]

    @property
    def name(self) -> str:
        """The fields, for people."""
        return ", ".join(self.fields)

    @cached_property
    def rows(self) -> list[int]:
        """The queries that are filtered, ascending."""
        return sorted(row for rows in self.demanded.values() for row in rows)

    def where(self, values: Held) -> dict[str, Value]:
        """The filter for some values."""
        return {name: value for name, (_, value) in zip(self.fields, values, strict=True)}

    def passing(self, payloads: Iterable[Mapping[str, Any]]) -> Mask:
        """Which records each filtered query may find, bool (len(rows), n)."""
        place = {row: i for i, row in enumerate(self.rows)}
        kinds = {values: kind for kind, values in enumerate(self.demanded)}
        of_query = np.zeros(len(place), np.int64)
        for demanded, rows in self.demanded.items():
            of_query[[place[row] for row in rows]] = kinds[demanded]
        of_record = [-1 if (values := held(one, self.fields)) is None else kinds.get(values, -1) for one in payloads]
        return np.asarray(of_query[:, None] == np.array(of_record, np.int64)[None, :])

    def text(self, row: int) -> str:
        """What a query demands, for people."""
        values = next(values for values, rows in self.demanded.items() if row in rows)
        return " and ".join(
            f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in self.where(values).items()
        )


class Asked:
    """Asks at once; then learns the truth from batches.

    Args:
        vector: the vector's name in this database.
        ask: how it is searched.
        k: answers per query.
        filters: what the queries are asked by once more.
    """

    def __init__(self, questions: Questions, *, vector: str, ask: Ask, k: int, filters: Sequence[Filter]) -> None:
        self.questions = questions
        self._vector = vector
        self.filters = filters
        units = unit_scores(questions.searched.metric, questions.vectors)
        self.plain = Truth(k, ask(questions.vectors, None), units)
        self.filtered = [Truth(k, _filtered(questions, one, ask), units[one.rows]) for one in filters]

    def truth(self, place: int | None) -> Truth:
        """What was found with a filter, or without any."""
        return self.plain if place is None else self.filtered[place]

    @property
    def truths(self) -> list[Truth]:
        """What was found without a filter and with each."""
        return [self.plain, *self.filtered]

    def add(self, batch: Batch) -> None:
        """Let records pass by, not too many at once; those that lack the vector do not count."""
        column = batch.vectors.get(self._vector)
        if column is not None and len(column):
            rows = np.flatnonzero(is_valid(column))
            floats = column.dim if isinstance(column, Dense | Packed) else column.values.size // len(column)
            step = max(1, _FLOATS_AT_ONCE // max(1, floats, len(self.questions.vectors)))
            for start in range(0, len(rows), step):
                self._add(batch, column, rows[start : start + step])

    def _add(self, batch: Batch, column: VectorColumn, rows: npt.NDArray[np.int64]) -> None:
        labels = Labels.of(batch.ids.take(rows))
        scores = scores_of(self.questions.searched.metric, self.questions.vectors, column.take(rows))
        self.plain.add(labels, scores)
        if self.filters:
            payloads = [batch.payloads[int(row)] for row in rows]
            for one, truth in zip(self.filters, self.filtered, strict=True):
                truth.add(labels, scores[one.rows], one.passing(payloads))


def _filtered(questions: Questions, wanted: Filter, ask: Ask) -> Hits:
    """The answers to filtered queries, in the order of `Filter.rows`."""
    ids: dict[int, IdColumn] = {}
    scores = {}
    for values, rows in wanted.demanded.items():
        hits = ask(rows_of(questions.vectors, rows), wanted.where(values))
        for row, found, claimed in zip(rows, hits.ids, hits.scores, strict=True):
            ids[row], scores[row] = found, claimed
    return Hits([ids[row] for row in wanted.rows], [scores[row] for row in wanted.rows])
