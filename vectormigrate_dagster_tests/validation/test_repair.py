"""Contract of repair: exactly what is listed is rewritten; each record ends in one way; what is not right stays listed.

Databases are in memory; the list is made here, by looking at both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.databases import Fetched
from vectormigrate_dagster.errors import Stopped, Throttled
from vectormigrate_dagster.model import Batch, Id, IdColumn, IdKind
from vectormigrate_dagster.model.compare import compare
from vectormigrate_dagster.transfer.ownership import OwnershipLog
from vectormigrate_dagster.transfer.rate import RateLimiter
from vectormigrate_dagster.transfer.resync import Outcome
from vectormigrate_dagster.transfer.sent import SentLog, SentRanges
from vectormigrate_dagster.transfer.throttle import Interrupt
from vectormigrate_dagster.validation import repair as repairing
from vectormigrate_dagster.validation.mismatches import Mismatch, MismatchKind, MismatchWriter
from vectormigrate_dagster.validation.repair import MOST_GENERATIONS
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.memory import Fault, MemoryDatabase
from vectormigrate_dagster_tests.validation.repair_case import (
    EXTRA,
    Case,
    counts,
    digest,
    look,
    spoil,
)
from vectormigrate_dagster_tests.validation.support import bump, change_payload, change_vector, copies


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path, *copies())


########## What is wrong becomes right ##########


def test_missing_extra_and_different_records_are_repaired_and_nothing_else_is_written(case: Case) -> None:
    spoil(case.target)
    case.listed()
    report = case.repaired()
    assert (report.listed, report.generations, report.unsettled) == (5, 1, 0)
    assert counts(report) == {"repaired": 5}
    assert case.same()
    assert sorted(case.target.written) == [7, 20, 90, 150]
    assert not case.rest.exists()


def test_what_is_not_listed_is_not_touched(case: Case) -> None:
    change_vector(case.target, 20, bump)
    case.listed()
    change_vector(case.target, 21, bump)
    assert counts(case.repaired()) == {"repaired": 1}
    assert case.target.written == [20]
    assert [one.id for one in look(case.source, case.target)] == ["21"]


def test_a_record_is_counted_once_however_much_of_it_differs(case: Case) -> None:
    change_vector(case.target, 20, bump)
    (found,) = case.listed()
    case.listed(*(replace(found, where=f"field '{number}'") for number in range(5000)))
    report = case.repaired()
    assert (report.listed, counts(report)) == (1, {"repaired": 1})


def test_a_record_that_stands_under_another_id_is_put_back_under_its_own(case: Case) -> None:
    """Both the missing record and the extra one name the same record of the source."""
    fetch, asked = case.source.fetch, list[Id]()

    def repeating(ids: IdColumn, scope: str | None = None) -> Fetched:
        asked.extend(ids.to_pylist())
        return fetch(ids, scope)

    case.source.fetch = repeating  # type: ignore[method-assign]
    case.target.put(replace(case.target.get(7), ids=IdColumn.of(IdKind.U64, [70])))
    case.source.store.records[None].pop(70)
    case.target.delete(IdColumn.of(IdKind.U64, [7]))
    missing, extra = look(case.source, case.target)
    named = replace(extra, source_id="7", source_id_kind="u64")
    with MismatchWriter(case.listing) as writer:
        writer.add([missing, named])
    assert counts(case.repaired()) == {"repaired": 2}
    assert case.same()
    assert asked == [7]  # some databases give a record as often as they are asked for it


def test_an_empty_list_is_repaired_in_no_time(case: Case) -> None:
    case.listed()
    report = case.repaired()
    assert (report.listed, report.outcomes, report.unsettled) == (0, {}, 0)
    assert case.target.calls["upsert"] == 0


def test_an_extra_record_that_the_source_has_by_now_is_made_equal(case: Case) -> None:
    case.target.put(make_batch([5000]))
    case.listed()
    case.source.put(make_batch([5000], seed=9))
    assert counts(case.repaired()) == {"repaired": 1}
    assert case.same()


########## What needs no repair, or none that we may do ##########


def test_what_was_mended_meanwhile_is_already_right(case: Case) -> None:
    change_vector(case.target, 20, bump)
    case.listed()
    case.target.put(case.source.get(20))
    assert counts(case.repaired()) == {"already_right": 1}
    assert case.target.calls["upsert"] == 0


def test_what_is_on_neither_side_is_gone(case: Case) -> None:
    case.target.delete(IdColumn.of(IdKind.U64, [7]))
    case.target.put(make_batch([5000]))
    case.listed()
    case.source.store.records[None].pop(7)
    case.target.store.records[None].pop(5000)
    assert counts(case.repaired()) == {"gone": 2}


def test_a_record_that_the_source_deleted_is_deleted(case: Case) -> None:
    change_vector(case.target, 20, bump)
    case.listed()
    case.source.store.records[None].pop(20)
    assert counts(case.repaired()) == {"repaired": 1}
    assert 20 not in case.target.ids()


def test_what_the_source_changed_since_is_written_as_it_is_now(case: Case) -> None:
    change_vector(case.target, 20, bump)
    case.listed()
    change_payload(case.source, 20, n="newer")
    assert counts(case.repaired()) == {"repaired": 1}
    assert case.target.get(20).payloads[0]["n"] == "newer"


def test_what_changed_on_both_sides_is_reported_and_not_guessed_not_even_by_the_next_repair(case: Case) -> None:
    change_vector(case.target, 20, bump)
    case.listed()
    change_payload(case.source, 20, n="newer")
    change_payload(case.target, 20, n="somebody's")
    for listed in (case.listing, case.rest):
        report = case.repaired(listed)
        assert counts(report) == {"changed_on_both_sides": 1}
        assert (report.unsettled, report.left[0].id) == (1, "20")
        assert "both changed" in report.left[0].reason
        assert case.target.get(20).payloads[0]["n"] == "somebody's"
        assert case.target.calls["upsert"] == 0


def test_what_the_mapping_refuses_is_listed_with_the_reason(case: Case) -> None:
    case.target.delete(IdColumn.of(IdKind.U64, [7]))
    case.listed()
    case.mapper.refuse = lambda key: "no place for it" if key == 7 else None
    assert counts(case.repaired()) == {"refused": 1}
    assert case.left() == [("7", "no place for it")]


def test_what_the_target_refuses_is_listed_with_the_reason(case: Case) -> None:
    case.target.delete(IdColumn.of(IdKind.U64, [7, 8]))
    case.listed()
    case.target.refuse = lambda key: "too long" if key == 7 else None
    assert counts(case.repaired()) == {"refused": 1, "repaired": 1}
    assert case.left() == [("7", "too long")]


def test_a_record_that_comes_twice_is_left_alone(case: Case) -> None:
    twice = Mismatch(kind=MismatchKind.DUPLICATE, id="7", id_kind="u64", where="record", expected="once", actual="2")
    case.listed(twice)
    assert counts(case.repaired()) == {"left_alone": 1}
    assert "more than once" in case.left()[0][1]


########## Records of somebody else (H-25) ##########


@pytest.fixture
def shared(case: Case) -> Case:
    """A target in which 0 to 9 and 9000 are somebody else's."""
    case.ownership = OwnershipLog(case.folder / "ownership")
    case.ownership.record_absent(IdColumn.of(IdKind.U64, [*range(10, 200), 5000]), None)
    case.target.put(make_batch([9000]))
    for key in range(10):
        change_payload(case.target, key, n="somebody's")
    return case


