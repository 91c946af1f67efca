"""Who is about to switch the sides of a migration, and what the journal's row says once nobody is any more.

Only a coordinator enters `verifying` and `ready`. One that fails or is blocked takes that back itself; one that was
killed cannot, so whoever looks next from its home does. Another home sees no leases of this one, and tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vectormigrate_dagster.defs.event_log import MigrationLog
from vectormigrate_dagster.defs.journal import principal
from vectormigrate_dagster.defs.lease import Lease, numbered
from vectormigrate_dagster.defs.state import PlanSummary
from vectormigrate_dagster.errors import NotSo, PlanOutdated
from vectormigrate_dagster.live.journal import Control, Journal, State
from vectormigrate_dagster.mapping.plan import Plan

_WHAT = "cutover"
_PLACES = 8


@contextmanager
def coordinating(log: MigrationLog) -> Iterator[None]:
    """Be known as a coordinator for the length of a block, one of several if need be.

    Raises:
        LeaseHeld: too many are.
    """
    with numbered(log.instance, log.migration_id, _WHAT, _PLACES):
        yield


def require_nobody_coordinates(log: MigrationLog) -> None:
    """Refuse to replace a plan by which a process is about to switch the sides.

    That is kind to who waits for the switch, no more: by a plan that was replaced the journal lets nobody switch.

    Raises:
        PlanOutdated: one is.
    """
    if somebody_coordinates(log):
        raise PlanOutdated(
            f"migration '{log.migration_id}' is being cut over by its plan; let that end, or end it with "
            f"'vectormigrate stop {log.migration_id}', before it is planned anew"
        )


def rest_if_left(log: MigrationLog, plan: Plan | PlanSummary, journal: Journal) -> Control:
    """The journal's row; if it tells of a coordinator and there is none, it says first that nothing is being switched.

    A freeze is left alone, as it ends by itself, and so is what somebody else's home may be at.
    """
    control = journal.control()
    is_left = control.is_coordinated and control.state is not State.FROZEN and control.goes_by(plan.digest)
    if not is_left or not _was_coordinated(log) or somebody_coordinates(log):
        return control
    reason = f"nobody goes on with what {control.changed_by} has begun"
    try:
        return journal.enter(control.at_rest, since=control, by=principal(), reason=reason)
    except NotSo:  # somebody goes on after all, or was faster
        return journal.control()


def somebody_coordinates(log: MigrationLog) -> bool:
    """Whether a process is at a cutover, the way back, or the end."""
    return any(lease.is_held() for lease in _leases(log))


def _was_coordinated(log: MigrationLog) -> bool:
    """Whether there ever was such a process in this home: files of leases stay."""
    return any(lease.path.exists() for lease in _leases(log))


def _leases(log: MigrationLog) -> Iterator[Lease]:
    return (Lease(log.instance, log.migration_id, f"{_WHAT}-{number}") for number in range(_PLACES))
