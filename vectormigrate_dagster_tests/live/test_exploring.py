"""No order of events breaks the live protocol, and each of its rules is needed.

Real writers, loads, catch-up runs and cutovers are played in many orders, with crashes, lost answers, late requests and
stale reads between any two of their steps (`exploring`). After every event invariants I1 to I6 hold, and at rest both
sides hold what was written last. With one rule taken out of the code, the counterexample that it prevents comes true.

`VECTORMIGRATE_SCHEDULES=5000` tries as many orders of each scenario as it says (`-k no_order`), half of them those with
the fewest deviations from the usual order, the others drawn.

`VECTORMIGRATE_DEVIATIONS=2+1` plays every order of the small scenarios with at most two preemptions and one fault, and
says how many they are (`-k exhausted --log-cli-level=INFO`). A preemption is that somebody else goes on, a request
lands late or time passes; a fault is a crash, a request or an answer that is lost or refused, or a stale read. Without
it four of them are played with one preemption.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Hashable
from itertools import chain, islice

import pytest

from vectormigrate_dagster.live.journal import held
from vectormigrate_dagster_tests.live.exploring.counterexamples import COUNTEREXAMPLES
from vectormigrate_dagster_tests.live.exploring.play import Player, Scenario, told
from vectormigrate_dagster_tests.live.exploring.scenarios import SCENARIOS, SMALL, loaded
from vectormigrate_dagster_tests.live.exploring.search import (
    Budget,
    Seen,
    at_random,
    few_deviations,
    following,
    parse,
)
from vectormigrate_dagster_tests.live.exploring.stage import Stage

SCHEDULES = int(os.environ.get("VECTORMIGRATE_SCHEDULES", "8"))
DEVIATIONS = os.environ.get("VECTORMIGRATE_DEVIATIONS")
EVERY = Budget(*map(int, (DEVIATIONS or "1+0").split("+")))
FEW = Budget(preemptions=2, faults=1)
MANY = Budget(preemptions=8, faults=3)
ENDS_AT_TARGET = {
    "switching",
    "two-coordinators",
    "cutting-over",
    "cutting-over-with-stale-reads",
    "loading-and-cutting-over",
    "cutting-over-under-an-async-writer",
    "completing",
    "planned-anew-or-cutting-over",
}

_LOG = logging.getLogger(__name__)

every_scenario = pytest.mark.parametrize("name", SCENARIOS)
every_small_scenario = pytest.mark.parametrize("name", SMALL if DEVIATIONS else [*SMALL][:4])
every_counterexample = pytest.mark.parametrize("name", COUNTEREXAMPLES)


@every_scenario
@pytest.mark.timeout(300 + SCHEDULES)
def test_no_order_of_events_breaks_the_protocol(name: str) -> None:
    player = Player(SCENARIOS[name])
    few = few_deviations(player.play, player.remembered, FEW)
    many = at_random(player.play, range(SCHEDULES // 2), MANY)

    for run in chain(islice(few, SCHEDULES // 2), many):
        assert run.violation is None, told(player.scenario, run)


@every_small_scenario
@pytest.mark.timeout(0 if DEVIATIONS else 300)
def test_all_orders_within_a_budget_are_exhausted(name: str) -> None:
    player, seen, count = Player(SMALL[name]), Seen(), 0

    for run in few_deviations(player.play, player.remembered, EVERY, seen):
        assert run.violation is None, told(player.scenario, run)
        count += 1

    _LOG.info("%s, %s: exhausted, %d schedules, %d states", name, EVERY, count, len(seen.states))
    assert count > len(player.stage.world.told)  # there was more than one way on at nearly every step


def test_a_run_that_is_cut_short_would_have_ended_as_another_one_does() -> None:
    """What a state is known by tells all that what comes depends on."""
    ends: list[set[Hashable]] = []
    for merged in (True, False):
        player = Player(SMALL["a-write-and-two-runs"])
        known = player.remembered if merged else object
        runs = few_deviations(player.play, known, Budget(preemptions=1, faults=0))
        ends.append({player.stage.end for run in runs if not run.cut_short})

    assert ends[0] == ends[1]


def test_exhausting_all_orders_finds_a_counterexample() -> None:
    player = COUNTEREXAMPLES["CE-6"].player(removed=True)

    runs = few_deviations(player.play, player.remembered, Budget(preemptions=1, faults=0))

    assert any(run.violation is not None for run in runs)


def test_what_was_switched_is_not_planned_anew() -> None:
    def cast(stage: Stage) -> None:
        stage.switch()
        stage.new_plan("B2")

    player = Player(Scenario("planned anew after the switch", loaded, cast))

    run = player.play(following(()))

    (planner,) = player.stage.world.actors
    assert run.violation is None
    assert planner.said.startswith("NotSo: 'live' was switched to its target")
    assert (player.stage.watch.primary, player.stage.generation) == ("target", 1)


def test_if_the_row_did_not_tell_its_plan_it_would_be_switched_by_one_that_was_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(held, "require_plan", lambda control, plan: None)
    player = Player(SCENARIOS["planned-anew-or-cutting-over"])

    runs = islice(few_deviations(player.play, player.remembered, FEW), 100)

    assert any("has switched by plan 1, though there is plan 2" in str(run.violation) for run in runs)


@every_scenario
def test_everybody_gets_where_he_wants_if_nothing_disturbs_him(name: str) -> None:
    player = Player(SCENARIOS[name])

    run = player.play(following(()))

    assert run.violation is None, told(player.scenario, run)
    assert player.stage.watch.primary == ("target" if name in ENDS_AT_TARGET else "source")
    assert all(actor.ended and not actor.said for actor in player.stage.world.actors), told(player.scenario, run)


@every_counterexample
def test_without_its_rule_a_counterexample_comes_true(name: str) -> None:
    """Only what is there at the end is looked at: it is data that is wrong, not just an invariant."""
    counterexample = COUNTEREXAMPLES[name]
    player = counterexample.player(removed=True)

    run = player.direct(counterexample.script)

    assert run.violation is not None, told(player.scenario, run, name=name)
    assert run.violation.startswith(counterexample.ends), told(player.scenario, run, name=name)
    assert player.play(following(parse(run.schedule))).violation == run.violation  # what it tells plays it again


@every_counterexample
def test_with_all_rules_the_same_order_is_harmless(name: str) -> None:
    counterexample = COUNTEREXAMPLES[name]
    player = counterexample.player(removed=False)

    run = player.direct(counterexample.script)

    assert run.violation is None, told(player.scenario, run)


def test_every_rule_that_was_shown_to_be_needed_has_a_control() -> None:
    assert {one.rule for one in COUNTEREXAMPLES.values()} == {*range(1, 7), *range(8, 12), 13, 15, 16}


@pytest.mark.parametrize("name", ["CE-2", "CE-3", "CE-4"])
def test_the_search_finds_a_counterexample_by_itself(name: str) -> None:
    player = COUNTEREXAMPLES[name].player(removed=True)
    player.invariants = True

    assert any(run.violation is not None for run in at_random(player.play, range(200), MANY))


@every_scenario
def test_the_same_schedule_is_the_same_run(name: str) -> None:
    player = Player(SCENARIOS[name])
    (drawn,) = at_random(player.play, [7], MANY)

    again = player.play(following(parse(drawn.schedule)))

    assert (again.told, again.violation) == (drawn.told, drawn.violation)
    assert again.deviations == drawn.deviations
