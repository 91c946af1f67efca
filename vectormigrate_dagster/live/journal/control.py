"""The control row: the one place that says which side is primary, whether writes are frozen, and in which epoch.

Every change is one transaction that raises the epoch, so whoever acted on an older one finds it gone (rules 14 to 17
of the live protocol).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

import sqlalchemy as sa

from vectormigrate_dagster.errors import NotFound
from vectormigrate_dagster.live.journal.database import JournalDatabase, Lock
from vectormigrate_dagster.live.journal.tables import CONTROL
from vectormigrate_dagster.model import IdKind

Side = Literal["source", "target"]


class State(StrEnum):
    """How far a live migration is."""

    PLANNED = "planned"
    BACKFILLING = "backfilling"
    CATCHING_UP = "catching_up"
    VERIFYING = "verifying"
    READY = "ready"
    FROZEN = "frozen"
    SWITCHED = "switched"
    REVERSED = "reversed"
    COMPLETED = "completed"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the protocol may rely on, in seconds; larger is safer, and costs time only after something went wrong.

    Args:
        start: between the intent and the sending of a write.
        request: between the sending of a request and the last moment at which a server may still apply it: the
            client's deadline, its own retries, and what the server may take longer.
        margin: for which a process may be paused between looking at the clock and sending.
        stale: how old the answer of a read may be, per side; 0 where strong reads exist.
    """

    start: float = 5.0
    request: float = 120.0
    margin: float = 5.0
    stale: dict[Side, float] = field(default_factory=lambda: {"source": 0.0, "target": 0.0})

    @property
    def open_seconds(self) -> float:
        """From this age on, the write of an intent has been applied or never will be (rule 3)."""
        return self.start + self.request + self.margin

    def widest(self, other: Bounds) -> Bounds:
        """The larger of each: what holds for requests under either."""
        stale = {side: max(value, other.stale[side]) for side, value in self.stale.items()}
        return Bounds(
            start=max(self.start, other.start),
            request=max(self.request, other.request),
            margin=max(self.margin, other.margin),
            stale=stale,
        )


@dataclass(frozen=True, kw_only=True)
class Control:
    """The control row.

    Args:
        primary: the side that the application writes to; the other one is kept equal to it.
        written_back: whether the target has been the primary under this plan, so that the source follows it, or did.
        epoch: raised by every change.
        id_kinds: of the source; keys are its ids whichever side is primary.
        id_mapping: how ids become those of the target (`mapping.ids.IdMapping` as JSON), if the plan has told.
        plan: digest of the plan by which everything is done; None if it has not told.
        plan_before: digest of the plan that this one replaces, as long as this one may not be stored yet.
        frozen_until: when a freeze ends by itself, in the journal's time.
        verified_epoch: the epoch in which the final verification passed.
        verified_upto: the newest entry that it knew of.
        changed_at: seconds since 1970.
    """

    migration: str
    state: State
    primary: Side
    epoch: int
    bounds: Bounds
    id_kinds: tuple[IdKind, ...]
    id_mapping: Mapping[str, Any] | None = None
    plan: str | None = None
    plan_before: str | None = None
    written_back: bool = False
    frozen_until: float | None = None
    verified_epoch: int | None = None
    verified_upto: int | None = None
    changed_at: float = 0.0
    changed_by: str = ""
    reason: str = ""

    @property
    def secondary(self) -> Side:
        """The side that follows."""
        return "target" if self.primary == "source" else "source"

    @property
    def at_rest(self) -> State:
        """The state in which one side follows the other and nobody is about to change that, once all is moved."""
        if self.primary == "target":
            return State.SWITCHED
        return State.REVERSED if self.written_back else State.CATCHING_UP

    @property
    def is_coordinated(self) -> bool:
        """Whether the state is one that only a coordinator on its way to a switch can mean."""
        under_way = (State.CATCHING_UP, State.VERIFYING, State.READY, State.FROZEN)
        return self.state in under_way and self.state is not self.at_rest

    def goes_by(self, plan: str) -> bool:
        """Whether a plan, told by its digest, is the one by which everything is done; an old row does not tell."""
        return self.plan in (None, plan)

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be kept equal ever again: nobody has to be told what is written."""
        return self.state is State.COMPLETED and self.primary == "target"


def register(
    journal: JournalDatabase,
    migration: str,
    *,
    id_kinds: Sequence[IdKind],
    id_mapping: Mapping[str, Any] | None,
    bounds: Bounds,
    plan: str | None,
    by: str,
) -> Control:
    """Make a migration's control row if there is none; return what is there."""
    with journal.transaction() as connection:
        values = {
            "migration": migration,
            "state": State.PLANNED,
            "primary_side": "source",
            "written_back": False,
            "epoch": 1,
            "bounds": asdict(bounds),
            "id_kinds": [kind.value for kind in id_kinds],
            "id_mapping": id_mapping,
            "plan": plan,
            "changed_at": journal.now(connection),
            "changed_by": by,
            "reason": "registered",
        }
        journal.insert_new(connection, CONTROL, values)
        return read(journal, connection, migration)