def test_h25_repair_leaves_alone_what_this_migration_did_not_write(shared: Case) -> None:
    before = {key: digest(shared.target, key) for key in (*range(10), 9000)}
    spoil(shared.target)
    shared.target.put(shared.source.get(7))
    change_payload(shared.target, 7, n="somebody's")
    listed = shared.listed()
    assert len(listed) == 10 + 1 + 4
    assert counts(shared.repaired()) == {"left_alone": 11, "repaired": 4}
    assert {key: digest(shared.target, key) for key in before} == before
    assert {one.id for one in look(shared.source, shared.target)} == {*map(str, range(10)), "9000"}
    assert all("cannot be told that this migration wrote" in reason for _, reason in shared.left())


def test_h25_a_missing_record_is_ours_before_it_is_written(shared: Case) -> None:
    assert shared.ownership is not None
    shared.target.delete(IdColumn.of(IdKind.U64, [3]))
    shared.listed()
    assert shared.repaired().count(Outcome.REPAIRED) == 1
    assert OwnershipLog(shared.ownership.folder).wrote(IdColumn.of(IdKind.U64, [3, 4]), None).tolist() == [True, False]


def test_h25_with_overwrite_theirs_is_kept_before_it_is_overwritten_and_never_deleted(shared: Case) -> None:
    assert shared.ownership is not None
    shared.on_conflict = "overwrite"
    theirs = shared.target.get(3)
    shared.listed()
    assert counts(shared.repaired()) == {"repaired": 10, "left_alone": 1}
    assert 9000 in shared.target.ids()
    (kept,) = (
        images.take([images.ids.to_pylist().index(3)])
        for images in shared.ownership.before_images()
        if 3 in images.ids.to_pylist()
    )
    assert compare(theirs, kept).equal


