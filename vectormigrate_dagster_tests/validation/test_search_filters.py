"""Contract of filters in the search tier, chosen or given: each is asked as a whole, within every scope, or named."""

from __future__ import annotations

from typing import Any

import numpy as np

from vectormigrate_dagster.databases import Hits, Source
from vectormigrate_dagster.errors import SchemaMismatch
from vectormigrate_dagster.model import Metric
from vectormigrate_dagster.validation import GivenQueries, Searched, TierResult, validate_full
from vectormigrate_dagster.validation.search.questions import Choice, questions
from vectormigrate_dagster_tests.batches import dense_schema, make_batch
from vectormigrate_dagster_tests.memory import MemoryDatabase
from vectormigrate_dagster_tests.same_mapper import SameMapper
from vectormigrate_dagster_tests.validation.searches import Answer, bend, coloured, searched
from vectormigrate_dagster_tests.validation.support import SPLITS, change_payload, copies, searching

########## Filters and scopes ##########


def test_queries_are_filtered_by_a_field_of_few_values() -> None:
    source, target = coloured()
    result = searched(source, target)
    assert result.passed
    assert [(group.filter, group.queries) for group in result.groups] == [(None, 40), ("colour", 40)]
    assert [group.target.overlap for group in result.groups] == [1.0, 1.0]
    assert result.groups[1].source is not None
    assert result.checked == 40


def test_a_target_that_ignores_filters_fails() -> None:
    source, target = coloured()
    bend(target, lambda search: lambda vectors, k, **named: search(vectors, k, **{**named, "where": None}))
    result = searched(source, target)
    assert not result.passed
    assert [group.target.overlap == 1.0 for group in result.groups] == [True, False]
    assert "filtered by 'colour'" in result.statement
    assert result.worst_queries[0].where in {f'colour = "{name}"' for name in ("red", "green", "blue")}


def test_a_field_that_cannot_be_filtered_by_is_named_and_proves_nothing() -> None:
    source, target = coloured()

    def refusing(search: Answer) -> Answer:
        def answer(*args: Any, where: Any = None, **named: Any) -> Hits:
            if where:
                raise SchemaMismatch("there is no index on it")
            return search(*args, **named)

        return answer

    bend(target, refusing)
    result = searched(source, target)
    assert result.passed
    assert [group.filter for group in result.groups] == [None]
    assert result.skipped[0] == "no query was filtered by 'colour' because there is no index on it"
    assert result.skipped[0] in result.statement
    assert searched(*coloured(), filter=None).skipped == ()


def test_h17_every_scope_is_asked() -> None:
    source, target = (MemoryDatabase(name, schema=dense_schema(name)) for name in ("source", "target"))
    for scope, seed in (("a", 1), ("b", 2)):
        for database in (source, target):
            database.put(make_batch(range(60), scope=scope, seed=seed))
    splits = [split.model_copy(update={"scope": scope}) for scope in ("a", "b") for split in SPLITS]

    def ask() -> TierResult:
        return validate_full(Source(source), target, SameMapper(), splits, search=searching()).tier("search")

    right = ask()
    assert right.passed
    assert right.groups[0].scopes == 2
    wrong = MemoryDatabase("wrong", schema=target.schema)
    wrong.put(make_batch(range(60), scope="b", seed=3))
    search = target.search

    def half_wrong(*args: Any, scope: str | None = None, **named: Any) -> Hits:
        return (wrong.search if scope == "b" else search)(*args, scope=scope, **named)

    target.search = half_wrong  # type: ignore[method-assign]
    result = ask()
    assert not result.passed
    assert {query.scope for query in result.worst_queries} == {"b"}


def test_a_rare_value_is_not_filtered_by_unasked() -> None:
    """Of five records among 200, an approximate index finds too few in a target that is as it should be."""
    source, target = coloured()
    for database in (source, target):
        for key in range(5):
            change_payload(database, key, colour="gold")
            change_payload(database, key + 100, other=True)

    def common_only(search: Answer) -> Answer:
        def answer(vectors: Any, k: int, *, where: Any = None, **named: Any) -> Hits:
            rare = where is not None and where["colour"] == "gold"
            return search(vectors, 1 if rare else k, where=where, **named)

        return answer

    bend(target, common_only)
    result = searched(source, target, queries=200)
    assert result.passed, result.statement
    assert [(group.filter, group.queries) for group in result.groups] == [(None, 200), ("colour", 195)]
    asked = searched(source, target, queries=200, filter="colour")
    assert not asked.passed
    assert "5 queries filtered by 'colour' got too few answers" in asked.statement


