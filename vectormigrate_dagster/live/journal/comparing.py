"""What a comparison of both sides asks of the journal: which keys may rightly differ, and from which entry on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from vectormigrate_dagster.live.journal.entries import BY_APPLICATIONS, IN_CLAUSE, Key, either, horizon, key_of
from vectormigrate_dagster.live.journal.tables import ENTRIES

_AT_ONCE = 1_000
_KEY = (ENTRIES.c.scope, ENTRIES.c.id_kind, ENTRIES.c.id)
_WAITS = ENTRIES.c.consumed_at.is_(None)


def unsettled(connection: sa.Connection, migration: str, settled: float) -> int:
    """The oldest entry that was not dealt with by the moment `settled`; one that is still to come if all were.

    Args:
        connection: a transaction that has locked the control row for update.
        migration: whose.
        settled: in the journal's time.
    """
    late = either((ENTRIES.c.seq,), migration, _WAITS, ENTRIES.c.consumed_at > settled).subquery()
    first = connection.execute(sa.select(sa.func.min(late.c.seq))).scalar()
    return horizon(connection, migration) + 1 if first is None else int(first)


def moving(connection: sa.Connection, migration: str, keys: Sequence[Key], *, since: int) -> set[Key]:
    """Which of some keys were named from `since` on, by anybody, or wait for a re-sync.

    Args:
        connection: a transaction.
        migration: whose keys.
        keys: to look for.
        since: an entry; what is older and dealt with does not count.
    """
    texts = sorted({key.text for key in keys})
    found: set[Key] = set()
    for start in range(0, len(texts), IN_CLAUSE):
        chosen = ENTRIES.c.id.in_(texts[start : start + IN_CLAUSE])
        query = either(_KEY, migration, chosen & (ENTRIES.c.seq >= since), chosen & _WAITS)
        found.update(map(key_of, connection.execute(query)))
    return found & set(keys)


def changed(connection: sa.Connection, migration: str, *, since: int) -> int:
    """How many keys were named from an entry on, by anybody, or wait for a re-sync."""
    return _count(connection, either(_KEY, migration, ENTRIES.c.seq >= since, _WAITS))


def changed_since(connection: sa.Connection, migration: str, at: float) -> int:
    """How many keys an application has named since a time, or wait for a re-sync."""
    lately = (ENTRIES.c.at >= at) & ENTRIES.c.kind.in_(BY_APPLICATIONS)
    return _count(connection, either(_KEY, migration, lately, _WAITS))


def doubtful(connection: sa.Connection, migration: str, *, low: int, since: float) -> Iterator[Key]:
    """Yield every id of which a comparison says nothing, each once: by anybody's entries, touches too (rule 21).

    They come in the order of their names, and only some are in memory, within the transaction.

    Args:
        connection: a transaction.
        migration: whose.
        low: from which entry on ids count.
        since: ids count whose entries were dealt with from this moment on, or not yet: a re-sync was about them.
    """
    query = _doubtful(migration, low=low, since=since).order_by(*(column.name for column in _KEY))
    return map(key_of, connection.execute(query, execution_options={"yield_per": _AT_ONCE}))


def count_doubtful(connection: sa.Connection, migration: str, *, low: int, since: float) -> int:
    """How many `doubtful` would yield."""
    return _count(connection, _doubtful(migration, low=low, since=since))


def _doubtful(migration: str, *, low: int, since: float) -> sa.CompoundSelect[Any]:
    return either(_KEY, migration, ENTRIES.c.seq >= low, _WAITS, ENTRIES.c.consumed_at >= since)


def _count(connection: sa.Connection, keys: sa.CompoundSelect[Any]) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(keys.subquery())).scalar_one())
