"""Contract of the tiers: a right copy passes all of them, each way of being wrong is caught by the right one (H-22)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.model import Batch, IdColumn, IdKind, Metric, Split
from vectormigrate_dagster.validation import (
    GivenQueries,
    ValidationReport,
    validate_full,
    validate_sample,
)
from vectormigrate_dagster_tests.batches import dense_schema, make_batch
from vectormigrate_dagster_tests.memory import MemoryDatabase
from vectormigrate_dagster_tests.same_mapper import SameMapped, SameMapper
from vectormigrate_dagster_tests.validation.support import (
    SEARCH,
    SPLITS,
    bump,
    change_payload,
    change_vector,
    copies,
    failed,
    full,
    searching,
)

########## A right copy ##########


def test_a_right_copy_passes_every_tier() -> None:
    source, target = copies()
    for report in (
        full(source, target),
        validate_sample(Source(source), target, SameMapper(), SPLITS, size=50, search=SEARCH),
    ):
        assert report.passed
        assert [tier.tier for tier in report.tiers] == ["count", "ids", "records", "search"]
        assert all(tier.checked for tier in report.tiers)
        assert report.tier("search").measures["source_overlap"] == 1.0
        assert ValidationReport.model_validate(report.to_json()) == report
    assert report.tier("records").statement == "0 of 50 differ: at most 5.82 % wrong at 95 % confidence"


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.DOT, Metric.EUCLIDEAN, Metric.MANHATTAN])
def test_h24_every_metric_agrees_with_a_database_that_uses_it(metric: Metric) -> None:
    source, target = copies(metric=metric)
    assert full(source, target, search=searching(metric)).passed


def test_validation_only_reads() -> None:
    source, target = copies()
    full(source, target)
    writes = {"upsert", "delete", "drop", "create", "prepare_bulk_load", "resume_indexing", "finish_bulk_load"}
    assert not writes & (source.calls.keys() | target.calls.keys())


########## Mutations ##########


def test_h22_one_bit_of_one_float() -> None:
    source, target = copies()
    change_vector(target, 77, bump)
    report = full(source, target)
    assert failed(report) == {"records"}
    (finding,) = report.tier("records").differences
    assert (finding.id, finding.where) == ("77", "vector ''")
    assert report.tier("records").counts == {"vector ''": 1}


def test_h22_a_dropped_record() -> None:
    source, target = copies()
    target.delete(IdColumn.of(IdKind.U64, [77]))
    report = full(source, target)
    assert failed(report) >= {"count", "ids", "records"}
    for tier in ("ids", "records"):
        assert report.tier(tier).missing == 1
        assert report.tier(tier).differences[0].id == "77"
        assert report.tier(tier).differences[0].actual == "missing"


def test_h22_an_extra_record() -> None:
    source, target = copies()
    target.put(make_batch([5000]))
    report = full(source, target)
    assert failed(report) == {"count", "ids"}
    assert [(finding.id, finding.actual) for finding in report.tier("ids").differences] == [("5000", "present")]


def test_h18_a_lost_and_an_extra_record_do_not_cancel_out() -> None:
    source, target = copies()
    target.delete(IdColumn.of(IdKind.U64, [77]))
    target.put(make_batch([5000]))
    report = full(source, target)
    assert report.tier("count").passed
    ids = report.tier("ids")
    assert (ids.passed, ids.missing, ids.extra) == (False, 1, 1)


def test_h22_two_swapped_vectors() -> None:
    source, target = copies()
    one, two = target.get(10), target.get(20)
    target.put(replace(one, vectors=two.vectors))
    target.put(replace(two, vectors=one.vectors))
    report = full(source, target)
    assert {finding.id for finding in report.tier("records").differences} == {"10", "20"}
    assert report.tier("records").mismatched == 2


def test_h22_many_swapped_vectors_spoil_search_too() -> None:
    source, target = copies()
    records = [target.get(key) for key in range(200)]
    for key in range(200):
        target.put(replace(records[key], vectors=records[(key + 1) % 200].vectors))
    report = full(source, target)
    assert {"records", "search"} <= failed(report)
    assert report.tier("search").measures["overlap"] < 0.5
    assert report.tier("search").measures["source_overlap"] == 1.0


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        (10, {"n": 10.0}),
        (1, {"n": True}),
        (10, {"score": 5}),
        (10, {"score": "5.0"}),
        (10, {"name": None}),
        (10, {"name": ...}),
        (10, {"more": None}),
    ],
)
def test_h13_a_changed_type_of_one_value(key: int, changes: dict[str, Any]) -> None:
    source, target = copies()
    change_payload(target, key, **changes)
    report = full(source, target)
    assert failed(report) == {"records"}
    assert report.tier("records").differences[0].where == f"field '{next(iter(changes))}'"


def test_h13_null_is_not_absent() -> None:
    source, target = copies()
    change_payload(source, 3, note=None)
    report = full(source, target)
    assert failed(report) == {"records"}
    finding = report.tier("records").differences[0]
    assert (finding.expected, finding.actual) == ("null", "absent (the field is not there)")


def test_h24_another_metric() -> None:
    source, target = copies(metric=Metric.DOT)
    target.schema = dense_schema("target", metric=Metric.EUCLIDEAN)
    report = full(source, target, search=searching(Metric.DOT))
    assert failed(report) == {"search"}
    assert "compared by euclidean, not by dot as planned" in report.tier("search").statement
    assert report.tier("search").measures["overlap"] < 0.95


def test_h24_a_metric_that_is_declared_and_not_used() -> None:
    source, target = copies(metric=Metric.DOT)
    target.metric = Metric.EUCLIDEAN
    assert failed(full(source, target, search=searching(Metric.DOT))) == {"search"}


def test_h24_a_metric_that_is_not_declared_but_gives_the_same_answers() -> None:
    source, target = copies()
    for database in (source, target):
        for key in range(200):
            change_vector(database, key, lambda values: values / np.linalg.norm(values))
    target.schema = dense_schema("target", metric=Metric.DOT)
    report = full(source, target)
    assert report.tier("search").measures["overlap"] == 1.0
    assert failed(report) == {"search"}


def test_h32_a_half_built_index() -> None:
    source, target = copies()
    half = MemoryDatabase("half", schema=target.schema)
    half.put(make_batch(range(0, 200, 2)))
    target.search = half.search  # type: ignore[method-assign]
    report = full(source, target)
    assert failed(report) == {"search"}
    assert report.tier("search").measures["overlap"] < 0.8


def test_h22_too_few_answers() -> None:
    source, target = copies()
    search = target.search

    def short(vectors: Any, k: int, **arguments: Any) -> Any:
        return search(vectors, k - 1, **arguments)

    target.search = short  # type: ignore[method-assign]
    report = full(source, target, search=replace(SEARCH, min_overlap=0.5))
    assert failed(report) == {"search"}
    assert "40 queries got too few answers" in report.tier("search").statement


def test_h16_two_records_that_collapse_into_one() -> None:
    source, _ = copies(10)
    target = MemoryDatabase("target", schema=dense_schema("target"))

    class Collapsing(SameMapper):
        keeps_ids_apart = False  # type: ignore[assignment]  # a property of other mappers

        def target_split(self, split: Split) -> None:
            del split

        def map(self, batch: Batch) -> SameMapped:
            ids = [0 if key == 7 else key for key in batch.ids.to_pylist()]
            return SameMapped((replace(batch, ids=IdColumn.of(IdKind.U64, ids)),))

    target.put(make_batch([key for key in range(10) if key != 7]))
    report = validate_full(Source(source), target, Collapsing(), SPLITS)
    assert not report.tier("count").passed
    assert "1 records share an id with another" in report.tier("ids").statement
    assert not report.tier("ids").passed


########## Empty checks ##########


def test_h02_two_empty_collections_pass_and_say_so() -> None:
    report = full(*copies(0))
    assert report.passed
    assert {tier.statement for tier in report.tiers} == {"both collections are empty"}


def test_h22_an_empty_target_fails_every_tier() -> None:
    source, target = copies()
    target.store.records.clear()
    assert failed(full(source, target)) == {"count", "ids", "records", "search"}


def test_h22_an_empty_source_and_a_full_target_fail_every_tier() -> None:
    source, target = copies()
    source.store.records.clear()
    assert failed(full(source, target)) == {"count", "ids", "records", "search"}


@pytest.mark.parametrize("settings", [{"queries": 0}, {"given": GivenQueries.of(np.zeros((0, 4), np.float32))}])
def test_h22_no_queries_is_a_failure(settings: dict[str, Any]) -> None:
    source, target = copies()
    report = full(source, target, search=searching(**settings))
    assert failed(report) == {"search"}
    assert "nothing is proven" in report.tier("search").statement


def test_h22_a_report_without_tiers_did_not_pass() -> None:
    assert not ValidationReport.of(seconds=0).passed
