"""The counterexamples of the live protocol's text, as scripts for the real code: one for each rule or more."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from vectormigrate_dagster.live.journal import Bounds
from vectormigrate_dagster_tests.live.exploring.directed import Script
from vectormigrate_dagster_tests.live.exploring.play import Player, Scenario, nothing_removed
from vectormigrate_dagster_tests.live.exploring.removed import REMOVED
from vectormigrate_dagster_tests.live.exploring.scenarios import STALE_SOURCE, loaded, unloaded
from vectormigrate_dagster_tests.live.exploring.stage import Stage
from vectormigrate_dagster_tests.live.exploring.world import BOUNDS

Write = tuple[int, int | None]
_DIFFERENT = "source 1="
_GONE = "source nothing, target 1=1"
_LOST = "both sides 1="


@dataclass(frozen=True)
class Counterexample:
    """A schedule that ends badly without one rule.

    Args:
        name: in the live protocol's text; the rule is in `removed.REMOVED` under this name.
        rule: its number.
        scenario: who does what.
        script: in which order.
        ends: how the violation begins.
    """

    name: str
    rule: int
    scenario: Scenario
    script: Script
    ends: str = _DIFFERENT

    def player(self, *, removed: bool) -> Player:
        """Whoever plays it with all rules, checking every invariant, or without its own, looking at the end alone."""
        removal = contextmanager(REMOVED[self.name]) if removed else nothing_removed
        return Player(self.scenario, removal, invariants=not removed)


def _loading(*writes: Write, bounds: Bounds = BOUNDS) -> Scenario:
    def cast(stage: Stage) -> None:
        stage.writer("W", *writes)
        stage.backfill()
        stage.catch_up("C")

    return Scenario("loading", partial(unloaded, bounds=bounds), cast)


def _syncing(*writes: Write, then: tuple[Write, ...] = (), bounds: Bounds = BOUNDS, stalls: bool = False) -> Scenario:
    def cast(stage: Stage) -> None:
        stage.writer("W", *writes, stalls=stalls)
        if then:
            stage.writer("V", *then)
        stage.catch_up("C")
        stage.catch_up("D")

    return Scenario("syncing", partial(loaded, bounds=bounds), cast)


def _switching(*writes: Write, then: tuple[Write, ...] = ()) -> Scenario:
    def cast(stage: Stage) -> None:
        stage.writer("W", *writes)
        if then:
            stage.writer("V", *then)
        stage.catch_up("C")
        stage.coordinator("K")
        stage.coordinator("L")

    return Scenario("switching", loaded, cast)


def _two_writers(stage: Stage) -> None:
    stage.writer("W", (1, 2))
    stage.writer("V", (2, 2))
    stage.backfill()
    stage.catch_up("C")


COUNTEREXAMPLES = {
    one.name: one
    for one in (
        Counterexample(
            "CE-1", 5, _loading((1, 2), (1, 3)), Script("B>send B land:B W>send W land:W B>send B W. C. land:B B.")
        ),
        Counterexample(
            "CE-2", 5, _syncing((1, 2), (1, 3)), Script("W>admit W W>send W land:W W>send C>send C W. D. land:C C.")
        ),
        Counterexample(
            "CE-3",
            6,
            _syncing((1, 2), (1, 3)),
            Script("W>admit W W>send W land:W W W C>send C crash:C W. tick:31 D. land:C"),
        ),
        Counterexample(
            "CE-3 repeated", 6, _syncing((1, 2), then=((1, 3),)), Script("W. C>send C fail:C C. V. D. land:C")
        ),
        Counterexample("CE-4", 11, _loading((1, None)), Script("W>send B>send W. C. B land:B crash:B B'."), _GONE),
        Counterexample("CE-4b", 13, _loading((1, 2)), Script("B>send B crash:B W. B'. C. land:B")),
        Counterexample("CE-4b repeated", 13, _loading((1, 2)), Script("B>send B fail:B B. W. C. land:B")),
        Counterexample("CE-5", 3, _syncing((1, 2)), Script("W>send W crash:W tick:31 C. land:W")),
        Counterexample("CE-5 stalled", 2, _syncing((1, 2), stalls=True), Script("W>admit W tick:161 C. W.")),
        Counterexample("CE-6", 1, _switching((1, 2)), Script("W>admit K. W."), _LOST),
        Counterexample("CE-6 seen", 1, _switching((1, 2)), Script("W>admit K. W."), _LOST),
        Counterexample(
            "CE-7", 4, Scenario("two writers", unloaded, _two_writers), Script("W>admit V. C B>send W. C. B.")
        ),
        Counterexample("CE-8", 8, _syncing((1, 2), bounds=STALE_SOURCE), Script("W. C>source stale:C C.")),
        Counterexample(
            "CE-8b",
            10,
            _loading((1, 2), bounds=STALE_SOURCE),
            Script("W. B>source stale:B B>send B tick:11 C. land:B B."),
        ),
        Counterexample(
            "CE-9", 15, _switching((1, 2), then=((1, 3),)), Script("W. C>send C fail:C C. K. V. land:C"), _LOST
        ),
        Counterexample("CE-10", 9, _switching((1, 2)), Script("K. W. C."), _LOST),
        Counterexample("CE-11", 10, _loading((1, 2)), Script("W>send W crash:W B>source B land:W tick:161 C. B.")),
        Counterexample("CE-12", 16, _switching((1, 2)), Script("K>switch tick:161 tick:161 W. K."), _LOST),
        Counterexample("CE-13", 15, _switching((1, 2)), Script("K>direction crash:K W. C."), _LOST),
    )
}
