"""Hazards H-3 to H-6: what other tools lose while the application writes is not lost here.

Real code in a fixed order of events (`exploring`): the order in which the record would be lost, by its own schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from vectormigrate_dagster.live.journal import Key
from vectormigrate_dagster.live.polling import Poll, Watermark
from vectormigrate_dagster.model import Batch, IdColumn, IdKind
from vectormigrate_dagster_tests.live.exploring.directed import Script
from vectormigrate_dagster_tests.live.exploring.play import Player, Scenario, told
from vectormigrate_dagster_tests.live.exploring.scenarios import loaded, unloaded
from vectormigrate_dagster_tests.live.exploring.search import Run
from vectormigrate_dagster_tests.live.exploring.stage import Stage
from vectormigrate_dagster_tests.live.exploring.world import START

FIELD = "updated_at"


def play(stage: Callable[[], Stage], script: str, cast: Callable[[Stage], None]) -> tuple[Run, Stage]:
    """Play a script to its end; both sides are compared there with what was written last."""
    player = Player(Scenario("a hazard", stage, cast))
    run = player.direct(Script(script))
    assert run.violation is None, told(player.scenario, run)
    return run, player.stage


def at(run: Run, what: str) -> int:
    """When something happened."""
    (found,) = [number for number, line in enumerate(run.told) if line.endswith(what)]
    return found


def loading(*writes: tuple[int, int | None]) -> Callable[[Stage], None]:
    """An application writes while the only split is loaded, and catch-up runs."""

    def cast(stage: Stage) -> None:
        stage.writer("W", *writes)
        stage.backfill()
        stage.catch_up("C")

    return cast


def batch_of(**values: object) -> Batch:
    """Records 0, 1, ... that hold these values; None is a record without the field."""
    payloads = [{} if value is None else {FIELD: value} for value in values.values()]
    return Batch(IdColumn.of(IdKind.U64, range(len(values))), None, {}, payloads)


def numbers(keys: list[list[Key]]) -> list[int]:
    return [int(key.text) for some in keys for key in some]


########
# H-3
########


def test_h3_a_page_that_was_read_before_a_write_does_not_overwrite_it() -> None:
    run, stage = play(unloaded, "B>send W. C. B.", loading((1, 2)))

    assert at(run, "1=2 of C lands at the target") < at(run, "1=1 of B lands at the target")
    assert stage.target.values == {1: 2}


def test_h3_a_page_that_lands_long_after_its_worker_died_does_not_overwrite_a_write() -> None:
    run, stage = play(unloaded, "B>send B crash:B W. B'. C land:B C.", loading((1, 2)))

    assert at(run, "1=2 of B' lands at the target") < at(run, "1=1 of B lands at the target")
    assert stage.target.values == {1: 2}


########
# H-4
########


def test_h4_a_record_that_was_deleted_after_its_page_was_read_does_not_come_back() -> None:
    run, stage = play(unloaded, "B>send W. B. C.", loading((1, None)))

    assert at(run, "no 1 of W lands at the source") < at(run, "1=1 of B lands at the target")
    assert stage.target.values == {}


def test_h4_a_record_whose_deletion_was_carried_over_before_its_page_landed_does_not_come_back() -> None:
    run, stage = play(unloaded, "B>send W. C. B.", loading((1, None)))

    assert at(run, "C ends") < at(run, "1=1 of B lands at the target")
    assert stage.target.values == {}


def test_h4_a_record_that_was_deleted_and_inserted_again_is_there() -> None:
    _, stage = play(unloaded, "B>send W. C. B.", loading((1, None), (1, 1)))

    assert stage.target.values == {1: 1}


########
# H-5
########


def test_h5_writes_at_the_very_moment_of_the_boundary_are_carried_over() -> None:
    """No time passes from the first event to the last, so nothing can tell before from after by a time."""
    run, stage = play(unloaded, "W>send B>send W. B. C.", loading((1, 2)))

    times = {at for (at,) in stage.database.rows("select at from vectormigrate_entries")}
    assert times == {START}
    assert at(run, "1=2 of W lands at the source") < at(run, "1=1 of B lands at the target")
    assert stage.target.values == {1: 2}


def test_h5_a_write_between_the_last_catch_up_and_the_switch_is_not_lost() -> None:
    def cast(stage: Stage) -> None:
        stage.writer("W", (1, 2))
        stage.cutover()

    run, stage = play(loaded, "K>switch W. K.", cast)

    assert at(run, "journal: switch") < at(run, "1=2 of W lands at the target")
    assert (stage.source.values, stage.target.values) == ({1: 2}, {1: 2})


def test_h5_a_write_that_was_admitted_before_the_freeze_is_carried_over_before_the_switch() -> None:
    def cast(stage: Stage) -> None:
        stage.writer("W", (1, 2))
        stage.cutover()

    run, _ = play(loaded, "K>freeze W>send K W. K.", cast)

    assert at(run, "journal: freeze") < at(run, "1=2 of W lands at the source")
    assert at(run, "1=2 of K lands at the target") < at(run, "journal: switch")


@pytest.mark.parametrize("hours", [-20, 20])
def test_h5_the_clock_of_an_applications_host_does_not_matter(hours: int) -> None:
    def cast(stage: Stage) -> None:
        stage.writer("W", (1, 2))
        stage.writer("V", (1, 3))
        skewed = stage.world.actor("W")
        assert skewed is not None
        skewed.skew = 3600.0 * hours
        stage.catch_up("C")

    _, stage = play(loaded, "W. V. C.", cast)

    assert stage.target.values == {1: 3}


def test_h5_polling_finds_a_record_with_the_time_of_the_last_one_seen() -> None:
    first = Poll(FIELD, None, overlap=0.0)
    assert list(first.changed([batch_of(a=10, b=11)])) == []
    second = Poll(FIELD, first.watermark(), overlap=0.0)

    found = list(second.changed([batch_of(a=10, b=11, c=11)]))

    assert numbers(found) == [1, 2]


def test_h5_polling_finds_what_was_written_behind_its_back() -> None:
    """Record 0 is written with 12 when the scan has passed it and goes on to meet 13."""
    after = Watermark(unit="number", floor=11, high=11)
    missed = Poll(FIELD, after, overlap=0.0)
    list(missed.changed([batch_of(a=10, b=13)]))

    again = Poll(FIELD, missed.watermark(), overlap=0.0)

    assert numbers(list(again.changed([batch_of(a=12, b=13)]))) == [0, 1]


########
# H-6
########


def test_h6_records_need_no_field_that_tells_their_age() -> None:
    """The records of the stage hold one value and nothing else, and its writes put the old value back."""
    run, stage = play(partial(unloaded, keys=2), "W. B. C.", loading((1, 2), (2, None), (1, 1)))

    assert stage.target.values == {1: 1}
    assert all(set(batch.payloads[0]) == {"value"} for batch in stage.target.store.records[None].values())
    assert run.violation is None


def test_h6_polling_says_how_many_records_it_can_never_find() -> None:
    poll = Poll(FIELD, Watermark(unit="number", floor=1, high=5), overlap=0.0)

    found = list(poll.changed([batch_of(a=7, b=None, c="yesterday")]))

    assert numbers(found) == [0]
    assert poll.without == 2
