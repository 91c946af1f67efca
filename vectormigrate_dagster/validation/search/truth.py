"""The nearest records of all, and the true scores of answers, learnt while vectors pass by in batches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases import Hits
from vectormigrate_dagster.model import IdColumn, IdKind, id_text
from vectormigrate_dagster.model.digests import Digests, digests
from vectormigrate_dagster.model.vectors import Mask
from vectormigrate_dagster.validation.search.ranking import Floats, agreement

_TIE = 1e-5
_NO_KEYS = np.zeros(0, dtype="S16")
_NO_PLACES = np.zeros(0, dtype=np.int64)

Texts = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Labels:
    """Ids of a batch as texts, and their digests."""

    texts: Texts
    keys: Digests

    @classmethod
    def of(cls, ids: IdColumn) -> Labels:
        """The labels of a column."""
        texts = [id_text(value) for value in ids.to_pylist()]
        return cls(np.array(texts, dtype=object), _keys(texts))


class Truth:
    """The truth about q queries and one database's answers to them; its memory does not grow with the collection.

    Args:
        k: answers per query.
        hits: the answers of the database.
        units: see `slack`, float64 (q,); None is 1 for all.
    """

    def __init__(self, k: int, hits: Hits, units: Floats | None = None) -> None:
        self._k = k
        queries = len(hits.ids)
        self.units: Floats = np.ones(queries) if units is None else units
        self.answers = [[id_text(value) for value in ids.to_pylist()][:k] for ids in hits.ids]
        self.claimed = [np.asarray(found, dtype=np.float64)[:k] for found in hits.scores]
        self._answer_keys = [_keys(texts) for texts in self.answers]
        # Every answer but repeated ones, sorted by key; its place is that in the flattened (q, k) scores.
        firsts = [np.unique(keys, return_index=True) for keys in self._answer_keys]
        wanted = np.concatenate([*(keys for keys, _ in firsts), _NO_KEYS])
        places = np.concatenate([*(row * k + ranks for row, (_, ranks) in enumerate(firsts)), _NO_PLACES])
        order = np.argsort(wanted, kind="stable")
        self._wanted, self._places = wanted[order], places[order]
        self._true = np.full(queries * k, -np.inf)
        self._best = np.full((queries, 0), -np.inf)
        self._best_ids: Texts = np.empty((queries, 0), dtype=object)
        self.passed = np.zeros(queries, dtype=np.int64)
        self.unsettled: Mask = np.zeros(queries, dtype=np.bool_)
        """Queries that are not judged, bool (q,)."""

    def add(self, labels: Labels, scores: Floats, passing: Mask | None = None) -> None:
        """Let vectors pass by.

        Args:
            labels: the ids of n records that have the vector.
            scores: of each for each query, float64 (q, n), higher is nearer; what is not finite is never found.
            passing: which of them each query may find, bool (q, n); None is all.
        """
        findable = np.isfinite(scores) if passing is None else passing & np.isfinite(scores)
        scores = np.where(findable, scores, -np.inf)
        self.passed += findable.sum(axis=1)
        self._keep_best(labels.texts, scores)
        self._keep_answers(labels.keys, scores)

    def _keep_answers(self, keys: Digests, scores: Floats) -> None:
        first = np.searchsorted(self._wanted, keys, side="left")
        counts = np.searchsorted(self._wanted, keys, side="right") - first
        for record in np.flatnonzero(counts):
            places = self._places[first[record] : first[record] + counts[record]]
            self._true[places] = scores[places // self._k, record]

    def _keep_best(self, texts: Texts, scores: Floats) -> None:
        kept = self._best.shape[1]
        pool = np.concatenate([self._best, scores], axis=1)
        most = min(self._k, pool.shape[1])
        places = np.argpartition(pool, pool.shape[1] - most, axis=1)[:, pool.shape[1] - most :]
        self._best = np.take_along_axis(pool, places, axis=1)
        found = texts[np.maximum(places - kept, 0)]
        if kept:
            older = np.take_along_axis(self._best_ids, np.minimum(places, kept - 1), axis=1)
            found = np.where(places < kept, older, found)
        self._best_ids = found

    @property
    def answered(self) -> npt.NDArray[np.int64]:
        """Different answers to each query, int64 (q,)."""
        return np.array([len(np.unique(keys)) for keys in self._answer_keys], dtype=np.int64)

    @property
    def complete(self) -> npt.NDArray[np.int64]:
        """Answers that each query must have: k, or all records that it may find if those are fewer; int64 (q,)."""
        return np.minimum(self._k, self.passed)

    @property
    def askable(self) -> Mask:
        """Queries that are judged, and for which there is anything to find, bool (q,)."""
        return np.asarray((self.passed > 0) & ~self.unsettled)

    @property
    def empty(self) -> Mask:
        """Queries that are judged, and for which there is nothing to find, bool (q,)."""
        return np.asarray((self.passed == 0) & ~self.unsettled)

    @property
    def short(self) -> Mask:
        """Judged queries with fewer different answers than `complete`, bool (q,)."""
        return (self.answered < self.complete) & ~self.unsettled

    def named(self) -> list[set[str]]:
        """The ids of each query's answers and of the nearest records."""
        texts, scores = self.best()
        return [
            {*answers, *row[np.isfinite(near)]} for answers, row, near in zip(self.answers, texts, scores, strict=True)
        ]

    def leave_out(self, texts: Collection[str]) -> None:
        """Do not judge queries that name one of some ids."""
        if texts:
            self.unsettled |= np.array([not named.isdisjoint(texts) for named in self.named()], dtype=np.bool_)

    def best(self) -> tuple[Texts, Floats]:
        """Ids and scores of the nearest records in falling order, (q, at most k)."""
        order = np.argsort(-self._best, axis=1, kind="stable")
        return np.take_along_axis(self._best_ids, order, axis=1), np.take_along_axis(self._best, order, axis=1)

    def true_scores(self) -> Floats:
        """True scores of the answers in their order, float64 (q, k); -inf for none, an unknown or a repeated one."""
        return self._true.reshape(-1, self._k)

    def agreements(self) -> Floats:
        """Share of right answers at every depth up to k, float64 (q, k).

        A query that can find fewer than k records is judged by those: from there on its share stays what it is.
        """
        _, best = self.best()
        found = np.full((len(best), self._k), 0.0)
        for complete in np.unique(self.complete[self.askable]):
            rows = np.flatnonzero(self.complete == complete)
            least = best[rows, :complete]
            shares = agreement(self.true_scores()[rows, :complete], least, slack(least, self.units[rows]))
            found[rows] = np.concatenate([shares, np.repeat(shares[:, -1:], self._k - complete, axis=1)], axis=1)
        return found

    def right(self) -> Mask:
        """Which answers, in their order, are as near as one of the nearest: bool (q, k)."""
        _, best = self.best()
        last = np.maximum(self.complete - 1, 0)
        least = np.take_along_axis(best, last[:, None], axis=1) if best.shape[1] else np.full((len(best), 1), np.inf)
        return np.asarray(self.true_scores() >= least - slack(least, self.units))


def slack(scores: Floats, units: Floats) -> Floats:
    """By how much a score may be smaller and still be a tie: databases compute in float32.

    Args:
        scores: float64 (q, k).
        units: how large scores of each query are that are not near 0, `scores.unit_scores`, float64 (q,).
    """
    return np.asarray(_TIE * np.maximum(units[:, None], np.abs(scores)))


def _keys(texts: Sequence[str]) -> Digests:
    """Digests of the ids' texts: an answer that mixes kinds comes as text, and no database tells 42 from "42"."""
    return digests(IdColumn.of(IdKind.TEXT, texts), None)
