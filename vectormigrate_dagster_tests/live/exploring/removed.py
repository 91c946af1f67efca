"""The real code with one rule taken out: each is a control, in which the counterexample of that rule must come up.

A removal replaces as little as it can, as long as it is entered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import PropertyMock, patch

import sqlalchemy as sa

from vectormigrate_dagster.live import group_commit
from vectormigrate_dagster.live.catch_up import _Work
from vectormigrate_dagster.live.guard import SplitGuard
from vectormigrate_dagster.live.journal import (
    Admission,
    Bounds,
    Control,
    Entry,
    Journal,
    JournalDatabase,
    LaneLease,
    Side,
    State,
    admissions,
    entries,
    intents,
    leases,
    lows,
)
from vectormigrate_dagster.live.journal import control as rows
from vectormigrate_dagster.live.journal.admissions import admit_together
from vectormigrate_dagster.live.journal.tables import CONTROL, ENTRIES, LEASES, LOWS
from vectormigrate_dagster_tests.live.exploring.databases import MIGRATION
from vectormigrate_dagster_tests.live.exploring.stage import Stage
from vectormigrate_dagster_tests.live.exploring.world import HERE

Removal = Callable[[Stage], Iterator[None]]

########
# Writers
########


def _look_before(stage: Stage) -> Iterator[None]:
    """Rule 1: whether writes are frozen is one transaction, the intent another one."""
    real = admit_together

    def admit(journal: Journal, requests: Sequence[Any], **arguments: Any) -> list[Admission] | None:
        control = journal.control()
        if control.state is State.FROZEN:
            return None
        admitted = real(journal, requests, **arguments) or []
        return [replace(one, control=control) for one in admitted]

    class Anything:
        FROZEN = "nothing"

    with patch.object(group_commit, "admit_together", admit), patch.object(admissions, "State", Anything):
        yield


def _epoch_is_not_looked_at(stage: Stage) -> Iterator[None]:
    """Rule 1: the row that was seen once is believed, whatever it is when the intent is noted."""

    def append(journal: JournalDatabase, control: Control, writes: Any, *, applied: Any) -> list[int]:
        with journal.relaxed() as connection:
            return intents.append(connection, control, writes, journal.now(connection))

    with patch.object(intents, "append_if_same", append):
        yield


def _no_deadline(stage: Stage) -> Iterator[None]:
    """Rule 2: a write is sent however long ago it was admitted."""
    with patch.object(Admission, "check", lambda admission: None):
        yield


def _intents_time_out(stage: Stage) -> Iterator[None]:
    """Rule 3: an intent counts as over before its write can no longer be applied."""
    with patch.object(Bounds, "open_seconds", PropertyMock(return_value=stage.world.bounds.start)):
        yield


def _appends_overlap(stage: Stage) -> Iterator[None]:
    """Rule 4: writer W has the number of its entry some time before it commits, and others go on meanwhile."""
    real, append = admit_together, intents.append
    reserved: list[int] = []

    def admit(journal: Journal, requests: Sequence[Any], **arguments: Any) -> list[Admission] | None:
        if requests and HERE.actor is not None and HERE.actor.name == "W" and not reserved:
            with journal.database.transaction() as connection:
                row = {"migration": "nobody's", "kind": "touch", "lane": 0, "id_kind": "", "id": ""}
                result = connection.execute(sa.insert(ENTRIES).values(**row, ticket=0, epoch=0, at=0.0))
                reserved.append(int(result.inserted_primary_key[0]))  # type: ignore[index]
                connection.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq == reserved[0]))
        return real(journal, requests, **arguments)

    def append_reserved(connection: sa.Connection, control: Control, keys: Any, now: float) -> Any:
        tickets = append(connection, control, keys, now)
        if HERE.actor is not None and HERE.actor.name == "W":
            mine = ENTRIES.c.ticket.in_(tickets)
            connection.execute(sa.update(ENTRIES).where(mine).values(seq=reserved[0]))
        return tickets

    with (
        patch.object(group_commit, "admit_together", admit),
        patch.object(intents, "append", append_reserved),
        patch.object(intents, "append_if_same", lambda *_, **__: None),
    ):
        yield


########
# Re-sync
########


def _backfill_syncs(stage: Stage) -> Iterator[None]:
    """Rule 5: the load looks again at what was named meanwhile by itself, without a lease."""
    leave = Journal.leave_split

    def finish(guard: SplitGuard) -> None:
        attempt, sides = guard.attempt, stage.sides()
        with stage.database.transaction() as connection:
            named = entries.named_since(connection, MIGRATION, attempt.low)
        if named:
            resync = sides.resync("source", check=lambda: None)
            for group in sides.grouped(named, "source").groups:
                resync.make_equal(group.keys)
        leave(stage.journal, attempt, belongs=lambda key: False)

    with patch.object(SplitGuard, "finish", finish):
        yield


def _everybody_syncs(stage: Stage) -> Iterator[None]:
    """Rule 5: a lease is given to whoever asks."""
    take = leases.take

    def always(journal: Any, connection: sa.Connection, *arguments: Any, **named: Any) -> LaneLease | None:
        connection.execute(sa.update(LEASES).values(free_at=0.0))
        return take(journal, connection, *arguments, **named)

    with patch.object(leases, "take", always), patch.object(leases, "is_held", lambda *_: True):
        yield


def _leases_just_end(stage: Stage) -> Iterator[None]:
    """Rule 6: a lease is free when it ends, whatever was sent under it."""
    take = leases.take

    def short(journal: Any, connection: sa.Connection, *arguments: Any, **named: Any) -> LaneLease | None:
        lease = take(journal, connection, *arguments, **named)
        connection.execute(sa.update(LEASES).where(LEASES.c.free_at > 0).values(free_at=LEASES.c.expires_at))
        return lease

    with patch.object(leases, "take", short):
        yield


def _repeated_is_answered(stage: Stage) -> Iterator[None]:
    """Rules 6 and 13: a request without an answer is forgotten once it was repeated with success."""
    with (
        patch.object(_Work, "_note_unsure", lambda work: None),
        patch.object(SplitGuard, "_unsure", lambda guard: None),
    ):
        yield


def _unsettled(stage: Stage) -> Iterator[None]:
    """Rule 8: what was closed just now is listed, though a read may not show it yet."""
    due = entries.due

    def at_once(connection: Any, control: Control, now: float, **named: Any) -> list[Entry]:
        return due(connection, control, now, **(named | {"settled": now}))

    with patch.object(entries, "due", at_once):
        yield


def _directed(direction: Callable[[], Side]) -> Any:
    """A lease whose direction comes from somewhere else than the control row, as long as actors are at it."""
    take = leases.take

    def turned(*arguments: Any, **named: Any) -> LaneLease | None:
        lease = take(*arguments, **named)
        return (
            lease
            if HERE.actor is None or lease is None
            else replace(lease, control=replace(lease.control, primary=direction()))
        )

    return patch.object(leases, "take", turned)


def _direction_of_the_run(stage: Stage) -> Iterator[None]:
    """Rule 9: the direction is the one that the run was launched with."""
    with _directed(lambda: "source"):
        yield


########
# Backfill
########


def _low_is_unsettled(stage: Stage) -> Iterator[None]:
    """Rule 10: an entry counts as final as soon as it is closed, though a page may not show it yet."""
    low = entries.low

    def closed(connection: sa.Connection, control: Control, now: float, *, settled: float) -> int:
        return low(connection, control, now, settled=0.0)

    with patch.object(entries, "low", closed):
        yield


def _low_is_the_end(stage: Stage) -> Iterator[None]:
    """Rule 10: a page distrusts itself from the end of the journal on, whatever is open."""

    def end(connection: sa.Connection, control: Control, now: float, *, settled: float) -> int:
        return entries.horizon(connection, control.migration) + 1

    with patch.object(entries, "low", end):
        yield


def _low_of_the_last_attempt(stage: Stage) -> Iterator[None]:
    """Rule 11: an attempt forgets from where on the one before distrusted itself."""
    begin = lows.begin

    def anew(connection: sa.Connection, migration: str, split: str, *, low: int, **arguments: Any) -> int:
        begin(connection, migration, split, low=low, **arguments)
        connection.execute(sa.update(LOWS).values(low=low))
        return low

    with patch.object(lows, "begin", anew):
        yield


def _abandoned_is_over(stage: Stage) -> Iterator[None]:
    """Rule 13: what an attempt that was given up has sent is taken to have landed, or never to land."""
    left = lows.abandoned_for

    def nothing(*arguments: Any, **named: Any) -> float:
        left(*arguments, **named)
        return 0.0

    with patch.object(lows, "abandoned_for", nothing):
        yield


########
# Cutover
########


def _switch_over_leases(stage: Stage) -> Iterator[None]:
    """Rule 15: the switch does not look at leases."""
    with patch.object(leases, "alive", lambda *_: 0):
        yield


def _switch_by_epoch(stage: Stage) -> Iterator[None]:
    """Everything was looked at before the switch, which itself depends on the epoch alone."""

    def blockers(journal: Journal, connection: sa.Connection, control: Control, since: Control) -> list[str]:
        return [] if control.epoch == since.epoch else ["another epoch"]

    with patch.object(Journal, "_blockers", blockers):
        yield


def _aborts_keep_epoch(stage: Stage) -> Iterator[None]:
    """Rule 16: the end of a freeze leaves the epoch as it is, and the switch depends on it."""
    thaw = rows.thaw

    def quietly(journal: Any, connection: sa.Connection, now: Control, **named: Any) -> Control:
        thaw(journal, connection, now, **named)
        connection.execute(sa.update(CONTROL).values(epoch=now.epoch))
        return rows.read(journal, connection, now.migration)

    with patch.object(rows, "thaw", quietly), contextmanager(_switch_by_epoch)(stage):
        yield


def _switch_in_two(stage: Stage) -> Iterator[None]:
    """Rule 15: first the primary is another one, then the direction."""
    switch = Journal.switch
    direction: list[Side] = ["source"]

    def halves(journal: Journal, **arguments: Any) -> Control:
        control = switch(journal, **arguments)
        stage.world.step("journal", "journal: direction")
        direction.append(control.primary)
        return control

    with patch.object(Journal, "switch", halves), _directed(lambda: direction[-1]):
        yield


REMOVED = {
    "CE-1": _backfill_syncs,
    "CE-2": _everybody_syncs,
    "CE-3": _leases_just_end,
    "CE-3 repeated": _repeated_is_answered,
    "CE-4": _low_of_the_last_attempt,
    "CE-4b": _abandoned_is_over,
    "CE-4b repeated": _repeated_is_answered,
    "CE-5 stalled": _no_deadline,
    "CE-5": _intents_time_out,
    "CE-6": _look_before,
    "CE-6 seen": _epoch_is_not_looked_at,
    "CE-7": _appends_overlap,
    "CE-8": _unsettled,
    "CE-8b": _low_is_unsettled,
    "CE-9": _switch_over_leases,
    "CE-10": _direction_of_the_run,
    "CE-11": _low_is_the_end,
    "CE-12": _aborts_keep_epoch,
    "CE-13": _switch_in_two,
}
"""By the names of their counterexamples in the live protocol's text."""
