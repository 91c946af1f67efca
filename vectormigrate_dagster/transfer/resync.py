"""Make single records of the target equal to the source again: read them at the source, map, write, look.

One mechanism for whoever knows ids and trusts no value: what is written is what the source holds now. It never touches
a record that this migration did not write, and decides nothing where both sides were changed since somebody looked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property, partial
from typing import TypeVar

import numpy as np

from vectormigrate_dagster.databases import Database, Source
from vectormigrate_dagster.model import Batch, IdColumn, id_text
from vectormigrate_dagster.model.compare import EXACT, Comparison, Tolerance, compare
from vectormigrate_dagster.model.digests import record_digests
from vectormigrate_dagster.transfer.mapper import Mapper
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster.transfer.sent import SentLog, SentRanges
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.transfer.writer import BatchWriter, OnConflict

T = TypeVar("T")

_DIGEST_BYTES = 16
_ON_BOTH = "source and target were both changed since it was looked at; decide which is right"
_NOT_OURS = "it cannot be told that this migration wrote what stands there, so it is not touched"
_EXTRA_CHANGED = "the source has no such record, and the target's was changed since it was looked at"


class Outcome(StrEnum):
    """What became of a record; the last one alone is worth another try."""

    REPAIRED = "repaired"
    ALREADY_RIGHT = "already_right"
    GONE = "gone"
    REFUSED = "refused"
    CHANGED = "changed_on_both_sides"
    LEFT_ALONE = "left_alone"
    STILL_WRONG = "still_wrong"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A record when it was looked at.

    Args:
        promised, found: `record_digests` of what the source promised and of what the target held; None is no record.
    """

    promised: bytes | None
    found: bytes | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Keys:
    """n records by their ids on both sides, few enough for one read.

    Args:
        scope, ids: where they are in the source.
        target_scope, target_ids: where they are, or should be, in the target; row by row.
        seen: what was seen of each; None if nobody looked, so that nothing can have changed since.
    """

    scope: str | None
    ids: IdColumn
    target_scope: str | None
    target_ids: IdColumn
    seen: Sequence[Seen | None]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Resynced:
    """What became of one record.

    Args:
        outcome: what.
        reason: why, for people; empty where the outcome says all.
        seen: what was seen at the end.
    """

    outcome: Outcome
    reason: str = ""
    seen: Seen


