"""A re-sync of records that somebody else than the journal names, under the same leases as catching up (rule 5)."""

from __future__ import annotations

from collections.abc import Callable

from vectormigrate_dagster.databases import Sleep
from vectormigrate_dagster.errors import LeaseHeld, NotSo
from vectormigrate_dagster.live.journal import LANES, Journal, LaneLease
from vectormigrate_dagster.transfer.guard import WriteGuard
from vectormigrate_dagster.transfer.resync import Keys, Resync, Resynced

LEASE_SECONDS = 60.0
_POLL_SECONDS = 0.05


class LeasedResync:
    """Makes records equal to the source's, each call under a lease of all lanes.

    Args:
        journal: the migration's.
        make: a re-sync whose writes a guard watches.
        holder: who this is, for messages.
        sleep: waits for lanes that are somebody else's.
    """

    def __init__(self, journal: Journal, make: Callable[[WriteGuard], Resync], *, holder: str, sleep: Sleep) -> None:
        self._journal = journal
        self._holder = holder
        self._sleep = sleep
        self._lease: LaneLease | None = None
        self._answered = True
        self._resync = make(WriteGuard(self._check, self._note_unsure))

    def make_equal(self, keys: Keys) -> list[Resynced]:
        """As `Resync.make_equal`.

        Raises:
            NotSo: the application writes to the target.
            LeaseHeld: the lease was about to end; what was written is right, and doing it again does no harm.
        """
        self._lease, self._answered = self._take(), True
        try:
            return self._resync.make_equal(keys)
        finally:
            if self._answered:
                self._journal.release(self._lease)

    def _take(self) -> LaneLease:
        while True:
            lease = self._journal.lease(seconds=LEASE_SECONDS, holder=self._holder)
            if lease is not None and len(lease.lanes) == LANES and lease.control.primary == "source":
                return lease
            if lease is not None:
                self._journal.release(lease)
                if lease.control.primary != "source":
                    raise NotSo(
                        f"'{self._journal.migration}' was switched, so its source is the copy and proves nothing of "
                        "the target"
                    )
            self._sleep(_POLL_SECONDS)

    def _check(self) -> None:
        if self._lease is None:
            raise LeaseHeld(f"nothing of '{self._journal.migration}' is leased")
        self._lease.check()

    def _note_unsure(self) -> None:
        self._answered = False
