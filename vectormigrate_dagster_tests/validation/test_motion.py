"""Contract of validating while an application writes: what is on its way is neither a failure nor proven."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from vectormigrate_dagster.databases import Hits, Source
from vectormigrate_dagster.model import Batch, IdColumn, IdKind, Split
from vectormigrate_dagster.validation import (
    Context,
    Exceptions,
    TierResult,
    validate_full,
    validate_sample,
    validate_split,
)
from vectormigrate_dagster.validation.listing import Original
from vectormigrate_dagster.validation.mismatches import Mismatch
from vectormigrate_dagster.validation.whole import compare_split
from vectormigrate_dagster_tests.batches import dense_schema, make_batch
from vectormigrate_dagster_tests.memory import MemoryDatabase
from vectormigrate_dagster_tests.same_mapper import SameMapper
from vectormigrate_dagster_tests.validation.support import searching
from vectormigrate_dagster_tests.validation.test_whole import Asking, Renaming

SPLIT = Split(kind=IdKind.U64)
MAPPERS = {"merged": SameMapper(), "asked": Asking(), "renamed": Renaming()}
mappers = pytest.mark.parametrize("mapper", MAPPERS.values(), ids=MAPPERS)


class Journalled:
    """Changes as a journal knows them: a number for each, and whether it was carried over."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, bool]] = []

    def change(self, number: int, *, carried: bool = False) -> None:
        self.entries.append((number, carried))

    def position(self) -> int:
        return next((place for place, (_, carried) in enumerate(self.entries) if not carried), len(self.entries))

    def moving(self, originals: Collection[Original], since: int) -> set[Original]:
        named = {n for place, (n, carried) in enumerate(self.entries) if place >= since or not carried}
        return {one for one in originals if one.id in named}

    def changed(self, since: int) -> int:
        return len({number for place, (number, carried) in enumerate(self.entries) if place >= since or not carried})


class AsOf(MemoryDatabase):
    """A database whose reads within `as_of_now` see nothing that was written since."""

    @contextmanager
    def as_of_now(self) -> Iterator[None]:
        newest = self.store
        self.store = copy.deepcopy(newest)
        try:
            yield
        finally:
            self.store = newest


class Sides:
    """Two alike sides of ten records, or more."""

    def __init__(self, mapper: SameMapper, *, records: int = 10, make: type[MemoryDatabase] = MemoryDatabase) -> None:
        self.mapper = mapper
        self.source, self.target = (make(name, schema=dense_schema(name)) for name in ("source", "target"))
        self.journal = Journalled()
        self.write(range(records))
        for number in range(records):
            self.carry(number)
        self.found: list[Mismatch] = []

    def write(self, numbers: Collection[int], *, seed: int = 0) -> None:
        self.source.put(make_batch(list(numbers), seed=seed))

    def delete(self, number: int) -> None:
        del self.source.store.records[None][number]

    def carry(self, number: int) -> None:
        """What catch-up does with a record."""
        (old,) = self.mapper.map(make_batch([number])).batches
        self.target.store.records.setdefault(None, {}).pop(old.ids[0], None)
        if number in self.source.ids():
            for part in self.mapper.map(self.source.get(number)).batches:
                self.target.put(part)

    @property
    def context(self) -> Context:
        return Context(
            source=Source(self.source), target=self.target, mapper=self.mapper, splits=[SPLIT], motion=self.journal
        )

    def compared(self) -> tuple[int, int, int, int]:
        """Missing, mismatched, extra, and in motion."""
        outcome = compare_split(self.context, SPLIT, sink=self.found.extend)
        return outcome.missing, outcome.mismatched, outcome.extra + outcome.others, outcome.in_motion


@mappers
def test_what_is_not_carried_over_yet_is_in_motion(mapper: SameMapper) -> None:
    sides = Sides(mapper)
    sides.write([3], seed=1)
    sides.write([20])
    for number in (3, 20):
        sides.journal.change(number)
    assert sides.compared() == (0, 0, 0, 2)
    assert sides.found == []


@mappers
def test_what_the_journal_does_not_name_is_wrong(mapper: SameMapper) -> None:
    sides = Sides(mapper)
    sides.write([3], seed=1)
    sides.write([20, 21])
    sides.journal.change(3, carried=True)  # it claims to be level since before anybody looked
    sides.journal.change(20)
    assert sides.compared() == (1, 1, 0, 1)
    assert {(one.kind.value, one.source_id) for one in sides.found} == {("different", "3"), ("missing", "21")}


