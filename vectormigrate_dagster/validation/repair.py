"""Repair: rewrite exactly the records that a validation listed, and look at them again, until none is left.

A generation goes through a list and writes another, of the records that are still wrong; that one is the list of the
next generation. So memory does not depend on how much is wrong.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from vectormigrate_dagster.databases import Database
from vectormigrate_dagster.mapping.plan import PlannedSplit
from vectormigrate_dagster.model import IdColumn, IdKind, id_text
from vectormigrate_dagster.model.digests import DigestSet
from vectormigrate_dagster.transfer.mapper import Mapper
from vectormigrate_dagster.transfer.resync import Keys, Outcome, Resynced, Seen
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.validation.listing import original_of
from vectormigrate_dagster.validation.mismatches import (
    Mismatch,
    MismatchKind,
    MismatchWriter,
    id_digests,
    read_mismatches,
)
from vectormigrate_dagster.validation.report import SHOWN

MOST_GENERATIONS = 10
_CHUNK = 500
_BLOCK = 4096
_MOST_WAITING = 20_000
"""Listed records that wait for others of their groups; a plan may have many partitions, each with a few."""

_UNSETTLED = {Outcome.REFUSED, Outcome.CHANGED, Outcome.LEFT_ALONE, Outcome.STILL_WRONG}
_TWICE = "the target returns it more than once, which writing it again does not mend"
_NOT_A_COPY = "it is no copy of a record of the source"
_NOT_MOVED = "it belongs to no part of the source that this migration moves"

Group = tuple[str, str | None, IdKind, str | None, IdKind]
"""Partition, then scope and kind of id in the source and in the target."""


class Unrepaired(BaseModel):
    """A listed record that is not as promised after all, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    scope: str | None = None
    outcome: Outcome
    reason: str


class RepairReport(BaseModel):
    """What became of the records that a validation listed.

    Args:
        listed: records; each is counted under exactly one outcome.
        outcomes: how many ended in which way.
        generations: passes over what was still wrong.
        progress: False if the last generation repaired nothing, so that no other was tried.
        left: the first records that are still not right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listed: int
    outcomes: dict[Outcome, int]
    generations: int
    progress: bool = True
    left: tuple[Unrepaired, ...] = ()
    seconds: float = 0.0

    def count(self, outcome: Outcome) -> int:
        """How many ended so."""
        return self.outcomes.get(outcome, 0)

    @property
    def unsettled(self) -> int:
        """Listed records that are not as promised."""
        return sum(self.count(outcome) for outcome in _UNSETTLED)


class MakesEqual(Protocol):
    """Makes records of the target equal to the source's, such as `Resync`."""

    def make_equal(self, keys: Keys) -> list[Resynced]:
        """See `Resync.make_equal`."""


@dataclass(frozen=True, kw_only=True)
class RepairContext:
    """What a repair works with.

    Args:
        resync_of: makes the records of a partition, by its key, equal.
        splits: the partitions of the plan.
        page_records: records that both sides give at once.
    """

    target: Database
    mapper: Mapper
    throttle: Throttle
    splits: Sequence[PlannedSplit]
    resync_of: Callable[[str], MakesEqual]
    page_records: int = _CHUNK


def repair(context: RepairContext, listed: Path, rest: Path) -> RepairReport:
    """Repair the records of a mismatch file; write those that are not right in the end to another.

    Args:
        context: both sides.
        listed: what a validation, or an earlier repair, found wrong.
        rest: where to list what is left; not written if that is nothing.

    Raises:
        Stopped: it was asked to end; nothing is listed, and the same repair can be run again.
        VectorMigrateError: what a database or a disk said; likewise.
    """
    started = time.monotonic()
    total = _Tally()
    generation, progress = 0, True
    rest.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="repair-", dir=rest.parent) as folder, ExitStack() as stack:
        left = MismatchWriter(rest)
        stack.callback(left.discard)
        remaining = listed
        while generation < MOST_GENERATIONS:
            generation += 1
            again = Path(folder) / f"{generation}.parquet"
            with MismatchWriter(again) as still_wrong:
                done = _Generation(context, left, still_wrong).run(read_mismatches(remaining))
            total.add(done, first=generation == 1)
            remaining, progress = again, done.outcomes[Outcome.STILL_WRONG] < done.listed
            if still_wrong.count == 0 or not progress:
                break
        left.add(read_mismatches(remaining))
        if left.count:
            stack.pop_all()
            left.close()
    return total.report(generation, progress=progress, seconds=time.monotonic() - started)


