"""Which pieces of a collection were found equal on both sides, and from which entry on that must be distrusted.

A comparison's row is made before its first read (rule 21 of the live protocol), and the first that is finished
replaces all others of its chunk. When pages are written or the sides are switched every row goes, and with it whatever
a comparison that is under way would say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from vectormigrate_dagster.live.journal.tables import CHUNKS

MAX_AGE_SECONDS = 24 * 3600.0
"""For how long comparisons count after the last of them has ended."""

_UNDER_WAY_SECONDS = 3 * MAX_AGE_SECONDS
"""For how long one may be under way: of the target's records that no split shows, it reads the whole target."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One comparison of a piece, under way or finished.

    Args:
        name: of the piece: the partition's key, or what else was read as one.
        low: the entry from which on the comparison must distrust itself.
        since: keys that a re-sync has dealt with from this moment on are as doubtful; the journal's time.
        token: unique to this comparison.
        compared_at: when all of it had been compared; None until then.
    """

    name: str
    low: int
    since: float
    token: str
    compared_at: float | None = None


def begin(connection: sa.Connection, migration: str, chunk: Chunk) -> None:
    """Note that a comparison begins; what an earlier one has shown counts until this one is finished."""
    values = {"low": chunk.low, "since": chunk.since, "token": chunk.token, "compared_at": None}
    connection.execute(sa.insert(CHUNKS).values(migration=migration, chunk=chunk.name, **values))


def read(connection: sa.Connection, migration: str) -> list[Chunk]:
    """Every comparison; at most one of a chunk is finished."""
    query = sa.select(CHUNKS).where(CHUNKS.c.migration == migration).order_by(CHUNKS.c.chunk)
    return [
        Chunk(name=row.chunk, low=row.low, since=row.since, token=row.token, compared_at=row.compared_at)
        for row in connection.execute(query)
    ]


def finish(connection: sa.Connection, migration: str, chunk: Chunk, *, now: float) -> bool:
    """Let this comparison count, in place of every other one of the chunk; False if its row is gone."""
    of_chunk = _of(migration, [chunk.name])
    mine = sa.update(CHUNKS).where(of_chunk, CHUNKS.c.token == chunk.token).values(compared_at=now)
    if connection.execute(mine).rowcount != 1:
        return False
    connection.execute(sa.delete(CHUNKS).where(of_chunk, CHUNKS.c.token != chunk.token))
    return True


def move(connection: sa.Connection, migration: str, names: Sequence[str], *, low: int, since: float) -> None:
    """Let chunks count from a later entry on, after whatever was doubtful before it was looked at again."""
    connection.execute(sa.update(CHUNKS).where(_of(migration, names)).values(low=low, since=since))


def are(connection: sa.Connection, migration: str, tokens: Mapping[str, str]) -> bool:
    """Whether chunks are compared, and are still what they were when their tokens were read."""
    known = {chunk.name: chunk.token for chunk in read(connection, migration) if chunk.compared_at is not None}
    return all(known.get(name) == token for name, token in tokens.items())


def forget_finished(connection: sa.Connection, migration: str) -> None:
    """Let nothing count that was compared."""
    connection.execute(sa.delete(CHUNKS).where(CHUNKS.c.migration == migration, CHUNKS.c.compared_at.is_not(None)))


def forget(connection: sa.Connection, migration: str) -> None:
    """Let nothing count as compared."""
    connection.execute(sa.delete(CHUNKS).where(CHUNKS.c.migration == migration))


def forget_old(connection: sa.Connection, migration: str, *, now: float) -> None:
    """Forget comparisons that count no more, and those that were begun so long ago that nobody is at them any more.

    What one that is under way relies on is kept: the comparisons before it count again once it has ended.
    """
    of_migration, is_over = CHUNKS.c.migration == migration, CHUNKS.c.compared_at.is_not(None)
    left = ~is_over & (CHUNKS.c.since < now - _UNDER_WAY_SECONDS)
    connection.execute(sa.delete(CHUNKS).where(of_migration, left))
    newest = sa.select(sa.func.max(CHUNKS.c.compared_at), sa.func.count(), sa.func.count(CHUNKS.c.compared_at))
    ended, begun, over = connection.execute(newest.where(of_migration)).one()
    if begun == over and ended is not None and ended < now - MAX_AGE_SECONDS:
        forget(connection, migration)


def _of(migration: str, names: Sequence[str]) -> sa.ColumnElement[bool]:
    return (CHUNKS.c.migration == migration) & CHUNKS.c.chunk.in_(names)
