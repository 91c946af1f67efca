"""The plan by which everything is done, and the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from vectormigrate_dagster.errors import NotSo
from vectormigrate_dagster.live.journal import control as rows
from vectormigrate_dagster.live.journal import entries, leases, lows, undoing, verdicts
from vectormigrate_dagster.live.journal.control import Bounds, Control
from vectormigrate_dagster.live.journal.held import Held
from vectormigrate_dagster.model import IdKind


class Plans(Held):
    """What a planner asks of the journal."""

    def replan(
        self,
        *,
        id_kinds: Sequence[IdKind],
        id_mapping: Mapping[str, Any] | None = None,
        bounds: Bounds,
        plan: str | None = None,
        before: str | None = None,
        by: str,
        reason: str,
    ) -> Control:
        """Begin anew under another plan; entries stay, and splits of the plan before are looked at again.

        Smaller bounds count from the next plan on if anything is under way, which relies on the larger ones.

        Args:
            id_kinds, id_mapping, bounds, by: see `register`.
            plan, before: digests of the plan, and of the one that it replaces.
            reason: why.

        Raises:
            NotSo: the application writes to the target, which a new plan would take for the copy; or what is being
                taken back may still change what a new plan loads.
        """
        with self.holding("update") as (connection, control):
            if control.primary == "target":
                raise NotSo(
                    f"'{self.migration}' was switched to its target by {control.changed_by} ({control.reason}), so its "
                    "source is the copy; go back with 'reverse' before it is planned anew"
                )
            undoing.forget(connection, self.migration, self.database.now(connection))
            if self._under_way(connection, control):
                bounds = bounds.widest(control.bounds)
            lows.leave_all(connection, self.migration)
            verdicts.forget(connection, self.migration)
            self.distrust(connection, control)
            return rows.replan(
                self.database,
                connection,
                control,
                id_kinds=id_kinds,
                id_mapping=id_mapping,
                bounds=bounds,
                plan=plan,
                before=before,
                by=by,
                reason=reason,
            )

    def plan_stored(self) -> None:
        """Note that the plan is stored: from now on nobody goes back to the one before."""
        with self.holding("update") as (connection, control):
            rows.mark_plan_stored(connection, control)

    def _under_way(self, connection: sa.Connection, control: Control) -> bool:
        """Whether anything that was sent may still be applied."""
        now = self.database.now(connection)
        return (
            entries.lag(connection, control, now).open > 0
            or leases.alive(connection, self.migration, now) > 0
            or lows.unfinished(connection, self.migration) > 0
        )
