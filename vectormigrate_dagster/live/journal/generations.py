"""The journal's part of the final verification: what was compared, what is doubtful since, and when all is quiet.

Rules 20 and 21 of the live protocol. A comparison says nothing of a key that an entry names from its low on, or whose
entries were not all dealt with before it began: a re-sync may have been about it. Everything else is as it was found.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from vectormigrate_dagster.errors import NotSo
from vectormigrate_dagster.live.journal import chunks, comparing, control, entries, leases, lows
from vectormigrate_dagster.live.journal.chunks import Chunk
from vectormigrate_dagster.live.journal.control import Control
from vectormigrate_dagster.live.journal.entries import Key
from vectormigrate_dagster.live.journal.held import require_unchanged
from vectormigrate_dagster.live.journal.journal import Journal
from vectormigrate_dagster.live.journal.spooled import SpooledKeys, spooled
from vectormigrate_dagster.model.counting import agreeing, counted


def _itself(key: Key) -> Key:
    """A record has one key only."""
    return key


@dataclass(frozen=True, kw_only=True)
class Doubtful:
    """What has to be looked at again, so that everything is known to be equal; `Generations.keys` says which keys.

    Args:
        from_low, from_since: where the comparisons' own doubts begin.
        tokens: the comparisons that vouch for all other keys, by chunk.
        low, since: from where on the next look must distrust itself.
        upto: the newest entry at that moment.
    """

    from_low: int
    from_since: float
    tokens: Mapping[str, str]
    low: int
    since: float
    upto: int


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a verification is.

    Args:
        chunks: that there are.
        compared: those of them that are compared, in a pass that is under way or ended recently enough.
        doubtful: keys of which these comparisons say nothing any more.
    """

    chunks: int
    compared: int
    doubtful: int