@mappers
def test_what_settles_between_two_looks_is_right(mapper: SameMapper, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = Sides(mapper)
    sides.write([3], seed=1)
    sides.journal.change(3)
    position = sides.journal.position

    def carried_over_before_the_second_look() -> int:
        if sides.target.calls["fetch"] or sides.target.calls["scan"]:
            sides.carry(3)
            sides.journal.entries = [(3, True)]
        return position()

    monkeypatch.setattr(sides.journal, "position", carried_over_before_the_second_look)
    assert sides.compared() == (0, 0, 0, 0)
    outcome = compare_split(sides.context, SPLIT, sink=sides.found.extend)
    assert (outcome.promised, outcome.compared) == (10, 10)


@mappers
@pytest.mark.parametrize("mended", [True, False])
def test_what_is_refused_at_the_second_look_counts(
    mapper: SameMapper, monkeypatch: pytest.MonkeyPatch, mended: bool
) -> None:
    """Catching up has refused a record since the first look, or has carried over one that was refused before."""
    sides = Sides(mapper)
    places = [frozenset({(None, "3")}), frozenset()]
    before, after = places if mended else reversed(places)
    if not mended:
        (old,) = mapper.map(make_batch([3])).batches
        del sides.target.store.records[None][old.ids[0]]
    sides.journal.change(3)
    position = sides.journal.position

    def dealt_with_before_the_second_look() -> int:
        if sides.target.calls["fetch"] or sides.target.calls["scan"]:
            sides.journal.entries = [(3, True)]
        return position()

    monkeypatch.setattr(sides.journal, "position", dealt_with_before_the_second_look)
    known = Exceptions(refused_ids=before, refused_now=lambda: after)
    outcome = compare_split(replace(sides.context, exceptions=known), SPLIT, sink=sides.found.extend)
    assert (outcome.missing, outcome.extra, outcome.others, outcome.in_motion) == (0, 0, 0, 0)
    asked_by_id = mended and mapper is not MAPPERS["merged"]  # and nobody asks for what is refused
    assert (outcome.compared, sides.journal.entries) == (
        10 if mended and not asked_by_id else 9,
        [(3, not asked_by_id)],
    )
    assert sides.found == []


@mappers
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "sample"])
def test_the_second_look_sees_what_was_written_since_the_first(mapper: SameMapper, whole: bool) -> None:
    sides = Sides(mapper, make=AsOf)
    newest = sides.target.store
    sides.write([3], seed=1)
    sides.journal.change(3)

    def carried_over_after_the_first_look(method: str) -> None:
        if sides.journal.entries == [(3, False)] and method in ("scan", "fetch"):
            (part,) = mapper.map(sides.source.get(3)).batches
            newest.records[None][part.ids[0]] = part
            sides.journal.entries = [(3, True)]

    sides.target.on_call = carried_over_after_the_first_look
    if whole:
        assert sides.compared() == (0, 0, 0, 0)
    else:
        result = validate_split(Source(sides.source), sides.target, mapper, SPLIT, motion=sides.journal)
        assert (result.passed, result.in_motion) == (True, 0)
    assert sides.journal.entries == [(3, True)]


