"""Which of the many orders of events are tried: the usual one, few deviations from it, random ones, and given ones.

A schedule is told by its deviations from the usual order, `12:land:3 30:crash:C`: the event numbered 12 is that request
3 lands, and so on. The same deviations give the same run, always.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from vectormigrate_dagster_tests.live.exploring.world import Event, Violation

MOST_EVENTS = 1500
Deviations = tuple[tuple[int, str], ...]
Choose = Callable[[int, list[Event]], Event | None]
"""Which event is next, of those that may be; None ends the run as one that was seen before."""


@dataclass
class Run:
    """One run to its end.

    Args:
        deviations: from the usual order.
        told: what happened, line by line.
        violation: what was wrong; None if nothing was.
        options: what might have happened, at each event.
    """

    deviations: Deviations
    told: list[str]
    violation: str | None
    options: list[list[Event]] = field(default_factory=list)
    cut_short: bool = False

    @property
    def schedule(self) -> str:
        """The deviations as a text, see `parse`."""
        return " ".join(f"{at}:{label}" for at, label in self.deviations)


@dataclass(frozen=True)
class Budget:
    """How much a run may deviate."""

    preemptions: int
    faults: int

    def allows(self, event: Event) -> bool:
        """Whether the event may still happen."""
        return event.cost == "" or (self.preemptions if event.cost == "preemption" else self.faults) > 0

    def after(self, event: Event) -> Budget:
        """What is left after it."""
        return Budget(self.preemptions - (event.cost == "preemption"), self.faults - (event.cost == "fault"))


def parse(schedule: str) -> Deviations:
    """Deviations out of their text."""
    pairs = (word.split(":", 1) for word in schedule.split())
    return tuple((int(at), label) for at, label in pairs)


def following(deviations: Deviations) -> Choose:
    """Deviate so, and go on as usual.

    Raises:
        Violation: the schedule does not fit: the code has changed since it was noted.
    """
    wanted = dict(deviations)

    def choose(at: int, options: list[Event]) -> Event:
        if at not in wanted:
            return options[0]
        for event in options:
            if event.label == wanted[at]:
                return event
        raise Violation(f"event {at}: '{wanted[at]}' cannot happen; the schedule is of other code")

    return choose


@dataclass
class Seen:
    """States that somebody came to, each with what was left to spend there."""

    states: dict[Hashable, list[Budget]] = field(default_factory=dict)

    def covers(self, state: Hashable, left: Budget) -> bool:
        """Whether somebody was there before with as much to spend or more; notes that somebody was, if not."""
        before = self.states.setdefault(state, [])
        if any(one.preemptions >= left.preemptions and one.faults >= left.faults for one in before):
            return True
        before.append(left)
        return False


def few_deviations(
    run: Callable[[Choose], Run], state: Callable[[], Hashable], budget: Budget, seen: Seen | None = None
) -> Iterator[Run]:
    """Every run with at most so many deviations, those with fewer first; what was seen before is not gone into again.

    Runs with as many deviations come in an order without system, so that the first ones are of all kinds. Whoever takes
    them all has seen every order of events within the budget.

    Args:
        run: plays it.
        state: all there is in the run that is under way: what may come depends on nothing else.
        budget: the most that a run deviates.
        seen: takes the states that runs came to.
    """
    seen = Seen() if seen is None else seen
    chance = random.Random(0)
    level: list[tuple[Deviations, Budget]] = [((), budget)]
    while level:
        longer: list[tuple[Deviations, Budget]] = []
        for deviations, left in level:
            first = deviations[-1][0] + 1 if deviations else 0
            one = run(_unless_seen(following(deviations), first, partial(_covers, seen, state, left)))
            yield one
            for at in range(first, len(one.options)):
                longer += [
                    ((*deviations, (at, event.label)), left.after(event))
                    for event in one.options[at][1:]
                    if left.allows(event)
                ]
        chance.shuffle(longer)
        level = longer


def _covers(seen: Seen, state: Callable[[], Hashable], left: Budget) -> bool:
    return seen.covers(state(), left)


def _unless_seen(follow: Choose, first: int, is_seen: Callable[[], bool]) -> Choose:
    """Follow a schedule, and end after its last deviation where somebody was before with as much left to spend."""

    def choose(at: int, options: list[Event]) -> Event | None:
        if at >= first and is_seen():
            return None
        return follow(at, options)

    return choose


def at_random(run: Callable[[Choose], Run], seeds: Sequence[int], budget: Budget) -> Iterator[Run]:
    """One run per seed, each with a rate of deviations of its own."""
    for seed in seeds:
        yield run(_drawing(random.Random(seed), budget))


def _drawing(chance: random.Random, left: Budget) -> Choose:
    """Deviate now and then, each time by a kind of event first, or a kind that can seldom happen never would."""
    rate = chance.choice([0.03, 0.1, 0.3])

    def choose(_: int, options: list[Event]) -> Event:
        nonlocal left
        paid = [event for event in options[1:] if left.allows(event)]
        if not paid or chance.random() >= rate:
            return options[0]
        kind = chance.choice(sorted({event.kind for event in paid}))
        event = chance.choice([one for one in paid if one.kind == kind])
        left = left.after(event)
        return event

    return choose