class Resync:
    """Makes records of a target equal to the source.

    Args:
        on_conflict: with "overwrite", somebody else's record under one of our ids is overwritten, after the ownership
            log has kept it; otherwise it is left alone.
        ownership: what tells ours from others; None where this migration created the collection.
        sent: in a collection that this migration created, where ids are noted before they are sent.
        sent_before: which ids it may have sent; a record that the source has no more is only deleted if it is one of
            those. None if nobody has noted any, so that all of the collection is ours.
        tolerance: what is demanded of vectors.
    """

    def __init__(
        self,
        source: Source,
        target: Database,
        mapper: Mapper,
        *,
        throttle: Throttle,
        on_conflict: OnConflict,
        ownership: OwnershipLog | None,
        sent: SentLog | None = None,
        sent_before: SentRanges | None = None,
        tolerance: Tolerance = EXACT,
    ) -> None:
        self._source = source
        self._target = target
        self._mapper = mapper
        self._throttle = throttle
        self._overwrites = on_conflict == "overwrite"
        self._ownership = ownership
        self._sent = sent
        self._sent_before = sent_before
        self._tolerance = tolerance
        self._writer = BatchWriter(
            target,
            throttle,
            on_conflict="overwrite" if self._overwrites else "skip",
            ownership=ownership,
            tolerance=tolerance,
            sleep=throttle.interrupt.sleep,
        )

    def make_equal(self, keys: Keys) -> list[Resynced]:
        """Make the target's records what the source's promise; return what became of each, in the order of `keys`.

        Raises:
            Stopped: it was asked to end; what was written is right, and looking again tells.
            StorageFailed: the ownership log could not be written; nothing was sent.
            DatabaseError: a database failed for longer than the retry policy allows.
        """
        texts = [id_text(value) for value in keys.target_ids.to_pylist()]
        promised, refused = self._promise(keys)
        before = self._look(keys)
        wrong = self._compare(promised, before)
        settled = {
            text: decided
            for text, seen in zip(texts, keys.seen, strict=True)
            if (decided := self._decide(text, promised, before, wrong, refused, seen)) is not None
        }
        for text in self._theirs(keys, promised, before) - settled.keys():
            settled[text] = Resynced(outcome=Outcome.LEFT_ALONE, reason=_NOT_OURS, seen=_seen(text, promised, before))
        turned_down = self._write(keys, [text for text in texts if text not in settled], promised)
        after = before if len(settled) == len(texts) else self._look(keys)
        wrong = self._compare(promised, after)
        for text in texts:
            if text not in settled:
                settled[text] = _after(text, promised, after, wrong, turned_down)
        return [settled[text] for text in texts]

    def _promise(self, keys: Keys) -> tuple[_Records, dict[str, str]]:
        """What the target must hold now, and why records are refused; both by target id."""
        self._throttle.rate.acquire(len(keys), sleep=self._throttle.interrupt.sleep)
        ids = keys.ids.to_pylist()
        once = IdColumn.of(keys.ids.kind, dict.fromkeys(ids))  # two records of the target may name one of the source
        found = self._throttle.source.call(partial(self._source.fetch, once, keys.scope)).batch
        mapped = self._mapper.map(replace(found, scope=keys.scope))
        reasons = {refusal.id: refusal.reason for refusal in mapped.refused}
        refused = {
            id_text(target_id): reasons[text]
            for text, target_id in zip(map(id_text, ids), keys.target_ids.to_pylist(), strict=True)
            if text in reasons
        }
        for part in mapped.batches:
            if part.ids.kind is keys.target_ids.kind and part.scope == keys.target_scope:
                return _Records(part), refused
        return _Records(None), refused

    def _look(self, keys: Keys) -> _Records:
        """What the target holds."""
        found = self._call(partial(self._target.fetch, keys.target_ids, keys.target_scope)).batch
        return _Records(replace(found, scope=keys.target_scope))

    def _compare(self, promised: _Records, found: _Records) -> Mapping[str, str]:
        """How promised records differ from what is there; those that do not are left out."""
        if promised.batch is None:
            return {}
        there = found.batch if found.batch is not None else promised.batch.take([])
        comparison = compare(promised.batch, there, tolerance=self._tolerance)
        return _differences(comparison)

    def _decide(  # noqa: PLR0917  # one row of the decision table
        self,
        text: str,
        promised: _Records,
        found: _Records,
        wrong: Mapping[str, str],
        refused: Mapping[str, str],
        last: Seen | None,
    ) -> Resynced | None:
        """What is to be said of a record without writing; None if it is to be written or deleted."""
        seen = _seen(text, promised, found)
        if text in refused:
            return Resynced(outcome=Outcome.REFUSED, reason=refused[text], seen=seen)
        if seen.promised is None and seen.found is None:
            return Resynced(outcome=Outcome.GONE, seen=seen)
        if seen.promised is not None and text not in wrong:
            return Resynced(outcome=Outcome.ALREADY_RIGHT, seen=seen)
        target_changed = last is not None and seen.found != last.found
        if last is not None and target_changed and seen.promised != last.promised:
            return Resynced(outcome=Outcome.CHANGED, reason=_ON_BOTH, seen=seen)
        if seen.promised is None and target_changed:
            return Resynced(outcome=Outcome.LEFT_ALONE, reason=_EXTRA_CHANGED, seen=seen)
        return None

    def _theirs(self, keys: Keys, promised: _Records, found: _Records) -> set[str]:
        """Ids under which the target holds records that this migration neither wrote nor may overwrite."""
        others = self._others(keys) & found.rows.keys()
        # In a collection of ours, what stands under a promised id is to be what is promised.
        return others - (promised.rows.keys() if self._overwrites or self._ownership is None else set())

    def _others(self, keys: Keys) -> set[str]:
        """Ids of records that this migration has not written."""
        if self._ownership is not None:
            ours = self._ownership.wrote(keys.target_ids, keys.target_scope)
        elif self._sent_before is not None:
            ours = self._sent_before.contains(keys.ids, keys.scope)
        else:
            return set()
        return {id_text(value) for value in keys.target_ids.take(np.flatnonzero(~ours)).to_pylist()}

    def _note(self, keys: Keys, texts: Collection[str]) -> None:
        """Note ids of the source before they are sent, each for itself: nobody sent what lies between them."""
        if self._sent is None:
            return
        chosen = [row for row, value in enumerate(keys.target_ids.to_pylist()) if id_text(value) in texts]
        ids = keys.ids.take(chosen)
        known = (
            self._sent_before.contains(ids, keys.scope) if self._sent_before is not None else np.zeros(len(ids), bool)
        )
        for row in np.flatnonzero(~known):
            self._sent.record(ids.slice(int(row), int(row) + 1), keys.scope)

    def _write(self, keys: Keys, texts: Sequence[str], promised: _Records) -> dict[str, str]:
        """Upsert what is promised of `texts`, delete the others; return what the target refused, with reasons."""
        if not texts:
            return {}
        refused: dict[str, str] = {}
        written = [promised.rows[text] for text in texts if text in promised.rows]
        if written and promised.batch is not None:
            self._note(keys, set(texts) & promised.rows.keys())
            refused = {one.id: one.reason for one in self._writer.write(promised.batch.take(written)).refused}
        wanted = set(texts) - promised.rows.keys()
        rows = [row for row, value in enumerate(keys.target_ids.to_pylist()) if id_text(value) in wanted]
        if rows:
            self._call(partial(self._target.delete, keys.target_ids.take(rows), keys.target_scope))
        self._call(self._target.wait_visible)
        return refused

    def _call(self, function: Callable[[], T]) -> T:
        sleep = self._throttle.interrupt.sleep
        sleep(0)
        return self._throttle.target.call(function, sleep=sleep)


