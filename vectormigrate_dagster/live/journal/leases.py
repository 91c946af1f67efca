"""Leases: one re-sync per lane of keys at a time, over all processes and hosts (rules 5, 6 and 9).

A lease outlives its requests: after a crash, or a request of unknown outcome, a lane is free only when the last request
that may have been sent under the lease can no longer be applied.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from vectormigrate_dagster.errors import LeaseHeld
from vectormigrate_dagster.live.journal.control import Control
from vectormigrate_dagster.live.journal.database import JournalDatabase
from vectormigrate_dagster.live.journal.tables import LEASES
from vectormigrate_dagster.model.counting import counted


@dataclass(frozen=True, kw_only=True)
class LaneLease:
    """The right to re-sync the keys of some lanes.

    Args:
        control: the row as it was when the lease was taken; direction and epoch come from here, never from elsewhere.
        holder: who, unique to this lease.
        lanes: which.
        ends: when it ends, by this process' monotonic clock, counted from before it was asked for.
    """

    control: Control
    holder: str
    lanes: tuple[int, ...]
    ends: float

    def check(self) -> None:
        """Make sure that a request sent now cannot outlive the lease; to be asked right before each one.

        Raises:
            LeaseHeld: too little time is left, so the lanes may soon be somebody else's.
        """
        left = self.ends - time.monotonic()
        if left < self.control.bounds.margin:
            raise LeaseHeld(
                f"the lease of '{self.holder}' on {counted(len(self.lanes), 'lane')} of '{self.control.migration}' is "
                "about to end; whoever holds the next one goes on"
            )


def take(
    journal: JournalDatabase,
    connection: sa.Connection,
    control: Control,
    lanes: Sequence[int],
    *,
    holder: str,
    seconds: float,
    now: float,
    began: float,
) -> LaneLease | None:
    """Take those of `lanes` that are free; None if none is.

    Args:
        journal: the database.
        connection: a transaction that holds the control row, so that no switch comes in between.
        control: the row, as it was read in it.
        lanes: wanted.
        holder: unique to this lease.
        seconds: for how long.
        now: the journal's time.
        began: `time.monotonic()` before the transaction began.
    """
    known = set(connection.execute(sa.select(LEASES.c.lane).where(_of(control.migration, lanes))).scalars())
    never = {"holder": "", "epoch": 0, "taken_at": 0.0, "expires_at": 0.0, "free_at": 0.0}
    new = [{"migration": control.migration, "lane": lane, **never} for lane in sorted(set(lanes) - known)]
    if new:
        journal.insert_new(connection, LEASES, new)
    # In one order, so that two who want the same lanes do not wait for each other.
    rows = connection.execute(
        sa.select(LEASES.c.lane)
        .where(_of(control.migration, lanes), LEASES.c.free_at <= now)
        .order_by(LEASES.c.lane)
        .with_for_update()
    )
    free = tuple(rows.scalars())
    if not free:
        return None
    values = {
        "holder": holder,
        "epoch": control.epoch,
        "taken_at": now,
        "expires_at": now + seconds,
        "free_at": now + seconds + control.bounds.request + control.bounds.margin,
    }
    connection.execute(sa.update(LEASES).where(_of(control.migration, free)).values(values))
    return LaneLease(control=control, holder=holder, lanes=free, ends=began + seconds)


def is_held(connection: sa.Connection, lease: LaneLease, now: float) -> bool:
    """Whether all lanes are still this lease's; to be asked in the transaction that consumes."""
    mine = _of(lease.control.migration, lease.lanes) & (LEASES.c.holder == lease.holder) & (LEASES.c.expires_at > now)
    count = connection.execute(sa.select(sa.func.count()).select_from(LEASES).where(mine)).scalar_one()
    return bool(count == len(lease.lanes))


def extend(connection: sa.Connection, lease: LaneLease, *, until: float, free_at: float) -> None:
    """Let a lease that is held end later."""
    mine = _of(lease.control.migration, lease.lanes) & (LEASES.c.holder == lease.holder)
    connection.execute(sa.update(LEASES).where(mine).values(expires_at=until, free_at=free_at))


def release(connection: sa.Connection, lease: LaneLease, now: float) -> None:
    """Give lanes back at once; only if every request made under the lease has an answer."""
    mine = _of(lease.control.migration, lease.lanes) & (LEASES.c.holder == lease.holder)
    connection.execute(sa.update(LEASES).where(mine).values(expires_at=now, free_at=now))


def alive(connection: sa.Connection, migration: str, now: float) -> int:
    """Lanes that are held, or whose requests may still be applied."""
    busy = (LEASES.c.migration == migration) & (LEASES.c.free_at > now)
    return int(connection.execute(sa.select(sa.func.count()).select_from(LEASES).where(busy)).scalar_one())


def free_in(connection: sa.Connection, migration: str, now: float) -> float:
    """Seconds until every lane is free."""
    last = sa.select(sa.func.max(LEASES.c.free_at)).where(LEASES.c.migration == migration)
    return max(0.0, float(connection.execute(last).scalar() or 0.0) - now)


def oldest(connection: sa.Connection, migration: str, now: float) -> float:
    """When the oldest of the leases was taken whose requests may still be applied; `now` if there is none."""
    busy = (LEASES.c.migration == migration) & (LEASES.c.free_at > now)
    taken = connection.execute(sa.select(sa.func.min(LEASES.c.taken_at)).where(busy)).scalar()
    return now if taken is None else float(taken)


def left_of(connection: sa.Connection, migration: str, now: float, *, before: float) -> tuple[int, float]:
    """How many lanes that were leased before a moment are not free, and when the last of them is."""
    busy = (LEASES.c.migration == migration) & (LEASES.c.free_at > now) & (LEASES.c.taken_at <= before)
    count, last = connection.execute(sa.select(sa.func.count(), sa.func.max(LEASES.c.free_at)).where(busy)).one()
    return count, now if last is None else float(last)


def forget(connection: sa.Connection, migration: str) -> None:
    """Forget all leases of a migration that has ended; whoever has one finds it gone."""
    connection.execute(sa.delete(LEASES).where(LEASES.c.migration == migration))


def _of(migration: str, lanes: Sequence[int]) -> Any:
    return (LEASES.c.migration == migration) & LEASES.c.lane.in_(lanes)
