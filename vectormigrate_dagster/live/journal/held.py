"""The control row of a migration, held over a transaction: nothing is done on the ground of one that has changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from vectormigrate_dagster.errors import NotSo, PlanOutdated
from vectormigrate_dagster.live.journal import chunks
from vectormigrate_dagster.live.journal import control as rows
from vectormigrate_dagster.live.journal.control import Control
from vectormigrate_dagster.live.journal.database import JournalDatabase, Lock


class Held:
    """A migration's control row.

    Args:
        database: where it is kept.
        migration: the migration's id.
        plan: digest of the plan that all of this is done by; None for whoever goes by none, as an application.

    Raises:
        NotFound: the journal knows no such migration.
        PlanOutdated: it goes by another plan; so does every method once it was replaced.
    """

    def __init__(self, database: JournalDatabase, migration: str, plan: str | None = None) -> None:
        self.database = database
        self.migration = migration
        self.plan = plan
        self.seen = self.control()
        """The row as it was seen by somebody; by now it may be another one, of a higher epoch."""

    def control(self) -> Control:
        """The control row now; a freeze whose time is over is ended first (rule 16)."""
        with self.database.reading() as connection:
            control = self._read(connection)
            over = self._freeze_is_over(connection, control)
        if over:
            with self.holding("update") as (_, control):
                return control
        return control

    @contextmanager
    def holding(self, lock: Lock, *, relaxed: bool = False) -> Iterator[tuple[sa.Connection, Control]]:
        """A transaction that holds the control row; a freeze whose time is over is ended first (rule 16)."""
        with self.database.relaxed() if relaxed else self.database.transaction() as connection:
            control = self._read(connection, lock)
            if not self._freeze_is_over(connection, control):
                yield connection, control
                return
            if lock == "update":
                rows.thaw(self.database, connection, control, by="journal", reason="the freeze took too long")
        # In a transaction of its own, which stays whatever the caller raises. Two sharers that both wanted more than
        # to share would wait for each other.
        if lock == "share":
            with self.holding("update"):
                pass
        with self.holding(lock, relaxed=relaxed) as held:
            yield held

    def _read(self, connection: sa.Connection, lock: Lock | None = None) -> Control:
        control = rows.read(self.database, connection, self.migration, lock=lock)
        if self.plan is not None:
            require_plan(control, self.plan)
        return control

    def _freeze_is_over(self, connection: sa.Connection, control: Control) -> bool:
        return control.frozen_until is not None and control.frozen_until <= self.database.now(connection)

    def distrust(self, connection: sa.Connection, control: Control) -> None:
        """Let no earlier comparison count: pages are written now, or the other side is."""
        chunks.forget(connection, self.migration)
        rows.mark_verified(connection, control, upto=None)


def require_plan(control: Control, plan: str) -> None:
    """Refuse to act by a plan that is not the one by which everything is done.

    Raises:
        PlanOutdated: it is another one.
    """
    if not control.goes_by(plan):
        raise PlanOutdated(
            f"'{control.migration}' goes by another plan ({control.changed_by}: {control.reason}), so nothing is done "
            f"by this one any more; go on in the home that has planned it. Here, 'vectormigrate plan "
            f"{control.migration}' puts right what a killed one has left, and --replan begins anew"
        )


def require_unchanged(control: Control, since: Control) -> None:
    """Refuse to act on a row that is another one by now.

    Raises:
        NotSo: it is.
    """
    if control.epoch != since.epoch:
        raise NotSo(
            f"'{control.migration}' is '{control.state.value}' since {control.changed_by} changed it: "
            f"{control.reason}; look at it again"
        )
