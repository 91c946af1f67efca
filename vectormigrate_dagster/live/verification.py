"""The final verification, by generations (rules 20 to 22 of the live protocol): a net that trusts no re-sync.

Before writes are frozen every chunk is read on both sides by the databases' own listing, and compared exactly; later
looks are at the keys of which that says nothing any more. So what is left to be looked at while writes are frozen is
what was written in the last seconds, however large the collection is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from vectormigrate_dagster.databases import Sleep
from vectormigrate_dagster.errors import NotSo, ValidationFailed
from vectormigrate_dagster.live.journal import Control, Journal, Key
from vectormigrate_dagster.live.journal.chunks import MAX_AGE_SECONDS
from vectormigrate_dagster.live.journal.generations import Doubtful, Generations
from vectormigrate_dagster.live.sides import Sides
from vectormigrate_dagster.mapping.ids import RefusedId
from vectormigrate_dagster.model import IdKind, Split
from vectormigrate_dagster.model.digests import DigestSet
from vectormigrate_dagster.validation import Context, Exceptions
from vectormigrate_dagster.validation.beyond import look_beyond
from vectormigrate_dagster.validation.context import NO_EXCEPTIONS
from vectormigrate_dagster.validation.mismatches import Mismatch
from vectormigrate_dagster.validation.whole import compare_split

BEYOND = "beyond"
"""The chunk of everything that no split of the plan shows: scopes that are newer, and what else is in the target."""

_FEW = 500
"""Doubtful keys that are looked at in well under a second, so that listing fewer gains nothing."""

_PASSES = 5
_SPLIT_RECORDS = 1_000_000
_SHOWN = 5


def chunks_of(partitions: Iterable[str]) -> tuple[str, ...]:
    """What is compared, one after the other, of a plan with these partitions."""
    return (*partitions, BEYOND)


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What came of looking at everything, or again at what was doubtful.

    Args:
        different: keys that differ although nothing is known to be under way for them; they are touched.
        doubtful: keys that the next look has to be at.
    """

    different: tuple[Key, ...] = ()
    doubtful: int = 0

    def __str__(self) -> str:
        shown = ", ".join(f"'{key.text}'" for key in self.different[:_SHOWN])
        more = ", ..." if len(self.different) > _SHOWN else ""
        return f"{len(self.different):,} ids differ that nobody was about to carry over: {shown}{more}"


