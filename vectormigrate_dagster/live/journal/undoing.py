"""Attempts to take back what a plan wrote: no new plan begins while a request of one may still delete what it loads.

An attempt is noted before its first request, with an end that it moves as it goes on. If every request has had an
answer, nothing of it is kept. Nothing of the live protocol but a new plan asks about them: while something is taken
back, nobody loads, catches up or cuts over.
"""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from vectormigrate_dagster.errors import LeaseHeld, NotSo
from vectormigrate_dagster.live.journal.attempts import Attempt
from vectormigrate_dagster.live.journal.tables import UNDOING

if TYPE_CHECKING:
    from vectormigrate_dagster.live.journal.journal import Journal


class Undoing:
    """What a rollback asks of the journal.

    Args:
        journal: the migration's.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._of_it = UNDOING.c.migration == journal.migration

    def begin(self, what: str, *, seconds: float) -> Attempt:
        """Note an attempt, durably and before its first request.

        Args:
            what: see `Attempt`; whoever tried it before sends nothing any more, because the caller holds its lease.
            seconds: for how long it may send before it must `renew`.
        """
        began, attempt = time.monotonic(), secrets.token_hex(8)
        with self._journal.holding("share") as (connection, control):
            now, bounds = self._journal.database.now(connection), control.bounds
            earlier = self._of_it & (UNDOING.c.what == what) & (UNDOING.c.applied_until > now + bounds.request)
            connection.execute(sa.update(UNDOING).where(earlier).values(applied_until=now + bounds.request))
            values = {"what": what, "applied_until": now + seconds + bounds.request + bounds.margin}
            connection.execute(sa.insert(UNDOING).values(migration=self._journal.migration, attempt=attempt, **values))
        return Attempt(what=what, attempt=attempt, control=control, ends=began + seconds)

    def renew(self, attempt: Attempt, *, seconds: float) -> Attempt:
        """Let an attempt send for longer.

        Raises:
            LeaseHeld: it is not known any more, because there is a new plan.
        """
        began = time.monotonic()
        with self._journal.holding("share") as (connection, control):
            until = self._journal.database.now(connection) + seconds + control.bounds.request + control.bounds.margin
            changed = connection.execute(sa.update(UNDOING).where(self._is(attempt)).values(applied_until=until))
            if changed.rowcount != 1:
                raise LeaseHeld(f"'{self._journal.migration}' was planned anew; '{attempt.what}' is not taken back")
        return replace(attempt, ends=began + seconds)

    def end(self, attempt: Attempt, *, unsure: float = 0.0) -> None:
        """Note that an attempt sends nothing any more.

        Args:
            attempt: which.
            unsure: seconds for which one of its requests may still be applied, because its outcome is not known.
        """
        with self._journal.database.transaction() as connection:
            if unsure > 0:
                until = self._journal.database.now(connection) + unsure
                connection.execute(sa.update(UNDOING).where(self._is(attempt)).values(applied_until=until))
            else:
                connection.execute(sa.delete(UNDOING).where(self._is(attempt)))

    def seconds(self) -> float:
        """Seconds until no request of any attempt can be applied any more, if nobody renews one; 0 if none can."""
        with self._journal.database.reading() as connection:
            return left(connection, self._journal.migration, self._journal.database.now(connection))

    def _is(self, attempt: Attempt) -> sa.ColumnElement[bool]:
        return self._of_it & (UNDOING.c.attempt == attempt.attempt)


def left(connection: sa.Connection, migration: str, now: float) -> float:
    """Seconds until no request of any attempt can be applied any more."""
    last = sa.select(sa.func.max(UNDOING.c.applied_until)).where(UNDOING.c.migration == migration)
    return max(0.0, float(connection.execute(last).scalar() or 0.0) - now)


def forget(connection: sa.Connection, migration: str, now: float) -> None:
    """Forget all attempts, in the transaction in which a new plan begins.

    Raises:
        NotSo: a request of one may still be applied, and would take away what the new plan loads.
    """
    seconds = left(connection, migration, now)
    if seconds > 0:
        raise NotSo(
            f"what was written of '{migration}' is being taken back, or a rollback was killed, and a request of it may "
            f"still arrive at the target for {math.ceil(seconds)} s; plan it anew after that"
        )
    connection.execute(sa.delete(UNDOING).where(UNDOING.c.migration == migration))
