"""The final verification, by generations (rules 20 to 22 of the live protocol): a net that trusts no re-sync.

Before writes are frozen every chunk is read on both sides by the databases' own listing, and compared exactly; later
looks are at the keys of which that says nothing any more. So what is left to be looked at while writes are frozen is
what was written in the last seconds, however large the collection is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np

from vectormigrate_dagster.databases import Sleep
from vectormigrate_dagster.errors import NotSo, ValidationFailed
from vectormigrate_dagster.live.differences import Different, Findings, Looked
from vectormigrate_dagster.live.journal import Control, Journal, Key, Side
from vectormigrate_dagster.live.journal.chunks import MAX_AGE_SECONDS
from vectormigrate_dagster.live.journal.generations import Doubtful, Generations
from vectormigrate_dagster.live.keys import Group
from vectormigrate_dagster.live.sides import Sides
from vectormigrate_dagster.mapping.ids import RefusedId
from vectormigrate_dagster.model import Id, IdKind, Split
from vectormigrate_dagster.model.digests import DigestSet
from vectormigrate_dagster.validation import Context, Exceptions
from vectormigrate_dagster.validation.beyond import look_beyond
from vectormigrate_dagster.validation.context import NO_EXCEPTIONS
from vectormigrate_dagster.validation.whole import compare_split

Progress = Callable[[int, int, float | None], None]
"""Is told how many parts are compared, of how many, and in how many seconds the rest will be; None is not known."""

BEYOND = "beyond"
"""The chunk of everything that no split of the plan shows: scopes that are newer, and what else is in the target."""

_FEW = 500
"""Doubtful keys that are looked at in well under a second, so that listing fewer gains nothing."""

_PASSES = 5
_SPLIT_RECORDS = 1_000_000


def chunks_of(partitions: Iterable[str]) -> tuple[str, ...]:
    """What is compared, one after the other, of a plan with these partitions."""
    return (*partitions, BEYOND)


class Verification:
    """Compares both sides of a live migration exactly; any number may, at the same time.

    Args:
        journal: the migration's.
        sides: both sides.
        splits: the partitions of the plan by their keys; together they are all of the source that is moved.
        exceptions: reads, anew each time, what a correct migration leaves different.
        max_age: seconds for which a chunk counts as compared.
        sleep: waits for reads to become settled.
        progress: is told how far comparing everything is, before each part and after the last.
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
        progress: Progress = lambda done, of, left: None,  # noqa: ARG005  # nobody looks
    ) -> None:
        self._journal = journal
        self._sides = sides
        self._splits = dict(splits)
        self._exceptions = exceptions
        self._max_age = max_age
        self._sleep = sleep
        self._progress = progress
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
        different = Different()
        while missing := self._generations.missing(self.chunks, max_age=self._max_age):
            began, of = time.monotonic(), len(self.chunks)
            for number, name in enumerate(missing):
                left = (time.monotonic() - began) / number * (len(missing) - number) if number else None
                self._progress(of - len(missing) + number, of, left)
                self._sleep(0)  # what ends a wait ends this too
                different.add(self._compare(name))
            self._progress(of, of, 0.0)
        doubtful = self._generations.doubtful(self.chunks)
        count = self._generations.count(doubtful)
        for _ in range(_PASSES):
            before = count
            if before <= _FEW:
                break
            self._look_again(doubtful, different)
            doubtful = self._generations.doubtful(self.chunks)
            count = self._generations.count(doubtful)
            if count > before / 2:
                break
        return different.looked(doubtful=count)

    def settle(self) -> Looked:
        """Look once more at everything that is doubtful, and say what differs without anything being under way."""
        different = Different()
        self._look_again(self._generations.doubtful(self.chunks), different)
        return different.looked(doubtful=self._generations.count(self._generations.doubtful(self.chunks)))

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
        different = Different()
        with self._generations.keys(doubtful) as keys:
            for block in keys.blocks():
                self._sleep(0)  # what ends a wait ends this too
                if wrong := self._still_wrong(block):
                    self._journal.note(wrong, kind="touch")
                    different.add(wrong)
        if not different.count:
            self._generations.verified(since, doubtful)
        return different.looked(doubtful=len(keys))

    def now(self) -> float:
        """The journal's time."""
        return self._generations.now()

    def left_of(self, before: float) -> list[tuple[str, float]]:
        """What was under way before a moment and still is, and for how many seconds at most; changes nothing."""
        return self._generations.left_of(before)

    def _compare(self, name: str) -> list[Key]:
        """Compare a chunk; return the keys that were touched."""
        chunk = self._generations.begin(name, max_age=self._max_age)
        found = Findings(self._sides.keys.canonical)
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

    def _look_again(self, doubtful: Doubtful, different: Different) -> None:
        """Compare what is doubtful, block by block, and touch what differs.

        Args:
            doubtful: what to look at.
            different: is told of the keys that were touched.

        Raises:
            NotSo: pages were written meanwhile, or the sides were switched.
        """
        while True:
            with self._generations.keys(doubtful) as keys:
                for block in keys.blocks():
                    self._sleep(0)
                    if wrong := self._still_wrong(block):
                        different.add(self._generations.ask_again(doubtful, wrong))
            if self._generations.advance(doubtful):
                return
            doubtful = self._generations.doubtful(self.chunks)  # somebody else has compared a chunk meanwhile

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
        resync = sides.resync(primary, check=_write_nothing)
        wrong: set[Key] = set()
        with sides.source.as_of_now(), sides.target.as_of_now():
            grouped = sides.grouped(keys, primary)
            self._moved({scope for key in grouped.nowhere if (scope := sides.keys.scope_of(key)) is not None})
            differ = [group.take(np.flatnonzero(resync.differing(group.keys)).tolist()) for group in grouped.groups]
            # Read only if anything differs: the lists may be long, and writes may be frozen.
            known = self._refused() if any(group.of for group in differ) else set()
            for group in differ:
                wrong.update(self._not_excused(group, known, primary))
        return [key for key in keys if key in wrong]

    def _not_excused(self, differ: Group, known: set[tuple[str | None, str]], primary: Side) -> list[Key]:
        """Those of some keys that differ for another reason than that the target refused them, and so lacks them."""
        refused = [row for row, key in enumerate(differ.of) if (key.scope, key.text) in known]
        there = self._there(differ.take(refused), primary) if refused else set()
        ids = (differ.keys.target_ids if primary == "source" else differ.keys.ids).to_pylist()
        excused = {row for row in refused if ids[row] not in there}
        return [key for row, key in enumerate(differ.of) if row not in excused]

    def _there(self, group: Group, primary: Side) -> set[Id]:
        """The ids of a group under which the target holds records of this migration."""
        keys, sides = group.keys, self._sides
        scope, ids = (keys.target_scope, keys.target_ids) if primary == "source" else (keys.scope, keys.ids)
        found = sides.throttle.target.call(partial(sides.target.fetch, ids, scope)).batch.ids
        if sides.ownership is not None:  # somebody else's record may stand in place of one that was refused
            if sides.on_conflict == "overwrite":
                return set()  # the log has noted the id before the target refused it, so it does not tell
            found = found.take(np.flatnonzero(sides.ownership.wrote(found, scope)))
        return set(found.to_pylist())

    def _refused(self) -> set[tuple[str | None, str]]:
        """Scope and id of records that the target refused, in the canonical form of keys."""
        known = self._exceptions().refused_ids
        return {(self._sides.keys.scope_of(Key(scope, IdKind.TEXT, text)), text) for scope, text in known}

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
