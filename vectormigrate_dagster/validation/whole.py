"""Compare everything of a split: which records are missing, which differ and in what, and which nobody promised."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np

from vectormigrate_dagster.model import Batch, Split, id_text
from vectormigrate_dagster.model.compare import Comparison, Difference, compare
from vectormigrate_dagster.transfer.heap import keep_heap_small, look_for_cycles_seldom
from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.listing import Listing, Sink, finding_of
from vectormigrate_dagster.validation.mismatches import Mismatch
from vectormigrate_dagster.validation.motion import Suspects
from vectormigrate_dagster.validation.outcome import Outcome
from vectormigrate_dagster.validation.pairs import Pair, Watch, pairs
from vectormigrate_dagster.validation.report import SHOWN, Finding


def compare_split(context: Context, split: Split, *, sink: Sink, watch: Watch | None = None) -> Outcome:
    """Compare every record of a split with what the target holds in its place.

    Args:
        context: both sides.
        split: what to compare.
        sink: takes everything that is certainly wrong.
        watch: is shown every batch of the source, in another thread.

    Raises:
        BrokenScan: a side returned ids twice or out of order.
        DatabaseError: a side could not be read.
    """
    keep_heap_small()
    look_for_cycles_seldom()
    tally = _Tally(context, sink, asked=context.target_part(split) is None)

    def both(batch: Batch) -> None:
        tally.read += len(batch)
        tally.vanished += len(batch.vanished)
        if watch is not None:
            watch(batch)

    with context.source.as_of_now(), context.target.as_of_now():
        for pair in pairs(context, split, both):
            tally.add(pair)
    tally.settle()  # as of a later time
    return tally.outcome()


class _Tally:
    """Counts what pairs show."""

    def __init__(self, context: Context, sink: Sink, *, asked: bool) -> None:
        self._context = context
        self._sink = sink
        self._asked = asked
        self._suspects = None if context.motion is None else Suspects(context, context.motion)
        self._began = time.monotonic()
        self.read = self.vanished = 0
        self._numbers: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._findings: list[Finding] = []
        self._surplus: list[Finding] = []
        self._strangers: list[Finding] = []

    def add(self, pair: Pair) -> None:
        """Compare a pair."""
        compared = compare(pair.promised, pair.found, tolerance=self._context.tolerance)
        if not compared.equal and self._suspects is not None:
            pair, compared = self._suspects.without(pair, compared)
        self._add(pair, compared)

    def settle(self) -> None:
        """Look again at records that may be in motion."""
        if self._suspects is None:
            return
        settled, still = self._suspects.settle()
        self._numbers["in_motion"] += still
        for pair in settled:
            self._add(pair, compare(pair.promised, pair.found, tolerance=self._context.tolerance))

    def _add(self, pair: Pair, compared: Comparison) -> None:
        self._numbers["promised"] += compared.checked
        if compared.equal and self._context.exceptions.ours is None:
            self._numbers["compared"] += compared.checked
            return
        self._take(pair, compared)

    def _take(self, pair: Pair, compared: Comparison) -> None:
        theirs = self._left_alone(pair, compared)
        differences = [found for found in compared.differences if found.id not in theirs]
        twice, beyond = self._beyond(pair, compared)
        listing = Listing(self._context.mapper, pair.promised, pair.found)
        wrong = [*listing.missing(compared.missing), *listing.different(differences), *listing.duplicates(twice)]
        self._note(wrong, self._findings)
        self._count(compared, differences, left_alone=len(theirs), repeated=len(twice))
        mine, others = self._whose(pair.found, beyond)
        self._numbers.update(extra=len(mine), others=len(others))
        self._note(listing.unpromised(mine), self._surplus)
        strangers = listing.unpromised(others[: SHOWN - len(self._strangers)])
        self._strangers += map(finding_of, strangers)
        if others and self._context.exceptions.pre_existing == 0:
            self._sink(listing.unpromised(others))  # nothing stood there before, so they are certainly wrong

    def _count(self, compared: Comparison, differences: list[Difference], *, left_alone: int, repeated: int) -> None:
        self._counts.update(found.where for found in differences)
        self._numbers.update(
            compared=compared.checked - left_alone,
            left_alone=left_alone,
            mismatched=len({found.id for found in differences}),
            missing=len(compared.missing),
            repeated=repeated,
        )

    def _left_alone(self, pair: Pair, compared: Comparison) -> set[str]:
        """Promised ids under which somebody else's record stands."""
        ours = self._context.exceptions.ours
        if ours is None:
            return set()
        wrote = ours(pair.promised.ids, pair.promised.scope)
        theirs = pair.promised.ids.take(np.flatnonzero(~wrote)).to_pylist()
        return {id_text(value) for value in theirs} - set(compared.missing)

    def _beyond(self, pair: Pair, compared: Comparison) -> tuple[list[str], list[str]]:
        """Ids that came a second time, and those that nobody promised."""
        if not compared.extra:
            return [], []
        promised = {id_text(value) for value in pair.promised.ids.to_pylist()}
        seen: set[str] = set()
        twice: list[str] = []
        beyond: list[str] = []
        for text in compared.extra:
            (twice if text in promised or text in seen else beyond).append(text)
            seen.add(text)
        return twice, beyond

    def _whose(self, found: Batch, texts: list[str]) -> tuple[list[str], list[str]]:
        """Of ids that nobody promised, those that this migration wrote and the others."""
        if not texts:
            return [], []
        rows = {id_text(value): row for row, value in enumerate(found.ids.to_pylist())}
        wrote = self._context.wrote(found.take([rows[text] for text in texts]))
        pairs_ = list(zip(texts, wrote.tolist(), strict=True))
        return [text for text, mine in pairs_ if mine], [text for text, mine in pairs_ if not mine]

    def _note(self, wrong: list[Mismatch], findings: list[Finding]) -> None:
        self._sink(wrong)
        findings += map(finding_of, wrong[: SHOWN - len(findings)])

    def outcome(self) -> Outcome:
        """What came out."""
        return Outcome(
            read=self.read,
            vanished=self.vanished,
            **self._numbers,
            counts=dict(self._counts.most_common()),
            findings=tuple(self._findings),
            surplus=tuple(self._surplus),
            strangers=tuple(self._strangers),
            asked=self._asked,
            seconds=time.monotonic() - self._began,
        )