@dataclass
class _Tally:
    """Counts outcomes and keeps the first records that are not right."""

    listed: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    left: list[Unrepaired] = field(default_factory=list)

    def note(self, mismatch: Mismatch, outcome: Outcome, reason: str) -> None:
        """Count one record."""
        self.outcomes[outcome] += 1
        if outcome in _UNSETTLED and len(self.left) < SHOWN:
            self.left.append(Unrepaired(id=mismatch.id, scope=mismatch.scope, outcome=outcome, reason=reason))

    def add(self, other: _Tally, *, first: bool) -> None:
        """Add a generation; what was still wrong before it is what it worked on."""
        self.listed += other.listed if first else 0
        self.outcomes[Outcome.STILL_WRONG] = 0
        self.outcomes += other.outcomes
        self.left = [one for one in self.left if one.outcome is not Outcome.STILL_WRONG] + other.left

    def report(self, generations: int, *, progress: bool, seconds: float) -> RepairReport:
        """The counts as a report."""
        return RepairReport(
            listed=self.listed,
            outcomes=dict(self.outcomes),
            generations=generations,
            progress=progress,
            left=tuple(self.left[:SHOWN]),
            seconds=seconds,
        )


class _Generation:
    """One pass over a list, a group of records at a time."""

    def __init__(self, context: RepairContext, left: MismatchWriter, still_wrong: MismatchWriter) -> None:
        self._context = context
        self._left = left
        self._still_wrong = still_wrong
        self._tally = _Tally()
        self._waiting: dict[Group, list[Mismatch]] = {}
        self._number_waiting = 0

    def run(self, listed: Iterable[Mismatch]) -> _Tally:
        """Bring every listed record to an end."""
        for mismatch in _once(listed):
            self._tally.listed += 1
            self._take(mismatch)
        self._flush_all()
        return self._tally

    def _take(self, mismatch: Mismatch) -> None:
        """Put a record to those of its group, or say why it is left alone."""
        if mismatch.kind is MismatchKind.DUPLICATE:
            self._settle(mismatch, Outcome.LEFT_ALONE, _TWICE)
            return
        if mismatch.source_id is None:
            known = self._with_origin(mismatch)
            if known is None:
                return
            mismatch = known
        planned = self._partition(mismatch)
        if planned is None:
            self._settle(mismatch, Outcome.LEFT_ALONE, _NOT_MOVED)
            return
        kinds = IdKind(str(mismatch.source_id_kind)), IdKind(mismatch.id_kind)
        group = planned.key, planned.split.scope, kinds[0], mismatch.scope, kinds[1]
        self._waiting.setdefault(group, []).append(mismatch)
        self._number_waiting += 1
        if len(self._waiting[group]) >= self._context.page_records:
            self._flush(group)
        elif self._number_waiting >= _MOST_WAITING:
            self._flush_all()

    def _with_origin(self, mismatch: Mismatch) -> Mismatch | None:
        """The mismatch with its id in the source, told by the target's record; None if that settled it."""
        ids = IdColumn.of(IdKind(mismatch.id_kind), [IdKind(mismatch.id_kind).decode(mismatch.id)])
        found = self._context.throttle.target.call(lambda: self._context.target.fetch(ids, mismatch.scope)).batch
        if len(found) == 0:
            self._settle(mismatch, Outcome.GONE, "")
            return None
        found = replace(found, scope=mismatch.scope)
        original = original_of(self._context.mapper, found, 0)
        if original is None:
            self._settle(mismatch, Outcome.LEFT_ALONE, _NOT_A_COPY)
            return None
        return replace(
            mismatch,
            source_scope=original.scope,
            source_id=id_text(original.id),
            source_id_kind=original.kind.value,
        )

    def _partition(self, mismatch: Mismatch) -> PlannedSplit | None:
        """The partition that moves a record; None if none does."""
        kind = IdKind(str(mismatch.source_id_kind))
        value = kind.decode(str(mismatch.source_id))
        for planned in self._context.splits:
            split = planned.split
            if split.kind is kind and self._is_of(split.scope, mismatch) and split.contains(value):
                return planned
        return None

    def _is_of(self, scope: str | None, mismatch: Mismatch) -> bool:
        """Whether a record is of a scope of the source; one that is not divided may be called by a name or by none."""
        if scope == mismatch.source_scope or (scope is None and mismatch.scope is None):
            return True
        return mismatch.source_scope is None and all(one.split.scope == scope for one in self._context.splits)

    def _flush_all(self) -> None:
        for group in list(self._waiting):
            self._flush(group)

    def _flush(self, group: Group) -> None:
        """Make the waiting records of a group equal."""
        waiting = self._waiting.pop(group)
        self._number_waiting -= len(waiting)
        key, scope, kind, target_scope, target_kind = group
        keys = Keys(
            scope=scope,
            ids=IdColumn.of(kind, [kind.decode(str(one.source_id)) for one in waiting]),
            target_scope=target_scope,
            target_ids=IdColumn.of(target_kind, [target_kind.decode(one.id) for one in waiting]),
            seen=[_seen(one) for one in waiting],
        )
        for mismatch, result in zip(waiting, self._context.resync_of(key).make_equal(keys), strict=True):
            # What changed on both sides stays listed as it was seen first, or the next repair would not notice.
            now = mismatch if result.outcome is Outcome.CHANGED else _looked_at(mismatch, result)
            self._settle(now, result.outcome, result.reason)

    def _settle(self, mismatch: Mismatch, outcome: Outcome, reason: str) -> None:
        self._tally.note(mismatch, outcome, reason)
        if outcome in _UNSETTLED:
            listed = self._still_wrong if outcome is Outcome.STILL_WRONG else self._left
            listed.add([replace(mismatch, detail=reason)])


