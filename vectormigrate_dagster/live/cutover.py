"""Make the other side the primary, or go back: what leads there, step by step, and what is in the way.

Every step is one conditional transaction on the control row, and the row is all that a coordinator knows: one that is
killed anywhere is replaced by another that reads the row and goes on, and any number of them may be at it at once
(rules 14 to 17 of the live protocol). A freeze ends by itself when its time is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from vectormigrate_dagster.databases import Sleep
from vectormigrate_dagster.errors import LeaseHeld, NotSo
from vectormigrate_dagster.live.catch_up import CatchUp
from vectormigrate_dagster.live.differences import Looked
from vectormigrate_dagster.live.journal import Control, Journal, Side, State
from vectormigrate_dagster.live.journal.generations import Doubtful
from vectormigrate_dagster.live.steps import (
    SLOW_SECONDS,
    Action,
    Gate,
    Limits,
    Step,
    is_done,
    refusal,
    steps_of,
    too_short,
    until,
)
from vectormigrate_dagster.live.verification import Verification
from vectormigrate_dagster.model.counting import agreeing, counted

Changed = Callable[[Control], None]
"""Is told of every change of the control row that was made here."""

_POLL_SECONDS = 0.02
_LOOKS = 3
"""So often what differs is touched, carried over and looked at again before somebody is asked to look himself."""

_COORDINATORS = 10
"""So often somebody else may have changed the row first."""


def _tell_nobody(control: Control) -> None:
    del control


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a cutover, a reverse or a completion ended.

    Args:
        control: the row at its end.
        done: it is so, whoever did it.
        blocked_by: what was in the way, and what to do.
    """

    control: Control
    done: bool
    blocked_by: tuple[str, ...] = ()


class Cutover:
    """Coordinates the end of a live migration.

    Args:
        journal: the migration's.
        catch_up: carries changes over, in the direction that the row says.
        verification: compares both sides.
        gates: what else must be so before the target becomes the primary.
        limits: of time and amounts.
        changed: is told of every change, right after it.
        sleep: waits; what it raises ends the coordinator, and a freeze of its own before.
    """

    def __init__(
        self,
        journal: Journal,
        catch_up: CatchUp,
        verification: Verification,
        gates: Sequence[Gate] = (),
        *,
        limits: Limits | None = None,
        changed: Changed = _tell_nobody,
        sleep: Sleep = time.sleep,
    ) -> None:
        self.journal = journal
        self.catch_up = catch_up
        self.verification = verification
        self.gates = tuple(gates)
        self.limits = limits or Limits()
        self.changed = changed
        self.sleep = sleep

    def steps(self, action: Action = "cutover") -> list[Step]:
        """The steps that an action would make now, and what is in the way of each; changes nothing."""
        return steps_of(self.journal, self.verification.chunks, action, gates=self.gates, limits=self.limits)

    def run(self, *, by: str, reason: str) -> Ended:
        """Make the target the primary, from wherever an earlier coordinator has left off.

        Args:
            by: who wants it.
            reason: why.

        Raises:
            DatabaseError: a side could not be read or written; writes are not frozen any more.
            StorageFailed: the journal cannot be written; a freeze ends by itself.
            Stopped: it was asked to end; writes are not frozen any more.
        """
        return self._leave("source", by=by, reason=reason)

    def reverse(self, *, by: str, reason: str) -> Ended:
        """Make the source the primary again; what was written to the target since the cutover is in it.

        Raises:
            As `run`.
        """
        control = self.journal.control()
        if (why := refusal(control, "reverse")) is not None:
            return _blocked(control, why)
        return self._leave("target", by=by, reason=reason)

    def complete(self, *, by: str, reason: str) -> Ended:
        """End: compare everything once more, then let the other side be, and forget the journal's entries.

        Raises:
            As `run`.
        """
        for _ in range(_COORDINATORS):
            control = self.journal.control()
            try:
                return self._complete(control, by=by, reason=reason)
            except NotSo as error:
                if self.journal.control().epoch == control.epoch:
                    return _blocked(control, str(error))
        return self._give_up()

    def _complete(self, control: Control, *, by: str, reason: str) -> Ended:
        """Complete what the row says, unless something is in the way."""
        if is_done(control, "complete"):
            return Ended(control=control, done=True)
        if (why := refusal(control, "complete")) is not None:
            return _blocked(control, why)
        found = self.verification.generation()
        if found.different:
            # Rule 21: nobody was about to carry these over, so something wrote past the journal.
            carried = f"they are carried over from the {control.primary} now; look at them, then complete it again"
            return _blocked(self.journal.control(), f"{found}; {carried}")
        passage = _Passage(self, control, by=by, reason=reason)
        if blockers := passage.settle():
            return _blocked(control, *blockers)
        control = self.journal.complete(since=control, by=by, reason=reason)
        self.changed(control)
        return Ended(control=control, done=True)

    def _leave(self, leaving: Side, *, by: str, reason: str) -> Ended:
        """Leave a side as the primary, unless that was done; give up when something is in the way."""
        for _ in range(_COORDINATORS):
            control = self.journal.control()
            if control.primary != leaving:
                self.changed(control)  # whoever did it may have been killed before it said so (rule 17)
                return Ended(control=control, done=True)
            if (why := refusal(control, "cutover" if leaving == "source" else "reverse")) is not None:
                return _blocked(control, why)
            passage = _Passage(self, control, by=by, reason=reason)
            try:
                blockers = passage.go()
            except NotSo as error:
                if self.journal.control().epoch != passage.control.epoch:
                    continue  # somebody else has changed the row: begin with what it says now (rule 16)
                blockers = (str(error),)
            if blockers:
                return _blocked(self.journal.control(), *blockers)
            if passage.control.primary != leaving:
                return Ended(control=passage.control, done=True)
        return self._give_up()

    def _give_up(self) -> Ended:
        return _blocked(self.journal.control(), "others change its state all the time; see who coordinates it")

    def in_the_way(self, control: Control) -> Iterable[str]:
        """What the gates say; the way back needs no more than that everything is carried over and compared."""
        yield from too_short(control, self.limits)
        if control.primary == "source":
            for gate in self.gates:
                yield from gate()


