"""Tier 2: the target holds exactly the ids that it should, compared as sets in 16 bytes per id."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.model import Batch, IdColumn, id_text
from vectormigrate_dagster.model.digests import Digests, DigestSet, digests
from vectormigrate_dagster.transfer.reader import PAGE_RECORDS, read_split
from vectormigrate_dagster.validation.check import Check
from vectormigrate_dagster.validation.context import Context, Exceptions
from vectormigrate_dagster.validation.motion import slack, slack_text
from vectormigrate_dagster.validation.report import SHOWN, Finding, TierResult

_SPLIT_RECORDS = 1_000_000


class _Extras:
    """Ids of the target that were not promised: ours are wrong, others may have stood there before."""

    def __init__(self, known: Exceptions) -> None:
        self._known = known
        self._ours = self._others = 0
        self._named_ours: list[Finding] = []
        self._named_others: list[Finding] = []

    def add(self, ids: IdColumn, scope: str | None) -> None:
        """Note ids that were not promised."""
        ours = np.zeros(len(ids), np.bool_) if self._known.ours is None else self._known.ours(ids, scope)
        self._ours += int(ours.sum())
        self._others += int((~ours).sum())
        for named, mask in ((self._named_ours, ours), (self._named_others, ~ours)):
            shown = np.flatnonzero(mask)[: SHOWN - len(named)]
            named += [Finding.surplus(id_text(value), scope) for value in ids.take(shown).to_pylist()]

    @property
    def unexpected(self) -> int:
        """How many cannot have stood there before."""
        return self._ours + self._too_many_others

    @property
    def findings(self) -> list[Finding]:
        """The first few; others only if they are more than stood there before, for nobody knows which of them did."""
        return self._named_ours + (self._named_others if self._too_many_others else [])

    @property
    def _too_many_others(self) -> int:
        return max(0, self._others - self._known.pre_existing)


class IdCheck(Check):
    """Collects the ids that were promised, then compares them with those that a scan of the target finds."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._promised = DigestSet()
        self._records = 0

    def add(self, part: Batch) -> None:
        """Note the ids of a promised batch."""
        self._promised.add(digests(part.ids, part.scope))
        self._records += len(part)

    def result(self) -> TierResult:
        """Scan the target and compare."""
        started = time.monotonic()
        found = DigestSet()
        records = 0
        extras = _Extras(self._context.exceptions)
        for batch in self._scan_target():
            keys = digests(batch.ids, batch.scope)
            found.add(keys)
            records += len(batch)
            extras.add(batch.ids.take(np.flatnonzero(~self._promised.contains(keys))), batch.scope)
        missing = np.setdiff1d(self._promised.sorted(), found.sorted(), assume_unique=True)
        unexpected = extras.unexpected
        collisions, twice = self._records - len(self._promised), records - len(found)
        wrong = len(missing) + unexpected
        allowed = slack(self._context) if wrong else 0
        moving = wrong if wrong <= allowed else 0
        clean = not (wrong - moving or collisions or twice)
        return TierResult(
            tier="ids",
            passed=clean and (self._records > 0 or self._context.both_empty),
            checked=self._records,
            mismatched=collisions + twice,
            missing=0 if moving else len(missing),
            extra=0 if moving else unexpected,
            in_motion=moving,
            statement=self._statement(len(missing), unexpected, collisions, twice) + slack_text(moving, allowed),
            differences=() if clean else tuple([*self._name(missing), *extras.findings][:SHOWN]),
            seconds=time.monotonic() - started,
        )

    def _statement(self, missing: int, extra: int, collisions: int, twice: int) -> str:
        if self._records == 0 and self._context.both_empty:
            return "both collections are empty"
        text = f"{self._records:,} ids compared both ways: {missing:,} missing, {extra:,} extra"
        before = self._context.exceptions.pre_existing
        text += f" beyond the {before:,} that stood there before" if before else ""
        text += f"; {collisions:,} records share an id with another after mapping" if collisions else ""
        text += f"; {twice:,} ids are in the target more than once" if twice else ""
        return text if self._records else f"{text}; nothing was promised, so nothing is proven"

    def _scan_target(self) -> Iterator[Batch]:
        context = self._context
        target = Source(context.target)
        throttle = context.throttle
        for split in throttle.target.call(lambda: target.plan_splits(_SPLIT_RECORDS)):
            yield from read_split(target, split, throttle=throttle, page_records=PAGE_RECORDS)

    def _name(self, missing: Digests) -> list[Finding]:
        """Find the ids behind the first few digests, which takes a second look at the source."""
        findings: list[Finding] = []
        if len(missing) == 0:
            return findings
        wanted = DigestSet()
        wanted.add(missing)
        for batch in self._context.read():
            for part in self._context.promised(batch):
                rows = np.flatnonzero(wanted.contains(digests(part.ids, part.scope)))
                findings += [Finding.missing(id_text(value), part.scope) for value in part.ids.take(rows).to_pylist()]
            if len(findings) >= SHOWN:
                break
        return findings[:SHOWN]
