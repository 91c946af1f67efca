"""Checks rule 21: what a comparison still says when writes are frozen, and each reason for which an id is doubtful."""

from __future__ import annotations

from pathlib import Path

import pytest

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.errors import NotSo, Unavailable, ValidationFailed
from vectormigrate_dagster.live.catch_up import CatchUp
from vectormigrate_dagster.live.journal import Control, Journal, JournalDatabase, Key
from vectormigrate_dagster.live.journal.chunks import MAX_AGE_SECONDS
from vectormigrate_dagster.live.journal.generations import Generations
from vectormigrate_dagster.live.sides import Sides
from vectormigrate_dagster.live.verification import Verification
from vectormigrate_dagster.mapping.scopes import ScopeMapping, ScopeRule
from vectormigrate_dagster.model import IdKind, ScopeKind, Split
from vectormigrate_dagster.transfer import Throttle
from vectormigrate_dagster_tests.batches import dense_schema, make_batch
from vectormigrate_dagster_tests.live.mapped import mapping_between
from vectormigrate_dagster_tests.live.switching import (
    BOUNDS,
    SPLITS,
    WHO,
    Process,
    Switching,
    key_of,
)
from vectormigrate_dagster_tests.memory import Fault, MemoryDatabase

LONG = 3600.0


@pytest.fixture
def verification(switching: Switching) -> Verification:
    return switching.cutover().verification


def freeze(journal: Journal) -> Control:
    return journal.freeze(since=journal.control(), seconds=LONG, **WHO)


def doubtful(switching: Switching, verification: Verification) -> set[str]:
    """The ids that are looked at while writes are frozen, after everything is carried over."""
    frozen = freeze(switching.journal)
    switching.catch_up().drain(switching.clock.now + LONG, sleep=switching.clock.sleep)
    switching.clock.sleep(2 * BOUNDS.open_seconds)
    listed = verification.quiet(frozen)
    assert listed is not None
    with Generations(switching.journal).keys(listed) as keys:
        return {key.text for block in keys.blocks(1) for key in block}


def test_what_nobody_wrote_since_is_not_looked_at_again(switching: Switching, verification: Verification) -> None:
    switching.write(1, 5)
    switching.catch_up().drain(switching.clock.now + LONG)

    assert verification.generation().different == ()

    assert doubtful(switching, verification) == set()


def test_an_id_that_the_application_wrote_since_is(switching: Switching, verification: Verification) -> None:
    verification.generation()
    switching.write(1, 5)
    switching.write(2, None)

    assert doubtful(switching, verification) == {"1", "2"}


def test_an_id_that_somebody_touched_since_is(switching: Switching, verification: Verification) -> None:
    verification.generation()
    switching.journal.note([key_of(3)], kind="touch")

    assert doubtful(switching, verification) == {"3"}


def test_an_id_that_was_written_before_and_carried_over_since_is(
    switching: Switching, verification: Verification
) -> None:
    switching.write(1, 5)
    verification.generation()

    assert doubtful(switching, verification) == {"1"}


def test_an_id_whose_lease_was_alive_is_though_its_entries_were_dealt_with_before(
    switching: Switching, verification: Verification
) -> None:
    switching.write(1, 5)
    catch_up = switching.catch_up()
    lost = Fault("upsert", Unavailable("the answer was lost"), after_commit=True)
    switching.handles["target"].faults.append(lost)
    catch_up.drain(switching.clock.now + LONG)  # its first request may be applied once more
    assert switching.journal.lag().records == 0

    verification.generation()

    assert doubtful(switching, verification) == {"1"}


def test_an_id_that_was_found_unequal_is(switching: Switching, verification: Verification) -> None:
    switching.stores["target"].put(make_batch([4], seed=77))
    switching.stores["target"].put(make_batch([40], seed=77))
    del switching.stores["target"].store.records[None][5]

    found = verification.generation()

    assert {key.text for key in found.different} == {"4", "5", "40"}
    assert doubtful(switching, verification) == {"4", "5", "40"}


