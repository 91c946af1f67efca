"""Tier 3: records of the target are, vector by vector and field by field, what the plan promised."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np

from vectormigrate_dagster.model import Batch, id_text
from vectormigrate_dagster.model.compare import Comparison, compare
from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.report import SHOWN, Finding, TierResult, share_text


class RecordCheck:
    """Fetches promised records from the target by id and compares them.

    Args:
        sampled: whether what is added is a random sample, for the statement.
    """

    def __init__(self, context: Context, *, sampled: bool) -> None:
        self._context = context
        self._sampled = sampled
        self._checked = self._mismatched = self._missing = self._extra = 0
        self._counts: Counter[str] = Counter()
        self._findings: list[Finding] = []
        self._seconds = 0.0

    def add(self, part: Batch) -> None:
        """Compare a promised batch with what the target holds."""
        started = time.monotonic()
        size = self._context.target.capabilities.max_page_records
        for start in range(0, len(part), size):
            self._compare(part.take(np.arange(start, min(len(part), start + size))))
        self._seconds += time.monotonic() - started

    def result(self) -> TierResult:
        """What came out."""
        context = self._context
        wrong = self._mismatched + self._missing
        statement = share_text(wrong, self._checked, sampled=self._sampled)
        empty = self._checked == 0
        if empty:
            statement = (
                "both collections are empty" if context.both_empty else "no record was compared, so nothing is proven"
            )
        elif self._missing:
            statement += f" ({self._missing:,} are missing)"
        return TierResult(
            tier="records",
            passed=wrong == 0 and self._extra == 0 and (not empty or context.both_empty),
            checked=self._checked,
            mismatched=self._mismatched,
            missing=self._missing,
            extra=self._extra,
            statement=statement,
            differences=tuple(self._findings),
            counts=dict(self._counts.most_common()),
            seconds=self._seconds,
        )

    def _compare(self, expected: Batch) -> None:
        context = self._context
        fetch = partial(context.target.fetch, expected.ids, expected.scope)
        found = context.throttle.target.call(fetch)
        comparison = compare(expected, found.batch, tolerance=context.tolerance)
        if context.exceptions.ours is not None:
            comparison = _only(comparison, context.written(expected))
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


def _only(comparison: Comparison, ours: Batch) -> Comparison:
    """The comparison without differences of records that somebody else wrote; missing is missing all the same."""
    texts = {id_text(value) for value in ours.ids.to_pylist()}
    return replace(comparison, differences=tuple(d for d in comparison.differences if d.id in texts))
