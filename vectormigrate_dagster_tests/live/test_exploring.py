"""No order of events breaks the live protocol, and each of its rules is needed.

Real writers, loads, catch-up runs and cutovers are played in many orders, with crashes, lost answers, late requests and
stale reads between any two of their steps (`exploring`). After every event invariants I1 to I6 hold, and at rest both
sides hold what was written last. With one rule taken out of the code, the counterexample that it prevents comes true.

`VECTORMIGRATE_SCHEDULES=5000 pytest vectormigrate_dagster_tests/live/test_exploring.py` tries as many orders of each
scenario as it says, half of them those with the fewest deviations from the usual order, the others drawn.
"""

from __future__ import annotations

import os
from itertools import chain, islice

import pytest

from vectormigrate_dagster_tests.live.exploring.counterexamples import COUNTEREXAMPLES
from vectormigrate_dagster_tests.live.exploring.play import Player, told
from vectormigrate_dagster_tests.live.exploring.scenarios import SCENARIOS
from vectormigrate_dagster_tests.live.exploring.search import Budget, at_random, few_deviations, following, parse

SCHEDULES = int(os.environ.get("VECTORMIGRATE_SCHEDULES", "20"))
FEW = Budget(preemptions=2, faults=1)
MANY = Budget(preemptions=8, faults=3)
ENDS_AT_TARGET = {
    "switching",
    "two-coordinators",
    "cutting-over",
    "cutting-over-with-stale-reads",
    "loading-and-cutting-over",
}

every_scenario = pytest.mark.parametrize("name", SCENARIOS)
every_counterexample = pytest.mark.parametrize("name", COUNTEREXAMPLES)


@every_scenario
@pytest.mark.timeout(300 + SCHEDULES)
def test_no_order_of_events_breaks_the_protocol(name: str) -> None:
    player = Player(SCENARIOS[name])
    few = few_deviations(player.play, player.state, FEW)
    many = at_random(player.play, range(SCHEDULES // 2), MANY)

    for run in chain(islice(few, SCHEDULES // 2), many):
        assert run.violation is None, told(player.scenario, run)


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
