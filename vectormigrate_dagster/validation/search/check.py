"""Asks both databases, learns the truth while the source is read, and says whether search still works."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from vectormigrate_dagster.databases import Database, Hits, Queries, Source, Where
from vectormigrate_dagster.errors import AuthenticationFailed, DatabaseError, Throttled, Unavailable
from vectormigrate_dagster.model import Batch, IdColumn, IdKind
from vectormigrate_dagster.transfer.throttle import Retry
from vectormigrate_dagster.validation.check import Check
from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.figures import SearchGroup
from vectormigrate_dagster.validation.picture import picture
from vectormigrate_dagster.validation.report import TierResult
from vectormigrate_dagster.validation.search.asked import Ask, Asked, Filter
from vectormigrate_dagster.validation.search.judging import Judged, Pair
from vectormigrate_dagster.validation.search.questions import (
    MOST_SCOPES,
    Choice,
    Questions,
    choices,
    questions,
    rows_of,
)
from vectormigrate_dagster.validation.search.settings import AUTO, SearchSettings
from vectormigrate_dagster.validation.search.statement import statement
from vectormigrate_dagster.validation.search.unsettled import Unsettled, ids_of_kind

_WORST = 5
_ROUGH = re.compile(r"PQ|SQ|BQ|RQ|RABITQ|SCANN|HQ", re.IGNORECASE)
"""Indexes that give back the scores of rounded vectors."""

_LEAST_AGREEING = 0.5

_MORE_EFFORT = "a search that weighs more candidates finds more: set target.options.{0} to what the application uses"
_ANSWERS_AT_ONCE = 10_000
"""What one request asks for, whatever a database would take: 1,000 queries for the 10 nearest."""


class SearchCheck(Check):
    """Asks both databases at once, then learns the truth from the batches that are added.

    Args:
        sample: promised records, from which queries are taken unless they are given.
    """

    def __init__(self, context: Context, settings: SearchSettings, sample: Sequence[Batch]) -> None:
        self._started = time.monotonic()
        self._context = context
        self._settings = settings
        self._skipped = list(settings.skipped)
        throttle = context.throttle.target
        throttle.call(context.target.wait_indexed)
        described = throttle.call(context.target.describe)
        self._found = {searched.vector: described.vector(searched.vector) for searched in settings.vectors}
        motion, kinds = context.motion, described.ids.kinds
        self._unsettled = None if motion is None else Unsettled(context, motion, kinds)
        asked = {searched.vector: questions(settings, searched, sample) for searched in settings.vectors}
        self._choices = self._choose(next((group for group in asked.values() if group), []), sample)
        self._pairs = {name: [self._ask(one) for one in group] for name, group in asked.items()}
        for name in (name for name, group in asked.items() if not group):
            why = "no sampled record has it" if settings.given is None else "no given query has its dimension"
            self._skipped.append(f"vector '{name}' was not searched because {why}")
        scopes = len({part.scope for part in sample})
        if scopes > MOST_SCOPES:
            self._skipped.append(f"{scopes - MOST_SCOPES} scopes were not searched, because at most {MOST_SCOPES} are")
        self._picture = picture(context, sample)
        for pair in self._all_pairs:
            for batch in _foreign(context, pair.target, kinds):
                pair.target.add(batch)

    def add(self, part: Batch) -> None:
        """Learn from a promised batch."""
        asked = [pair.target for pair in self._all_pairs if pair.target.questions.scope == part.scope]
        if asked:
            written = self._context.written(part)
            for one in asked:
                one.add(written)

    def add_source(self, batch: Batch) -> None:
        """Learn from a batch of the source, for the source's own answers."""
        for pair in self._all_pairs:
            if pair.source is not None and pair.source.questions.scope == batch.scope:
                pair.source.add(batch)

    def result(self) -> TierResult:
        """Compare the answers with the truth, after all batches were added.

        Queries that an application may have spoiled meanwhile are left out; if no other is left, nothing is proven.
        """
        if self._unsettled is not None:
            self._unsettled.leave_out(self._all_pairs)
        asked = list(self._judged())
        judged = [group for group in asked if group.queries]
        skipped = self._skipped + [
            f"{group.idle} queries for {group.name} have nothing to find" for group in asked if group.idle
        ]
        moving = [
            f"{group.unsettled} queries for {group.name} were not judged, because records that they find, or should, "
            "were changed meanwhile"
            for group in asked
            if group.unsettled
        ]
        skipped += moving
        strange = [
            f"{group.strange} queries for {group.name} have nothing to find and found something"
            for group in asked
            if group.strange
        ]
        groups = tuple(group.result() for group in judged)
        metrics = [problem for name in self._pairs if (problem := self._wrong_metric(name))]
        rough = [problem for group in groups if (problem := self._wrong_scores(group))]
        low = [group for group in groups if self._reached(group) < self._settings.min_overlap]
        plain = [group for group in groups if group.filter is None]
        problems = [*metrics, *rough, *strange]
        effort = self._context.target.capabilities.search_effort
        hints = [_MORE_EFFORT.format(effort)] if low and effort is not None else []
        works = bool(plain) and not (low or problems or any(group.short for group in groups))
        worst = sorted((one for group in judged for one in group.worst(_WORST)), key=lambda one: one.overlap)[:_WORST]
        both_empty = self._context.both_empty
        return TierResult(
            tier="search",
            passed=works or (not groups and both_empty),
            checked=sum(group.queries for group in plain),
            mismatched=sum(group.imperfect for group in judged if group.filter is None),
            statement=statement(
                groups,
                min_overlap=self._settings.min_overlap,
                problems=problems,
                skipped=[*hints, *skipped],
                both_empty=both_empty,
            ),
            measures=_measures(groups) | {"min_overlap": self._settings.min_overlap},
            groups=groups,
            worst_queries=tuple(worst),
            skipped=tuple(skipped),
            histograms=self._picture[0],
            projection=self._picture[1],
            seconds=time.monotonic() - self._started,
        )

    @property
    def _all_pairs(self) -> list[Pair]:
        return [pair for pairs in self._pairs.values() for pair in pairs]

    def _judged(self) -> Iterator[Judged]:
        context, settings = self._context, self._settings
        squared = (context.target.capabilities.squared_euclidean, context.source.capabilities.squared_euclidean)
        for pairs in self._pairs.values():
            for place in (None, *range(len(self._choices))) if pairs else ():
                yield Judged.of(pairs, place, k=settings.k, squared=squared, seed=settings.seed)

    ########################################################################
    # Asking
    ########################################################################

    def _ask(self, one: Questions) -> Pair:
        """Ask the target; and the source, where a scope of the target is one of the source."""
        settings = self._settings
        chosen = [Filter(choice.fields, one.filtered(choice)) for choice in self._choices]
        theirs = [Filter(self._source_fields(each.fields), each.demanded) for each in chosen]
        target = Asked(one, vector=one.searched.vector, ask=self._target(one), k=settings.k, filters=chosen)
        ask = self._source(one)
        if ask is None:
            return Pair(target, None)
        return Pair(target, Asked(one, vector=one.searched.source_vector or "", ask=ask, k=settings.k, filters=theirs))

    def _target(self, one: Questions) -> Ask:
        context = self._context
        return _asking(context.target, context.throttle.target, one.searched.vector, one.scope, self._settings.k)

    def _source(self, one: Questions) -> Ask | None:
        context, vector = self._context, one.searched.source_vector
        if vector is None or one.scope not in set(context.scopes):
            return None
        return _asking(context.source, context.throttle.source, vector, one.scope, self._settings.k)

    @property
    def _automatic(self) -> bool:
        """Whether we choose ourselves what queries are filtered by."""
        return self._settings.given is None and self._settings.filter == AUTO

    def _source_fields(self, fields: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self._settings.source_fields.get(field, field) for field in fields)

    def _choose(self, asked: Sequence[Questions], sample: Sequence[Batch]) -> list[Choice]:
        """What both databases filter by; of what was found by ourselves, the first."""
        settings = self._settings
        if not asked:
            return []
        possible = choices(settings, sample)
        chosen: list[Choice] = []
        for choice in possible:
            reason = self._refused(choice, asked)
            if reason is None:
                chosen.append(choice)
                if self._automatic:
                    break
            else:
                self._skipped.append(f"no query was filtered by '{choice.name}' because {reason}")
        if self._automatic and not possible:
            self._skipped.append(
                "no query was filtered because no field has two values that many of the sampled records hold"
            )
        return chosen

    def _refused(self, choice: Choice, asked: Sequence[Questions]) -> str | None:
        """Why queries cannot be filtered so; None if they can."""
        for one in asked:
            ours = Filter(choice.fields, one.filtered(choice))
            theirs = Filter(self._source_fields(choice.fields), ours.demanded)
            for values, rows in ours.demanded.items():
                query = rows_of(one.vectors, rows[:1])
                for ask, each in ((self._target(one), ours), (self._source(one), theirs)):
                    try:
                        if ask is not None:
                            ask(query, each.where(values))
                    except (Unavailable, Throttled, AuthenticationFailed):
                        raise
                    except DatabaseError as error:
                        return str(error)
                return None
        return "no sampled record holds a boolean, an integer or a short text there"

    ########################################################################
    # Judging
    ########################################################################

    def _reached(self, group: SearchGroup) -> float:
        """The overlap that must be as demanded; where nobody asked for the filter, the most that chance explains."""
        return group.target.high if group.filter is not None and self._automatic else group.target.overlap

    def _wrong_metric(self, name: str) -> str | None:
        planned = next(searched.metric for searched in self._settings.vectors if searched.vector == name)
        found = self._found[name].metric
        if found is planned:
            return None
        return (
            f"vector '{name}' is compared by {found.value if found else 'nothing'}, not by {planned.value} as planned"
        )

    def _wrong_scores(self, group: SearchGroup) -> str | None:
        """Scores that are not those of the metric, where no rounding of the index explains that."""
        vector, agreeing = self._found[group.vector], group.target.scores_agree
        rough = vector.quantization is not None or (vector.index is not None and _ROUGH.search(vector.index.type))
        if rough or agreeing is None or agreeing >= _LEAST_AGREEING:
            return None
        return f"only {agreeing:.0%} of the scores for {group.name} are those of {group.metric}"


