"""One migration's journal: every step of the live protocol that touches it, each one transaction.

The rules are those of the live protocol (docs/live.md); a step names the ones that it keeps.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import sqlalchemy as sa

from vectormigrate_dagster.errors import LeaseHeld, NotSo
from vectormigrate_dagster.live.journal import admissions, chunks, comparing, entries, leases, lows, pruning, verdicts
from vectormigrate_dagster.live.journal import control as rows
from vectormigrate_dagster.live.journal.admissions import Admission, Request
from vectormigrate_dagster.live.journal.control import Bounds, Control, State
from vectormigrate_dagster.live.journal.database import JournalDatabase
from vectormigrate_dagster.live.journal.entries import LANES, Backlog, Entry, Key, Lag
from vectormigrate_dagster.live.journal.held import require_unchanged
from vectormigrate_dagster.live.journal.leases import LaneLease
from vectormigrate_dagster.live.journal.plans import Plans
from vectormigrate_dagster.live.journal.splits import Splits
from vectormigrate_dagster.live.journal.verdicts import Judged, Verdicts
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster.model.counting import agreeing, counted

PRUNE_SECONDS = 3_600.0
"""How long entries are kept that were dealt with."""


class Journal(Plans, Splits):
    """The journal of one migration; safe to use from several threads and processes.

    Args:
        database: where it is kept.
        migration: the migration's id.
        plan: digest of the plan that all of this is done by; None for whoever goes by none, as an application.

    Raises:
        NotFound: the journal knows no such migration; see `Journal.register`.
        PlanOutdated: it goes by another plan; so does every method once it was replaced.
    """

    @classmethod
    def register(
        cls,
        database: JournalDatabase,
        migration: str,
        *,
        id_kinds: Sequence[IdKind],
        id_mapping: Mapping[str, Any] | None = None,
        bounds: Bounds | None = None,
        plan: str | None = None,
        by: str,
    ) -> Journal:
        """The journal of a migration, made if there is none; one that exists stays as it is.

        Args:
            database: where it is kept.
            migration: the migration's id.
            id_kinds: of the source.
            id_mapping: what `DualWriter.target_id` tells ids by (`mapping.ids.IdMapping` as JSON).
            bounds: what the protocol may rely on.
            plan: see `Journal`.
            by: who.

        Raises:
            PlanOutdated: the one that exists goes by another plan.
        """
        bounds = bounds or Bounds()
        rows.register(database, migration, id_kinds=id_kinds, id_mapping=id_mapping, bounds=bounds, plan=plan, by=by)
        return cls(database, migration, plan)

    ####################################################################
    # Writers (rules 1 to 3)
    ####################################################################

    def admit(self, keys: Sequence[Key], *, patience: float = 30.0) -> Admission:
        """Let an application write keys, and note that it will (rule 1); waits while writes are frozen.

        Args:
            keys: what will be written or deleted.
            patience: seconds to wait for the end of a freeze.

        Raises:
            Unavailable: writes are still frozen.
        """
        end = time.monotonic() + patience
        while True:
            admitted = admissions.admit_together(self, [Request(keys=keys, began=time.monotonic())])
            if admitted is not None:
                return admitted[0]
            if time.monotonic() > end:
                raise admissions.still_frozen(self.migration, patience)
            time.sleep(admissions.FROZEN_POLL_SECONDS)

    def applied(self, admission: Admission) -> None:
        """Note that the primary has acknowledged the write, or that it was never sent (rule 2)."""
        if admission.ticket != admissions.NO_TICKET:
            with self.database.transaction() as connection:
                now = self.database.now(connection)
                entries.mark_applied(self.database, connection, self.migration, [admission.ticket], now)

    def note(self, keys: Sequence[Key], *, kind: Literal["change", "touch"]) -> None:
        """Note keys that an application has changed (change), or that want another look (touch)."""
        with self.holding("share") as (connection, control):
            entries.append_closed(connection, control, keys, self.database.now(connection), kind=kind)

    ####################################################################
    # Readers that compare both sides while the application writes
    ####################################################################

    def position(self) -> int:
        """The entry from which on a comparison that begins now proves nothing; see `moving`.

        That is older than where a page begins to distrust itself (rule 10): what waits for a re-sync now may have been
        dealt with between the look at one side and the one at the other.
        """
        with self.holding("update") as (connection, control):
            now = self.database.now(connection)
            return comparing.unsettled(connection, self.migration, now - max(control.bounds.stale.values()))

    def changed(self, *, since: int) -> int:
        """How many keys may rightly differ for now; see `moving`."""
        with self.database.reading() as connection:
            return comparing.changed(connection, self.migration, since=self._moving_since(connection, since))

    def changed_within(self, seconds: float) -> int:
        """How many keys an application has named in the last `seconds`, or wait for a re-sync."""
        with self.database.reading() as connection:
            return comparing.changed_since(connection, self.migration, self.database.now(connection) - seconds)

    def newest(self) -> int:
        """The number of the newest entry: there were never more of this migration, however many are forgotten."""
        with self.database.reading() as connection:
            return entries.horizon(connection, self.migration)

    def moving(self, keys: Sequence[Key], *, since: int) -> set[Key]:
        """Which keys may rightly differ for now: named since `position`, or not carried over.

        Keys that an unfinished split will touch count from that split's low on.
        """
        with self.database.reading() as connection:
            since = self._moving_since(connection, since)
            return comparing.moving(connection, self.migration, keys, since=since)

    def _moving_since(self, connection: sa.Connection, since: int) -> int:
        oldest = lows.oldest(connection, self.migration)
        return since if oldest is None else min(since, oldest)

    ####################################################################
    # Re-sync (rules 5 to 9)
    ####################################################################

    def lease(
        self, lanes: Sequence[int] = range(LANES), *, seconds: float, holder: str = "re-sync"
    ) -> LaneLease | None:
        """Take the free ones of some lanes; None if all are somebody else's.

        While writes are frozen there is none without a change to carry over, so that all can be quiet (rule 20).

        Args:
            lanes: wanted.
            seconds: for how long.
            holder: who, for messages.
        """
        began = time.monotonic()
        with self.holding("share") as (connection, control):
            now = self.database.now(connection)
            if control.state is State.FROZEN and not entries.lag(connection, control, now).records:
                return None
            return leases.take(
                self.database,
                connection,
                control,
                lanes,
                holder=f"{holder}-{secrets.token_hex(8)}",
                seconds=seconds,
                now=now,
                began=began,
            )

    def extend(self, lease: LaneLease, *, seconds: float) -> LaneLease:
        """The same lease, for so many seconds from now on: work may turn out to be long.

        Raises:
            LeaseHeld: it has ended.
        """
        began = time.monotonic()
        with self.holding("share") as (connection, control):
            now = self.database.now(connection)
            self._require_held(connection, control, lease, now)
            free_at = now + seconds + control.bounds.request + control.bounds.margin
            leases.extend(connection, lease, until=now + seconds, free_at=free_at)
            return replace(lease, ends=began + seconds)

    def due(self, lease: LaneLease, *, limit: int = 10_000) -> list[Entry]:
        """Entries of a lease's lanes that a read which begins now settles (rules 7 and 8)."""
        with self.database.reading() as connection:
            control = rows.read(self.database, connection, self.migration)  # a new plan may have made bounds larger
            now = self.database.now(connection)
            settled = now - control.bounds.stale[lease.control.primary]
            return entries.due(connection, control, now, lanes=lease.lanes, settled=settled, limit=limit)

    def consume(self, lease: LaneLease, listed: Sequence[Entry], judged: Judged | None = None) -> None:
        """Mark entries as dealt with, after the other side has acknowledged.

        Args:
            lease: of their lanes.
            listed: what `due` gave.
            judged: what is to be kept of their keys.

        Raises:
            LeaseHeld: the lease has ended; nothing is marked.
        """
        with self.holding("share") as (connection, control):
            now = self.database.now(connection)
            self._require_held(connection, control, lease, now)
            entries.consume(connection, [entry.seq for entry in listed], now)
            if judged is not None:
                verdicts.keep(connection, self.migration, judged, now)

    def verdicts(self, generation: int) -> Verdicts:
        """What the last re-syncs of keys have come to, by a plan."""
        return Verdicts(self.database, self.migration, generation)

    def release(self, lease: LaneLease) -> None:
        """Give lanes back; only if every request made under the lease has an answer (rule 6)."""
        with self.database.transaction() as connection:
            leases.release(connection, lease, self.database.now(connection))

    def busy_seconds(self) -> float:
        """Seconds until every lane is free, if nobody takes or gives back one meanwhile; 0 if all are."""
        with self.database.reading() as connection:
            now = self.database.now(connection)
            return leases.free_in(connection, self.migration, now)

    def backlog(self) -> Backlog:
        """Which entries no re-sync has dealt with."""
        with self.database.reading() as connection:
            control = rows.read(self.database, connection, self.migration)
            return entries.backlog(connection, control, self.database.now(connection))

    def lag(self) -> Lag:
        """How far the secondary is behind."""
        with self.database.reading() as connection:
            control = rows.read(self.database, connection, self.migration)
            now = self.database.now(connection)
            return entries.lag(connection, control, now)

    ####################################################################
    # Cutover (rules 14 to 16)
    ####################################################################

    def enter(self, state: State, *, since: Control, by: str, reason: str) -> Control:
        """Go on to another state, if nothing has changed since the row was read; raises the epoch.

        Raises:
            NotSo: the row is another one by now.
        """
        with self.holding("update") as (connection, control):
            require_unchanged(control, since)
            return rows.change(
                self.database, connection, control, by=by, reason=reason, state=state.value, frozen_until=None
            )

    def freeze(self, *, since: Control, seconds: float, by: str, reason: str) -> Control:
        """Stop admitting writes, for so many seconds at most (rule 14)."""
        with self.holding("update") as (connection, control):
            require_unchanged(control, since)
            until = self.database.now(connection) + seconds
            values = {"state": State.FROZEN.value, "frozen_until": until}
            return rows.change(self.database, connection, control, by=by, reason=reason, **values)

    def verified(self, since: Control) -> None:
        """Note that the final verification passed in this epoch.

        Raises:
            NotSo: the row is another one by now.
        """
        with self.holding("update") as (connection, control):
            require_unchanged(control, since)
            rows.mark_verified(connection, control, upto=entries.horizon(connection, self.migration))

    def blockers(self, since: Control) -> list[str]:
        """What keeps a frozen migration from being switched; empty if nothing does."""
        with self.database.reading() as connection:
            control = rows.read(self.database, connection, self.migration)
            return self._blockers(connection, control, since)

    def switch(self, *, since: Control, by: str, reason: str) -> Control:
        """Make the secondary the primary: one transaction, only if nothing at all is under way (rule 15).

        Raises:
            NotSo: something is, or the row is another one by now; nothing changed.
        """
        with self.holding("update") as (connection, control):
            found = self._blockers(connection, control, since)
            if found:
                raise NotSo(f"'{self.migration}' cannot be switched: {'; '.join(found)}")
            self.distrust(connection, control)
            state = State.SWITCHED if control.primary == "source" else State.REVERSED
            values = {"state": state.value, "primary_side": control.secondary, "written_back": True}
            return rows.change(self.database, connection, control, by=by, reason=reason, frozen_until=None, **values)

    def complete(self, *, since: Control, by: str, reason: str) -> Control:
        """End: the primary stays what it is, and the other side is not kept equal any more.

        Raises:
            NotSo: the row is another one by now.
        """
        with self.holding("update") as (connection, control):
            require_unchanged(control, since)
            if control.primary == "target":
                pruning.prune(connection, self.migration)
                leases.forget(connection, self.migration)
                lows.forget(connection, self.migration)
            else:  # it may be planned again, so what may still be applied must not be forgotten
                lows.leave_all(connection, self.migration)
            verdicts.forget(connection, self.migration)
            self.distrust(connection, control)
            values = {"state": State.COMPLETED.value, "frozen_until": None}
            return rows.change(self.database, connection, control, by=by, reason=reason, **values)

    def prune(self, *, age: float = PRUNE_SECONDS) -> int:
        """Forget entries that were dealt with and that nothing may still look back to; return how many.

        Args:
            age: only those that were dealt with so many seconds ago; readers that are not noted here look back too.
        """
        with self.holding("update") as (connection, control):
            now = self.database.now(connection)
            before = now - max(age, control.bounds.open_seconds)
            # The newest stays: it says how far the journal has come.
            below = [
                entries.horizon(connection, self.migration),
                entries.low(connection, control, now, settled=max(control.bounds.stale.values())),
            ]
            oldest = lows.oldest(connection, self.migration)
            if oldest is not None:
                below.append(oldest)
            chunks.forget_old(connection, self.migration, now=now)
            for chunk in chunks.read(connection, self.migration):
                below.append(chunk.low)
                before = min(before, chunk.since)
        # Neither bound ever falls, so the rest needs not hold up writers.
        count = 0
        while True:
            with self.database.transaction() as connection:
                some = pruning.prune_some(connection, control, now, below=min(below), before=before)
            count += some
            if some == 0:
                return count

    def _require_held(self, connection: sa.Connection, control: Control, lease: LaneLease, now: float) -> None:
        if control.primary != lease.control.primary:
            raise LeaseHeld(f"'{self.migration}' was switched while '{lease.holder}' worked; nothing is marked")
        if not leases.is_held(connection, lease, now):
            raise LeaseHeld(f"the lease of '{lease.holder}' on '{self.migration}' has ended; nothing is marked")

    def _blockers(self, connection: sa.Connection, control: Control, since: Control) -> list[str]:
        now = self.database.now(connection)
        found = []
        if control.epoch != since.epoch or control.state is not State.FROZEN:
            found.append(
                f"it is '{control.state.value}' in epoch {control.epoch}, not frozen in epoch {since.epoch}, "
                f"since {control.changed_by}: {control.reason}"
            )
        if control.frozen_until is not None and control.frozen_until <= now:
            found.append("the freeze has ended")
        lag = entries.lag(connection, control, now)
        if lag.records:
            left = f"{counted(lag.records, 'change')} {agreeing(lag.records, 'is')} not carried over"
            found.append(f"{left}, {lag.open:,} not known to be over")
        busy = leases.alive(connection, self.migration, now)
        if busy:
            held = f"{counted(busy, 'lane')} {agreeing(busy, 'is')} held"
            found.append(f"{held}, or what was sent under a lease may still be applied")
        unfinished = lows.unfinished(connection, self.migration)
        if unfinished:
            found.append(f"{counted(unfinished, 'split')} {agreeing(unfinished, 'is')} begun and not finished")
        if control.verified_epoch != control.epoch:
            found.append("the final verification has not passed in this epoch")
        elif control.verified_upto != entries.horizon(connection, self.migration):
            found.append("ids were named since the final verification")
        return found
