"""What the last re-sync of a key has come to, where both sides are not simply alike for having been loaded.

Kept are keys that a re-sync could not make alike, and those that the load could not move and a re-sync has looked at
since. So there are never more than records that were not moved at some time. A verdict is written in the transaction
that marks the key's entries as dealt with, under the lease of its lane: no kill comes between them, and no other
process judges the key at the same time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from vectormigrate_dagster.live.journal.control import Side
from vectormigrate_dagster.live.journal.database import JournalDatabase
from vectormigrate_dagster.live.journal.entries import Key
from vectormigrate_dagster.live.journal.tables import VERDICTS
from vectormigrate_dagster.model import IdKind

_IN_CLAUSE = 500


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a key.

    Args:
        key: which, in its canonical form.
        primary: the side that the other one was to be made equal to.
        outcome: what; see `transfer.resync.Outcome`.
        reason: why, for people; empty where the outcome says all.
        alike: both sides are alike, or neither has the record: the load could not move it, and that is over.
        promised: the primary's record promises one on the other side.
        at: when; the journal's time.
    """

    key: Key
    primary: Side
    outcome: str
    reason: str = ""
    alike: bool = False
    promised: bool = False
    at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is to be kept of keys whose entries are dealt with.

    Args:
        generation: of the plan that they were looked at by.
        kept: verdicts, each in place of an earlier one.
        dropped: keys of which nothing is to be said any more.
    """

    generation: int
    kept: Sequence[Verdict] = ()
    dropped: Sequence[Key] = ()


class Verdicts:
    """The verdicts on the keys of one plan; written by `Journal.consume`.

    Args:
        database: of the journal.
        migration: whose.
        generation: of the plan; what was said by another plan is not told.
    """

    def __init__(self, database: JournalDatabase, migration: str, generation: int) -> None:
        self._database = database
        self._of_it = (VERDICTS.c.migration == migration) & (VERDICTS.c.generation == generation)

    def all(self) -> list[Verdict]:
        """Every verdict, in the order of scopes and ids."""
        query = sa.select(VERDICTS).where(self._of_it).order_by(VERDICTS.c.scope, VERDICTS.c.id)
        with self._database.reading() as connection:
            return [_verdict(row) for row in connection.execute(query)]

    def of(self, keys: Sequence[Key]) -> dict[Key, Verdict]:
        """Those on some keys."""
        found: dict[Key, Verdict] = {}
        with self._database.reading() as connection:
            for chosen in _chosen(keys):
                for row in connection.execute(sa.select(VERDICTS).where(self._of_it, chosen)):
                    verdict = _verdict(row)
                    found[verdict.key] = verdict
        return found

    def unlike(self) -> int:
        """How many keys are not alike on both sides."""
        query = sa.select(sa.func.count()).select_from(VERDICTS).where(self._of_it, ~VERDICTS.c.alike)
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one())


def keep(connection: sa.Connection, migration: str, judged: Judged, now: float) -> None:
    """Write verdicts in place of earlier ones, and drop others; in a transaction that holds the keys' lease."""
    of_it = (VERDICTS.c.migration == migration) & (VERDICTS.c.generation == judged.generation)
    for chosen in _chosen([*(verdict.key for verdict in judged.kept), *judged.dropped]):
        connection.execute(sa.delete(VERDICTS).where(of_it, chosen))
    rows = [
        {
            "migration": migration,
            "generation": judged.generation,
            "digest": _digest(verdict.key),
            "scope": verdict.key.scope,
            "id_kind": verdict.key.kind.value,
            "id": verdict.key.text,
            "primary_side": verdict.primary,
            "outcome": verdict.outcome,
            "reason": _storable(verdict.reason),
            "alike": verdict.alike,
            "promised": verdict.promised,
            "at": now,
        }
        for verdict in judged.kept
    ]
    if rows:
        connection.execute(sa.insert(VERDICTS), rows)


def keys(connection: sa.Connection, migration: str) -> list[Key]:
    """Every key that something is said of, by any plan."""
    query = sa.select(VERDICTS.c.scope, VERDICTS.c.id_kind, VERDICTS.c.id).where(VERDICTS.c.migration == migration)
    return [Key(row.scope, IdKind(row.id_kind), row.id) for row in connection.execute(query)]


def forget(connection: sa.Connection, migration: str) -> None:
    """Drop all that was said by any plan."""
    connection.execute(sa.delete(VERDICTS).where(VERDICTS.c.migration == migration))


def _chosen(keys: Sequence[Key]) -> Iterator[sa.ColumnElement[bool]]:
    digests = [_digest(key) for key in keys]
    for start in range(0, len(digests), _IN_CLAUSE):
        yield VERDICTS.c.digest.in_(digests[start : start + _IN_CLAUSE])


def _digest(key: Key) -> str:
    """What a row is found by: a primary key can hold no missing scope, and an index no id of any length."""
    text = json.dumps([key.scope, key.kind.value, key.text])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _storable(reason: str) -> str:
    """A reason as every engine takes it: it may quote a record, and Postgres has no zero character."""
    return reason.replace("\0", "\ufffd").encode(errors="replace").decode()


def _verdict(row: sa.Row[tuple[object, ...]]) -> Verdict:
    return Verdict(
        key=Key(row.scope, IdKind(row.id_kind), row.id),
        primary=row.primary_side,
        outcome=row.outcome,
        reason=row.reason,
        alike=row.alike,
        promised=row.promised,
        at=row.at,
    )
