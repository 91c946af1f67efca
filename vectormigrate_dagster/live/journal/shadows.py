"""What was seen of queries that were sent to both sides; the newest of each migration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from vectormigrate_dagster.live.journal.control import Side
from vectormigrate_dagster.live.journal.tables import SHADOWS

KEPT = 1000


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """One query.

    Args:
        at: when; the journal's time.
        primary: the side whose answer the application was given.
        k: ids in that answer.
        overlap: the share of them that are in the other side's answer.
        primary_seconds, other_seconds: how long each answer took.
        error: the kind of error that the other side gave in place of one.
    """

    at: float = 0.0
    primary: Side
    k: int
    overlap: float
    primary_seconds: float
    other_seconds: float
    error: str | None = None


def add(connection: sa.Connection, migration: str, shadow: Shadow, *, now: float) -> None:
    """Keep one, and forget those before the newest `KEPT`."""
    values = {
        "at": now,
        "primary_side": shadow.primary,
        "k": shadow.k,
        "overlap": shadow.overlap,
        "primary_seconds": shadow.primary_seconds,
        "other_seconds": shadow.other_seconds,
        "error": shadow.error,
    }
    connection.execute(sa.insert(SHADOWS).values(migration=migration, **values))
    of_it = SHADOWS.c.migration == migration
    newest = sa.select(SHADOWS.c.number).where(of_it).order_by(SHADOWS.c.number.desc()).offset(KEPT).limit(1)
    connection.execute(sa.delete(SHADOWS).where(of_it, SHADOWS.c.number <= newest.scalar_subquery()))


def read(connection: sa.Connection, migration: str, *, primary: Side, since: float) -> Sequence[Shadow]:
    """Those that were made while a side was the primary, from a moment on."""
    chosen = (SHADOWS.c.migration == migration) & (SHADOWS.c.primary_side == primary) & (SHADOWS.c.at >= since)
    return [
        Shadow(
            at=row.at,
            primary=row.primary_side,
            k=row.k,
            overlap=row.overlap,
            primary_seconds=row.primary_seconds,
            other_seconds=row.other_seconds,
            error=row.error,
        )
        for row in connection.execute(sa.select(SHADOWS).where(chosen).order_by(SHADOWS.c.number))
    ]