@dataclass(frozen=True)
class _Records:
    """Records by the text of their ids; None is no records at all."""

    batch: Batch | None

    @cached_property
    def rows(self) -> dict[str, int]:
        """Id -> row."""
        ids = [] if self.batch is None else self.batch.ids.to_pylist()
        return {id_text(value): row for row, value in enumerate(ids)}

    @cached_property
    def _digests(self) -> list[bytes]:
        # numpy cuts zeros off the end of an S16 value.
        digests = [] if self.batch is None else record_digests(self.batch).tolist()
        return [digest.ljust(_DIGEST_BYTES, b"\0") for digest in digests]

    def digest(self, text: str) -> bytes | None:
        """The digest of a record; None if there is none."""
        row = self.rows.get(text)
        return None if row is None else self._digests[row]


def _seen(text: str, promised: _Records, found: _Records) -> Seen:
    return Seen(promised=promised.digest(text), found=found.digest(text))


def _differences(comparison: Comparison) -> dict[str, str]:
    """How each record differs, by its id."""
    found = dict.fromkeys(comparison.missing, "it is missing")
    for difference in comparison.differences:
        found.setdefault(difference.id, f"{difference.where}: {difference.detail}")
    return found


def _after(
    text: str, promised: _Records, found: _Records, wrong: Mapping[str, str], refused: Mapping[str, str]
) -> Resynced:
    """What became of a record that was written or deleted."""
    seen = _seen(text, promised, found)
    if text in refused:
        return Resynced(outcome=Outcome.REFUSED, reason=refused[text], seen=seen)
    if seen.promised is None and seen.found is not None:
        return Resynced(outcome=Outcome.STILL_WRONG, reason="it was deleted, and is still there", seen=seen)
    if text in wrong:
        return Resynced(outcome=Outcome.STILL_WRONG, reason=f"it was written; {wrong[text]}", seen=seen)
    return Resynced(outcome=Outcome.REPAIRED, seen=seen)