def _asking(database: Database | Source, retry: Retry, vector: str, scope: str | None, k: int) -> Ask:
    size = max(1, _ANSWERS_AT_ONCE // k)

    def ask(queries: Queries, where: Where | None) -> Hits:
        ids: list[IdColumn] = []
        scores: list[npt.NDArray[np.float32]] = []
        for start in range(0, len(queries), size):
            some = rows_of(queries, range(start, min(len(queries), start + size)))
            hits = retry.call(partial(database.search, some, k, vector=vector, scope=scope, where=where))
            ids += hits.ids
            scores += hits.scores
        return Hits(ids, scores)

    return ask


def _foreign(context: Context, asked: Asked, kinds: Sequence[IdKind]) -> Iterator[Batch]:
    """Yield the records among a target's answers that this migration did not write."""
    ours = context.exceptions.ours
    if ours is None:
        return
    scope = asked.questions.scope
    answered = {text for truth in asked.truths for texts in truth.answers for text in texts}
    for kind in kinds:
        ids = ids_of_kind(kind, answered)
        foreign = ids.take(np.flatnonzero(~ours(ids, scope)))
        if len(foreign):
            yield context.throttle.target.call(partial(context.target.fetch, foreign, scope)).batch


def _measures(groups: Sequence[SearchGroup]) -> dict[str, float]:
    """The numbers of the group with the lowest overlap, and how many answers were too few in all."""
    if not groups:
        return {"overlap": 0.0, "short_answers": 0.0}
    lowest = min(groups, key=lambda group: group.target.overlap)
    side = lowest.target
    measures = {"overlap": side.overlap, "overlap_low": side.low, "overlap_high": side.high, "worst": side.worst}
    measures |= {"rank_biased_overlap": side.rbo, "short_answers": float(sum(group.short for group in groups))}
    if side.scores_agree is not None:
        measures["scores_agree"] = side.scores_agree
    if lowest.source is not None:
        measures |= {"source_overlap": lowest.source.overlap, "source_rank_biased_overlap": lowest.source.rbo}
    return measures