def test_a_later_look_makes_the_list_short_again(switching: Switching, verification: Verification) -> None:
    verification.generation()
    for key in range(8):
        switching.write(key, 5)
    switching.catch_up().drain(switching.clock.now + LONG)
    assert verification.settle().different == ()
    switching.write(2, 6)

    assert doubtful(switching, verification) == {"2"}


def test_a_later_look_finds_what_was_spoiled_and_has_it_carried_over(
    switching: Switching, verification: Verification
) -> None:
    verification.generation()
    switching.write(1, 5)
    switching.catch_up().drain(switching.clock.now + LONG)
    switching.stores["target"].put(make_batch([1], seed=77))

    assert [key.text for key in verification.settle().different] == ["1"]

    switching.catch_up().drain(switching.clock.now + LONG)
    switching.assert_moved()


def test_what_is_on_its_way_is_no_difference(switching: Switching, verification: Verification) -> None:
    verification.generation()
    switching.write(1, 5)

    looked = verification.settle()

    assert (looked.different, looked.doubtful) == ((), 1)


def test_a_chunk_is_compared_again_once_it_is_old(switching: Switching, verification: Verification) -> None:
    verification.generation()
    generations = Generations(switching.journal)
    assert generations.missing(verification.chunks, max_age=LONG) == []

    switching.clock.sleep(2 * LONG)

    assert generations.missing(verification.chunks, max_age=LONG) == list(verification.chunks)


def test_a_comparison_says_nothing_after_pages_were_written_beside_it(
    switching: Switching, verification: Verification
) -> None:
    generations = Generations(switching.journal)
    chunk = generations.begin("g0001-0")
    switching.journal.finish_split(switching.journal.begin_split("g0001-0", seconds=60.0))

    assert generations.finish(chunk, []) is None
    assert "g0001-0" in generations.missing(verification.chunks, max_age=LONG)


def test_the_first_comparison_of_a_chunk_to_end_counts(switching: Switching, verification: Verification) -> None:
    generations = Generations(switching.journal)
    one, two = generations.begin("g0001-0"), generations.begin("g0001-0")

    assert generations.finish(two, []) == []
    assert generations.finish(one, []) is None
    assert "g0001-0" not in generations.missing(verification.chunks, max_age=LONG)


def test_nothing_is_compared_while_pages_are_written(switching: Switching, verification: Verification) -> None:
    switching.journal.begin_split("g0001-0", seconds=60.0)

    with pytest.raises(NotSo, match="1 split of"):
        verification.generation()


def test_an_id_named_after_the_last_look_keeps_the_sides_from_being_switched(
    switching: Switching, verification: Verification
) -> None:
    verification.generation()
    frozen = freeze(switching.journal)
    listed = verification.quiet(frozen)
    assert listed is not None
    assert verification.recheck(frozen, listed).different == ()
    switching.journal.note([key_of(1)], kind="change")
    switching.catch_up().drain(switching.clock.now + LONG)

    with pytest.raises(NotSo, match="ids were named since the final verification"):
        switching.journal.switch(since=frozen, **WHO)


def test_a_record_of_the_target_that_is_nobodys_copy_is_named(
    switching: Switching, verification: Verification, monkeypatch: pytest.MonkeyPatch
) -> None:
    switching.stores["target"].put(make_batch([40], seed=77))
    monkeypatch.setattr("vectormigrate_dagster.validation.listing.original_of", lambda mapper, batch, row: None)

    with pytest.raises(ValidationFailed, match="'40'"):
        verification.generation()


