"""The right to send to the target for a while: an attempt to load a split, or to take something back."""

from __future__ import annotations

import time
from dataclasses import dataclass

from vectormigrate_dagster.errors import LeaseHeld
from vectormigrate_dagster.live.journal.control import Control


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt, which has to be renewed as it goes on.

    Args:
        what: a partition's key, or what the target is called where partitions are.
        attempt: unique to this attempt.
        control: the row when it began.
        ends: when it must have renewed, by this process' monotonic clock.
    """

    what: str
    attempt: str
    control: Control
    ends: float

    def check(self) -> None:
        """Make sure that this attempt may still send; to be asked right before each write.

        Raises:
            LeaseHeld: too little time is left.
        """
        if self.ends - time.monotonic() < self.control.bounds.margin:
            raise LeaseHeld(f"'{self.what}' of '{self.control.migration}' was not renewed in time; run it again")