def test_h25_a_record_that_was_written_to_the_target_since_is_not_deleted(case: Case) -> None:
    case.target.put(make_batch([5000]))
    case.listed()
    change_payload(case.target, 5000, n="the application's")
    assert counts(case.repaired()) == {"left_alone": 1}
    assert 5000 in case.target.ids()


def test_h25_in_a_collection_of_ours_only_what_may_have_been_sent_is_deleted_and_what_is_sent_is_noted(
    case: Case,
) -> None:
    path = case.folder / "sent.jsonl"
    case.sent = SentLog(path)
    case.sent.record(IdColumn.of(IdKind.U64, range(200)), None)
    case.sent_before = SentRanges([path])
    case.target.put(make_batch([5000]))
    case.source.store.records[None].pop(150)
    case.source.put(make_batch([7000, 7002]))
    case.listed()
    assert counts(case.repaired()) == {"left_alone": 1, "repaired": 3}
    assert {one.id for one in look(case.source, case.target)} == {"5000"}
    noted = SentRanges([path]).contains(IdColumn.of(IdKind.U64, [5000, 7000, 7001, 7002]), None)
    assert noted.tolist() == [False, True, False, True]


def test_a_record_of_no_partition_is_left_alone(case: Case) -> None:
    case.target.put(make_batch([1], scope="another"))
    case.listed(
        Mismatch(
            kind=EXTRA, id="1", id_kind="u64", scope="another", where="record", expected="absent", actual="present"
        )
    )
    assert counts(case.repaired()) == {"left_alone": 1}
    assert case.target.count("another") == 1


########## Generations ##########


def losing(target: MemoryDatabase, loses: Callable[[int, Id], bool]) -> None:
    """Let a target lose writes that it acknowledged: told by how often a record was written before."""
    upsert, times = target.upsert, dict.fromkeys(range(10_000), 0)

    def lossy(batch: Batch) -> list[Any]:
        keep = []
        for row, key in enumerate(batch.ids.to_pylist()):
            assert isinstance(key, int)
            if not loses(times[key], key):
                keep.append(row)
            times[key] += 1
        return upsert(batch.take(keep)) if keep else []

    target.upsert = lossy  # type: ignore[method-assign]


def test_generations_go_on_until_nothing_is_left(case: Case) -> None:
    for key in range(20):
        change_vector(case.target, key, bump)
    case.listed()
    losing(case.target, lambda before, key: before < int(key) % 4)
    report = case.repaired()
    assert (counts(report), report.generations, report.progress) == ({"repaired": 20}, 4, True)
    assert case.same()


def test_a_generation_without_progress_is_the_last_and_says_so(case: Case) -> None:
    for key in range(20):
        change_vector(case.target, key, bump)
    case.listed()
    losing(case.target, lambda before, key: key == 13)
    report = case.repaired()
    assert counts(report) == {"repaired": 19, "still_wrong": 1}
    assert (report.generations, report.progress) == (2, False)
    ((id_, reason),) = case.left()
    assert (id_, "it was written; vector ''" in reason) == ("13", True)
    again = case.repaired(case.rest)
    assert (again.listed, counts(again)) == (1, {"still_wrong": 1})


def test_generations_are_bounded(case: Case) -> None:
    for key in range(40):
        change_vector(case.target, key, bump)
    case.listed()
    losing(case.target, lambda before, key: before < int(key))
    report = case.repaired()
    assert report.generations == MOST_GENERATIONS
    assert counts(report) == {"repaired": MOST_GENERATIONS, "still_wrong": 40 - MOST_GENERATIONS}
    assert len(case.left()) == 40 - MOST_GENERATIONS


