"""From the truth about answers to numbers: one group of queries at a time, and the queries that went worst."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vectormigrate_dagster.model import Metric
from vectormigrate_dagster.model.vectors import Mask
from vectormigrate_dagster.validation.figures import Answer, SearchGroup, Side, WorstQuery, group_name
from vectormigrate_dagster.validation.scores import as_read, nearness
from vectormigrate_dagster.validation.search.asked import Asked, Filter
from vectormigrate_dagster.validation.search.ranking import Floats, interval, rank_biased_overlap
from vectormigrate_dagster.validation.search.settings import Searched
from vectormigrate_dagster.validation.search.truth import Truth

_SCORE_TOLERANCE = 0.01
"""Of the largest true score of a query: more than float16 and less than another metric."""

_SHOWN_ANSWERS = 10


@dataclass(frozen=True)
class Pair:
    """The same queries in one scope, asked of both databases.

    Args:
        source: None where the source could not be asked.
    """

    target: Asked
    source: Asked | None


@dataclass(frozen=True)
class Judged:
    """A group of queries over all scopes: without a filter, or by one field.

    Args:
        place: of the filter among those of every pair; None is without.
        squared: whether the target's and the source's euclidean scores are squared.
    """

    searched: Searched
    place: int | None
    pairs: Sequence[tuple[Pair, Truth, Truth | None]]
    k: int
    squared: tuple[bool, bool]
    seed: int

    @classmethod
    def of(cls, pairs: Sequence[Pair], place: int | None, *, k: int, squared: tuple[bool, bool], seed: int) -> Judged:
        """The group of one filter, or of none, out of queries by one vector."""
        found = [
            (pair, pair.target.truth(place), None if pair.source is None else pair.source.truth(place))
            for pair in pairs
        ]
        return cls(pairs[0].target.questions.searched, place, found, k, squared, seed)

    @property
    def filter(self) -> str | None:
        """The fields, as the target calls them; None is without."""
        return None if self.place is None else self._filter(0, self.place).name

    @property
    def name(self) -> str:
        """What was asked, for people."""
        return group_name(self.searched.vector, self.filter)

    @property
    def idle(self) -> int:
        """Queries that have nothing to find, and found nothing."""
        return sum(int((truth.empty & (truth.answered == 0)).sum()) for _, truth, _ in self.pairs)

    @property
    def strange(self) -> int:
        """Queries that have nothing to find, and found something."""
        return sum(int((truth.empty & (truth.answered > 0)).sum()) for _, truth, _ in self.pairs)

    @property
    def unsettled(self) -> int:
        """Queries that are not judged, because records that they name are in motion."""
        return sum(int(truth.unsettled.sum()) for _, truth, _ in self.pairs)

    @property
    def queries(self) -> int:
        """Queries that are judged and have something to find."""
        return sum(int(truth.askable.sum()) for _, truth, _ in self.pairs)

    @property
    def short(self) -> int:
        """Queries with fewer answers of the target than there are to find."""
        return sum(int(truth.short.sum()) for _, truth, _ in self.pairs)

    @property
    def imperfect(self) -> int:
        """Queries of which some answer of the target is wrong or missing."""
        return sum(int((truth.agreements()[truth.askable, -1] < 1).sum()) for _, truth, _ in self.pairs)

    def result(self) -> SearchGroup:
        """The numbers of this group, of which some query must have something to find."""
        target = _agreements([(truth, truth.askable) for _, truth, _ in self.pairs])
        both = [
            (truth, source, truth.askable & source.askable) for _, truth, source in self.pairs if source is not None
        ]
        asked_both = any(common.any() for _, _, common in both)
        source: Side | None = None
        compared: str | None = None
        if asked_both:
            theirs = _agreements([(source, common) for _, source, common in both])
            ours = _agreements([(truth, common) for truth, _, common in both])
            low, high = interval(ours[:, -1] - theirs[:, -1], seed=self.seed)
            compared = "better" if low > 0 else "worse" if high < 0 else "alike"
            source = self._side(theirs, [source for _, source, _ in both], squared=self.squared[1])
        return SearchGroup(
            vector=self.searched.vector,
            metric=self.searched.metric.value,
            filter=self.filter,
            queries=self.queries,
            scopes=len(self.pairs),
            k=self.k,
            short=self.short,
            target=self._side(target, [truth for _, truth, _ in self.pairs], squared=self.squared[0]),
            source=source,
            compared=compared,
        )

    def worst(self, number: int) -> list[WorstQuery]:
        """The queries whose answers are not all right, the worst ones first."""
        found = [
            (share, place, row)
            for place, (_, truth, _) in enumerate(self.pairs)
            for row, share in enumerate(truth.agreements()[:, -1])
            if truth.askable[row] and share < 1
        ]
        return [self._worst(place, row, share) for share, place, row in sorted(found)[:number]]

    def _side(self, agreements: Floats, truths: Sequence[Truth], *, squared: bool) -> Side:
        overlaps = agreements[:, -1]
        low, high = interval(overlaps, seed=self.seed)
        return Side(
            overlap=float(overlaps.mean()),
            low=low,
            high=high,
            worst=float(overlaps.min()),
            rbo=float(rank_biased_overlap(agreements).mean()),
            scores_agree=_scores_agree(truths, self.searched.metric, squared=squared),
            curve=tuple(float(share) for share in agreements.mean(axis=0)),
        )

    def _filter(self, pair: int, place: int) -> Filter:
        return self.pairs[pair][0].target.filters[place]

    def _worst(self, place: int, row: int, share: float) -> WorstQuery:
        pair, truth, source = self.pairs[place]
        wanted = None if self.place is None else self._filter(place, self.place)
        asked = row if wanted is None else wanted.rows[row]
        metric = self.searched.metric
        ids, scores = truth.best()
        return WorstQuery(
            query=pair.target.questions.names[asked],
            vector=self.searched.vector,
            scope=pair.target.questions.scope,
            where=None if wanted is None else wanted.text(asked),
            overlap=float(share),
            truth=tuple(
                Answer(id=str(key), score=as_read(metric, float(score)), right=True)
                for key, score in zip(ids[row][:_SHOWN_ANSWERS], scores[row][:_SHOWN_ANSWERS], strict=True)
                if np.isfinite(score)
            ),
            target=_answers(truth, row, metric, squared=self.squared[0]),
            source=() if source is None else _answers(source, row, metric, squared=self.squared[1]),
        )


def _agreements(truths: Sequence[tuple[Truth, Mask]]) -> Floats:
    return np.concatenate([truth.agreements()[rows] for truth, rows in truths])


def _scores_agree(truths: Sequence[Truth], metric: Metric, *, squared: bool) -> float | None:
    """Share of known answers whose own score is the true one, within 1 % of the query's largest true score."""
    agreeing: list[bool] = [agrees for truth in truths for agrees in _agreeing(truth, metric, squared=squared)]
    return float(np.mean(agreeing)) if agreeing else None


def _agreeing(truth: Truth, metric: Metric, *, squared: bool) -> Iterator[bool]:
    _, best = truth.best()
    for row, scores in enumerate(truth.true_scores()):
        claimed = nearness(metric, truth.claimed[row], squared_euclidean=squared)
        true = scores[: len(claimed)]
        known = np.isfinite(true)
        finite = np.abs(best[row][np.isfinite(best[row])])
        if known.any() and len(finite) and not truth.unsettled[row]:
            allowed = _SCORE_TOLERANCE * finite.max() + 1e-6 * truth.units[row]
            yield from (np.abs(claimed - true)[known] <= allowed).tolist()


def _answers(truth: Truth, row: int, metric: Metric, *, squared: bool) -> tuple[Answer, ...]:
    claimed = nearness(metric, truth.claimed[row], squared_euclidean=squared)
    right = truth.right()[row]
    return tuple(
        Answer(id=key, score=as_read(metric, float(score)) if np.isfinite(score) else None, right=bool(good))
        for key, score, good in zip(truth.answers[row][:_SHOWN_ANSWERS], claimed, right, strict=False)
    )
