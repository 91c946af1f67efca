"""Tier 4: the target's index finds what is nearest, by the metric that the plan promised.

The truth is ours: every promised vector is scored against every query while the source is scanned, a batch at a
time. Databases are asked first, so that one scan gives both the best scores and the true scores of their answers;
an answer counts when its true score is at least the k-th best one, so ties may be broken in any way.
Records of somebody else may stand in the target too; those among the answers are fetched and scored like ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases import Hits
from vectormigrate_dagster.model import Batch, Dense, Id, IdColumn, IdKind, Metric, Packed, id_text, is_valid
from vectormigrate_dagster.model.digests import Digests, digests
from vectormigrate_dagster.validation.check import Check
from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.report import TierResult
from vectormigrate_dagster.validation.sample import Reservoir
from vectormigrate_dagster.validation.scores import components, scores

_TIE = 1e-5
_MOST_SCOPES = 20

Queries = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What the search tier asks and demands.

    Args:
        vector: name of a dense vector in the target.
        metric: what the plan promised for it.
        source_vector: its name in the source, to measure the source's own answers too; None leaves that out.
        k: answers per query.
        queries: number of queries that are sampled from the records, unless `given`.
        given: queries float32 (q, d) that are asked in every scope; None samples records.
        min_overlap: least mean share of true nearest neighbours among the target's answers.
    """

    vector: str
    metric: Metric
    source_vector: str | None = None
    k: int = 10
    queries: int = 100
    given: Queries | None = None
    min_overlap: float = 0.95


class Truth:
    """Scores what passes by against the queries, and the answers of one database against that.

    Args:
        answers: one column of ids per query.
    """

    def __init__(self, queries: Queries, metric: Metric, k: int, answers: Sequence[IdColumn]) -> None:
        self.queries = queries
        self._metric = metric
        self._k = k
        self._answers = [np.unique(_keys(ids)) for ids in answers]
        self._wanted = np.unique(np.concatenate([*self._answers, np.zeros(0, dtype="S16")]))
        self._wanted_scores = np.full((len(queries), len(self._wanted)), -np.inf)
        self._best = np.full((len(queries), 0), -np.inf)
        self.vectors = 0

    def add(self, ids: IdColumn, column: Dense | Packed) -> None:
        """Let vectors pass by; records that lack the vector do not count."""
        rows = np.flatnonzero(is_valid(column))
        if len(rows) == 0:
            return
        passing = scores(self._metric, self.queries, components(column.take(rows)))
        self.vectors += len(rows)
        pool = np.concatenate([self._best, passing], axis=1)
        most = min(self._k, pool.shape[1])
        self._best = np.partition(pool, pool.shape[1] - most, axis=1)[:, pool.shape[1] - most :]
        if len(self._wanted):
            keys = _keys(ids.take(rows))
            at = np.minimum(np.searchsorted(self._wanted, keys), len(self._wanted) - 1)
            answered = np.flatnonzero(self._wanted[at] == keys)
            self._wanted_scores[:, at[answered]] = passing[:, answered]

    @property
    def complete(self) -> int:
        """Answers that a query must have: k, or all vectors if there are fewer."""
        return min(self._k, self.vectors)

    def short(self) -> int:
        """Queries with fewer answers than `complete`."""
        return sum(len(answer) < self.complete for answer in self._answers)

    def overlaps(self) -> npt.NDArray[np.float64]:
        """Share of true nearest neighbours among each query's answers, float64 (q,)."""
        if self.complete == 0:
            return np.zeros(len(self.queries))
        least = self._best.min(axis=1)
        least -= _TIE * np.maximum(1.0, np.abs(least))
        hits = np.array(
            [
                (self._wanted_scores[i, np.searchsorted(self._wanted, answer)] >= least[i]).sum()
                for i, answer in enumerate(self._answers)
            ],
            dtype=np.float64,
        )
        shares: npt.NDArray[np.float64] = np.minimum(hits, self.complete) / self.complete
        return shares


def _keys(ids: IdColumn) -> Digests:
    """Digests of the ids' texts: an answer that mixes kinds comes as text, and no database tells 42 from "42"."""
    return digests(IdColumn.of(IdKind.TEXT, map(id_text, ids.to_pylist())), None)


