"""Checks the journal against a plain model of it, step by step, in whatever order: hypothesis, on both engines."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from vectormigrate_dagster.errors import LeaseHeld, Unavailable
from vectormigrate_dagster.live.journal import Admission, Entry, Journal, LaneLease, SplitAttempt, State
from vectormigrate_dagster.model import IdKind
from vectormigrate_dagster_tests.live.journals import BOUNDS, OPEN, ClockedDatabase, key, keys

EXAMPLES = int(os.environ.get("VECTORMIGRATE_JOURNAL_EXAMPLES", "10"))
STALE = 3.0
AFTER = BOUNDS.request + BOUNDS.margin
NUMBERS = st.lists(st.integers(0, 7), min_size=1, max_size=3, unique=True)
LANES = sorted({key(number).lane for number in range(8)})
SPLITS = st.sampled_from(["a", "b"])


@dataclass
class Noted:
    """An entry as the model has it."""

    seq: int
    number: int
    kind: str
    at: float
    applied_at: float | None = None
    consumed_at: float | None = None

    def closed_at(self, now: float) -> float | None:
        if self.kind != "intent":
            return self.at
        if self.applied_at is not None:
            return self.applied_at
        return self.at + OPEN if self.at + OPEN <= now else None


@dataclass
class Low:
    """What the model knows of an unfinished split."""

    low: int
    sends_until: float
    abandoned_until: float = 0.0


@dataclass
class Model:
    """All that a journal knows, in lists."""

    now: float
    epoch: int = 1
    frozen_until: float | None = None
    noted: list[Noted] = field(default_factory=list)
    free_at: dict[int, float] = field(default_factory=dict)
    lows: dict[str, Low] = field(default_factory=dict)
    written: int = 0

    def look(self) -> None:
        """What everybody does who holds the control row: end a freeze whose time is over."""
        if self.frozen_until is not None and self.frozen_until <= self.now:
            self.epoch, self.frozen_until = self.epoch + 1, None

    def note(self, numbers: list[int], kind: str) -> list[Noted]:
        new = [Noted(self.written + n, number, kind, self.now) for n, number in enumerate(numbers, 1)]
        self.written += len(new)
        self.noted += new
        return new

    def waiting(self) -> list[Noted]:
        return [entry for entry in self.noted if entry.consumed_at is None]

    def due(self, lanes: tuple[int, ...]) -> list[Noted]:
        settled = self.now - STALE
        return [
            entry
            for entry in self.waiting()
            if key(entry.number).lane in lanes
            and (closed := entry.closed_at(self.now)) is not None
            and closed <= settled
        ]

    def low(self) -> int:
        for entry in self.noted:
            closed = entry.closed_at(self.now)
            if entry.kind != "touch" and (closed is None or closed > self.now - STALE):
                return entry.seq
        return self.written + 1


class Machine(RuleBasedStateMachine):
    """Both, side by side; each example is a migration of its own in one database."""

    database: ClockedDatabase
    names = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.database.time = 1_000_000.0
        bounds = replace(BOUNDS, stale={"source": STALE, "target": 0.0})
        self.journal = Journal.register(
            self.database, f"m{next(self.names)}", id_kinds=[IdKind.U64], bounds=bounds, by="model"
        )
        self.model = Model(self.database.time)
        self.journal.note(keys(0), kind="touch")
        self.model.note([0], "touch")
        self.before = self.journal.newest() - 1
        self.admitted: list[tuple[Admission, list[Noted]]] = []
        self.leases: list[tuple[LaneLease, list[Entry], list[Noted], float]] = []
        self.attempts: dict[str, SplitAttempt] = {}

    def seqs(self, found: list[Noted]) -> list[int]:
        """The real numbers of entries; the first of this migration comes after those of others."""
        return [entry.seq + self.before for entry in found]

    @rule(seconds=st.sampled_from([1.0, STALE, 20.0, OPEN, 1000.0]))
    def tick(self, seconds: float) -> None:
        self.database.tick(seconds)
        self.model.now = self.database.time

    @rule(numbers=NUMBERS)
    def admit(self, numbers: list[int]) -> None:
        self.model.look()
        if self.model.frozen_until is not None:
            with pytest.raises(Unavailable):
                self.journal.admit(keys(*numbers), patience=-1.0)
            return
        admission = self.journal.admit(keys(*numbers), patience=-1.0)
        assert admission.control.epoch == self.model.epoch
        self.admitted.append((admission, self.model.note(numbers, "intent")))

    @precondition(lambda self: self.admitted)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        admission, noted = data.draw(st.sampled_from(self.admitted))
        self.journal.applied(admission)
        for entry in noted:
            entry.applied_at = self.model.now if entry.applied_at is None else entry.applied_at

    @rule(numbers=NUMBERS, kind=st.sampled_from(["change", "touch"]))
    def report(self, numbers: list[int], kind: str) -> None:
        self.model.look()
        self.journal.note(keys(*numbers), kind=kind)  # type: ignore[arg-type]
        self.model.note(numbers, kind)

    @rule(lanes=st.lists(st.sampled_from(LANES), min_size=1, unique=True), seconds=st.sampled_from([10.0, 60.0]))
    def lease(self, lanes: list[int], seconds: float) -> None:
        self.model.look()
        lease = self.journal.lease(lanes, seconds=seconds)
        free = tuple(sorted(lane for lane in lanes if self.model.free_at.get(lane, 0.0) <= self.model.now))
        if not free or (self.model.frozen_until is not None and not self.model.waiting()):
            assert lease is None
            return
        assert lease is not None
        assert (lease.lanes, lease.control.epoch) == (free, self.model.epoch)
        for lane in free:
            self.model.free_at[lane] = self.model.now + seconds + AFTER
        listed, expected = self.journal.due(lease), self.model.due(free)
        assert [(entry.seq, entry.key) for entry in listed] == list(
            zip(self.seqs(expected), (key(entry.number) for entry in expected), strict=True)
        )
        self.leases.append((lease, listed, expected, self.model.now + seconds))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), give_back=st.booleans())
    def carry_over(self, data: st.DataObject, give_back: bool) -> None:
        one = data.draw(st.sampled_from(self.leases))
        self.leases.remove(one)
        lease, listed, expected, ends = one
        self.model.look()
        if ends <= self.model.now:
            with pytest.raises(LeaseHeld):
                self.journal.consume(lease, listed)
            return
        self.journal.consume(lease, listed)
        for entry in expected:
            entry.consumed_at = self.model.now
        if give_back:
            self.journal.release(lease)
            self.model.free_at |= dict.fromkeys(lease.lanes, self.model.now)

    @rule(split=SPLITS)
    def begin(self, split: str) -> None:
        self.model.look()
        attempt = self.journal.begin_split(split, seconds=60)
        before = self.model.lows.get(split)
        until = self.model.now + 60 + AFTER
        if before is None:
            self.model.lows[split] = Low(self.model.low(), until)
        else:
            over = max(before.abandoned_until, before.sends_until)
            self.model.lows[split] = Low(min(before.low, self.model.low()), until, over)
        assert attempt.low == self.model.lows[split].low + self.before
        self.attempts[split] = attempt

    @rule(split=SPLITS)
    def finish(self, split: str) -> None:
        if split not in self.model.lows:
            return
        low = self.model.lows.pop(split)
        left = max(0.0, low.abandoned_until - self.model.now)
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            self.tick(seconds)

        self.model.look()
        self.journal.finish_split(self.attempts.pop(split), sleep=sleep)
        assert slept == pytest.approx([left] if left else [])
        self.model.look()
        named = {e.number for e in self.model.noted if e.seq >= low.low and e.kind != "touch"}
        self.model.note(sorted(named), "touch")

    @rule(seconds=st.sampled_from([5.0, 500.0]))
    def freeze(self, seconds: float) -> None:
        self.model.look()
        control = self.journal.freeze(since=self.journal.control(), seconds=seconds, by="model", reason="wanted")
        self.model.epoch, self.model.frozen_until = self.model.epoch + 1, self.model.now + seconds
        assert (control.epoch, control.state) == (self.model.epoch, State.FROZEN)

    @rule()
    def prune(self) -> None:
        self.model.look()
        self.journal.prune(age=0.0)
        below = min([self.model.written, self.model.low(), *(low.low for low in self.model.lows.values())])
        before = self.model.now - OPEN
        self.model.noted = [
            entry
            for entry in self.model.noted
            if entry.seq >= below or entry.consumed_at is None or entry.consumed_at > before
        ]

    @invariant()
    def the_lag_is_the_models(self) -> None:
        lag, waiting = self.journal.lag(), self.model.waiting()
        assert lag.records == len(waiting)
        assert lag.open == sum(entry.closed_at(self.model.now) is None for entry in waiting)
        self.model.look()
        assert self.journal.control().epoch == self.model.epoch


def test_the_journal_does_what_a_plain_model_of_it_does(journal_url: str) -> None:
    database = ClockedDatabase(journal_url)
    machine = type("MachineHere", (Machine,), {"database": database, "names": itertools.count()})
    wanted = settings(
        max_examples=EXAMPLES,
        stateful_step_count=30,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes of waiting for the disk
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(machine, settings=wanted)
    finally:
        database.close()
