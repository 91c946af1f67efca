"""From which entry on an unfinished split must distrust what it wrote: durable, and only ever older (rules 10 to 13).

A split is one unit: what intents name since its low is touched once, when all of it is acknowledged, and no earlier
than the last request of an attempt that was given up can be applied.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from vectormigrate_dagster.errors import LeaseHeld
from vectormigrate_dagster.live.journal.attempts import Attempt
from vectormigrate_dagster.live.journal.tables import LOWS

_LEFT = ""
"""The attempt of a split that nobody works on any more, and of which a request may still be applied."""


@dataclass(frozen=True, kw_only=True)
class SplitAttempt(Attempt):
    """One attempt to move a split while the application writes.

    Args:
        low: the entry from which on the split must distrust itself; the oldest of all attempts.
    """

    low: int


def begin(connection: sa.Connection, migration: str, split: str, *, low: int, attempt: str, until: float) -> int:
    """Begin an attempt on a split; return the low that counts, the oldest of all attempts.

    Args:
        connection: a transaction.
        migration: whose split.
        split: the partition's key.
        low: from where on this attempt would have to distrust itself.
        attempt: unique to it.
        until: when its requests end, unless `renew` moves that.
    """
    row = connection.execute(sa.select(LOWS).where(_of(migration, split))).one_or_none()
    if row is None:
        values = {"low": low, "attempt": attempt, "sends_until": until, "abandoned_until": 0.0}
        connection.execute(sa.insert(LOWS).values(migration=migration, split=split, **values))
        return low
    values = {
        "low": min(low, row.low),
        "attempt": attempt,
        "sends_until": until,
        "abandoned_until": max(row.abandoned_until, row.sends_until),
    }
    connection.execute(sa.update(LOWS).where(_of(migration, split)).values(values))
    return min(low, int(row.low))


def renew(connection: sa.Connection, migration: str, split: str, *, attempt: str, until: float) -> None:
    """Let an attempt send for longer.

    Raises:
        LeaseHeld: another attempt has begun.
    """
    mine = _of(migration, split) & (LOWS.c.attempt == attempt)
    if connection.execute(sa.update(LOWS).where(mine).values(sends_until=until)).rowcount != 1:
        raise LeaseHeld(f"another worker has taken over split '{split}' of '{migration}'; this one ends")


def abandoned_for(connection: sa.Connection, migration: str, split: str, *, attempt: str, now: float) -> float:
    """Seconds until no request of an earlier attempt can be applied any more; 0 if none can.

    Raises:
        LeaseHeld: another attempt has begun.
    """
    mine = _of(migration, split) & (LOWS.c.attempt == attempt)
    until = connection.execute(sa.select(LOWS.c.abandoned_until).where(mine)).scalar()
    if until is None:
        raise LeaseHeld(f"another worker has taken over split '{split}' of '{migration}'; this one ends")
    return max(0.0, float(until) - now)


def finish(connection: sa.Connection, migration: str, split: str) -> None:
    """Forget a split's low, in the transaction that touched what it must distrust."""
    connection.execute(sa.delete(LOWS).where(_of(migration, split)))


def leave(connection: sa.Connection, migration: str, split: str, *, until: float) -> None:
    """Note that a split is loaded, though a request of an attempt may still be applied until then."""
    values = {"attempt": _LEFT, "sends_until": until, "abandoned_until": until}
    connection.execute(sa.update(LOWS).where(_of(migration, split)).values(values))


def rest(connection: sa.Connection, migration: str, split: str, *, attempt: str, until: float) -> None:
    """Note that an attempt sends nothing any more, and that what it has sent is applied by then; another's stays."""
    mine = _of(migration, split) & (LOWS.c.attempt == attempt)
    connection.execute(sa.update(LOWS).where(mine).values(sends_until=until))


def leave_all(connection: sa.Connection, migration: str, *, until: float = float("inf")) -> None:
    """Leave every split, because its plan has ended; whoever is at work on one finds its attempt gone.

    Args:
        connection: a transaction.
        migration: whose splits.
        until: when all that was sent is applied at the latest, where that is known.
    """
    rows = connection.execute(sa.select(LOWS).where(LOWS.c.migration == migration)).all()
    for row in rows:
        over = min(max(row.abandoned_until, row.sends_until), until)
        values = {"attempt": _LEFT, "sends_until": over, "abandoned_until": over}
        connection.execute(sa.update(LOWS).where(_of(migration, row.split)).values(values))


def retired(connection: sa.Connection, migration: str, now: float) -> list[tuple[str, int]]:
    """Splits that were left and of which no request can be applied any more, with their lows."""
    over = (LOWS.c.migration == migration) & (LOWS.c.attempt == _LEFT) & (LOWS.c.abandoned_until <= now)
    rows = connection.execute(sa.select(LOWS.c.split, LOWS.c.low).where(over))
    return [(row.split, int(row.low)) for row in rows]


def forget(connection: sa.Connection, migration: str) -> None:
    """Forget all splits of a migration that has ended."""
    connection.execute(sa.delete(LOWS).where(LOWS.c.migration == migration))


def last(connection: sa.Connection, migration: str) -> float:
    """When the last request of an unfinished split can be applied no more, unless it is renewed; the journal's time."""
    ends = sa.func.max(LOWS.c.sends_until), sa.func.max(LOWS.c.abandoned_until)
    row = connection.execute(sa.select(*ends).where(LOWS.c.migration == migration)).one()
    return max((float(end) for end in row if end is not None), default=0.0)


def oldest(connection: sa.Connection, migration: str) -> int | None:
    """The oldest entry that a split has to look back to; None if none has."""
    return connection.execute(sa.select(sa.func.min(LOWS.c.low)).where(LOWS.c.migration == migration)).scalar()


def unfinished(connection: sa.Connection, migration: str) -> int:
    """Splits that were begun and are not finished."""
    query = sa.select(sa.func.count()).select_from(LOWS).where(LOWS.c.migration == migration)
    return int(connection.execute(query).scalar_one())


def _of(migration: str, split: str) -> sa.ColumnElement[bool]:
    return (LOWS.c.migration == migration) & (LOWS.c.split == split)
