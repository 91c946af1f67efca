"""Tier 3: records of the target are, vector by vector and field by field, what the plan promised."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from vectormigrate_dagster.databases.ahead import ahead
from vectormigrate_dagster.model import Batch, id_text
from vectormigrate_dagster.model.compare import Comparison, compare
from vectormigrate_dagster.validation.check import Check
from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.motion import Suspects
from vectormigrate_dagster.validation.pairs import Pair
from vectormigrate_dagster.validation.report import SHOWN, Finding, TierResult, share_text
from vectormigrate_dagster.validation.sample import Sample


class RecordCheck(Check):
    """Fetches promised records from the target by id and compares them.

    Args:
        sample: how what is added was drawn, for the statement; None says that everything is added.
    """

    def __init__(self, context: Context, sample: Sample | None = None) -> None:
        self._context = context
        self._sample = sample
        self._suspects = None if context.motion is None else Suspects(context, context.motion)
        self._in_motion = 0
        self._checked = self._mismatched = self._missing = self._extra = self._left_alone = 0
        self._counts: Counter[str] = Counter()
        self._findings: list[Finding] = []
        self._seconds = 0.0

    def add(self, part: Batch) -> None:
        """Compare a promised batch with what the target holds."""
        self.add_all([part])

    def add_all(self, parts: Iterable[Batch]) -> None:
        """Compare promised batches, few enough for memory, with what the target holds."""
        started = time.monotonic()
        pieces = [piece for part in parts for piece in self._pieces(part)]
        for piece, found in zip(pieces, ahead(self._fetch, pieces), strict=True):
            self._compare(piece, found)
        self._seconds += time.monotonic() - started

    def result(self) -> TierResult:
        """What came out, after another look at records that may be in motion."""
        context = self._context
        self._settle()
        wrong = self._mismatched + self._missing
        empty = self._checked == 0
        return TierResult(
            tier="records",
            passed=wrong == 0 and self._extra == 0 and (not empty or context.both_empty),
            checked=self._checked,
            mismatched=self._mismatched,
            missing=self._missing,
            extra=self._extra,
            in_motion=self._in_motion,
            statement=self._statement(wrong),
            differences=tuple(self._findings),
            counts=dict(self._counts.most_common()),
            seconds=self._seconds,
        )

    def _statement(self, wrong: int) -> str:
        sample = self._sample
        left = f"; {self._left_alone:,} of somebody else's were left alone" if self._left_alone else ""
        left += f"; {self._in_motion:,} are in motion and left to catch-up" if self._in_motion else ""
        if self._checked == 0:
            empty = self._context.both_empty
            return "both collections are empty" if empty else f"no record was compared, so nothing is proven{left}"
        if sample is None or sample.complete:
            text = f"{wrong:,} of {self._checked:,} differ; all were compared"
        else:
            text = share_text(wrong, self._checked, runs=sample.runs, at_random=sample.random_runs)
        return text + (f" ({self._missing:,} are missing)" if self._missing else "") + left

    def _pieces(self, part: Batch) -> Iterator[Batch]:
        """The batch in pieces that one reply of the target can hold."""
        size = self._context.target.capabilities.max_page_records
        for start in range(0, len(part), size):
            yield part.slice(start, min(len(part), start + size)) if len(part) > size else part

    def _fetch(self, expected: Batch) -> Batch:
        fetch = partial(self._context.target.fetch, expected.ids, expected.scope)
        return self._context.throttle.target.call(fetch).batch

    def _compare(self, expected: Batch, found: Batch) -> None:
        comparison = compare(expected, found, tolerance=self._context.tolerance)
        if not comparison.equal and self._suspects is not None:
            pair, comparison = self._suspects.without(Pair(expected, found), comparison)
            expected = pair.promised
        self._add(expected, comparison)

    def _settle(self) -> None:
        if self._suspects is None:
            return
        settled, still = self._suspects.settle()
        self._in_motion += still
        for pair in settled:
            # Of a sample, what nobody promised is another tier's business: it was deleted since it was drawn.
            if len(pair.promised):
                compared = compare(pair.promised, pair.found, tolerance=self._context.tolerance)
                self._add(pair.promised, replace(compared, extra=()))

    def _add(self, expected: Batch, comparison: Comparison) -> None:
        context = self._context
        if context.exceptions.ours is not None:
            comparison = self._only(comparison, context.written(expected))
        self._checked += comparison.checked
        self._mismatched += comparison.mismatched
        self._missing += len(comparison.missing)
        self._extra += len(comparison.extra)
        self._counts.update(comparison.counts)
        room = SHOWN - len(self._findings)
        findings = [Finding.missing(text, expected.scope) for text in comparison.missing]
        findings += [Finding.surplus(text, expected.scope) for text in comparison.extra]
        findings += [Finding.of(difference, expected.scope) for difference in comparison.differences]
        self._findings += findings[:room]

    def _only(self, comparison: Comparison, ours: Batch) -> Comparison:
        """The comparison without records that are there and are somebody else's; missing is missing all the same."""
        texts = {id_text(value) for value in ours.ids.to_pylist()}
        checked = len(ours) + sum(text not in texts for text in comparison.missing)
        self._left_alone += comparison.checked - checked
        differences = tuple(difference for difference in comparison.differences if difference.id in texts)
        return replace(comparison, checked=checked, differences=differences)
