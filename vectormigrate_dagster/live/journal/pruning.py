"""Forgets entries that nobody looks back to."""

from __future__ import annotations

import sqlalchemy as sa

from vectormigrate_dagster.live.journal.control import Control, State
from vectormigrate_dagster.live.journal.entries import IN_CLAUSE, closed_at, with_applied
from vectormigrate_dagster.live.journal.tables import APPLIED, ENTRIES


def prune_some(
    connection: sa.Connection, control: Control, now: float, *, below: int, before: float, limit: int = 5_000
) -> int:
    """Forget entries that were dealt with, the oldest first; return how many.

    Args:
        connection: a transaction.
        control: the migration's row; of one that was completed, nobody deals with entries any more.
        now: the journal's time.
        below: only what is older than this entry.
        before: only what was dealt with by this moment; of a completed migration, what was closed by then.
        limit: at most so many.
    """
    over = closed_at(control, now) if control.state is State.COMPLETED else ENTRIES.c.consumed_at
    chosen = (
        sa.select(ENTRIES.c.seq, ENTRIES.c.ticket)
        .select_from(with_applied())
        .where(ENTRIES.c.migration == control.migration, ENTRIES.c.seq < below, over <= before)
        .order_by(ENTRIES.c.seq)
        .limit(limit)
    )
    rows = connection.execute(chosen).all()
    for start in range(0, len(rows), IN_CLAUSE):
        some = rows[start : start + IN_CLAUSE]
        connection.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq.in_([row.seq for row in some])))
        left = sa.select(ENTRIES.c.ticket).where(ENTRIES.c.ticket == APPLIED.c.ticket).exists()
        tickets = {row.ticket for row in some}
        connection.execute(sa.delete(APPLIED).where(APPLIED.c.ticket.in_(tickets), ~left))
    return len(rows)


def prune(connection: sa.Connection, migration: str) -> None:
    """Forget every entry of a migration."""
    for table in (ENTRIES, APPLIED):
        connection.execute(sa.delete(table).where(table.c.migration == migration))
