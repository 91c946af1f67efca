"""The entries of the journal: which ids changed, which of them are settled, and from where on to distrust a page.

An **intent** is written before the application's write is sent, and is open until the write is acknowledged or so old
that it can no longer happen. A **change** is reported when its write is over, by applications that do not go through
`DualWriter`. A **touch** asks for another look at an id. None holds a value.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from vectormigrate_dagster.errors import InvalidRecord
from vectormigrate_dagster.live.journal.control import Control
from vectormigrate_dagster.live.journal.database import JournalDatabase
from vectormigrate_dagster.live.journal.tables import APPLIED, ENTRIES
from vectormigrate_dagster.model import Id, IdKind, id_text

Kind = Literal["intent", "change", "touch"]

BY_APPLICATIONS: tuple[Kind, ...] = ("intent", "change")
"""What names ids for the windows of the backfill; a touch does not, or windows would touch each other for ever."""

LANES = 64
"""Keys are leased in so many groups."""

IN_CLAUSE = 500
_UNFIT = re.compile("[\0\ud800-\udfff]")
_NUMBERS = (IdKind.U64, IdKind.I64)


@dataclass(frozen=True, order=True)
class Key:
    """A record of a migration, by its id in the source.

    Args:
        scope: namespace, tenant, partition or shard key; None where the collection is not divided.
        kind, text: the id.
    """

    scope: str | None
    kind: IdKind
    text: str

    @classmethod
    def of(cls, value: Id, kinds: Sequence[IdKind], scope: str | None = None) -> Key:
        """The key of an id as an application writes it.

        Args:
            value: the id.
            kinds: which kinds the source can hold; a text is a UUID where there are no texts.
            scope: where it is.

        Raises:
            InvalidRecord: the source, or the journal, can hold no such id.
        """
        _require_text(value, scope)
        for kind in kinds:
            if isinstance(value, int) == (kind in _NUMBERS):
                try:
                    return cls(scope, kind, id_text(kind.decode(id_text(value))))
                except ValueError:
                    continue  # perhaps it is of the next kind
        known = ", ".join(kind.value for kind in kinds)
        raise InvalidRecord(f"'{value}' is no id of the source, which has {known} ids", ids=[id_text(value)])

    @classmethod
    def parse(cls, text: str, kinds: Sequence[IdKind], scope: str | None = None) -> Key:
        """The key of an id in its text form, in which a number and a text look alike; the first kind that fits.

        Raises:
            InvalidRecord: the source, or the journal, can hold no such id.
        """
        _require_text(text, scope)
        numbers_first = sorted(kinds, key=lambda kind: kind not in _NUMBERS)
        for kind in numbers_first:
            try:
                return cls(scope, kind, id_text(kind.decode(text)))
            except ValueError:
                continue
        known = ", ".join(kind.value for kind in kinds)
        raise InvalidRecord(f"'{text}' is no id of the source, which has {known} ids", ids=[text])

    @property
    def id(self) -> Id:
        """The id as a Python value."""
        return self.kind.decode(self.text)

    @property
    def lane(self) -> int:
        """The group that it is leased with: the same in every process.

        The scope has no part in it: an application may name the default one, or leave it out, for the same record.
        """
        return zlib.crc32(f"{self.kind.value}\0{self.text}".encode()) % LANES


@dataclass(frozen=True)
class Entry:
    """One entry.

    Args:
        closed_at: since when it is settled what the application's write did; None while the intent is open.
    """

    seq: int
    kind: Kind
    key: Key
    closed_at: float | None


@dataclass(frozen=True, kw_only=True)
class Lag:
    """How far the secondary is behind.

    Args:
        records: entries that no re-sync has dealt with.
        seconds: age of the oldest of them; 0 if there is none.
        open: those of them whose write is not known to be over.
    """

    records: int
    seconds: float
    open: int


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """Entries that no re-sync has dealt with.

    Args:
        first, last: numbers of the oldest and the newest of them; 0 if there is none.
        due: how many a re-sync that begins now settles.
    """

    first: int
    last: int
    due: int


def append_closed(
    connection: sa.Connection, control: Control, keys: Iterable[Key], now: float, *, kind: Literal["change", "touch"]
) -> None:
    """Note ids whose writes are over, or that want another look."""
    rows = rows_of(control, [(key, 0) for key in keys], now, kind=kind)
    if rows:
        connection.execute(sa.insert(ENTRIES), rows)


def mark_applied(
    journal: JournalDatabase, connection: sa.Connection, migration: str, tickets: Sequence[int], now: float
) -> None:
    """Note that the primary has acknowledged the writes of some tickets; once more does no harm."""
    if tickets:
        rows = [{"ticket": ticket, "migration": migration, "at": now} for ticket in tickets]
        journal.insert_new(connection, APPLIED, rows)


def horizon(connection: sa.Connection, migration: str) -> int:
    """The newest entry below which nothing is still to appear (rule 4); 0 if there is none.

    Only in a transaction that has locked the control row for update: then no writer is between its number and its
    commit.
    """
    newest = sa.select(sa.func.max(ENTRIES.c.seq)).where(ENTRIES.c.migration == migration)
    return int(connection.execute(newest).scalar() or 0)


def low(connection: sa.Connection, control: Control, now: float, *, settled: float) -> int:
    """The first entry that is not final, from which on a page that is read now must distrust itself (rule 10).

    Args:
        connection: a transaction that has locked the control row for update.
        control: the row.
        now: the journal's time.
        settled: how long an entry must have been closed to be seen by every read.
    """
    closed = closed_at(control, now)
    # Implied by the last condition, as nothing is dealt with before it is closed; these have an index.
    waits, recent = ENTRIES.c.consumed_at.is_(None), ENTRIES.c.consumed_at > now - settled
    late = either((ENTRIES.c.seq,), control.migration, waits, recent)
    oldest = (
        sa.select(sa.func.min(ENTRIES.c.seq))
        .select_from(with_applied())
        .where(ENTRIES.c.seq.in_(late), ENTRIES.c.kind.in_(BY_APPLICATIONS))
        .where(closed.is_(None) | (closed > now - settled))
    )
    first = connection.execute(oldest).scalar()
    return horizon(connection, control.migration) + 1 if first is None else int(first)


def named_since(connection: sa.Connection, migration: str, low: int) -> list[Key]:
    """Every id that an application names from `low` on, consumed or not, each once (rule 12)."""
    rows = connection.execute(
        sa.select(ENTRIES.c.scope, ENTRIES.c.id_kind, ENTRIES.c.id)
        .where(ENTRIES.c.migration == migration, ENTRIES.c.seq >= low, ENTRIES.c.kind.in_(BY_APPLICATIONS))
        .distinct()
    )
    return sorted(map(key_of, rows), key=_order)


def left_of(connection: sa.Connection, control: Control, now: float, *, before: float) -> tuple[int, float]:
    """How many entries that were made before a moment wait for a re-sync, and by when all of them are closed."""
    wanted = (ENTRIES.c.migration == control.migration) & ENTRIES.c.consumed_at.is_(None) & (ENTRIES.c.at <= before)
    closed = sa.func.coalesce(closed_at(control, now), ENTRIES.c.at + control.bounds.open_seconds)
    query = sa.select(sa.func.count(), sa.func.max(closed)).select_from(with_applied()).where(wanted)
    count, last = connection.execute(query).one()
    return count, now if last is None else max(now, float(last))


def due(
    connection: sa.Connection, control: Control, now: float, *, lanes: Sequence[int], settled: float, limit: int
) -> list[Entry]:
    """Entries that no re-sync has dealt with and that were closed by the moment `settled`, the oldest first.

    Args:
        connection: a transaction.
        control: the migration's row.
        now: the journal's time.
        lanes: only keys of these.
        settled: what was closed by then is seen by every read (rule 8).
        limit: at most so many.
    """
    closed = closed_at(control, now)
    waiting = (ENTRIES.c.migration == control.migration) & ENTRIES.c.consumed_at.is_(None)
    query = (
        sa.select(
            ENTRIES.c.seq,
            ENTRIES.c.kind,
            ENTRIES.c.scope,
            ENTRIES.c.id_kind,
            ENTRIES.c.id,
            closed.label("closed_at"),
        )
        .select_from(with_applied())
        .where(waiting, ENTRIES.c.lane.in_(lanes), closed <= settled)
        .order_by(ENTRIES.c.seq)
        .limit(limit)
    )
    return [Entry(row.seq, row.kind, key_of(row), row.closed_at) for row in connection.execute(query)]


def lag(connection: sa.Connection, control: Control, now: float) -> Lag:
    """How far the secondary is behind."""
    waiting = (ENTRIES.c.migration == control.migration) & ENTRIES.c.consumed_at.is_(None)
    is_open = sa.case((closed_at(control, now).is_(None), 1), else_=0)
    query = (
        sa.select(sa.func.count(), sa.func.min(ENTRIES.c.at), sa.func.coalesce(sa.func.sum(is_open), 0))
        .select_from(with_applied())
        .where(waiting)
    )
    records, oldest, open_ = connection.execute(query).one()
    return Lag(records=records, seconds=0.0 if oldest is None else max(0.0, now - oldest), open=open_)


def backlog(connection: sa.Connection, control: Control, now: float) -> Backlog:
    """Which entries no re-sync has dealt with."""
    closed = closed_at(control, now)
    is_due = sa.case((closed <= now - control.bounds.stale[control.primary], 1), else_=0)
    query = (
        sa.select(sa.func.min(ENTRIES.c.seq), sa.func.max(ENTRIES.c.seq), sa.func.sum(is_due))
        .select_from(with_applied())
        .where(ENTRIES.c.migration == control.migration, ENTRIES.c.consumed_at.is_(None))
    )
    first, last, due = connection.execute(query).one()
    return Backlog(first=first or 0, last=last or 0, due=due or 0)


def consume(connection: sa.Connection, seqs: Sequence[int], now: float) -> None:
    """Mark entries as dealt with: only those that were listed, closed, under a lease that still holds (rule 7)."""
    for start in range(0, len(seqs), IN_CLAUSE):
        chosen = ENTRIES.c.seq.in_(seqs[start : start + IN_CLAUSE])
        connection.execute(sa.update(ENTRIES).where(chosen).values(consumed_at=now))


def rows_of(control: Control, named: Iterable[tuple[Key, int]], now: float, *, kind: Kind) -> list[dict[str, Any]]:
    """The rows of new entries: keys, and the ticket of the write that each is about."""
    return [
        {
            "migration": control.migration,
            "kind": kind,
            "lane": key.lane,
            "scope": key.scope,
            "id_kind": key.kind.value,
            "id": key.text,
            "ticket": ticket,
            "epoch": control.epoch,
            "at": now,
        }
        for key, ticket in named
    ]


def either(
    columns: Sequence[sa.Column[Any]], migration: str, *conditions: sa.ColumnElement[bool]
) -> sa.CompoundSelect[Any]:
    """Select columns of a migration's entries of which any of some conditions is so, each row once.

    One by one: SQLite has no index for an `or`, and looks at all entries that were kept, while writers wait.
    """
    return sa.union(*(sa.select(*columns).where(ENTRIES.c.migration == migration, one) for one in conditions))


def with_applied() -> sa.Join:
    """Entries, each beside the acknowledgement of its write, if there is one."""
    return ENTRIES.outerjoin(APPLIED, ENTRIES.c.ticket == APPLIED.c.ticket)


def closed_at(control: Control, now: float) -> sa.ColumnElement[float | None]:
    """When an entry was closed, as SQL; null while it is open (rule 3)."""
    given_up = ENTRIES.c.at + control.bounds.open_seconds
    return sa.case(
        (ENTRIES.c.kind != "intent", ENTRIES.c.at),
        (APPLIED.c.at.is_not(None), APPLIED.c.at),
        (given_up <= now, given_up),
        else_=sa.null(),
    )


def key_of(row: Any) -> Key:
    """The key of a row that has its columns."""
    return Key(row.scope, IdKind(row.id_kind), row.id)


def _require_text(*given: Id | None) -> None:
    """Refuse an id or a scope that a database cannot take; the writes that are noted with it would fail too.

    Raises:
        InvalidRecord: it has a NUL (which Postgres does not take) or half a character (a lone surrogate).
    """
    for one in given:
        if isinstance(one, str) and _UNFIT.search(one):
            raise InvalidRecord(
                f"the journal can note no id or scope with a NUL or half a character in it, such as {one!a}",
                ids=[ascii(one)],
            )


def _order(key: Key) -> tuple[str, str, str]:
    return key.scope or "", key.kind.value, key.text