########## How it works ##########


def test_few_records_wait_for_others_however_many_partitions_have_some(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repairing, "_MOST_WAITING", 4)
    fetch, asked = case.source.fetch, list[list[Id]]()

    def watching(ids: IdColumn, scope: str | None = None) -> Fetched:
        asked.append(ids.to_pylist())
        return fetch(ids, scope)

    case.source.fetch = watching  # type: ignore[method-assign]
    case.target.delete(IdColumn.of(IdKind.U64, [7, 90, 91, 160, 161, 162]))
    case.listed()
    assert counts(case.repaired()) == {"repaired": 6}
    assert asked == [[7], [90, 91], [160], [161, 162]]


def test_repair_keeps_to_the_rate(case: Case) -> None:
    for key in range(20):
        change_vector(case.target, key, bump)
    case.listed()
    taken: list[int] = []

    class Watched(RateLimiter):
        def acquire(self, records: int, **options: Any) -> None:
            taken.append(records)

    case.throttle = replace(case.throttle, rate=Watched())
    case.repaired()
    assert taken == [7, 7, 6]


def test_h28_a_transient_fault_is_survived(case: Case) -> None:
    spoil(case.target)
    case.listed()
    for database, method in (
        (case.source, "fetch"),
        (case.target, "fetch"),
        (case.target, "upsert"),
        (case.target, "delete"),
    ):
        database.faults.append(Fault(method, Throttled("slow", retry_after=0), at=database.calls[method]))
    assert counts(case.repaired()) == {"repaired": 5}


def test_a_repair_that_is_stopped_lists_nothing_and_can_be_run_again(case: Case) -> None:
    for key in range(20):
        change_vector(case.target, key, bump)
    case.listed()
    patient = case.throttle
    case.throttle = replace(patient, interrupt=Interrupt(lambda: case.target.calls["upsert"] >= 1))
    with pytest.raises(Stopped):
        case.repaired()
    assert [path.name for path in case.folder.iterdir()] == ["listed.parquet"]
    case.throttle = patient
    assert counts(case.repaired()) == {"already_right": 7, "repaired": 13}


def test_the_source_is_only_read(case: Case) -> None:
    spoil(case.target)
    case.listed()
    case.repaired()
    assert case.source.calls.keys() == {"fetch"}


CHANGE = st.sampled_from(["none", "delete", "vector", "payload", "add"])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    before=st.dictionaries(st.integers(0, 30), CHANGE, max_size=12),
    source_since=st.dictionaries(st.integers(0, 30), CHANGE, max_size=6),
    target_since=st.dictionaries(st.integers(0, 30), CHANGE, max_size=6),
    foreign=st.sets(st.integers(0, 30), max_size=6),
)
def test_every_listed_record_ends_in_exactly_one_way(
    before: dict[int, str],
    source_since: dict[int, str],
    target_since: dict[int, str],
    foreign: set[int],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    case = Case(tmp_path_factory.mktemp("repair"), *copies(25))
    case.ownership = OwnershipLog(case.folder / "ownership")
    case.ownership.record_absent(IdColumn.of(IdKind.U64, [key for key in range(31) if key not in foreign]), None)
    for key, what in before.items():
        change(case.target, key, what, "before")
    listed = {one.id for one in case.listed()}
    for key, what in source_since.items():
        change(case.source, key, what, "source")
    for key, what in target_since.items():
        change(case.target, key, what, "target")
    kept = {key: digest(case.target, key) for key in range(31) if key in foreign or str(key) not in listed}
    report = case.repaired()
    assert report.listed == len(listed) == sum(report.outcomes.values())
    left = {id_ for id_, _ in case.left()}
    assert {one.id for one in look(case.source, case.target)} & listed == left
    assert report.unsettled == len(left)
    assert {key: digest(case.target, key) for key, found in kept.items() if found is not None} == {
        key: found for key, found in kept.items() if found is not None
    }


def change(database: MemoryDatabase, key: int, what: str, who: str) -> None:
    """Change, remove or add one record."""
    there = key in database.ids()
    if what == "delete" and there:
        database.store.records[None].pop(key)
    elif what == "vector" and there:
        change_vector(database, key, bump)
    elif what == "payload" and there:
        change_payload(database, key, who=who)
    elif what == "add" and not there:
        database.put(make_batch([key], seed=len(who)))
