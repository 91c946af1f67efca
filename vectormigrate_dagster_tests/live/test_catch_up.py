"""Checks the contract of `CatchUp`: what the journal names becomes equal on the other side, only that is consumed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from vectormigrate_dagster.errors import PlanOutdated, Unavailable
from vectormigrate_dagster.live.journal import LANES, Journal
from vectormigrate_dagster.mapping.records import Mapped, RecordMapper
from vectormigrate_dagster.model import Batch, IdKind
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster.transfer.resync import Outcome
from vectormigrate_dagster.transfer.sent import SentLog, SentRanges
from vectormigrate_dagster_tests.live.support import BOUNDS, Live, record
from vectormigrate_dagster_tests.memory import Fault


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return Live(tmp_path)


def test_a_step_carries_over_inserts_updates_and_deletes(live: Live) -> None:
    for key in (1, 2, 3):
        live.source.put(record(key, 1))
        live.target.put(record(key, 1))
    live.write(record(1, 2))
    live.write(record(4, 1))
    live.remove(2)
    step = live.catch_up().step()
    assert (step.keys, step.consumed, step.leased) == (3, 3, LANES)
    assert step.outcomes == Counter({Outcome.REPAIRED: 3})
    assert step.listed == ()
    live.assert_equal()
    assert live.target.ids() == {1, 3, 4}


def test_nothing_to_do_writes_nothing_and_gives_the_lease_back(live: Live) -> None:
    step = live.catch_up().step()
    assert (step.keys, step.consumed) == (0, 0)
    assert live.target.calls == {}
    assert live.journal.busy_seconds() == 0


def test_an_open_intent_waits(live: Live) -> None:
    admission = live.admit(1)
    assert live.catch_up().step().keys == 0
    live.source.put(record(1, 1))
    live.journal.applied(admission)
    assert live.catch_up().step().consumed == 1
    live.assert_equal()


def test_after_the_switch_the_target_is_copied_to_the_source(live: Live) -> None:
    live.write(record(1, 1))
    live.write(record(2, 1))
    live.catch_up().step()
    assert live.opened == 0
    live.switch()
    live.write(record(1, 5))
    live.write(record(3, 5))
    live.remove(2)
    step = live.catch_up().step()
    assert step.control.primary == "target"
    assert step.outcomes == Counter({Outcome.REPAIRED: 3})
    live.assert_equal()
    assert live.values(live.source) == {1: 5, 3: 5}
    assert live.opened == 1


def test_an_unknown_outcome_keeps_the_lease_and_consumes_what_was_acknowledged(live: Live) -> None:
    live.write(record(1, 1))
    live.target.faults.append(Fault("upsert", Unavailable("timeout"), after_commit=True))
    step = live.catch_up().step()
    assert step.consumed == 1
    live.assert_equal()
    assert live.journal.busy_seconds() > 0
    live.write(record(1, 2))
    assert live.catch_up().step().leased == 0


def test_a_failure_consumes_nothing(live: Live) -> None:
    live.write(record(1, 1))
    live.target.faults.append(Fault("upsert", Unavailable("down"), times=None))
    with pytest.raises(Unavailable):
        live.catch_up().step()
    assert live.journal.lag().records == 1
    assert live.journal.busy_seconds() > 0


def test_ce3_a_request_of_a_crashed_catch_up_that_lands_late_is_overwritten(live: Live) -> None:
    live.write(record(1, 1))

    def crash() -> BaseException:
        return KeyboardInterrupt()

    live.target.faults.append(Fault("upsert", crash))  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        live.catch_up().step()
    live.write(record(1, 2))
    assert live.catch_up().step().leased == 0  # or the value 2 would be there before the late 1
    live.target.put(record(1, 1))
    live.later()
    live.catch_up().step()
    live.assert_equal()


def test_ce5_an_intent_that_nobody_closed_waits_until_its_write_can_no_longer_happen(live: Live) -> None:
    live.source.put(record(1, 1))
    live.admit(1)
    assert live.catch_up().step().keys == 0
    live.source.put(record(1, 2))
    live.later()
    assert live.catch_up().step().consumed == 1
    live.assert_equal()


def test_ce8_a_change_waits_until_every_read_shows_it(tmp_path: Path) -> None:
    live = Live(tmp_path, bounds=replace(BOUNDS, stale={"source": 10.0, "target": 0.0}))
    live.write(record(1, 1))
    assert live.catch_up().step().consumed == 0
    live.later(10.0)
    assert live.catch_up().step().consumed == 1
    live.assert_equal()


def test_ce10_the_direction_is_that_of_the_lease(live: Live) -> None:
    live.write(record(1, 1))
    begun_before = live.catch_up()
    live.switch()
    live.write(record(1, 2))
    assert begun_before.step().control.primary == "target"
    assert live.values(live.source) == live.values(live.target) == {1: 2}


def test_an_entry_that_appears_during_a_step_stays(live: Live) -> None:
    live.write(record(1, 1))
    live.target.on_call = lambda method: live.journal.note([live.key(1)], kind="touch") if method == "upsert" else None
    step = live.catch_up().step()
    assert step.consumed == 1
    assert live.journal.lag().records == 1


def test_a_lease_that_is_about_to_end_leaves_the_rest_to_the_next_step(live: Live) -> None:
    for key in range(4):
        live.write(record(key, 1))
    step = live.catch_up(lease_seconds=-1.0).step()
    assert (step.consumed, live.target.written) == (0, [])
    assert live.journal.busy_seconds() == 0
    assert live.catch_up().step().consumed == 4


def test_a_plan_that_is_replaced_during_a_step_ends_it_and_lists_no_record(live: Live) -> None:
    journal = Journal(live.database, "m")

    def plan_anew(method: str) -> None:
        live.target.on_call = lambda _: None
        journal.replan(id_kinds=[IdKind.U64], bounds=live.bounds, plan="another", by="test", reason="planned anew")

    journal.replan(id_kinds=[IdKind.U64], bounds=live.bounds, plan="one", by="test", reason="planned")
    live.journal = Journal(live.database, "m", "one")
    live.write(record(1, 1))
    catch_up = live.catch_up(lease_seconds=-1.0)  # one that is to be extended at once
    live.target.on_call = plan_anew
    step = catch_up.step()
    assert (step.consumed, step.listed, live.target.written) == (0, (), [])
    with pytest.raises(PlanOutdated, match="goes by another plan"):
        catch_up.step()


def test_a_step_is_bounded_and_drain_is_not(live: Live) -> None:
    for key in range(10):
        live.write(record(key, 1))
    catch_up = live.catch_up(keys_per_step=4)
    assert catch_up.step().consumed == 4
    drained = catch_up.drain(float("inf"))
    assert (drained.consumed, drained.lag.records) == (6, 0)
    live.assert_equal()


def test_drain_gives_up_at_its_deadline(live: Live) -> None:
    live.admit(1)
    drained = live.catch_up().drain(0.0)
    assert (drained.lag.records, drained.lag.open) == (1, 1)


def test_several_catch_ups_share_the_lanes(live: Live) -> None:
    for key in range(50):
        live.write(record(key, 1))
    half = LANES // 2
    first = live.catch_up(lanes=range(half)).step()
    second = live.catch_up(lanes=range(half, LANES)).step()
    assert first.consumed + second.consumed == 50
    assert min(first.consumed, second.consumed) > 0
    live.assert_equal()


########## What cannot be carried over ##########


def test_a_refused_record_is_listed_absent_and_keeps_nobody_waiting(live: Live) -> None:
    for key in (1, 2, 3):
        live.write(record(key, 1))
    live.catch_up().step()
    live.target.refuse = lambda key: "too long" if key == 2 else None
    for key in (1, 2, 3):
        live.write(record(key, 2))
    step = live.catch_up().step()
    assert step.consumed == 3
    assert [(one.key.text, one.outcome, one.reason) for one in step.listed] == [("2", Outcome.REFUSED, "too long")]
    assert live.values(live.target) == {1: 2, 3: 2}, "a form that the source has no more is not to stay"


class Odd(RecordMapper):
    """A mapping that has never seen vectors of some records."""

    def map(self, batch: Batch) -> Mapped:
        if any(payload["value"] == 13 for payload in batch.payloads):
            raise PlanOutdated("the source has a vector 'new' that the plan does not know; plan again")
        return super().map(batch)


def test_a_record_that_a_whole_call_fails_for_is_found_and_listed(live: Live) -> None:
    for key, value in ((1, 1), (2, 13), (3, 1), (4, 1)):
        live.write(record(key, value))
    catch_up = live.catch_up()
    catch_up._sides.mapper = Odd(live.mapping)
    step = catch_up.step()
    assert step.consumed == 4
    assert [(one.key.text, one.outcome) for one in step.listed] == [("2", Outcome.REFUSED)]
    assert "vector 'new'" in step.listed[0].reason
    assert live.values(live.target) == {1: 1, 3: 1, 4: 1}


def test_a_batch_that_the_target_refuses_as_a_whole_is_narrowed_down(live: Live) -> None:
    live.target.invalid = lambda key: key == 2
    for key in (1, 2, 3):
        live.write(record(key, 1))
    step = live.catch_up().step()
    assert [one.key.text for one in step.listed] == ["2"]
    assert live.values(live.target) == {1: 1, 3: 1}
    assert live.journal.busy_seconds() == 0, "a refusal is an answer"


def test_a_record_that_does_not_stay_as_it_was_written_is_tried_again_then_listed(live: Live) -> None:
    live.target.normalise = {""}
    live.write(record(1, 3))
    step = live.catch_up().step()
    assert step.consumed == 1
    assert [one.outcome for one in step.listed] == [Outcome.STILL_WRONG]
    assert live.target.calls["upsert"] == 3


def test_a_stale_look_at_what_was_written_is_repeated(live: Live) -> None:
    live.write(record(1, 3))
    looks = []

    def stale(method: str) -> None:
        if method == "fetch":
            looks.append(method)
            live.target.store.records.setdefault(None, {}).pop(1, None) if len(looks) == 2 else None

    live.target.on_call = stale
    step = live.catch_up().step()
    assert step.outcomes == Counter({Outcome.REPAIRED: 1})
    live.assert_equal()


########## Whose records ##########


def test_what_is_not_ours_is_left_alone_and_listed(tmp_path: Path) -> None:
    live = Live(tmp_path, sides_options={"ownership": OwnershipLog(tmp_path / "g0001-changes")})
    live.target.put(record(1, 99))
    live.write(record(1, 1))
    live.write(record(2, 1))
    live.remove(3)
    live.target.put(record(3, 99))
    step = live.catch_up().step()
    assert {one.key.text: one.outcome for one in step.listed} == dict.fromkeys("13", Outcome.LEFT_ALONE)
    assert live.values(live.target) == {1: 99, 2: 1, 3: 99}


def test_somebody_elses_record_stays_where_the_target_refuses_ours(tmp_path: Path) -> None:
    options = {"ownership": OwnershipLog(tmp_path / "g0001-changes"), "on_conflict": "overwrite"}
    live = Live(tmp_path, sides_options=options)
    live.target.put(record(1, 99))
    live.target.refuse = lambda key: "too long"
    live.write(record(1, 1))
    (listed,) = live.catch_up().step().listed
    assert listed.outcome is Outcome.REFUSED
    assert live.values(live.target) == {1: 99}


def test_it_stays_though_it_was_noted_as_overwritten_before(tmp_path: Path) -> None:
    log = OwnershipLog(tmp_path / "g0001-changes")
    live = Live(tmp_path, sides_options={"ownership": log, "on_conflict": "overwrite"})
    live.target.put(record(1, 99))
    live.write(record(1, 1))
    live.target.faults.append(Fault("upsert", Unavailable("it is down"), times=None))
    with pytest.raises(Unavailable):
        live.catch_up().step()
    assert log.overwritten == 1
    live.target.faults.clear()
    live.target.refuse = lambda key: "too long"
    live.later()
    assert live.catch_up().step().outcomes == Counter({Outcome.REFUSED: 1})
    assert (live.values(live.target), log.overwritten) == ({1: 99}, 0)


def test_what_was_carried_over_is_noted_for_a_rollback(tmp_path: Path) -> None:
    log = OwnershipLog(tmp_path / "g0001-changes")
    live = Live(tmp_path, sides_options={"ownership": log, "on_conflict": "overwrite"})
    live.target.put(record(1, 99))
    live.write(record(1, 1))
    live.write(record(2, 1))
    live.catch_up().step()
    live.assert_equal()
    again = OwnershipLog(tmp_path / "g0001-changes")
    assert [one.payloads for one in again.before_images()] == [[{"value": 99}]]
    assert [one.ids.to_pylist() for one in again.absent()] == [[2]]


def test_a_record_that_a_load_has_sent_since_counts_as_ours(tmp_path: Path) -> None:
    path = tmp_path / "g0001-00000.jsonl"
    sent = SentLog(path)
    sent.record(record(7, 0).ids, None)
    live = Live(tmp_path, sides_options={"sent": sent, "sent_before": lambda: SentRanges([path])})
    step_sides = live.catch_up()
    live.remove(1)

    def load(method: str) -> None:
        if method == "fetch" and 1 not in live.target.ids():
            live.target.on_call = lambda method: None
            sent.record(record(1, 0).ids, None)
            live.target.put(record(1, 1))

    live.target.on_call = load
    assert step_sides.step().outcomes == Counter({Outcome.REPAIRED: 1})
    assert live.values(live.target) == {}
    live.write(record(2, 1))
    live.catch_up().step()
    assert SentRanges([path]).contains(record(2, 0).ids, None).all(), "a rollback takes it back"


def test_a_record_that_is_named_in_two_ways_is_re_synced_once_and_by_one_process(live: Live) -> None:
    """Two leases on one record would be two re-syncs of it at a time (rule 5)."""
    live.source.put(record(1, 1))
    spellings = [live.key(1), live.key(1, scope="default")]
    live.journal.note(spellings, kind="change")
    (lane,) = {key.lane for key in spellings}
    step = live.catch_up(lanes=[lane]).step()
    assert (step.keys, step.consumed) == (1, 2)
    assert live.target.calls["upsert"] == 1
    live.assert_equal()
