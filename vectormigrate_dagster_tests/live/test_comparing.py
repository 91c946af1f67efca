"""Checks that what was dealt with costs nothing, however much of it is kept: writers wait for some of these looks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from vectormigrate_dagster.live.journal import Journal
from vectormigrate_dagster.live.journal.generations import Doubtful, Generations
from vectormigrate_dagster.live.journal.tables import ENTRIES
from vectormigrate_dagster_tests.live.journals import keys, opened

KEPT = 10_000


def everything_since(low: int) -> Doubtful:
    return Doubtful(from_low=low, from_since=1.0, tokens={}, low=low, since=1.0, upto=low)


@pytest.mark.parametrize(
    "look",
    [
        Journal.position,
        lambda journal: journal.begin_split("all", seconds=60),
        lambda journal: journal.changed(since=journal.newest()),
        lambda journal: journal.moving(keys(1, 2), since=journal.newest()),
        lambda journal: Generations(journal).count(everything_since(journal.newest())),
    ],
    ids=["position", "low", "changed", "moving", "doubtful"],
)
def test_a_look_at_a_file_costs_the_same_whatever_is_kept(tmp_path: Path, look: Callable[[Journal], object]) -> None:
    with opened(f"sqlite:///{tmp_path / 'journal.db'}") as (database, journal):
        journal.note(keys(*range(KEPT)), kind="change")
        with database.transaction() as connection:
            connection.execute(sa.update(ENTRIES).values(consumed_at=0.0))
        journal.note(keys(1), kind="change")
        database.close()
        thousands: list[None] = []

        def count(connection: Any, *_: Any) -> None:
            connection.set_progress_handler(lambda: thousands.append(None), 1_000)

        sa.event.listen(sa.pool.Pool, "connect", count)
        try:
            look(journal)
        finally:
            sa.event.remove(sa.pool.Pool, "connect", count)

        assert len(thousands) < KEPT / 1_000  # steps of SQLite's machine: less than one for each entry
