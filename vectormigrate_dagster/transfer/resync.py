"""Make single records of the target equal to the source again: read them at the source, map, write, look.

One mechanism for whoever knows ids and trusts no value: what is written is what the source holds now. It never touches
a record that this migration did not write, and decides nothing where both sides were changed since somebody looked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from vectormigrate_dagster.databases import Database, Source
from vectormigrate_dagster.model import Batch, IdColumn, id_text
from vectormigrate_dagster.model.compare import EXACT, Tolerance, compare
from vectormigrate_dagster.transfer.guard import NO_GUARD, WriteGuard
from vectormigrate_dagster.transfer.held import Outcome, Records, Resynced, Seen, after, differences_of, seen_of
from vectormigrate_dagster.transfer.mapper import Mapped, Mapper
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster.transfer.sent import SentLog, SentRanges
from vectormigrate_dagster.transfer.throttle import Throttle
from vectormigrate_dagster.transfer.writer import BatchWriter, OnConflict

__all__ = ["Keys", "Outcome", "Resync", "Resynced", "Seen"]

T = TypeVar("T")

_ON_BOTH = "source and target were both changed since it was looked at; decide which is right"
_NOT_OURS = "it cannot be told that this migration wrote what stands there, so it is not touched"
_ANOTHER_SCOPE = "a record of another scope of the source has its id in the target"
_EXTRA_CHANGED = "the source has no such record, and the target's was changed since it was looked at"


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


class Resync:
    """Makes records of a target equal to the source.

    Args:
        on_conflict: with "overwrite", somebody else's record under one of our ids is overwritten, after the ownership
            log has kept it; otherwise it is left alone.
        ownership: what tells ours from others; None where this migration created the collection.
        sent: in a collection that this migration created, where ids are noted before they are sent.
        sent_before: which ids it may have sent; a record that the source has no more is only deleted if it is one of
            those. None if nobody has noted any, so that all of the collection is ours. A function is called when a
            record is found that was not noted by then.
        tolerance: what is demanded of vectors.
        guard: is asked right before each request that writes.
        refused_are_absent: a record that the target cannot hold is to be absent there, as after a load: an older form
            of it is deleted. Otherwise that is left as it is.
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
        sent_before: SentRanges | Callable[[], SentRanges | None] | None = None,
        tolerance: Tolerance = EXACT,
        guard: WriteGuard = NO_GUARD,
        refused_are_absent: bool = False,
    ) -> None:
        self._source = source
        self._target = target
        self._mapper = mapper
        self._throttle = throttle
        self._overwrites = on_conflict == "overwrite"
        self._ownership = ownership
        self._sent = sent
        self._sent_anew = sent_before if callable(sent_before) else None
        self._sent_before = sent_before() if callable(sent_before) else sent_before
        self._tolerance = tolerance
        self._refused_are_absent = refused_are_absent
        self._writer = BatchWriter(
            target,
            throttle,
            on_conflict="overwrite" if self._overwrites else "skip",
            ownership=ownership,
            tolerance=tolerance,
            sleep=throttle.interrupt.sleep,
            guard=guard,
        )

    def make_equal(self, keys: Keys) -> list[Resynced]:
        """Make the target's records what the source's promise; return what became of each, in the order of `keys`.

        Raises:
            Stopped: it was asked to end; what was written is right, and looking again tells.
            StorageFailed: the ownership log could not be written; nothing was sent.
            DatabaseError: a database failed for longer than the retry policy allows.
        """
        texts = [id_text(value) for value in keys.target_ids.to_pylist()]
        before = self._look(keys)
        promised, refused = self._promise(keys, before)
        wrong = self._compare(promised, before)
        settled = {
            text: decided
            for text, seen in zip(texts, keys.seen, strict=True)
            if (decided := self._decide(text, promised, before, wrong, refused, seen)) is not None
        }
        others = self._others(keys, before)
        theirs = dict.fromkeys(self._of_another_scope(keys, before), _ANOTHER_SCOPE)
        theirs |= dict.fromkeys(self._theirs(others, promised), _NOT_OURS)
        for text in theirs.keys() - settled.keys():
            seen = seen_of(text, promised, before)
            settled[text] = Resynced(outcome=Outcome.LEFT_ALONE, reason=theirs[text], seen=seen)
        waiting = [text for text in texts if text not in settled]
        turned_down = refused | self._write(keys, waiting, promised, keep=others)
        now = before if len(settled) == len(texts) else self._look(keys)
        wrong = self._compare(promised, now)
        for text in texts:
            if text not in settled:
                settled[text] = after(text, promised, now, wrong, turned_down)
        return [settled[text] for text in texts]

    def differing(self, keys: Keys) -> list[bool]:
        """Which records are not as the source's promise, though they could and should be; changes nothing.

        Raises:
            As `make_equal`.
        """
        texts = [id_text(value) for value in keys.target_ids.to_pylist()]
        found = self._look(keys)
        promised, refused = self._promise(keys, found)
        wrong = self._compare(promised, found)
        theirs = self._theirs(self._others(keys, found), promised)
        return [
            text not in theirs
            and (self._is_lost(refused.get(text)) or self._decide(text, promised, found, wrong, refused, None) is None)
            for text in texts
        ]

    def _is_lost(self, refused: str | None) -> bool:
        """Whether a record that is refused for this reason is a difference all the same."""
        del refused  # what the target cannot hold is listed by the plan, and absent there
        return False

    def _promise(self, keys: Keys, before: Records) -> tuple[Records, dict[str, str]]:
        """What the target must hold now, and why records are refused; both by target id."""
        self._throttle.rate.acquire(len(keys), sleep=self._throttle.interrupt.sleep)
        ids = keys.ids.to_pylist()
        once = IdColumn.of(keys.ids.kind, dict.fromkeys(ids))  # two records of the target may name one of the source
        found = self._throttle.source.call(partial(self._source.fetch, once, keys.scope)).batch
        mapped = self._mapped(replace(found, scope=keys.scope), keys, before.batch)
        reasons = {refusal.id: refusal.reason for refusal in mapped.refused}
        refused = {
            id_text(target_id): reasons[text]
            for text, target_id in zip(map(id_text, ids), keys.target_ids.to_pylist(), strict=True)
            if text in reasons
        }
        for part in mapped.batches:
            if part.ids.kind is keys.target_ids.kind and part.scope == keys.target_scope:
                return Records(part), refused
        return Records(None), refused

    def _mapped(self, found: Batch, keys: Keys, before: Batch | None) -> Mapped:
        """What the source's records are in the target.

        Args:
            found: records of the source.
            keys: which were asked for.
            before: what stands in the target.
        """
        del keys, before  # for whoever maps back onto what stands there
        return self._mapper.map(found)

    def _look(self, keys: Keys) -> Records:
        """What the target holds."""
        found = self._call(partial(self._target.fetch, keys.target_ids, keys.target_scope)).batch
        return Records(replace(found, scope=keys.target_scope))

    def _compare(self, promised: Records, found: Records) -> Mapping[str, str]:
        """How promised records differ from what is there; those that do not are left out."""
        if promised.batch is None:
            return {}
        there = found.batch if found.batch is not None else promised.batch.take([])
        comparison = compare(promised.batch, there, tolerance=self._tolerance)
        return differences_of(comparison)

    def _decide(  # noqa: PLR0917  # one row of the decision table
        self,
        text: str,
        promised: Records,
        found: Records,
        wrong: Mapping[str, str],
        refused: Mapping[str, str],
        last: Seen | None,
    ) -> Resynced | None:
        """What is to be said of a record without writing; None if it is to be written or deleted."""
        seen = seen_of(text, promised, found)
        if text in refused and (seen.found is None or not self._refused_are_absent):
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

    def _theirs(self, others: set[str], promised: Records) -> set[str]:
        """Those of `_others` that this migration may not overwrite or delete."""
        # In a collection of ours, what stands under a promised id is to be what is promised.
        return others - (promised.rows.keys() if self._overwrites or self._ownership is None else set())

    def _of_another_scope(self, keys: Keys, found: Records) -> set[str]:
        """Ids under which a record of another scope stands, where scopes come together without a part in the id."""
        if self._mapper.keeps_ids_apart or found.batch is None:
            return set()
        scopes = self._mapper.original_scopes(found.batch)
        pairs = zip(found.batch.ids.texts(), scopes, strict=True)
        return {text for text, scope in pairs if scope is not None and scope != keys.scope}

    def _others(self, keys: Keys, found: Records) -> set[str]:
        """Ids under which the target holds records that this migration has not written."""
        others = self._not_written(keys) & found.rows.keys()
        if others and self._ownership is None and self._sent_anew is not None:
            # They were found after `sent_before` was read, and are noted before they are sent.
            self._sent_before = self._sent_anew()
            others &= self._not_written(keys)
        return others

    def _not_written(self, keys: Keys) -> set[str]:
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

    def _write(self, keys: Keys, texts: Sequence[str], promised: Records, *, keep: set[str]) -> dict[str, str]:
        """Upsert what is promised of `texts`, delete the others; return what the target refused, with reasons.

        Args:
            keep: ids under which somebody else's record stands, which stays if ours is refused.
        """
        if not texts:
            return {}
        refused: dict[str, str] = {}
        written = [promised.rows[text] for text in texts if text in promised.rows]
        if written and promised.batch is not None:
            self._note(keys, set(texts) & promised.rows.keys())
            refused = {one.id: one.reason for one in self._writer.write(promised.batch.take(written)).refused}
        wanted = set(texts) - promised.rows.keys()
        if refused and self._refused_are_absent:
            # The log may have found out only now that what stands there was never overwritten.
            wanted |= refused.keys() - keep - (set() if self._ownership is None else self._not_written(keys))
        rows = [row for row, value in enumerate(keys.target_ids.to_pylist()) if id_text(value) in wanted]
        self._writer.delete(keys.target_ids.take(rows), keys.target_scope)
        self._call(self._target.wait_visible)
        return refused

    def _call(self, function: Callable[[], T]) -> T:
        sleep = self._throttle.interrupt.sleep
        sleep(0)
        return self._throttle.target.call(function, sleep=sleep)