def test_a_scope_that_is_newer_than_the_plan_is_compared_too(tmp_path: Path) -> None:
    schema = dense_schema("source").model_copy(update={"scope": ScopeKind.NAMESPACE, "scopes": ("old",)})
    source, target = MemoryDatabase("source", schema=schema), MemoryDatabase("target", schema=schema)
    for scope in ("old", "new"):
        source.put(make_batch([1, 2], scope=scope))
    target.put(make_batch([1, 2], scope="old"))
    database = JournalDatabase(f"sqlite:///{tmp_path / 'journal.db'}")
    journal = Journal.register(database, "scoped", id_kinds=[IdKind.U64], by="tester")
    sides = Sides(
        mapping_between(schema, make_batch([1, 2])),
        source=Source(source),
        target=target,
        open_source=lambda: source,
        throttle=Throttle(),
    )
    verification = Verification(journal, sides, {"g0001-0": Split(kind=IdKind.U64, scope="old")})

    found = verification.generation()

    assert {(key.scope, key.text) for key in found.different} == {("new", "1"), ("new", "2")}
    CatchUp(journal, sides, holder="run").step()
    assert target.ids("new") == {1, 2}
    assert verification.settle().different == ()
    database.close()


def test_a_record_that_is_being_carried_over_is_known_by_each_of_its_names(tmp_path: Path) -> None:
    """Where the source is not divided, a scope that an application names says nothing."""
    source, target = (MemoryDatabase(name, schema=dense_schema(name)) for name in ("source", "target"))
    source.put(make_batch([1, 2]))
    database = JournalDatabase(f"sqlite:///{tmp_path / 'journal.db'}")
    journal = Journal.register(database, "named", id_kinds=[IdKind.U64], by="tester")
    sides = Sides(
        mapping_between(dense_schema("source"), make_batch([1, 2])),
        source=Source(source),
        target=target,
        open_source=lambda: source,
        throttle=Throttle(),
    )
    journal.note([Key("default", IdKind.U64, "1")], kind="change")

    found = Verification(journal, sides, {"g0001-0": Split(kind=IdKind.U64)}).generation()

    assert {key.text for key in found.different} == {"2"}
    database.close()


def test_a_scope_that_the_target_cannot_hold_is_not_forgotten(tmp_path: Path) -> None:
    schema = dense_schema("source").model_copy(update={"scope": ScopeKind.NAMESPACE, "scopes": ("old",)})
    source, target = MemoryDatabase("source", schema=schema), MemoryDatabase("target", schema=dense_schema("target"))
    source.put(make_batch([1, 2], scope="old"))
    target.put(make_batch([1, 2]))
    mapping = mapping_between(dense_schema("source"), make_batch([1, 2]))
    single = ScopeMapping(rule=ScopeRule.SINGLE, only="old")
    mapping = mapping.model_copy(update={"source_schema": schema, "scope": single})
    database = JournalDatabase(f"sqlite:///{tmp_path / 'journal.db'}")
    journal = Journal.register(database, "scoped", id_kinds=[IdKind.U64], by="tester")

    def compared(scopes: list[str] | None) -> Verification:
        sides = Sides(
            mapping,
            source=Source(source),
            target=target,
            open_source=lambda: source,
            throttle=Throttle(),
            scopes=scopes,
        )
        return Verification(journal, sides, {"g0001-0": Split(kind=IdKind.U64, scope="old")})

    compared(None).generation()
    source.put(make_batch([1], scope="new"))
    journal.note([Key("new", IdKind.U64, "1")], kind="change")

    assert compared(["old"]).settle().different == ()
    with pytest.raises(ValidationFailed, match="'new' appeared after the plan"):
        compared(None).settle()
    journal.finish_split(journal.begin_split("g0001-0", seconds=60.0))
    with pytest.raises(ValidationFailed, match="'new' appeared after the plan"):
        compared(None).generation()
    database.close()


def test_a_look_that_another_comparison_has_overtaken_is_made_again(
    switching: Switching, verification: Verification
) -> None:
    target = switching.handles["target"]
    verification.generation()
    switching.write(1, 5)
    switching.catch_up().drain(switching.clock.now + LONG)
    switching.stores["target"].put(make_batch([1], seed=77))
    generations = Generations(switching.journal)

    def compare_beside(method: str) -> None:
        if method == "fetch":
            target.on_call = lambda _: None
            generations.finish(generations.begin("g0001-0"), [])

    target.on_call = compare_beside
    assert [key.text for key in verification.settle().different] == ["1"]


