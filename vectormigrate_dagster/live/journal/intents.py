"""Intents: what an application is about to write.

Nearly all are noted under a control row that is known from before. Every change of the row raises its epoch, so a
transaction that holds the row and appends only while the epoch is still the one that was seen has read the row as well
(rule 1). That needs no answer between its statements: on a server it is a single round trip, and one that was prepared,
because planning it takes longer than doing it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from vectormigrate_dagster.live.journal.control import Control
from vectormigrate_dagster.live.journal.database import JournalDatabase
from vectormigrate_dagster.live.journal.entries import Key, rows_of
from vectormigrate_dagster.live.journal.tables import ENTRIES

_FILE_INTENTS = """
    insert into vectormigrate_entries (migration, kind, lane, scope, id_kind, id, ticket, epoch, at)
    select migration, :kind, :lane, :scope, :id_kind, :id, :ticket, epoch, :at
    from vectormigrate_control where migration = :migration and epoch = :epoch
"""

_FILE_APPLIED = """
    insert into vectormigrate_applied (ticket, migration, at) values (:ticket, :migration, :at) on conflict do nothing
"""

_SERVER_PREPARE = """
    prepare vectormigrate_intents (text, bigint, float, bigint[], int[], text[], text[], text[], bigint[]) as
    with control as (
        select migration, epoch from vectormigrate_control where migration = $1 and epoch = $2
    ), applied as (
        insert into vectormigrate_applied (ticket, migration, at)
        select ticket, migration, $3 from control, unnest($4) as ticket
        on conflict do nothing
    )
    insert into vectormigrate_entries (migration, kind, lane, scope, id_kind, id, ticket, epoch, at)
    select migration, 'intent', lane, scope, id_kind, id, ticket, epoch, $3
    from control, unnest($5, $6, $7, $8, $9) as key (lane, scope, id_kind, id, ticket)
"""
_SERVER_INTENTS = """
    select pg_advisory_xact_lock_shared(%(space)s, %(number)s);
    execute vectormigrate_intents (%(migration)s, %(epoch)s, {clock}, %(applied)s::bigint[],
        %(lane)s::int[], %(scope)s::text[], %(id_kind)s::text[], %(id)s::text[], %(ticket)s::bigint[])
"""
"""Two statements of one transaction, and the second sees what was committed while the first waited for the lock
(https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT, READ COMMITTED)."""

_PREPARED = "vectormigrate_prepared"


def append(connection: sa.Connection, control: Control, writes: Sequence[Sequence[Key]], now: float) -> list[int]:
    """Note what several writes will be about; return the ticket of each, which is never 0.

    Args:
        connection: a transaction that holds the row.
        control: the row.
        writes: the keys of each.
        now: the journal's time.
    """
    tickets, rows = _rows(control, writes, now)
    if rows:
        connection.execute(sa.insert(ENTRIES), rows)
    return tickets


def append_if_same(
    journal: JournalDatabase, control: Control, writes: Sequence[Sequence[Key]], *, applied: Sequence[int]
) -> list[int] | None:
    """Note what several writes will be about, and that others were acknowledged, in one transaction.

    Args:
        journal: the database.
        control: the row as it was seen last.
        writes: the keys of each; of all of them together at least one.
        applied: tickets of what was acknowledged.

    Returns:
        The ticket of each write; None if the row is another one by now: no intent is noted.
    """
    with journal.single() as connection:
        append = _to_file if journal.is_file else _to_server
        return append(journal, connection, control, writes, applied)


def _to_file(
    journal: JournalDatabase,
    connection: sa.Connection,
    control: Control,
    writes: Sequence[Sequence[Key]],
    applied: Sequence[int],
) -> list[int] | None:
    now = journal.now(connection)
    tickets, rows = _rows(control, writes, now)
    if not connection.exec_driver_sql(_FILE_INTENTS, rows).rowcount:
        return None
    if applied:
        told = [{"ticket": ticket, "migration": control.migration, "at": now} for ticket in applied]
        connection.exec_driver_sql(_FILE_APPLIED, told)
    return tickets


def _to_server(
    journal: JournalDatabase,
    connection: sa.Connection,
    control: Control,
    writes: Sequence[Sequence[Key]],
    applied: Sequence[int],
) -> list[int] | None:
    if _PREPARED not in connection.info:
        try:
            connection.exec_driver_sql(_SERVER_PREPARE)
        except BaseException:
            connection.invalidate()  # nobody knows whether it has the statement, and it takes it only once
            raise
        connection.info[_PREPARED] = True
    tickets, rows = _rows(control, writes, now=0.0)  # the statement has the server's clock
    space, number = journal.lock_numbers(control.migration)
    given = {"space": space, "number": number, "migration": control.migration, "epoch": control.epoch}
    keys = {name: [row[name] for row in rows] for name in ("lane", "scope", "id_kind", "id", "ticket")}
    statement = _SERVER_INTENTS.format(clock=journal.server_clock)
    noted = connection.exec_driver_sql(statement, {**given, **keys, "applied": list(applied)}).rowcount
    return tickets if noted else None


def _rows(control: Control, writes: Sequence[Sequence[Key]], now: float) -> tuple[list[int], list[dict[str, Any]]]:
    """The ticket of each of several writes, and the rows that say what they will be about."""
    tickets = [secrets.randbits(62) + 1 for _ in writes]
    named = [(key, ticket) for keys, ticket in zip(writes, tickets, strict=True) for key in keys]
    return tickets, rows_of(control, named, now, kind="intent")
