"""What must hold after every event (I1 to I6 of the live protocol), and at the end."""

from __future__ import annotations

import zlib
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from vectormigrate_dagster.live.journal import Key
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster_tests.live.exploring.databases import SteppedDatabase, SteppedJournal, Values
from vectormigrate_dagster_tests.live.exploring.world import Request, Violation, World

BACKFILL = "B"
"""How the names of actors that move splits begin."""


def ticket_of(name: str) -> int:
    """The ticket, a number, of what an actor has drawn."""
    return zlib.crc32(name.encode())


def key_of(number: int) -> Key:
    """The journal's key of a record."""
    return Key(None, IdKind.U64, str(number))


@dataclass
class Watch:
    """Looks at everything after every event.

    Args:
        loaded: whether all splits count as loaded.
        strict: check what happens, not only what comes out.
        truth: what applications wrote last, by id; None was deleted.
    """

    world: World
    journal: SteppedJournal
    source: SteppedDatabase
    target: SteppedDatabase
    truth: dict[int, int | None]
    loaded: bool
    strict: bool = True
    _epoch: tuple[int, tuple[Any, ...]] = (0, ())
    _changed: dict[int, int] = field(default_factory=dict)
    _lows: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world.on_landed = self._landed
        self._look()

    def look(self) -> None:
        """Check the invariants.

        Raises:
            Violation: one does not hold.
        """
        self._look()
        if not self.is_over:
            self._one_sync_per_key()
            self._every_difference_is_known()
            self._application_writes_are_open()
        self._epoch_only_rises()
        self._lows_only_fall()

    def settled(self) -> None:
        """Check that both sides hold what applications wrote last, or the target does if it is all there is.

        Raises:
            Violation: they do not.
        """
        self._look()
        want = {key: value for key, value in self.truth.items() if value is not None}
        if self.is_over:
            if self.target.values != want:
                raise Violation(f"target {_told(self.target.values)}, written last {_told(want)}: a write is lost")
            return
        if self.source.values != self.target.values:
            raise Violation(f"source {_told(self.source.values)}, target {_told(self.target.values)}")
        if self.source.values != want:
            raise Violation(f"both sides {_told(self.source.values)}, written last {_told(want)}: a write is lost")

    def unfinished(self) -> bool:
        """Whether a split is begun and not finished."""
        self._look()
        return bool(self._rows["lows"])

    @property
    def remembered(self) -> Hashable:
        """All that later checks go by."""
        truth, changed = (tuple(sorted(known.items())) for known in (self.truth, self._changed))
        return self.loaded, truth, changed, self._epoch, tuple(sorted(self._lows.items()))

    @property
    def is_over(self) -> bool:
        """Whether the target is all there is: nobody tells the journal anything, and nobody follows."""
        return self._rows["control"][0][1:3] == ("completed", "target")

    def _look(self) -> None:
        tables = {
            "control": "migration, state, primary_side, epoch, frozen_until, verified_epoch",
            "entries": "seq, kind, id, ticket, at, consumed_at",
            "applied": "ticket, at",
            "leases": f"lane, holder, expires_at, free_at from vectormigrate_leases where lane in ({self._lanes})",
            "lows": "split, low, attempt, sends_until, abandoned_until",
        }
        self._rows = {
            name: tuple(
                self.journal.rows(
                    f"select {columns}" + ("" if " from " in columns else f" from vectormigrate_{name}") + " order by 1"
                )
            )
            for name, columns in tables.items()
        }

        self._changed |= {int(row[2]): row[0] for row in self._rows["entries"] if row[1] != "touch"}

    @property
    def _lanes(self) -> str:
        return ", ".join(str(key_of(key).lane) for key in self.truth)

    @property
    def primary(self) -> str:
        """The side that applications write to."""
        return str(self._rows["control"][0][2])

    def _landed(self, request: Request) -> None:
        """I3, and what is right from now on."""
        self._look()
        if request.application:
            if self.strict and request.side != self.primary:
                raise Violation(f"I3: {request.actor} writes {request.label} to the {request.side}, which only follows")
            values = (self.source if request.side == "source" else self.target).values
            self.truth.update({key: values.get(key) for key in request.keys})
        elif self.strict and request.side == self.primary:
            raise Violation(f"I3: {request.actor} brings {request.label} to the {request.side}, which is primary")

    def _one_sync_per_key(self) -> None:
        leases = {lane: (holder, free_at) for lane, holder, _, free_at in self._rows["leases"]}
        for request in self.world.flying():
            if request.application or (request.actor.startswith(BACKFILL) and self._rows["lows"]):
                continue
            for key in request.keys:
                holder, free_at = leases.get(key_of(key).lane, ("nobody", 0.0))
                if not holder.endswith(request.work) or free_at <= self.world.now:
                    raise Violation(f"I1: {request.label} of {request.actor} is under way without a lease on {key}")

    def _every_difference_is_known(self) -> None:
        source, target = self.source.values, self.target.values
        waiting = {int(row[2]) for row in self._rows["entries"] if row[5] is None}
        held = {row[0] for row in self._rows["leases"] if row[3] > self.world.now}
        for key in (key for key in source | target if source.get(key) != target.get(key)):
            if key in waiting or key_of(key).lane in held:
                continue
            changed = self._changed.get(key)
            if self.loaded if changed is None else not any(row[1] <= changed for row in self._rows["lows"]):
                raise Violation(f"I2: source {_told(source)}, target {_told(target)}, and nothing names {key}")

    def _application_writes_are_open(self) -> None:
        closed = {row[3] for row in self._rows["entries"] if row[5] is not None} | {
            row[0] for row in self._rows["applied"]
        }
        for request in self.world.flying():
            if request.application and ticket_of(request.work) in closed:
                raise Violation(f"I4: {request.label} of {request.actor} is under way, its intent is closed")

    def _epoch_only_rises(self) -> None:
        _, state, primary, epoch, frozen, _ = self._rows["control"][0]
        before, what = self._epoch
        now = (state, primary, frozen)
        if epoch < before or (epoch == before and now != what):
            raise Violation(f"I5: epoch {before} was {what}, epoch {epoch} is {now}")
        self._epoch = (epoch, now)

    def _lows_only_fall(self) -> None:
        lows = {row[0]: row[1] for row in self._rows["lows"]}
        for split, low in lows.items():
            if low > self._lows.get(split, low):
                raise Violation(f"I6: the low of split {split} rose from {self._lows[split]} to {low}")
        self._lows = lows


def _told(values: Values) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(values.items())) or "nothing"