def test_comparisons_that_count_no_more_do_not_keep_entries(switching: Switching, verification: Verification) -> None:
    verification.generation()
    Generations(switching.journal).begin("g0001-0")  # by somebody who was killed
    for _ in range(3):
        switching.write(1, 5)
    switching.catch_up().drain(switching.clock.now + LONG)
    switching.clock.sleep(2.9 * MAX_AGE_SECONDS)
    assert switching.journal.prune() == 0  # a comparison of everything may take so long, for all that is known

    switching.clock.sleep(MAX_AGE_SECONDS)

    assert switching.journal.prune() == 2


def test_comparing_comes_to_its_end_however_long_it_takes(switching: Switching) -> None:
    """A comparison that took more than a day began anew, again and again, since its first parts had grown too old."""
    generations, names = Generations(switching.journal), [f"part {number}" for number in range(5)]

    def missing() -> list[str]:
        switching.write(1, 5)
        switching.catch_up().drain(switching.clock.now + LONG)
        switching.journal.prune()
        return generations.missing(names, max_age=MAX_AGE_SECONDS)

    for compared, name in enumerate(names):
        assert missing() == names[compared:]
        assert generations.standing(names, max_age=MAX_AGE_SECONDS).compared == compared
        chunk = generations.begin(name)
        switching.clock.sleep(0.8 * MAX_AGE_SECONDS)
        switching.journal.prune()
        assert generations.finish(chunk, []) == []
    assert missing() == []
    with generations.keys(generations.doubtful(names)) as keys:
        assert [key.text for block in keys.blocks() for key in block] == ["1"]  # nothing that is needed was forgotten
    switching.clock.sleep(0.9 * MAX_AGE_SECONDS)
    assert missing() == []
    switching.clock.sleep(0.2 * MAX_AGE_SECONDS)
    assert generations.missing(names, max_age=MAX_AGE_SECONDS) == names
    assert missing() == names


def test_what_had_grown_too_old_does_not_count_again_with_the_first_part_that_is_compared_anew(
    switching: Switching,
) -> None:
    """Of one that is killed after its first part, the rest would never be compared again."""
    generations, names = Generations(switching.journal), ["first", "second"]
    for name in names:
        assert generations.finish(generations.begin(name), []) == []
    switching.clock.sleep(1.1 * MAX_AGE_SECONDS)
    assert generations.finish(generations.begin("first"), []) == []
    assert generations.missing(names, max_age=MAX_AGE_SECONDS) == ["second"]
    assert generations.standing(names, max_age=MAX_AGE_SECONDS).compared == 1


def test_one_comparison_that_takes_days_makes_those_before_it_count_again(switching: Switching) -> None:
    generations = Generations(switching.journal)
    assert generations.finish(generations.begin("first"), []) == []
    last = generations.begin("last")
    switching.clock.sleep(2.5 * MAX_AGE_SECONDS)
    switching.journal.prune()
    assert generations.finish(last, []) == []
    assert generations.missing(["first", "last"], max_age=MAX_AGE_SECONDS) == []


def test_comparing_tells_how_far_it_is_and_goes_on_from_there(switching: Switching) -> None:
    told = list[tuple[int, int, float | None]]()

    def verify(*, after: int) -> None:
        def progress(done: int, of: int, left: float | None) -> None:
            told.append((done, of, left))
            switching.clock.sleep(10.0)
            if len(told) == after:
                raise KeyboardInterrupt

        journal, sides = switching.journal, switching._sides(Process())
        Verification(journal, sides, SPLITS, sleep=switching.clock.sleep, progress=progress).generation()

    of = len(SPLITS) + 1
    with pytest.raises(KeyboardInterrupt):
        verify(after=3)
    assert [(done, parts) for done, parts, _ in told] == [(0, of), (1, of), (2, of)]
    assert told[0][2] is None
    assert told[1][2] == pytest.approx(10.0 * (of - 1), rel=0.1)
    told.clear()
    verify(after=0)
    assert [done for done, *_ in told] == [2, 3, 4, 5][: of - 1]
    assert told[-1] == (of, of, 0.0)
    told.clear()
    verify(after=0)
    assert told == []  # nothing had to be compared
