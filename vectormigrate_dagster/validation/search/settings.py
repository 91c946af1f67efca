"""What the search tier asks and demands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.model import Metric

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Searched:
    """One vector that is searched by.

    Args:
        vector: its name in the target.
        metric: what the plan promised for it.
        source_vector: its name in the source, to measure the source's own answers too; None leaves that out.
    """

    vector: str
    metric: Metric
    source_vector: str | None = None


@dataclass(frozen=True, kw_only=True)
class GivenQueries:
    """Queries of the user's.

    Args:
        vectors: float32 (q, d), asked by every dense vector of d components.
        names: what each is called in a report.
        filters: fields and the values that they must hold; empty where a query has no filter.
    """

    vectors: npt.NDArray[np.float32]
    names: tuple[str, ...]
    filters: tuple[Mapping[str, bool | int | str], ...]

    @classmethod
    def of(cls, vectors: npt.NDArray[np.float32]) -> GivenQueries:
        """Queries that are called after their place, counted from 1."""
        names = tuple(f"query {i + 1}" for i in range(len(vectors)))
        return cls(vectors=vectors, names=names, filters=({},) * len(vectors))


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What the search tier asks and demands.

    Args:
        vectors: the vectors that are searched by.
        k: answers per query.
        queries: number of queries that are sampled from the records, unless `given`.
        given: queries that are asked in every scope; None samples records.
        filter: payload field that every query is asked by a second time, with the value of the record that it was
            taken from; "auto" finds one that both databases can filter by, None leaves that out. Queries that are given
            bring their own.
        source_fields: what a field of the target is called in the source, where that differs.
        min_overlap: least mean share of true nearest neighbours among the target's answers, filtered or not.
        skipped: what is not searched, and why.
        seed: the same one draws the same queries and the same bootstrap samples.
    """

    vectors: Sequence[Searched]
    k: int = 10
    queries: int = 100
    given: GivenQueries | None = None
    filter: str | None = AUTO
    source_fields: Mapping[str, str] = field(default_factory=dict)
    min_overlap: float = 0.95
    skipped: tuple[str, ...] = ()
    seed: int = 0