def replan(
    journal: JournalDatabase,
    connection: sa.Connection,
    now: Control,
    *,
    id_kinds: Sequence[IdKind],
    id_mapping: Mapping[str, Any] | None,
    bounds: Bounds,
    plan: str | None,
    before: str | None,
    by: str,
    reason: str,
) -> Control:
    """Begin anew under another plan, while the source is primary: planned, with what that plan relies on."""
    values = {
        "state": State.PLANNED.value,
        "written_back": False,
        "frozen_until": None,
        "bounds": asdict(bounds),
        "id_kinds": [kind.value for kind in id_kinds],
        "id_mapping": id_mapping,
        "plan": plan,
        "plan_before": before,
    }
    return change(journal, connection, now, by=by, reason=reason, **values)


def read(
    journal: JournalDatabase,
    connection: sa.Connection,
    migration: str,
    *,
    lock: Lock | None = None,
) -> Control:
    """Read the control row.

    Args:
        journal: the database.
        connection: a transaction of it.
        migration: whose.
        lock: "share" holds off changes of the row until the transaction ends, "update" other sharers too. On SQLite
            every transaction is alone.

    Raises:
        NotFound: the journal knows no such migration.
    """
    if lock is not None:
        journal.lock(connection, migration, lock)
    row = connection.execute(sa.select(CONTROL).where(CONTROL.c.migration == migration)).one_or_none()
    if row is None:
        raise NotFound(
            f"the journal {journal} knows no migration '{migration}'; it does from its first plan with 'journal:' on"
        )
    return _control(row)


def change(
    journal: JournalDatabase, connection: sa.Connection, now: Control, *, by: str, reason: str, **values: Any
) -> Control:
    """Change the row, which the caller's transaction has locked for update, and raise the epoch.

    Args:
        journal: the database.
        connection: the transaction.
        now: the row as it was read in this transaction.
        by: who.
        reason: why.
        values: columns and what they become.
    """
    columns = {
        "epoch": now.epoch + 1,
        "changed_at": journal.now(connection),
        "changed_by": by,
        "reason": reason,
        **values,
    }
    connection.execute(sa.update(CONTROL).where(CONTROL.c.migration == now.migration).values(columns))
    return read(journal, connection, now.migration)


def thaw(journal: JournalDatabase, connection: sa.Connection, now: Control, *, by: str, reason: str) -> Control:
    """End a freeze without a switch (rule 16): catching up goes on, in the direction that it had."""
    return change(journal, connection, now, by=by, reason=reason, state=now.at_rest.value, frozen_until=None)


def mark_verified(connection: sa.Connection, now: Control, *, upto: int | None) -> None:
    """Note that the final verification passed in the present epoch; not a change, so the epoch stays.

    Args:
        connection: a transaction that has locked the row for update.
        now: the row.
        upto: the newest entry that the verification knew of; None takes back that it passed.
    """
    row = (CONTROL.c.migration == now.migration) & (CONTROL.c.epoch == now.epoch)
    values = {"verified_epoch": None if upto is None else now.epoch, "verified_upto": upto}
    connection.execute(sa.update(CONTROL).where(row).values(values))


def mark_plan_stored(connection: sa.Connection, now: Control) -> None:
    """Note that the plan is stored; not a change, so the epoch stays.

    Args:
        connection: a transaction that has locked the row for update.
        now: the row.
    """
    row = (CONTROL.c.migration == now.migration) & (CONTROL.c.epoch == now.epoch)
    connection.execute(sa.update(CONTROL).where(row).values(plan_before=None))


def _control(row: sa.Row[Any]) -> Control:
    return Control(
        migration=row.migration,
        state=State(row.state),
        primary=row.primary_side,
        written_back=row.written_back,
        epoch=row.epoch,
        bounds=Bounds(**row.bounds),
        id_kinds=tuple(map(IdKind, row.id_kinds)),
        id_mapping=row.id_mapping,
        plan=row.plan,
        plan_before=row.plan_before,
        frozen_until=row.frozen_until,
        verified_epoch=row.verified_epoch,
        verified_upto=row.verified_upto,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        reason=row.reason,
    )