def test_scopes_beyond_the_twentieth_are_named() -> None:
    source, target = (MemoryDatabase(name, schema=dense_schema(name)) for name in ("source", "target"))
    scopes = [f"s{number:02}" for number in range(23)]
    for database in (source, target):
        for scope in scopes:
            database.put(make_batch(range(6), scope=scope))
    splits = [SPLITS[0].model_copy(update={"scope": scope}) for scope in scopes]
    result = validate_full(Source(source), target, SameMapper(), splits, search=searching()).tier("search")
    assert result.groups[0].scopes <= 20
    assert "3 scopes were not searched, because at most 20 are" in result.skipped


########## Queries of the user's ##########


def test_given_queries_are_asked_with_their_own_filters() -> None:
    source, target = coloured()
    vectors = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    given = GivenQueries(vectors=vectors, names=("a", "b", "c"), filters=({"colour": "red"}, {}, {"colour": "nothing"}))
    result = searched(source, target, given=given)
    assert result.passed
    assert [(group.filter, group.queries) for group in result.groups] == [(None, 3), ("colour", 1)]
    assert result.skipped == ("1 queries for vector '' filtered by 'colour' have nothing to find",)
    other = GivenQueries.of(np.ones((2, 5), np.float32))
    nothing = searched(source, target, given=other)
    assert not nothing.passed
    assert "no given query has its dimension" in nothing.statement


def test_a_given_filter_is_asked_as_a_whole() -> None:
    source, target = coloured()
    for database in (source, target):
        for key in range(200):
            change_payload(database, key, half=key % 2)
    both = {"colour": "red", "half": 1}
    given = GivenQueries(
        vectors=np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32),
        names=("a", "b", "c"),
        filters=(both, {"colour": "red"}, {}),
    )
    asked: list[Any] = []

    def listening(search: Answer) -> Answer:
        return lambda vectors, k, **named: asked.append(named["where"]) or search(vectors, k, **named)

    bend(target, listening)
    result = searched(source, target, given=given)
    assert result.passed, result.statement
    assert [(group.filter, group.queries) for group in result.groups] == [
        (None, 3),
        ("colour", 1),
        ("colour, half", 1),
    ]
    assert asked.count(both) == asked.count({"colour": "red"}) == 2  # once to see whether it can be

    def half_deaf(search: Answer) -> Answer:
        def answer(vectors: Any, k: int, *, where: Any = None, **named: Any) -> Hits:
            return search(vectors, k, where={"colour": "red"} if where else None, **named)

        return answer

    bend(target, half_deaf)
    wrong = searched(source, target, given=given)
    assert not wrong.passed
    assert wrong.worst_queries[0].where == 'colour = "red" and half = 1'


def test_values_that_only_their_types_tell_apart_are_different_demands() -> None:
    filters = ({"flag": True}, {"flag": 1}, {"flag": 1})
    given = GivenQueries(vectors=np.ones((3, 4), np.float32), names=("a", "b", "c"), filters=filters)
    (batch,) = [make_batch(range(3))]
    (asked,) = questions(searching(given=given), Searched(vector="", metric=Metric.DOT), [batch])
    assert list(asked.filtered(Choice(("flag",))).values()) == [[0], [1, 2]]


def test_finding_something_where_there_is_nothing_is_a_failure() -> None:
    source, target = coloured()
    vectors = np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32)
    given = GivenQueries(vectors=vectors, names=("a", "b"), filters=({"colour": "nothing"}, {}))
    assert searched(source, target, given=given).passed
    bend(target, lambda search: lambda v, k, **named: search(v, k, **{**named, "where": None}))
    result = searched(source, target, given=given)
    assert not result.passed
    assert "1 queries for vector '' filtered by 'colour' have nothing to find and found something" in result.statement


def test_many_queries_are_asked_in_pieces() -> None:
    source, target = copies()
    sizes: list[int] = []

    def counting(search: Answer) -> Answer:
        return lambda vectors, k, **named: sizes.append(len(vectors) * k) or search(vectors, k, **named)

    bend(target, counting)
    given = GivenQueries.of(np.random.default_rng(1).standard_normal((450, 4)).astype(np.float32))
    assert searched(source, target, given=given, k=50).passed
    assert sizes == [10_000, 10_000, 2_500]
