"""Admission of an application's writes: leave to write, and the intent that says so, in one transaction (rules 1 to 3).

Writes that are admitted together share their transaction, and with it the wait for the disk.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vectormigrate_dagster.errors import Unavailable
from vectormigrate_dagster.live.journal import entries, intents
from vectormigrate_dagster.live.journal.control import Control, State
from vectormigrate_dagster.live.journal.entries import Key

if TYPE_CHECKING:
    from vectormigrate_dagster.live.journal.journal import Journal

FROZEN_POLL_SECONDS = 0.02
"""How often somebody whose write is frozen looks whether it still is."""

NO_TICKET = 0
"""Of a write that nobody has to be told about: the migration is over, or the write is about no record."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A write that wants to be admitted.

    Args:
        keys: what will be written or deleted.
        began: `time.monotonic()` when that was first asked for.
    """

    keys: Sequence[Key]
    began: float


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Leave to write a batch of keys to the primary, until the time limit for its start.

    Args:
        control: the row in the transaction that admitted it: `control.primary` is the side to write to.
        ticket: names the write in the journal.
        began: `time.monotonic()` before admission began.
    """

    control: Control
    ticket: int
    began: float

    def check(self) -> None:
        """Make sure that the write may still be sent; to be asked right before it is (rule 2).

        Raises:
            Unavailable: too much time has passed since it was admitted; admit it again.
        """
        late = time.monotonic() - self.began - self.control.bounds.start
        if late > 0:
            raise Unavailable(
                f"the write to '{self.control.migration}' was admitted {late:.1f} s too long ago to be sent now; "
                "nothing was written, so write it again"
            )


def admit_together(
    journal: Journal, requests: Sequence[Request], *, applied: Sequence[Admission] = ()
) -> list[Admission] | None:
    """Admit several writes, and note that others were acknowledged; one transaction.

    Args:
        journal: of their migration.
        requests: what is to be written.
        applied: admissions of writes that the primary has acknowledged.

    Returns:
        One admission for each request; None while writes are frozen, in which case only `applied` is noted.
    """
    writes = [request.keys for request in requests]
    tickets = [admission.ticket for admission in applied if admission.ticket != NO_TICKET]
    control, given = journal.seen, None
    if any(writes) and control.state is not State.FROZEN and not control.is_over:
        given = intents.append_if_same(journal.database, control, writes, applied=tickets)
    if given is None:
        with journal.holding("share", relaxed=True) as (connection, control):
            journal.seen = control
            now = journal.database.now(connection)
            entries.mark_applied(journal.database, connection, journal.migration, tickets, now)
            if control.state is State.FROZEN:
                return None
            over = [NO_TICKET] * len(writes)
            given = over if control.is_over else intents.append(connection, control, writes, now)
    return [
        Admission(control=control, ticket=ticket if request.keys else NO_TICKET, began=request.began)
        for request, ticket in zip(requests, given, strict=True)
    ]


def still_frozen(migration: str, patience: float) -> Unavailable:
    """The error of a write that has waited long enough."""
    return Unavailable(
        f"writes to '{migration}' are frozen for its cutover, and {patience:g} s were not enough; nothing was "
        "written, so write it again"
    )