@mappers
def test_a_write_that_was_lost_between_two_looks_is_wrong(mapper: SameMapper, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal says that catch-up has dealt with it, and the sides differ all the same."""
    sides = Sides(mapper)
    sides.write([3], seed=1)
    sides.journal.change(3)
    position = sides.journal.position

    def claimed_before_the_second_look() -> int:
        if sides.target.calls["fetch"] or sides.target.calls["scan"]:
            sides.journal.entries = [(3, True)]
        return position()

    monkeypatch.setattr(sides.journal, "position", claimed_before_the_second_look)
    assert sides.compared() == (0, 1, 0, 0)


@mappers
def test_a_full_validation_passes_and_says_what_it_does_not_say(mapper: SameMapper) -> None:
    sides = Sides(mapper)
    sides.write([3], seed=1)
    sides.write([20, 21])
    sides.delete(5)
    for number in (3, 5, 20, 21):
        sides.journal.change(number)
    arguments = (Source(sides.source), sides.target, mapper, [SPLIT])
    report = validate_full(*arguments, motion=sides.journal)
    assert report.passed
    assert [tier.in_motion > 0 for tier in report.tiers] == [True, True, True]
    assert all("motion" in tier.statement for tier in report.tiers)
    assert not validate_full(*arguments).passed

    sample = validate_sample(*arguments, motion=sides.journal)
    assert sample.passed
    assert all("motion" in tier.statement for tier in sample.tiers)
    assert not validate_sample(*arguments).passed


@mappers
def test_what_is_carried_over_between_reading_the_source_and_the_target_is_looked_at_again(mapper: SameMapper) -> None:
    """A sample is drawn from the source first; what stands in the target by then is newer, and settled."""
    sides = Sides(mapper)

    def after_the_source_was_read(method: str) -> None:
        if method == "scan" and sides.source.calls["scan"] == 2:  # its end is looked for
            sides.journal.change(3, carried=True)
            sides.write([3], seed=1)
            sides.carry(3)

    sides.source.on_call = after_the_source_was_read
    arguments = (Source(sides.source), sides.target, mapper, SPLIT)
    assert validate_split(*arguments, motion=sides.journal).passed
    assert sides.journal.entries


@mappers
def test_more_than_was_changed_is_not_excused(mapper: SameMapper) -> None:
    sides = Sides(mapper)
    sides.write([20, 21])
    sides.journal.change(20)
    for validate in (validate_full, validate_sample):
        report = validate(Source(sides.source), sides.target, mapper, [SPLIT], motion=sides.journal)
        assert [tier.passed for tier in report.tiers] == [False, False, False]


@mappers
def test_once_all_is_quiet_and_carried_over_nothing_is_excused(mapper: SameMapper) -> None:
    """However many records were changed before this validation began."""
    sides = Sides(mapper)
    for number in range(10):
        sides.journal.change(number, carried=True)
    sides.write([20, 21])
    sides.journal.change(20, carried=True)  # it was lost
    sides.delete(5)
    sides.journal.change(5, carried=True)  # and this one stands there still
    for validate in (validate_full, validate_sample):
        report = validate(Source(sides.source), sides.target, mapper, [SPLIT], motion=sides.journal)
        assert not any(tier.in_motion for tier in report.tiers)
        assert [tier.passed for tier in report.tiers] == [False, False, False]


def test_nobody_is_asked_where_nothing_differs() -> None:
    """A validation of a collection that nobody writes to costs what it has cost before."""

    class Silent(Journalled):
        def moving(self, originals: Collection[Original], since: int) -> set[Original]:
            raise AssertionError

        def changed(self, since: int) -> int:
            raise AssertionError

    sides = Sides(SameMapper())
    sides.journal = Silent()
    assert sides.compared() == (0, 0, 0, 0)
    report = validate_full(Source(sides.source), sides.target, sides.mapper, [SPLIT], motion=sides.journal)
    assert report.passed


def test_a_record_that_says_nothing_of_its_origin_is_no_excuse() -> None:
    class Nameless(Asking):
        def original_ids(self, batch: Batch) -> list[tuple[IdKind, int]]:  # type: ignore[override]  # as strict as needed
            raise ValueError

    sides = Sides(SameMapper())
    sides.write([3], seed=1)
    sides.journal.change(3)
    context = replace(sides.context, mapper=Nameless())
    assert compare_split(context, SPLIT, sink=sides.found.extend).mismatched == 1


SEARCH = searching(queries=20, k=3)


def searched(sides: Sides, written: Collection[int], *, carried: bool = False) -> TierResult:
    """What the search tier says if an application writes between the answers of both sides and the truth."""
    search = sides.source.search

    def answer(*args: Any, **named: Any) -> Hits:
        hits = search(*args, **named)
        for number in written:
            sides.write([number], seed=5)
            sides.journal.change(number, carried=carried)
            if carried:
                sides.carry(number)
        return hits

    sides.source.search = answer  # type: ignore[method-assign]
    arguments = Source(sides.source), sides.target, sides.mapper, [SPLIT]
    return validate_full(*arguments, motion=sides.journal, search=SEARCH).tier("search")


@pytest.mark.parametrize("carried", [False, True])
def test_a_query_is_not_judged_by_records_that_are_in_motion(*, carried: bool) -> None:
    sides = Sides(SameMapper(), records=200)
    tier = searched(sides, range(20), carried=carried)
    assert tier.passed, tier.statement
    assert 0 < tier.checked < 20
    assert f"{20 - tier.checked} queries for vector '' were not judged" in tier.statement


def test_h22_a_search_where_all_is_in_motion_proves_nothing() -> None:
    tier = searched(Sides(SameMapper(), records=20), range(20))
    assert (tier.passed, tier.checked) == (False, 0)
    assert "20 queries for vector '' were not judged" in tier.statement


def test_a_wrong_answer_is_not_excused_by_what_others_move() -> None:
    sides = Sides(SameMapper(), records=200)
    search = sides.target.search

    def shuffled(*args: Any, **named: Any) -> Hits:
        hits = search(*args, **named)
        return Hits([IdColumn.of(ids.kind, [(key + 1) % 200 for key in ids]) for ids in hits.ids], hits.scores)

    sides.target.search = shuffled  # type: ignore[method-assign]
    tier = searched(sides, range(3))
    assert not tier.passed
    assert tier.checked > 0


def test_without_motion_every_query_is_judged() -> None:
    sides = Sides(SameMapper(), records=200)
    sides.journal.change(3, carried=True)
    tier = searched(sides, [])
    assert (tier.passed, tier.checked) == (True, 20)
    assert "not judged" not in tier.statement
