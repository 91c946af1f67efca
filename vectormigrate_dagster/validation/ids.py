"""Tier 2: the target holds exactly the ids that it should, compared as sets in 16 bytes per id."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.model import Batch, id_text
from vectormigrate_dagster.model.digests import Digests, DigestSet, digests
from vectormigrate_dagster.transfer.reader import read_split
from vectormigrate_dagster.validation.context import Context
from vectormigrate_dagster.validation.report import SHOWN, Finding, TierResult

_SPLIT_RECORDS = 1_000_000


class IdCheck:
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
        records = extra = 0
        findings: list[Finding] = []
        for batch in self._scan_target():
            keys = digests(batch.ids, batch.scope)
            found.add(keys)
            records += len(batch)
            others = np.flatnonzero(~self._promised.contains(keys))
            extra += len(others)
            shown = others[: max(0, SHOWN - len(findings))]
            findings += [Finding.surplus(id_text(value), batch.scope) for value in batch.ids.take(shown).to_pylist()]
        missing = np.setdiff1d(self._promised.sorted(), found.sorted(), assume_unique=True)
        unexpected = max(0, extra - self._context.exceptions.pre_existing)
        collisions, twice = self._records - len(self._promised), records - len(found)
        clean = not (len(missing) or unexpected or collisions or twice)
        return TierResult(
            tier="ids",
            passed=clean and (self._records > 0 or self._context.both_empty),
            checked=self._records,
            mismatched=collisions + twice,
            missing=len(missing),
            extra=unexpected,
            statement=self._statement(len(missing), unexpected, collisions, twice),
            differences=() if clean else tuple([*self._name(missing), *findings][:SHOWN]),
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
            yield from read_split(target, split, throttle=throttle)

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