def _once(listed: Iterable[Mismatch]) -> Iterator[Mismatch]:
    """The first finding of each record."""
    known = DigestSet()
    rows = iter(listed)
    while block := list(islice(rows, _BLOCK)):
        first = {(one.scope, one.id_kind, one.id): one for one in reversed(block)}
        found = list(reversed(first.values()))
        keys = id_digests(found)
        new = ~known.contains(keys)
        known.add(keys)
        yield from (one for one, is_new in zip(found, new, strict=True) if is_new)


def _seen(mismatch: Mismatch) -> Seen | None:
    """What the validation saw; None where it did not look at all that was there."""
    promised, found = mismatch.promised_digest, mismatch.found_digest
    looked_at = {
        MismatchKind.MISSING: promised is not None,
        MismatchKind.EXTRA: found is not None,
        MismatchKind.DIFFERENT: promised is not None and found is not None,
        MismatchKind.DUPLICATE: False,
    }
    return Seen(promised=promised, found=found) if looked_at[mismatch.kind] else None


def _looked_at(mismatch: Mismatch, result: Resynced) -> Mismatch:
    """The mismatch as it is now."""
    seen = result.seen
    kind = MismatchKind.DIFFERENT
    if seen.promised is None:
        kind = MismatchKind.EXTRA
    elif seen.found is None:
        kind = MismatchKind.MISSING
    return replace(mismatch, kind=kind, promised_digest=seen.promised, found_digest=seen.found)
