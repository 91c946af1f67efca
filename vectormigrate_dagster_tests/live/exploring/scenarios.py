"""Small migrations in which everything can go wrong that goes wrong in large ones: a key or two, a value or two."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from vectormigrate_dagster.live.journal import Bounds
from vectormigrate_dagster_tests.live.exploring.play import Scenario
from vectormigrate_dagster_tests.live.exploring.stage import Stage
from vectormigrate_dagster_tests.live.exploring.world import BOUNDS

STALE = replace(BOUNDS, stale={"source": 10.0, "target": 10.0})
STALE_SOURCE = replace(BOUNDS, stale={"source": 10.0, "target": 0.0})


def unloaded(*, bounds: Bounds = BOUNDS, keys: int = 1) -> Stage:
    """A source with a value or two, and an empty target."""
    return Stage(source=dict.fromkeys(range(1, keys + 1), 1), target={}, loaded=False, bounds=bounds)


def loaded(*, bounds: Bounds = BOUNDS) -> Stage:
    """A source with a value, and a target with the same."""
    return Stage(source={1: 1}, target={1: 1}, loaded=True, bounds=bounds)


def _backfill(stage: Stage) -> None:
    stage.writer("W", (1, 2))
    stage.backfill()
    stage.catch_up("C")


def _delete(stage: Stage) -> None:
    stage.writer("W", (1, None))
    stage.backfill()
    stage.catch_up("C")


def _insert_again(stage: Stage) -> None:
    stage.writer("W", (1, None), (1, 1))
    stage.backfill()
    stage.catch_up("C")


def _pages(stage: Stage) -> None:
    stage.writer("W", (1, 2), (2, None))
    stage.backfill(pages=2)
    stage.catch_up("C")
    stage.pruner()


def _two_workers(stage: Stage) -> None:
    stage.writer("W", (1, 2))
    stage.backfill("B1", crashes=False)
    stage.backfill("B2")
    stage.catch_up("C", steps=1)


def _overlapping(stage: Stage) -> None:
    stage.writer("W", (1, 2), (1, None), stalls=True)
    stage.catch_up("C")
    stage.catch_up("D")
    stage.pruner()


def _two_writers(stage: Stage) -> None:
    stage.writer("V", (1, 3))
    stage.writer("W", (1, 2))
    stage.catch_up("C")
    stage.coordinator("K")


def _two_coordinators(stage: Stage) -> None:
    stage.writer("W", (1, 2), (1, 3))
    stage.cutover("K")
    stage.cutover("L", crashes=False)


def _cutting_over(stage: Stage) -> None:
    stage.writer("W", (1, 2), (1, None), stalls=True)
    stage.catch_up("C")
    stage.cutover()


def _everything(stage: Stage) -> None:
    stage.writer("W", (1, 2), (1, None))
    stage.backfill()
    stage.catch_up("C", steps=1)
    stage.cutover()


def _there_and_back(stage: Stage) -> None:
    stage.writer("W", (1, 2), (1, None), (1, 3))
    stage.catch_up("C")
    stage.cutover("K", "run", "reverse")


def _write_while_loading(stage: Stage) -> None:
    stage.writer("W", (1, 2))
    stage.backfill()
    stage.catch_up("C", steps=1)


def _two_writes_while_loading(stage: Stage) -> None:
    stage.writer("V", (1, 3), crashes=False)
    _write_while_loading(stage)


def _write_and_two_runs(stage: Stage) -> None:
    stage.writer("W", (1, 2), crashes=False)
    stage.catch_up("C", steps=1)
    stage.catch_up("D", steps=1)


def _write_and_a_switch(stage: Stage) -> None:
    stage.writer("W", (1, 2))
    stage.coordinator("K")


def _write_and_the_end(stage: Stage) -> None:
    stage.switch()
    stage.writer("W", (1, 2))
    stage.cutover("K", "complete")


def _write_and_a_new_plan(stage: Stage) -> None:
    stage.writer("W", (1, None), crashes=False)
    stage.backfill("B1", crashes=False)
    stage.new_plan()


def _async_writer(stage: Stage) -> None:
    stage.async_writer("W", (1, 2), (1, None), stalls=True)
    stage.writer("V", (1, 3))
    stage.catch_up("C")
    stage.cutover()


def _completing(stage: Stage) -> None:
    stage.switch()
    stage.writer("W", (1, 2), (1, None), (1, 3))
    stage.catch_up("C")
    stage.cutover("K", "complete")


def _back_or_completing(stage: Stage) -> None:
    stage.switch()
    stage.writer("W", (1, 2), (1, 3))
    stage.catch_up("C")
    stage.cutover("K", "reverse")
    stage.cutover("L", "complete", crashes=False)


def _anew_while_loading(stage: Stage) -> None:
    stage.writer("W", (1, 2), (1, None))
    stage.backfill("B1")
    stage.new_plan()
    stage.catch_up("C")


def _anew_or_cutting_over(stage: Stage) -> None:
    stage.writer("W", (1, 2), (1, None))
    stage.catch_up("C", steps=1)
    stage.new_plan()
    stage.cutover()


def _anew_or_going_back(stage: Stage) -> None:
    stage.switch()
    stage.writer("W", (1, 2), (1, 3))
    stage.catch_up("C", steps=1)
    stage.cutover("K", "reverse")
    stage.new_plan()


def _anew_after_the_end(stage: Stage) -> None:
    stage.switch()
    stage.switch()
    stage.writer("W", (1, 2), (1, None))
    stage.catch_up("C")
    stage.cutover("K", "complete")
    stage.new_plan()


SCENARIOS = {
    one.name: one
    for one in (
        Scenario("update-while-loading", unloaded, _backfill),
        Scenario("delete-while-loading", unloaded, _delete),
        Scenario("insert-again-while-loading", partial(unloaded, bounds=STALE), _insert_again),
        Scenario("two-pages", partial(unloaded, keys=2), _pages),
        Scenario("two-workers-at-one-split", unloaded, _two_workers),
        Scenario("overlapping-runs", loaded, _overlapping),
        Scenario("stale-reads", partial(loaded, bounds=STALE), _overlapping),
        Scenario("switching", loaded, _two_writers),
        Scenario("two-coordinators", loaded, _two_coordinators),
        Scenario("cutting-over", loaded, _cutting_over),
        Scenario("cutting-over-with-stale-reads", partial(loaded, bounds=STALE), _cutting_over),
        Scenario("loading-and-cutting-over", unloaded, _everything),
        Scenario("there-and-back", loaded, _there_and_back),
        Scenario("there-and-back-with-stale-reads", partial(loaded, bounds=STALE), _there_and_back),
        Scenario("cutting-over-under-an-async-writer", loaded, _async_writer),
        Scenario("completing", loaded, _completing),
        Scenario("going-back-or-completing", loaded, _back_or_completing),
        Scenario("planned-anew-while-loading", unloaded, _anew_while_loading),
        Scenario("planned-anew-or-cutting-over", loaded, _anew_or_cutting_over),
        Scenario("planned-anew-or-going-back", loaded, _anew_or_going_back),
        Scenario("planned-anew-after-the-end", loaded, _anew_after_the_end),
    )
}

SMALL = {
    one.name: one
    for one in (
        Scenario("a-write-while-loading", unloaded, _write_while_loading),
        Scenario("a-write-and-two-runs", loaded, _write_and_two_runs),
        Scenario("a-write-and-a-switch", loaded, _write_and_a_switch),
        Scenario("a-write-and-a-new-plan", unloaded, _write_and_a_new_plan),
        Scenario("two-writes-while-loading", unloaded, _two_writes_while_loading),
        Scenario("a-write-and-the-end", loaded, _write_and_the_end),
    )
}
"""Small enough for every order of events with a few deviations from the usual one; the smaller ones first."""
