"""Splits of the backfill, which an application may write to while they are moved (rules 10 to 13)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace

import sqlalchemy as sa

from vectormigrate_dagster.errors import LeaseHeld
from vectormigrate_dagster.live.journal import entries, lows, verdicts
from vectormigrate_dagster.live.journal.control import Control
from vectormigrate_dagster.live.journal.entries import Key
from vectormigrate_dagster.live.journal.held import Held
from vectormigrate_dagster.live.journal.lows import SplitAttempt


def _any_key(_: Key) -> bool:
    return True


class Splits(Held):
    """What the backfill asks of the journal."""

    def begin_split(self, split: str, *, seconds: float) -> SplitAttempt:
        """Begin to move a split: note, durably and before the first read, from where on it must distrust itself.

        Args:
            split: the partition's key.
            seconds: for how long it may send before it must `renew`.

        Raises:
            LeaseHeld: the sides were switched, so that nothing is loaded any more.
        """
        began, attempt = time.monotonic(), secrets.token_hex(8)
        with self.holding("update") as (connection, control):
            if control.primary != "source":
                raise LeaseHeld(f"'{self.migration}' was switched; split '{split}' is not moved any more")
            now = self.database.now(connection)
            first = entries.low(connection, control, now, settled=control.bounds.stale[control.primary])
            until = now + seconds + control.bounds.request + control.bounds.margin
            low = lows.begin(connection, self.migration, split, low=first, attempt=attempt, until=until)
            self.distrust(connection, control)
            return SplitAttempt(what=split, attempt=attempt, low=low, control=control, ends=began + seconds)

    def renew(self, attempt: SplitAttempt, *, seconds: float) -> SplitAttempt:
        """Let an attempt send for longer.

        Raises:
            LeaseHeld: another attempt has begun, or the sides were switched.
        """
        began = time.monotonic()
        with self.holding("share") as (connection, control):
            if control.primary != attempt.control.primary:
                raise LeaseHeld(f"'{self.migration}' was switched; split '{attempt.what}' is not moved any more")
            until = self.database.now(connection) + seconds + control.bounds.request + control.bounds.margin
            lows.renew(connection, self.migration, attempt.what, attempt=attempt.attempt, until=until)
            return replace(attempt, ends=began + seconds)

    def finish_split(
        self,
        attempt: SplitAttempt,
        *,
        belongs: Callable[[Key], bool] = _any_key,
        sleep: Callable[[float], None] = time.sleep,
    ) -> int:
        """Ask for another look at every key that intents name since the split's low; return how many.

        To be called when all of the split is acknowledged. Waits until no request of an earlier attempt, which was
        given up, can still be applied.

        Args:
            attempt: the split's.
            belongs: whether a key is one of the split.
            sleep: waits.

        Raises:
            LeaseHeld: another attempt has begun.
        """
        while True:
            with self.holding("share") as (connection, control):
                now = self.database.now(connection)
                left = lows.abandoned_for(connection, self.migration, attempt.what, attempt=attempt.attempt, now=now)
                if left == 0:
                    return self._touch_split(connection, control, attempt.what, attempt.low, now, belongs)
            sleep(left)

    def leave_split(
        self, attempt: SplitAttempt, *, belongs: Callable[[Key], bool] = _any_key, unsure: float = 0.0
    ) -> int | None:
        """As `finish_split`, but without waiting: None if that is left to `retire_splits`, which may be minutes later.

        Until then the split counts as unfinished, so the sides are not switched.

        Args:
            attempt: the split's.
            belongs: whether a key is one of the split.
            unsure: seconds for which a request of this attempt may still be applied, because its outcome is not known.

        Raises:
            LeaseHeld: another attempt has begun.
        """
        with self.holding("share") as (connection, control):
            now = self.database.now(connection)
            left = lows.abandoned_for(connection, self.migration, attempt.what, attempt=attempt.attempt, now=now)
            if max(left, unsure) > 0:
                lows.leave(connection, self.migration, attempt.what, until=now + max(left, unsure))
                return None
            return self._touch_split(connection, control, attempt.what, attempt.low, now, belongs)

    def rest_split(self, attempt: SplitAttempt, *, unsure: float = 0.0) -> None:
        """Note that an attempt has ended before its split did, so that nobody waits for what it might have sent.

        Args:
            attempt: the split's; nothing happens if another one has begun.
            unsure: as of `leave_split`.
        """
        with self.holding("share") as (connection, _):
            until = self.database.now(connection) + unsure
            lows.rest(connection, self.migration, attempt.what, attempt=attempt.attempt, until=until)

    def leave_splits(self, *, over: bool) -> None:
        """Leave every split, because what was loaded is taken back; whoever loads cannot renew his attempt.

        Args:
            over: nobody loads any more, so that all that was sent is applied within `Bounds.request`.
        """
        with self.holding("update") as (connection, control):
            until = self.database.now(connection) + control.bounds.request if over else float("inf")
            lows.leave_all(connection, self.migration, until=until)

    def loading_seconds(self) -> float:
        """Seconds until no request of an unfinished split can be applied any more, if nobody renews it."""
        with self.database.reading() as connection:
            return max(0.0, lows.last(connection, self.migration) - self.database.now(connection))

    def retire_splits(self) -> int:
        """Finish splits that were left, as far as none of their requests can be applied any more; return how many."""
        with self.database.reading() as connection:  # every step of catching up asks, and there is seldom any
            if not lows.retired(connection, self.migration, self.database.now(connection)):
                return 0
        with self.holding("share") as (connection, control):
            now = self.database.now(connection)
            over = lows.retired(connection, self.migration, now)
            for split, low in over:
                self._touch_split(connection, control, split, low, now)
            return len(over)

    def _touch_split(  # noqa: PLR0917  # what is noted of a split, in one transaction
        self,
        connection: sa.Connection,
        control: Control,
        split: str,
        low: int,
        now: float,
        belongs: Callable[[Key], bool] = _any_key,
    ) -> int:
        named = entries.named_since(connection, self.migration, low)
        # What was said of keys was said of the split as it was before.
        known = verdicts.keys(connection, self.migration)
        named = list(filter(belongs, dict.fromkeys([*named, *known])))
        entries.append_closed(connection, control, named, now, kind="touch")
        lows.finish(connection, self.migration, split)
        return len(named)