class SearchCheck(Check):
    """Asks both databases, then learns the truth from the batches that are added.

    Args:
        sample: promised records, from which queries are taken unless they are given.
    """

    def __init__(self, context: Context, settings: SearchSettings, sample: Sequence[Batch]) -> None:
        self._started = time.monotonic()
        self._context = context
        self._settings = settings
        described = context.throttle.target.call(context.target.describe)
        self._found_metric = described.vector(settings.vector).metric
        self._truths: dict[str | None, Truth] = {}
        for scope, queries in _queries(settings, sample).items():
            hits = context.throttle.target.call(
                _asking(context.target.search, settings, settings.vector, queries, scope)
            )
            truth = self._truths[scope] = Truth(queries, settings.metric, settings.k, hits.ids)
            for batch in _foreign(context, hits, described.ids.kinds, scope):
                self._learn(truth, batch)
        self._source_truths: dict[str | None, Truth] = {}
        self._ask_source()

    def add(self, part: Batch) -> None:
        """Learn from a promised batch."""
        truth = self._truths.get(part.scope)
        if truth is not None:
            self._learn(truth, self._context.written(part))

    def _learn(self, truth: Truth, batch: Batch) -> None:
        column = batch.vectors.get(self._settings.vector)
        if isinstance(column, Dense | Packed):
            truth.add(batch.ids, column)

    def add_source(self, batch: Batch) -> None:
        """Learn from a batch of the source, for the source's own overlap."""
        truth = self._source_truths.get(batch.scope)
        column = batch.vectors.get(self._settings.source_vector or "")
        if truth is not None and isinstance(column, Dense | Packed):
            truth.add(batch.ids, column)

    def result(self) -> TierResult:
        """Compare the answers with the truth, after all batches were added."""
        settings, context = self._settings, self._context
        asked = [truth for truth in self._truths.values() if truth.vectors]
        overlaps = np.concatenate([truth.overlaps() for truth in asked] or [np.zeros(0)])
        short = sum(truth.short() for truth in asked)
        mean = float(overlaps.mean()) if len(overlaps) else 0.0
        measures = {"overlap": mean, "worst": float(overlaps.min(initial=1.0)), "short_answers": float(short)}
        source = [truth.overlaps() for truth in self._source_truths.values() if truth.vectors]
        if source:
            measures["source_overlap"] = float(np.concatenate(source).mean())
        same_metric = self._found_metric is settings.metric
        found_enough = len(overlaps) > 0 and short == 0 and mean >= settings.min_overlap
        return TierResult(
            tier="search",
            passed=(found_enough and same_metric) or (len(overlaps) == 0 and context.both_empty),
            checked=len(overlaps),
            mismatched=int((overlaps < 1).sum()),
            statement=self._statement(measures, overlaps, same_metric=same_metric),
            measures=measures,
            seconds=time.monotonic() - self._started,
        )

    def _statement(self, measures: dict[str, float], overlaps: npt.NDArray[np.float64], *, same_metric: bool) -> str:
        settings = self._settings
        if len(overlaps) == 0:
            empty = self._context.both_empty
            return "both collections are empty" if empty else "no query could be asked, so nothing is proven"
        text = (
            f"overlap@{settings.k} with exact search is {measures['overlap']:.4f}{_interval(overlaps)} over "
            f"{len(overlaps):,} queries, {measures['worst']:.2f} for the worst; {settings.min_overlap} is demanded"
        )
        if "source_overlap" in measures:
            text += f"; the source's own is {measures['source_overlap']:.4f}"
        if measures["short_answers"]:
            text += f"; {measures['short_answers']:.0f} queries got too few answers"
        if not same_metric:
            found = self._found_metric.value if self._found_metric else "nothing"
            text += f"; vector '{settings.vector}' is compared by {found}, not by {settings.metric.value} as planned"
        return text

    def _ask_source(self) -> None:
        """Ask the source the same queries, scope by scope, where a scope of the target is one of the source."""
        settings, context = self._settings, self._context
        if settings.source_vector is None:
            return
        vector, scopes = settings.source_vector, set(context.scopes)
        for scope, truth in self._truths.items():
            if scope in scopes:
                asking = _asking(context.source.search, settings, vector, truth.queries, scope)
                hits = context.throttle.source.call(asking)
                self._source_truths[scope] = Truth(truth.queries, settings.metric, settings.k, hits.ids)


def _asking(
    search: Callable[..., Hits], settings: SearchSettings, vector: str, queries: Queries, scope: str | None
) -> Callable[[], Hits]:
    return lambda: search(queries, settings.k, vector=vector, scope=scope)


def _foreign(context: Context, hits: Hits, kinds: Sequence[IdKind], scope: str | None) -> Iterator[Batch]:
    """Yield the records among a target's answers that this migration did not write."""
    ours = context.exceptions.ours
    if ours is None:
        return
    answered = {id_text(value) for ids in hits.ids for value in ids.to_pylist()}
    for kind in kinds:
        ids = _of_kind(kind, answered)
        foreign = ids.take(np.flatnonzero(~ours(ids, scope)))
        if len(foreign):
            yield context.throttle.target.call(partial(context.target.fetch, foreign, scope)).batch


def _of_kind(kind: IdKind, texts: Iterable[str]) -> IdColumn:
    """Those ids that are of `kind`; an answer that mixes kinds comes as text."""
    found: list[Id] = []
    for text in sorted(texts):
        try:
            found.append(kind.decode(text))
        except ValueError:
            continue  # an id of another kind
    return IdColumn.of(kind, found)


def _interval(overlaps: npt.NDArray[np.float64]) -> str:
    """The 95 % confidence interval of the mean, by the normal approximation; empty for a single query."""
    if len(overlaps) < 2:
        return ""
    return f" ± {1.96 * float(overlaps.std(ddof=1)) / float(np.sqrt(len(overlaps))):.4f}"


def _queries(settings: SearchSettings, sample: Sequence[Batch]) -> dict[str | None, Queries]:
    """Queries per scope of the target, in at most 20 scopes."""
    scopes = list(dict.fromkeys(part.scope for part in sample))[:_MOST_SCOPES]
    if settings.given is not None:
        return dict.fromkeys(scopes, settings.given) if len(settings.given) else {}
    reservoir = Reservoir(settings.queries, seed=0)
    for part in sample:
        column = part.vectors.get(settings.vector)
        if part.scope in scopes and isinstance(column, Dense | Packed):
            reservoir.add(part.take(np.flatnonzero(is_valid(column))))
    found: dict[str | None, list[Queries]] = {}
    for part in reservoir.sample().parts:
        column = part.vectors[settings.vector]
        found.setdefault(part.scope, []).append(components(column).astype(np.float32))
    return {scope: np.concatenate(rows) for scope, rows in found.items()}
