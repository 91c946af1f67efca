"""Catch up: bring the other side up to date with what the journal says has changed (rules 5 to 9 of the protocol)."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from vectormigrate_dagster.databases import Sleep
from vectormigrate_dagster.errors import InvalidRecord, LeaseHeld, PlanOutdated
from vectormigrate_dagster.live.journal import LANES, Control, Entry, Journal, Key, Lag, LaneLease, State
from vectormigrate_dagster.live.judging import UNLIKE, Came, Judge, LoadLists, no_lists
from vectormigrate_dagster.live.keys import Group
from vectormigrate_dagster.live.reverse import LEFT_BEHIND
from vectormigrate_dagster.live.sides import Sides
from vectormigrate_dagster.transfer.resync import Outcome, Resync

LEASE_SECONDS = 60.0
KEYS_PER_STEP = 2000
"""Entries that one step deals with: some seconds of work, so that a lease outlives it by far."""

_TRIES = 3
_POLL_SECONDS = 0.05

_WORST = (*UNLIKE, Outcome.REPAIRED, Outcome.ALREADY_RIGHT, Outcome.GONE)


@dataclass(frozen=True, kw_only=True)
class Unmoved:
    """A key that is not the same on both sides after a re-sync, and why; nobody tries it again by itself."""

    key: Key
    outcome: Outcome
    reason: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step did.

    Args:
        control: the control row as it was when the lease was taken.
        leased: lanes that it held; 0 if all were somebody else's.
        keys: keys that were re-synced.
        consumed: entries of the journal that are dealt with.
        outcomes: how many keys ended in which way.
        listed: keys that are not the same on both sides, with reasons; their entries are consumed all the same.
    """

    control: Control
    leased: int = 0
    keys: int = 0
    consumed: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    listed: tuple[Unmoved, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Drained:
    """What came of draining the journal.

    Args:
        lag: what is left.
        keys, consumed, outcomes, listed: of all steps together; see `Step`.
    """

    lag: Lag
    keys: int = 0
    consumed: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    listed: tuple[Unmoved, ...] = ()


class CatchUp:
    """The one mechanism that re-syncs keys of a live migration; any number may run, in any process.

    Args:
        journal: the migration's.
        sides: both sides.
        holder: who this is, for messages.
        lanes: those that it may lease.
        lease_seconds: for how long a lease is asked for; after a crash, a lane is free so long and `Bounds.request`
            later.
        keys_per_step: most entries that a step deals with.
        rests: states in which nothing is carried over, such as while what was moved is taken back.
        generation: of the plan; what is said of keys is kept for it, in the journal (see `judging`).
        load_lists: says, anew each time, which records the load could not move.
    """

    def __init__(
        self,
        journal: Journal,
        sides: Sides,
        *,
        holder: str,
        lanes: Sequence[int] = range(LANES),
        lease_seconds: float = LEASE_SECONDS,
        keys_per_step: int = KEYS_PER_STEP,
        rests: Collection[State] = (),
        generation: int = 1,
        load_lists: LoadLists = no_lists,
    ) -> None:
        self._journal = journal
        self._sides = sides
        self._holder = holder
        self._lanes = lanes
        self._lease_seconds = lease_seconds
        self._keys_per_step = keys_per_step
        self._rests = rests
        self._generation = generation
        self._load_lists = load_lists

    def step(self) -> Step:
        """Lease, list, re-sync, consume, release: a bounded amount of work.

        The lease is given back unless a request that writes has an outcome that is not known: then it ends by itself,
        once that request cannot be applied any more.

        The lease is extended as work goes on; what it turns out to be too short for is left to the next step.

        Raises:
            Stopped: it was asked to end; what was done is consumed.
            DatabaseError: a database failed for longer than the retry policy allows.
            StorageFailed: the journal or an ownership log could not be written.
        """
        self._journal.retire_splits()
        lease = self._journal.lease(self._lanes, seconds=self._lease_seconds, holder=self._holder)
        if lease is None:
            return Step(control=self._journal.control())
        judge = Judge(self._journal, self._generation, self._load_lists, lease.control.primary)
        work = _Work(self._journal, self._sides, lease, self._lease_seconds, judge)
        try:
            resting = lease.control.state in self._rests
            listed = [] if resting else self._journal.due(lease, limit=self._keys_per_step)
            if listed:
                work.do(listed)
        except LeaseHeld:
            pass  # nothing was sent that the lease does not outlive, and what is not consumed is listed again
        finally:
            if work.answered:
                self._journal.release(lease)
        return work.step()

    def drain(self, deadline: float, *, sleep: Sleep = time.sleep) -> Drained:
        """Make steps until the journal holds nothing that is not dealt with, or the deadline has passed.

        Args:
            deadline: by `time.monotonic()`.
            sleep: waits while entries are open, too young, or somebody else's.

        Raises:
            As `step`.
        """
        keys, consumed = 0, 0
        outcomes: Counter[Outcome] = Counter()
        listed: list[Unmoved] = []
        while True:
            step = self.step()
            keys, consumed = keys + step.keys, consumed + step.consumed
            outcomes += step.outcomes
            listed += step.listed
            lag = self._journal.lag()
            if lag.records == 0 or time.monotonic() >= deadline:
                return Drained(lag=lag, keys=keys, consumed=consumed, outcomes=outcomes, listed=tuple(listed))
            if step.consumed == 0:
                sleep(_POLL_SECONDS)


class _Work:
    """What is done under one lease.

    Args:
        journal: the migration's.
        sides: both sides.
        lease: of the lanes; direction comes from it.
        seconds: for how long it is extended.
        judge: says what is to be kept of a key.
    """

    def __init__(self, journal: Journal, sides: Sides, lease: LaneLease, seconds: float, judge: Judge) -> None:
        self.answered = True
        """Whether every request that wrote has had an answer."""
        self._journal = journal
        self._sides = sides
        self._lease = lease
        self._seconds = seconds
        self._judge = judge
        self._entries: dict[Key, list[Entry]] = defaultdict(list)
        self._outcomes: dict[Key, Came] = {}
        self._consumed = 0

    def do(self, listed: Sequence[Entry]) -> None:
        """Re-sync the keys of entries; consume the entries of a key once all of it is done."""
        primary = self._lease.control.primary
        for entry in listed:
            self._entries[self._sides.keys.canonical(entry.key)].append(entry)
        touched = {key for key, named in self._entries.items() if all(entry.kind == "touch" for entry in named)}
        resync = self._sides.resync(primary, check=self._check, unsure=self._note_unsure, touched=touched)
        grouped = self._sides.grouped(list(self._entries), primary, check=self._check)
        there = self._sides.holding(grouped.nowhere, primary)
        for key, reason in grouped.nowhere.items():
            self._note(key, Came(Outcome.REFUSED, reason, nowhere=True) if key in there else Came(Outcome.GONE))
        self._consume(grouped.nowhere)
        left = Counter(key for group in grouped.groups for key in group.of)
        for group in grouped.groups:
            self._settle(resync, group)
            left.subtract(group.of)
            self._consume(dict.fromkeys(key for key in group.of if not left[key]))

    def step(self) -> Step:
        """What was done."""
        return Step(
            control=self._lease.control,
            leased=len(self._lease.lanes),
            keys=len(self._outcomes),
            consumed=self._consumed,
            outcomes=Counter(came.outcome for came in self._outcomes.values()),
            listed=tuple(
                Unmoved(key=key, outcome=came.outcome, reason=came.reason)
                for key, came in self._outcomes.items()
                if came.outcome in UNLIKE
            ),
        )

    def _settle(self, resync: Resync, group: Group) -> None:
        """Re-sync a group; what is not right after it was written is tried again, as long as a read may be stale."""
        bounds, secondary = self._lease.control.bounds, self._lease.control.secondary
        waiting = self._make_equal(resync, group)
        for _ in range(_TRIES - 1):
            if not waiting:
                return
            self._sides.throttle.interrupt.sleep(bounds.stale[secondary])
            waiting = [key for again in waiting for key in self._make_equal(resync, again)]

    def _make_equal(self, resync: Resync, group: Group) -> list[Group]:
        """Re-sync a group, return what is worth another try; a record that all of a call fails for is found."""
        try:
            results = resync.make_equal(group.keys)
        except (PlanOutdated, InvalidRecord) as error:
            if len(group.of) == 1:
                self._note(group.of[0], Came(Outcome.REFUSED, str(error)))
                return []
            half = len(group.of) // 2
            halves = group.take(range(half)), group.take(range(half, len(group.of)))
            return [again for part in halves for again in self._make_equal(resync, part)]
        wrong = [row for row, result in enumerate(results) if result.outcome is Outcome.STILL_WRONG]
        for key, result in zip(group.of, results, strict=True):
            nowhere, promised = result.reason in LEFT_BEHIND, result.seen.promised is not None
            self._note(key, Came(result.outcome, result.reason, promised=promised, nowhere=nowhere))
        return [group.take(wrong)] if wrong else []

    def _note(self, key: Key, came: Came) -> None:
        """Keep the outcome of a key: the last one, or the worst one where it may stand in several places."""
        known = self._outcomes.get(key)
        if (
            known is None
            or known.outcome is Outcome.STILL_WRONG
            or _WORST.index(came.outcome) < _WORST.index(known.outcome)
        ):
            self._outcomes[key] = came

    def _check(self) -> None:
        """See that the lease outlives what is done now; extends it once half of its time is over."""
        if self._lease.ends - time.monotonic() < self._seconds / 2:
            try:
                self._lease = self._journal.extend(self._lease, seconds=self._seconds)
            except PlanOutdated as error:  # all of it is, and not the record in hand alone
                raise LeaseHeld(str(error)) from error
        self._lease.check()

    def _note_unsure(self) -> None:
        self.answered = False

    def _consume(self, keys: Iterable[Key]) -> None:
        over = list(keys)
        done = [entry for key in over for entry in self._entries[key]]
        if done:
            judged = self._judge.judged({key: self._outcomes[key] for key in over if self._is_compared(key)})
            self._journal.consume(self._lease, done, judged)
            self._consumed += len(done)

    def _is_compared(self, key: Key) -> bool:
        """Whether anybody wants to know: an application may write for ever to scopes that the migration leaves out.

        Once the sides are switched it writes them to the target, and the source does not get them.
        """
        return self._lease.control.primary == "target" or not self._sides.keys.leaves_out(key)
