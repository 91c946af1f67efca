"""The tables of the journal, and how an older journal becomes one of today.

All times are seconds since 1970 by the journal database's own clock.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from vectormigrate_dagster.errors import ConfigurationError

METADATA = sa.MetaData()
_Sequence = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite counts up by itself only in a column of type INTEGER."""

CONTROL = sa.Table(
    "vectormigrate_control",
    METADATA,
    sa.Column("migration", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("primary_side", sa.String, nullable=False),
    sa.Column("written_back", sa.Boolean, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("frozen_until", sa.Float),
    sa.Column("verified_epoch", sa.BigInteger),
    sa.Column("verified_upto", sa.BigInteger),
    sa.Column("bounds", sa.JSON, nullable=False),
    sa.Column("id_kinds", sa.JSON, nullable=False),
    sa.Column("id_mapping", sa.JSON(none_as_null=True)),
    sa.Column("plan", sa.String),
    sa.Column("plan_before", sa.String),
    sa.Column("changed_at", sa.Float, nullable=False),
    sa.Column("changed_by", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
)
"""One row per migration: who is primary, in which state and epoch, by which plan."""

ENTRIES = sa.Table(
    "vectormigrate_entries",
    METADATA,
    sa.Column("seq", _Sequence, primary_key=True, autoincrement=True),
    sa.Column("migration", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("lane", sa.Integer, nullable=False),
    sa.Column("scope", sa.String),
    sa.Column("id_kind", sa.String, nullable=False),
    sa.Column("id", sa.String, nullable=False),
    sa.Column("ticket", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("consumed_at", sa.Float),
    sa.Index("vectormigrate_entries_seq", "migration", "seq"),
    sa.Index("vectormigrate_entries_open", "migration", "consumed_at", "lane"),
    sa.Index("vectormigrate_entries_ticket", "ticket"),
    sqlite_autoincrement=True,  # a number is never given twice, even after the newest entries were pruned
)
"""Ids that an application writes (intent) or has written (change), or that want another look (touch); never values."""

APPLIED = sa.Table(
    "vectormigrate_applied",
    METADATA,
    sa.Column("ticket", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("migration", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
"""Tickets whose write the primary has acknowledged."""

LEASES = sa.Table(
    "vectormigrate_leases",
    METADATA,
    sa.Column("migration", sa.String, primary_key=True),
    sa.Column("lane", sa.Integer, primary_key=True),
    sa.Column("holder", sa.String, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("taken_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("free_at", sa.Float, nullable=False),
)
"""Who may re-sync the keys of a lane, until when, and from when on somebody else may."""

LOWS = sa.Table(
    "vectormigrate_lows",
    METADATA,
    sa.Column("migration", sa.String, primary_key=True),
    sa.Column("split", sa.String, primary_key=True),
    sa.Column("low", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.String, nullable=False),
    sa.Column("sends_until", sa.Float, nullable=False),
    sa.Column("abandoned_until", sa.Float, nullable=False),
)
"""From which entry on an unfinished split must distrust what it has read; the oldest of all attempts."""

CHUNKS = sa.Table(
    "vectormigrate_chunks",
    METADATA,
    sa.Column("migration", sa.String, primary_key=True),
    sa.Column("chunk", sa.String, primary_key=True),
    sa.Column("low", sa.BigInteger, nullable=False),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("token", sa.String, primary_key=True),
    sa.Column("compared_at", sa.Float),
)
"""Which pieces were found equal on both sides, and from which entry and moment on that must be distrusted."""

BOOT = sa.Table("vectormigrate_boot", METADATA, sa.Column("number", sa.String, primary_key=True))
"""Under which starts of its host a journal in a file was opened."""

SHADOWS = sa.Table(
    "vectormigrate_shadows",
    METADATA,
    sa.Column("number", _Sequence, primary_key=True, autoincrement=True),
    sa.Column("migration", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("primary_side", sa.String, nullable=False),
    sa.Column("k", sa.Integer, nullable=False),
    sa.Column("overlap", sa.Float, nullable=False),
    sa.Column("primary_seconds", sa.Float, nullable=False),
    sa.Column("other_seconds", sa.Float, nullable=False),
    sa.Column("error", sa.String),
    sa.Index("vectormigrate_shadows_number", "migration", "number"),
)
"""The newest queries of the application that were sent to both sides, and how much their answers have in common."""

VERDICTS = sa.Table(
    "vectormigrate_verdicts",
    METADATA,
    sa.Column("migration", sa.String, primary_key=True),
    sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("scope", sa.String),
    sa.Column("id_kind", sa.String, nullable=False),
    sa.Column("id", sa.String, nullable=False),
    sa.Column("primary_side", sa.String, nullable=False),
    sa.Column("outcome", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("alike", sa.Boolean, nullable=False),
    sa.Column("promised", sa.Boolean, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
"""Keys that a re-sync could not make alike, and those that the load could not move and a re-sync has looked at."""

UNDOING = sa.Table(
    "vectormigrate_undoing",
    METADATA,
    sa.Column("migration", sa.String, primary_key=True),
    sa.Column("attempt", sa.String, primary_key=True),
    sa.Column("what", sa.String, nullable=False),
    sa.Column("applied_until", sa.Float, nullable=False),
)
"""Attempts to take back what a plan wrote, and until when a request of each may still be applied."""

VERSION = sa.Table(
    "vectormigrate_version", METADATA, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False)
)
"""The number of the newest step of `STEPS` that this database has."""


def _create(connection: sa.Connection) -> None:
    METADATA.create_all(connection)


def _add_verdicts(connection: sa.Connection) -> None:
    VERDICTS.create(connection, checkfirst=True)  # a new journal has them from its first step


def _add_plans(connection: sa.Connection) -> None:
    have = {column["name"] for column in sa.inspect(connection).get_columns(CONTROL.name)}
    for name in ("plan", "plan_before"):
        if name not in have:  # as before: a new journal has them
            connection.execute(sa.text(f"ALTER TABLE {CONTROL.name} ADD COLUMN {name} VARCHAR"))


def _add_undoing(connection: sa.Connection) -> None:
    UNDOING.create(connection, checkfirst=True)


STEPS: tuple[Callable[[sa.Connection], None], ...] = (_create, _add_verdicts, _add_plans, _add_undoing)
"""Step n makes version n out of version n - 1. Steps that were released never change."""


def bring_up_to_date(connection: sa.Connection) -> None:
    """Make every step that this database lacks, in the caller's transaction.

    Raises:
        ConfigurationError: a newer version of this project has written it.
    """
    VERSION.create(connection, checkfirst=True)
    found = connection.execute(sa.select(sa.func.max(VERSION.c.version))).scalar() or 0
    if found > len(STEPS):
        raise ConfigurationError(
            f"the journal is of version {found}, this program knows {len(STEPS)}; use the newer program"
        )
    for number, step in enumerate(STEPS[found:], found + 1):
        step(connection)
        connection.execute(sa.insert(VERSION).values(version=number))