class Verification:
    """Compares both sides of a live migration exactly; any number may, at the same time.

    Args:
        journal: the migration's.
        sides: both sides.
        splits: the partitions of the plan by their keys; together they are all of the source that is moved.
        exceptions: reads, anew each time, what a correct migration leaves different.
        max_age: seconds for which a chunk counts as compared.
        sleep: waits for reads to become settled.
    """

    def __init__(
        self,
        journal: Journal,
        sides: Sides,
        splits: Mapping[str, Split],
        *,
        exceptions: Callable[[], Exceptions] = lambda: NO_EXCEPTIONS,
        max_age: float = MAX_AGE_SECONDS,
        sleep: Sleep = time.sleep,
    ) -> None:
        self._journal = journal
        self._sides = sides
        self._splits = dict(splits)
        self._exceptions = exceptions
        self._max_age = max_age
        self._sleep = sleep
        self._generations = Generations(journal, sides.keys.canonical)

    @property
    def chunks(self) -> tuple[str, ...]:
        """What is compared, one after the other."""
        return chunks_of(self._splits)

    def generation(self) -> Looked:
        """Compare every chunk that was not compared lately, then what has become doubtful, until that is little.

        Raises:
            NotSo: pages are being written.
            ValidationFailed: the target holds records that no re-sync can mend.
            DatabaseError: a side could not be read.
        """
        different: dict[Key, None] = {}
        while missing := self._generations.missing(self.chunks, max_age=self._max_age):
            for name in missing:
                self._sleep(0)  # what ends a wait ends this too
                different.update(dict.fromkeys(self._compare(name)))
        doubtful = self._generations.doubtful(self.chunks)
        for _ in range(_PASSES):
            before = len(doubtful.keys)
            if before <= _FEW:
                break
            different.update(dict.fromkeys(self._look_again(doubtful)))
            doubtful = self._generations.doubtful(self.chunks)
            if len(doubtful.keys) > before / 2:
                break
        return Looked(different=tuple(different), doubtful=len(doubtful.keys))

    def settle(self) -> Looked:
        """Look once more at everything that is doubtful, and say what differs without anything being under way."""
        different = self._look_again(self._generations.doubtful(self.chunks))
        return Looked(different=tuple(different), doubtful=len(self._generations.doubtful(self.chunks).keys))

    def quiet(self, since: Control) -> Doubtful | None:
        """What is to be looked at while writes are frozen, once nothing is under way; None while something is.

        Raises:
            NotSo: the freeze has ended, or a chunk is not compared.
        """
        return self._generations.quiet(since, self.chunks)

    def recheck(self, since: Control, doubtful: Doubtful) -> Looked:
        """Compare what is doubtful while writes are frozen; if all of it is equal, the sides may be switched.

        Keys that differ twice are touched.

        Raises:
            NotSo: the freeze has ended, or pages were written.
            DatabaseError: a side could not be read.
        """
        self._sleep(self._stale)  # nothing is written any more, but a read may not show yet what was
        wrong = self._still_wrong(doubtful.keys)
        if wrong:
            self._journal.note(wrong, kind="touch")
        else:
            self._generations.verified(since, doubtful)
        return Looked(different=tuple(wrong), doubtful=len(doubtful.keys))

    def now(self) -> float:
        """The journal's time."""
        return self._generations.now()

    def left_of(self, before: float) -> list[tuple[str, float]]:
        """What was under way before a moment and still is, and for how many seconds at most; changes nothing."""
        return self._generations.left_of(before)

    def _compare(self, name: str) -> list[Key]:
        """Compare a chunk; return the keys that were touched."""
        chunk = self._generations.begin(name)
        found = _Found(self._sides.keys.canonical)
        context = self._context()
        for split in self._unplanned(context) if name == BEYOND else [self._splits[name]]:
            compare_split(context, split, sink=found)
        if name == BEYOND:
            look_beyond(context, sink=found, different=DigestSet())
        found.require_mendable()
        return self._generations.finish(chunk, self._still_wrong(found.keys, looked=1)) or []

    def _unplanned(self, context: Context) -> Sequence[Split]:
        """The source's scopes that appeared after the plan and are moved all the same, as splits.

        Raises:
            ValidationFailed: see `_moved`.
        """
        if set(context.scopes) == {None}:
            return []
        call, source = context.throttle.source.call, context.source
        new = self._moved(scope for scope in call(source.scopes) if scope not in context.scopes)
        return call(partial(source.plan_splits, _SPLIT_RECORDS, new)) if new else []

    def _moved(self, scopes: Iterable[str]) -> list[str]:
        """Those of some scopes of the source that the target can hold, without those that nobody wants there.

        Raises:
            ValidationFailed: there are records in one that the target cannot hold, and they would be missed there.
        """
        keys, moved = self._sides.keys, []
        for scope in scopes:
            key = Key(scope, IdKind.TEXT, "")
            if keys.leaves_out(key):
                continue
            try:
                keys.target_scope(key)
            except RefusedId as reason:
                if self._journal.control().primary == "source" and self._count(scope):
                    raise ValidationFailed(f"there are records of the source that are not moved: {reason}") from reason
            else:
                moved.append(scope)
        return moved

    def _count(self, scope: str) -> int:
        return self._sides.throttle.source.call(partial(self._sides.source.count, scope))

    def _look_again(self, doubtful: Doubtful) -> list[Key]:
        """Compare what is doubtful; return the keys that were touched.

        Raises:
            NotSo: pages were written meanwhile, or the sides were switched.
        """
        while (touched := self._generations.advance(doubtful, self._still_wrong(doubtful.keys))) is None:
            doubtful = self._generations.doubtful(self.chunks)  # somebody else has compared a chunk meanwhile
        return touched

    def _still_wrong(self, keys: Sequence[Key], *, looked: int = 0) -> list[Key]:
        """Those of some keys that differ, and differ again once reads are settled (rule 22)."""
        for look in range(looked, 2):
            if not keys:
                break
            if look:
                self._sleep(self._stale)
            keys = self._differing(keys)
        return list(keys)

    def _differing(self, keys: Sequence[Key]) -> list[Key]:
        """Those of some keys whose records are not what those of the primary promise, in their order."""
        sides, primary = self._sides, self._journal.control().primary
        keys = list(dict.fromkeys(map(sides.keys.canonical, keys)))
        resync, known = sides.resync(primary, check=_write_nothing), self._exceptions().refused_ids
        wrong: set[Key] = set()
        with sides.source.as_of_now(), sides.target.as_of_now():
            grouped = sides.grouped(keys, primary)
            self._moved({scope for key in grouped.nowhere if (scope := sides.keys.scope_of(key)) is not None})
            for group in grouped.groups:
                differ = resync.differing(group.keys)
                wrong.update(key for key, differs in zip(group.of, differ, strict=True) if differs)
        return [key for key in keys if key in wrong and (sides.keys.scope_of(key), key.text) not in known]

    @property
    def _stale(self) -> float:
        return max(self._journal.control().bounds.stale.values())

    def _context(self) -> Context:
        """Both sides, made anew: it keeps what it has counted."""
        sides = self._sides
        return Context(
            source=sides.source,
            target=sides.target,
            mapper=sides.mapper,
            splits=list(self._splits.values()),
            tolerance=sides.tolerance,
            exceptions=self._exceptions(),
            throttle=sides.throttle,
        )


def _write_nothing() -> None:
    """Refuse to write.

    Raises:
        NotSo: always.
    """
    raise NotSo("a verification writes nothing")


class _Found:
    """Takes findings as keys of the journal; those of records that name no origin are kept apart."""

    def __init__(self, canonical: Callable[[Key], Key]) -> None:
        self._canonical = canonical
        self._keys: dict[Key, None] = {}
        self._strange: list[str] = []

    def __call__(self, found: Iterable[Mismatch]) -> None:
        """Take findings."""
        for one in found:
            if one.source_id is None or one.source_id_kind is None:
                self._strange.append(one.id)
                continue
            self._keys[self._canonical(Key(one.source_scope, IdKind(one.source_id_kind), one.source_id))] = None

    @property
    def keys(self) -> list[Key]:
        """The keys that differ."""
        return list(self._keys)

    def require_mendable(self) -> None:
        """Refuse to go on over records that are no copies of anything.

        Raises:
            ValidationFailed: there are some.
        """
        if self._strange:
            shown = ", ".join(f"'{text}'" for text in self._strange[:_SHOWN])
            raise ValidationFailed(
                f"the target holds {len(self._strange):,} records that nobody promised and that do not say which "
                f"record of the source they are copies of, such as {shown}; delete them, or write them to the source"
            )