class Generations:
    """Which parts of a migration are known to be equal on both sides; safe to use from several processes.

    Args:
        journal: the migration's journal.
        canonical: the one of the keys that may name a record that stands for all of them (`KeyMap.canonical`).
    """

    def __init__(self, journal: Journal, canonical: Callable[[Key], Key] = _itself) -> None:
        self._journal = journal
        self._canonical = canonical
        self._migration = journal.migration

    def missing(self, names: Collection[str], *, max_age: float) -> list[str]:
        """Which chunks have still to be compared; all of them if the last was longer ago than `max_age` seconds."""
        with self._journal.holding("share") as (connection, _):
            counting = {chunk.name for chunk in self._counting(connection, max_age)}
        return [name for name in names if name not in counting]

    def begin(self, name: str, *, max_age: float = chunks.MAX_AGE_SECONDS) -> Chunk:
        """Begin to compare a chunk, durably and before its first read.

        What has grown too old is forgotten: it would count again once this chunk is compared.

        Raises:
            NotSo: pages are being written, or may still be applied.
        """
        with self._journal.holding("update") as (connection, control):
            unfinished = lows.unfinished(connection, self._migration)
            if unfinished:
                raise NotSo(
                    f"{counted(unfinished, 'split')} of '{self._migration}' {agreeing(unfinished, 'is')} begun and not "
                    "finished, or a request of one may still be applied; verify when that is over"
                )
            if not self._counting(connection, max_age):
                chunks.forget_finished(connection, self._migration)
            low, since = self._doubt(connection, control)
            chunk = Chunk(name=name, low=low, since=since, token=secrets.token_hex(8))
            chunks.begin(connection, self._migration, chunk)
            return chunk

    def finish(self, chunk: Chunk, different: Sequence[Key]) -> list[Key] | None:
        """Note that a chunk was compared, and ask for another look at what differs for no reason that is known.

        Returns:
            Those of `different` that no entry names since the chunk's low: they were touched. None if pages were
            written meanwhile, the sides switched, or somebody else has finished the chunk: nothing is noted.
        """
        with self._journal.holding("update") as (connection, control):
            now = self._journal.database.now(connection)
            if not chunks.finish(connection, self._migration, chunk, now=now):
                return None
            return self._touch(connection, control, different, low=chunk.low, since=chunk.since)

    def doubtful(self, names: Collection[str]) -> Doubtful:
        """Of what the comparisons of some chunks say nothing any more.

        Raises:
            NotSo: a chunk was not compared.
        """
        with self._journal.holding("update") as (connection, control):
            return self._doubtful(connection, control, names)

    @contextmanager
    def keys(self, seen: Doubtful) -> Iterator[SpooledKeys]:
        """What is doubtful, to be looked at block by block; in the order of names, each key once.

        Listed now and not when `seen` was made: more can only have come, which the next look is at anyway.

        Raises:
            StorageFailed: there is no room for them.
        """
        with ExitStack() as stack:
            with self._journal.database.reading() as connection:
                named = comparing.doubtful(connection, self._migration, low=seen.from_low, since=seen.from_since)
                keys = stack.enter_context(spooled(named))
            yield keys

    def count(self, seen: Doubtful) -> int:
        """How many keys are doubtful."""
        with self._journal.database.reading() as connection:
            return comparing.count_doubtful(connection, self._migration, low=seen.from_low, since=seen.from_since)

    def ask_again(self, seen: Doubtful, different: Sequence[Key]) -> list[Key]:
        """Ask for another look at doubtful keys that were found to differ for no reason that is known.

        Returns:
            Those of `different` that no entry names since `seen`: they were touched.
        """
        with self._journal.holding("share") as (connection, control):
            return self._touch(connection, control, different, low=seen.low, since=seen.since)

    def advance(self, seen: Doubtful) -> bool:
        """Let everything count from a later entry on, after all doubtful keys were compared; False if it cannot.

        What is asked about must have been said before (`ask_again`). It cannot if pages were written meanwhile, the
        sides switched, or a chunk was compared by somebody else.
        """
        with self._journal.holding("update") as (connection, _):
            if not chunks.are(connection, self._migration, seen.tokens):
                return False
            chunks.move(connection, self._migration, list(seen.tokens), low=seen.low, since=seen.since)
            return True

    def quiet(self, since: Control, names: Collection[str]) -> Doubtful | None:
        """What to look at before a switch, once nothing is under way; None while something is (rule 20).

        Raises:
            NotSo: the row is another one by now, or a chunk was not compared.
        """
        with self._journal.holding("update") as (connection, control):
            require_unchanged(control, since)
            now = self._journal.database.now(connection)
            lag = entries.lag(connection, control, now)
            alive = leases.alive(connection, self._migration, now)
            if lag.records or alive or lows.unfinished(connection, self._migration):
                return None
            return self._doubtful(connection, control, names)

    def verified(self, since: Control, seen: Doubtful) -> None:
        """Note that everything is equal in this epoch, unless anything was written since `seen` was listed.

        Raises:
            NotSo: the row is another one by now, or what vouched for the other keys does no more.
        """
        with self._journal.holding("update") as (connection, now):
            require_unchanged(now, since)
            if not chunks.are(connection, self._migration, seen.tokens):
                raise NotSo(f"pages of '{self._migration}' were written while it was verified; verify it again")
            control.mark_verified(connection, now, upto=seen.upto)

    def standing(self, names: Collection[str], *, max_age: float) -> Standing:
        """How far the comparisons are, for people; changes nothing."""
        with self._journal.database.reading() as connection:
            known = [chunk for chunk in self._counting(connection, max_age) if chunk.name in names]
            low, since = _from(known)
            doubtful = comparing.count_doubtful(connection, self._migration, low=low, since=since) if known else 0
            return Standing(chunks=len(names), compared=len(known), doubtful=doubtful)

    def compared(self, names: Collection[str], *, max_age: float) -> int | None:
        """How many chunks are compared, as `standing` says, without a look at the entries; None if none was begun."""
        with self._journal.database.reading() as connection:
            if not chunks.read(connection, self._migration):
                return None
            return sum(chunk.name in names for chunk in self._counting(connection, max_age))

    def now(self) -> float:
        """The journal's time."""
        with self._journal.database.reading() as connection:
            return self._journal.database.now(connection)

    def left_of(self, before: float) -> list[tuple[str, float]]:
        """What was under way before a moment and still is, and for how many seconds at most; changes nothing."""
        with self._journal.database.reading() as connection:
            row = control.read(self._journal.database, connection, self._migration)
            now = self._journal.database.now(connection)
            lanes, free = leases.left_of(connection, self._migration, now, before=before)
            changes, closed = entries.left_of(connection, row, now, before=before)
            splits, sent = lows.unfinished(connection, self._migration), lows.last(connection, self._migration)
        found = [
            (lanes, free, "lane", "leased to a re-sync, or a request of one that is gone may still be applied"),
            (
                splits,
                sent,
                "split",
                "being loaded ('migrate' goes on if nobody does), or a request of one may still be applied",
            ),
            (changes, closed, "change", "not carried over, or of unknown outcome"),
        ]
        return [
            (f"{counted(count, noun)} {agreeing(count, 'is')} {how}", max(0.0, until - now))
            for count, until, noun, how in found
            if count
        ]

    def _counting(self, connection: sa.Connection, max_age: float) -> list[Chunk]:
        """The comparisons that still count.

        Those of one pass over all chunks grow old together, from its end on, or a pass that takes longer than
        `max_age` would never come to one. What has changed since each was made is known as long as it is kept.
        """
        read = chunks.read(connection, self._migration)
        ends = {chunk.name: chunk.compared_at for chunk in read if chunk.compared_at is not None}
        if not ends or max(ends.values()) < self._journal.database.now(connection) - max_age:
            return []
        return [chunk for chunk in read if chunk.compared_at is not None]

    def _doubt(self, connection: sa.Connection, control: Control) -> tuple[int, float]:
        """From which entry and moment on a read that begins now must distrust itself."""
        now, stale = self._journal.database.now(connection), max(control.bounds.stale.values())
        alive = leases.oldest(connection, self._migration, now)  # what it has dealt with may be written once more
        return entries.low(connection, control, now, settled=stale), min(alive, now - stale)

    def _doubtful(self, connection: sa.Connection, control: Control, names: Collection[str]) -> Doubtful:
        known = [c for c in chunks.read(connection, self._migration) if c.name in names and c.compared_at is not None]
        if left := len(names) - len(known):
            of = f"{left:,} of {counted(len(names), 'part')} of '{self._migration}'"
            raise NotSo(f"{of} {agreeing(left, 'is')} not compared; try again")
        from_low, from_since = _from(known)
        low, since = self._doubt(connection, control)
        return Doubtful(
            from_low=from_low,
            from_since=from_since,
            tokens={chunk.name: chunk.token for chunk in known},
            low=low,
            since=since,
            upto=entries.horizon(connection, self._migration),
        )

    def _touch(
        self, connection: sa.Connection, control: Control, different: Sequence[Key], *, low: int, since: float
    ) -> list[Key]:
        if not different:
            return []
        asked = set(map(self._canonical, different))
        named = comparing.doubtful(connection, self._migration, low=low, since=since)
        known = {key for key in map(self._canonical, named) if key in asked}
        wrong = [key for key in dict.fromkeys(different) if self._canonical(key) not in known]
        now = self._journal.database.now(connection)
        entries.append_closed(connection, control, wrong, now, kind="touch")
        return wrong


def _from(known: Sequence[Chunk]) -> tuple[int, float]:
    """From which entry and moment on some comparisons are in doubt."""
    return min((chunk.low for chunk in known), default=0), min((chunk.since for chunk in known), default=0.0)
