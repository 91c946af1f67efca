"""The journal's part of the final verification: what was compared, what is doubtful since, and when all is quiet.

Rules 20 and 21 of the live protocol. A comparison says nothing of a key that an entry names from its low on, or whose
entries were not all dealt with before it began: a re-sync may have been about it. Everything else is as it was found.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from vectormigrate_dagster.errors import NotSo
from vectormigrate_dagster.live.journal import chunks, control, entries, leases, lows
from vectormigrate_dagster.live.journal.chunks import Chunk
from vectormigrate_dagster.live.journal.control import Control
from vectormigrate_dagster.live.journal.entries import Key
from vectormigrate_dagster.live.journal.held import require_unchanged
from vectormigrate_dagster.live.journal.journal import Journal


def _itself(key: Key) -> Key:
    """A record has one key only."""
    return key


@dataclass(frozen=True, kw_only=True)
class Doubtful:
    """Keys that have to be looked at again, so that everything is known to be equal.

    Args:
        keys: which.
        tokens: the comparisons that vouch for all others, by chunk.
        low, since: from where on the next look must distrust itself.
        upto: the newest entry when they were listed.
    """

    keys: tuple[Key, ...]
    tokens: Mapping[str, str]
    low: int
    since: float
    upto: int


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a verification is.

    Args:
        chunks: that there are.
        compared: those of them that are compared, recently enough.
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
        """Which chunks were never compared whole, or longer ago than `max_age` seconds."""
        with self._journal.holding("share") as (connection, _):
            oldest = self._journal.database.now(connection) - max_age
            read = chunks.read(connection, self._migration)
            fresh = {c.name for c in read if c.compared_at is not None and c.compared_at >= oldest}
        return [name for name in names if name not in fresh]

    def begin(self, name: str) -> Chunk:
        """Begin to compare a chunk, durably and before its first read.

        Raises:
            NotSo: pages are being written, or may still be applied.
        """
        with self._journal.holding("update") as (connection, control):
            unfinished = lows.unfinished(connection, self._migration)
            if unfinished:
                raise NotSo(
                    f"{unfinished} splits of '{self._migration}' are begun and not finished, or their requests may "
                    "still be applied; verify when they are"
                )
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
        """The keys of which the comparisons of some chunks say nothing any more.

        Raises:
            NotSo: a chunk was not compared.
        """
        with self._journal.holding("update") as (connection, control):
            return self._doubtful(connection, control, names)

    def advance(self, seen: Doubtful, different: Sequence[Key]) -> list[Key] | None:
        """Let everything count from a later entry on, after the doubtful keys were compared.

        Returns:
            As `finish`.
        """
        with self._journal.holding("update") as (connection, control):
            if not chunks.are(connection, self._migration, seen.tokens):
                return None
            chunks.move(connection, self._migration, list(seen.tokens), low=seen.low, since=seen.since)
            return self._touch(connection, control, different, low=seen.low, since=seen.since)

    def quiet(self, since: Control, names: Collection[str]) -> Doubtful | None:
        """The keys to look at before a switch, once nothing is under way; None while something is (rule 20).

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
            oldest = self._journal.database.now(connection) - max_age
            read = chunks.read(connection, self._migration)
            known = [c for c in read if c.name in names and c.compared_at is not None and c.compared_at >= oldest]
            doubtful = len(_keys(connection, self._migration, known)) if known else 0
            return Standing(chunks=len(names), compared=len(known), doubtful=doubtful)

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
            (lanes, free, "lanes are leased to a re-sync, or a request of one that is gone may still be applied"),
            (
                splits,
                sent,
                "splits are being loaded ('migrate' goes on if nobody does), or a request of one may still be applied",
            ),
            (changes, closed, "changes are not carried over, or it is not known whether they are applied"),
        ]
        return [(f"{count:,} {what}", max(0.0, until - now)) for count, until, what in found if count]

    def _doubt(self, connection: sa.Connection, control: Control) -> tuple[int, float]:
        """From which entry and moment on a read that begins now must distrust itself."""
        now, stale = self._journal.database.now(connection), max(control.bounds.stale.values())
        alive = leases.oldest(connection, self._migration, now)  # what it has dealt with may be written once more
        return entries.low(connection, control, now, settled=stale), min(alive, now - stale)

    def _doubtful(self, connection: sa.Connection, control: Control, names: Collection[str]) -> Doubtful:
        known = [c for c in chunks.read(connection, self._migration) if c.name in names and c.compared_at is not None]
        if len(known) < len(names):
            raise NotSo(
                f"{len(names) - len(known)} of {len(names)} parts of '{self._migration}' are not compared; try again"
            )
        low, since = self._doubt(connection, control)
        return Doubtful(
            keys=tuple(_keys(connection, self._migration, known)),
            tokens={chunk.name: chunk.token for chunk in known},
            low=low,
            since=since,
            upto=entries.horizon(connection, self._migration),
        )

    def _touch(
        self, connection: sa.Connection, control: Control, different: Sequence[Key], *, low: int, since: float
    ) -> list[Key]:
        doubtful = entries.doubtful(connection, self._migration, low=low, since=since) if different else ()
        known = set(map(self._canonical, doubtful))
        wrong = [key for key in dict.fromkeys(different) if self._canonical(key) not in known]
        now = self._journal.database.now(connection)
        entries.append_closed(connection, control, wrong, now, kind="touch")
        return wrong


def _keys(connection: sa.Connection, migration: str, known: Sequence[Chunk]) -> list[Key]:
    low, since = min(chunk.low for chunk in known), min(chunk.since for chunk in known)
    return entries.doubtful(connection, migration, low=low, since=since)