class _Passage:
    """One coordinator's way from the row as it is to the switch."""

    def __init__(self, cutover: Cutover, control: Control, *, by: str, reason: str) -> None:
        self.control = control
        self._cutover = cutover
        self._journal = cutover.journal
        self._verification = cutover.verification
        self._limits = cutover.limits
        self._by = by
        self._reason = reason
        self._what = "cutover" if control.primary == "source" else "reverse"

    def go(self) -> tuple[str, ...]:
        """Make every step; return what is in the way of the next one, or nothing after the switch.

        Raises:
            NotSo: somebody else has changed the row.
        """
        try:
            if self.control.state is not State.FROZEN:  # otherwise somebody was killed there, or is still at it
                for step in (self._pass_gates, self._catch_up, self._verify, self.settle, self._freeze):
                    if blockers := step():
                        self._rest(f"a {self._what} was blocked: {blockers[0]}")
                        return blockers
            return self._switch()
        except NotSo as error:
            frozen, rests = self.control.state is State.FROZEN, self._rest(str(error))
            if not frozen:
                raise
            return (f"{error}; writes go on",) if rests else self._ended()
        except BaseException as error:
            self._rest(f"the coordinator of a {self._what} has ended ({type(error).__name__})")
            raise

    def settle(self) -> tuple[str, ...]:
        """Carry over what waits and look at what is doubtful, until nothing differs that nobody accounts for."""
        looked = Looked()
        for _ in range(_LOOKS):
            if waiting := self._wait():
                return waiting
            looked = self._verification.settle()
            if not looked.different:
                return ()
        return (f"{looked}; see why they cannot be carried over ('catch-up' lists reasons), then try again",)

    def _pass_gates(self) -> tuple[str, ...]:
        """See that everything else is as it must be."""
        return tuple(self._cutover.in_the_way(self.control))

    def _catch_up(self) -> tuple[str, ...]:
        """Carry over what waits, until little is left."""
        if self.control.state is not State.READY:
            self._enter(State.CATCHING_UP)
        end = time.monotonic() + self._limits.patience_seconds
        while (lag := self._journal.lag().records) > self._limits.lag_records:
            if time.monotonic() >= end:
                return (
                    f"{counted(lag, 'change')} {agreeing(lag, 'is')} still not carried over after "
                    f"{self._limits.patience_seconds:g} s; writes come faster than they are carried over, or a re-sync "
                    "holds its lease: slow them down, raise the rate limit if there is one, or try again later",
                )
            self._step(wait=_POLL_SECONDS)
        return self._wait()

    def _verify(self) -> tuple[str, ...]:
        """Compare everything that was not compared lately; what differs is touched, and looked at again later."""
        if self.control.state is not State.READY:
            self._enter(State.VERIFYING)
        self._verification.generation()
        return ()

    def _wait(self) -> tuple[str, ...]:
        """Wait until all is over that is under way now: a freeze has to be short, and so has a list of doubts."""
        before, end = self._verification.now(), time.monotonic() + self._limits.patience_seconds
        while waiting := self._verification.left_of(before):
            if time.monotonic() >= end:
                return tuple(until(waiting))
            self._journal.retire_splits()
            longest = max(seconds for _, seconds in waiting)
            self._step(wait=min(2.0, max(_POLL_SECONDS, longest / 10)))
        return ()

    def _freeze(self) -> tuple[str, ...]:
        """Stop the application's writes (rule 14)."""
        self._enter(State.READY)
        self.control = self._journal.freeze(
            since=self.control, seconds=self._limits.freeze_seconds, by=self._by, reason=self._reason
        )
        self._cutover.changed(self.control)
        return ()

    def _switch(self) -> tuple[str, ...]:
        """Carry over the rest, look at what is doubtful, switch; or let writes go on and say what was in the way."""
        looked = self._verification.recheck(self.control, self._until_quiet())
        if looked.different:
            self._rest(str(looked))
            return (f"{looked}; writes go on, and these ids are carried over again: try again",)
        self.control = self._journal.switch(since=self.control, by=self._by, reason=self._reason)
        self._cutover.changed(self.control)
        return ()

    def _until_quiet(self) -> Doubtful:
        """Carry over until nothing is under way, and list what is to be looked at.

        Raises:
            NotSo: the freeze has ended.
        """
        while (doubtful := self._verification.quiet(self.control)) is None:
            self._step(wait=_POLL_SECONDS)
        return doubtful

    def _ended(self) -> tuple[str, ...]:
        """Why a freeze has ended without a switch of ours; nothing if somebody else has switched."""
        control = self._journal.control()
        if control.primary != self.control.primary:
            return ()
        self._cutover.changed(control)
        waiting = self._verification.left_of(self._verification.now() - SLOW_SECONDS)
        return (f"writes go on, because {control.changed_by} ended the freeze: {control.reason}", *until(waiting))

    def _rest(self, why: str) -> bool:
        """Let the row say what is so once nobody goes on, and writes go on; False if it is another one by now."""
        if not self.control.is_coordinated:
            return True
        try:
            self.control = self._journal.enter(self.control.at_rest, since=self.control, by=self._by, reason=why)
        except NotSo:
            return False
        self._cutover.changed(self.control)
        return True

    def _enter(self, state: State) -> None:
        if self.control.state is not state:
            self.control = self._journal.enter(state, since=self.control, by=self._by, reason=self._reason)
            self._cutover.changed(self.control)

    def _step(self, *, wait: float) -> None:
        """Carry over a bounded number of changes; wait if there was none that could be.

        Raises:
            NotSo: what was moved is being taken back.
        """
        consumed = 0
        with suppress(LeaseHeld):  # the rest is for the next lease
            step = self._cutover.catch_up.step()
            consumed = step.consumed
            if step.control.state is State.PLANNED:
                raise NotSo(f"{step.control.changed_by} has ended it: {step.control.reason}")
        if not consumed:
            self._cutover.sleep(wait)


def _blocked(control: Control, *blockers: str) -> Ended:
    return Ended(control=control, done=False, blocked_by=blockers)
