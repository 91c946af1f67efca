"""Contract of the tiers: what a correct migration leaves different is allowed for, and hides nothing that is wrong."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.errors import Throttled
from vectormigrate_dagster.model import Batch, Dense, IdColumn, IdKind, Metric, Split, VectorKind, VectorSchema
from vectormigrate_dagster.model.compare import EXACT, Tolerance
from vectormigrate_dagster.transfer import OwnershipLog, Retry, Throttle
from vectormigrate_dagster.validation import (
    Context,
    Exceptions,
    TierResult,
    validate_full,
    validate_sample,
    validate_split,
)
from vectormigrate_dagster.validation import sample as sampling
from vectormigrate_dagster.validation.check import Check
from vectormigrate_dagster.validation.count import check_count
from vectormigrate_dagster.validation.tolerance import tolerance_between, tolerance_of
from vectormigrate_dagster.validation.validate import _read_all
from vectormigrate_dagster_tests.batches import dense_schema, make_batch
from vectormigrate_dagster_tests.live.support import same_mapping
from vectormigrate_dagster_tests.memory import CAPABILITIES, Fault, MemoryDatabase
from vectormigrate_dagster_tests.same_mapper import SameMapper
from vectormigrate_dagster_tests.validation.support import (
    SEARCH,
    SPLITS,
    bump,
    change_payload,
    change_vector,
    copies,
    failed,
    full,
)

########## What a correct migration leaves different ##########


def test_refused_and_vanished_records_are_accounted_for() -> None:
    source, target = copies()
    target.delete(IdColumn.of(IdKind.U64, [5, 6, 7]))
    mapper = SameMapper(lambda key: "no place" if key == 5 else None)
    known = Exceptions(refused=2, vanished=1, refused_ids=frozenset({(None, "6")}))
    source.vanish = {7}
    report = validate_full(Source(source), target, mapper, SPLITS, exceptions=known, search=SEARCH)
    assert report.passed, [tier.statement for tier in report.tiers]
    assert report.tier("count").statement.endswith("200 in the source - 2 refused - 1 vanished at the source")
    assert failed(validate_full(Source(source), target, mapper, SPLITS)) == {"count", "ids", "records"}


def test_h18_repeated_rows_of_the_source_and_surplus_ones_of_the_target_do_not_cancel_out() -> None:
    source, target = copies()
    target.put(make_batch([5000]))
    count, rows = source.count, 1
    source.count = lambda scope=None: count(scope) + rows  # type: ignore[method-assign]
    source.repeated = lambda scope=None: rows  # type: ignore[method-assign]
    context = Context(source=Source(source), target=target, mapper=SameMapper(), splits=SPLITS)
    result = check_count(context, accounted=count())
    assert (result.passed, result.extra) == (False, 1)


def test_records_that_stood_there_before_are_allowed_for() -> None:
    source, target = copies()
    target.put(make_batch([9000, 9001]))
    assert full(source, target, exceptions=Exceptions(pre_existing=2), search=None).passed
    assert failed(full(source, target, exceptions=Exceptions(pre_existing=1), search=None)) == {"count", "ids"}


def test_records_left_alone_must_be_there_but_are_not_compared(tmp_path: Path) -> None:
    source, target = copies()
    log = OwnershipLog(tmp_path)
    log.record_absent(IdColumn.of(IdKind.U64, range(10, 200)), None)
    change_payload(target, 3, n="somebody else's")
    known = Exceptions(ours=log.wrote)
    assert full(source, target, exceptions=known).passed
    change_payload(target, 13, n="changed")
    target.delete(IdColumn.of(IdKind.U64, [4]))
    records = full(source, target, exceptions=known).tier("records")
    assert (records.checked, records.mismatched, records.missing) == (191, 1, 1)


def test_h22_records_that_are_all_somebody_elses_prove_nothing(tmp_path: Path) -> None:
    source, target = copies()
    for key in range(200):
        change_payload(target, key, n="somebody else's")
    known = Exceptions(ours=OwnershipLog(tmp_path).wrote)
    records = full(source, target, exceptions=known, search=None).tier("records")
    assert (records.passed, records.checked, records.mismatched) == (False, 0, 0)
    assert "no record was compared" in records.statement
    assert "200 of somebody else's were left alone" in records.statement
    split = validate_split(Source(source), target, SameMapper(), SPLITS[0], exceptions=known)
    assert (split.passed, split.checked) == (True, 0)
    assert "nothing is proven; 81 of somebody else's were left alone" in split.statement
    target.delete(IdColumn.of(IdKind.U64, [4]))
    assert not validate_split(Source(source), target, SameMapper(), SPLITS[0], exceptions=known).passed


def test_h22_an_extra_record_of_ours_does_not_hide_among_those_that_stood_there(tmp_path: Path) -> None:
    source, target = copies()
    log = OwnershipLog(tmp_path)
    log.record_absent(IdColumn.of(IdKind.U64, [*range(200), 5000]), None)
    target.put(make_batch([5000, 9000]))
    # two stood there before; one of them is gone since, and the count cannot tell
    known = Exceptions(pre_existing=2, ours=log.wrote)
    report = full(source, target, exceptions=known, search=None)
    assert failed(report) == {"ids"}
    ids = report.tier("ids")
    assert (ids.extra, [finding.id for finding in ids.differences]) == (1, ["5000"])
    target.delete(IdColumn.of(IdKind.U64, [5000]))
    assert full(source, target, exceptions=known, search=None).tier("ids").passed


def test_runs_are_named_in_the_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "READ_ALL_BELOW", 100)
    source, target = copies()
    report = validate_sample(Source(source), target, SameMapper(), SPLITS, size=50)
    assert "runs of neighbours" in report.tier("records").statement
    assert "all were compared" not in report.tier("records").statement


def test_only_cosine_vectors_of_a_target_that_normalises_are_compared_by_angle() -> None:
    kinds = {"dense": VectorKind.DENSE, "several": VectorKind.MULTI, "sparse": VectorKind.SPARSE}
    vectors = [
        VectorSchema(name=name, kind=kind, dim=None if name == "sparse" else 4, metric=metric)
        for (name, kind), metric in zip(kinds.items(), (Metric.COSINE, Metric.COSINE, Metric.DOT), strict=True)
    ]
    dot = VectorSchema(name="dot", kind=VectorKind.MULTI, dim=4, metric=Metric.DOT)
    schema = dense_schema().model_copy(update={"vectors": (*vectors, dot)})
    assert tolerance_of(schema, CAPABILITIES.but(normalises_cosine=True), 0.99).min_cosine == {
        "dense": 0.99,
        "several": 0.99,
    }
    assert tolerance_of(schema, CAPABILITIES, 0.99) == EXACT


def test_a_source_that_normalises_is_believed_bit_for_bit_until_it_was_written_back() -> None:
    mapping, rounding = same_mapping(), CAPABILITIES.but(normalises_cosine=True)
    (vector,) = mapping.source_schema.vectors
    assert vector.metric is Metric.COSINE
    between = partial(tolerance_between, mapping, rounding, CAPABILITIES, 0.99)
    assert between(written_back=False) == EXACT
    name = mapping.vectors[0].target
    assert between(written_back=True) == Tolerance(min_cosine={name: 0.99}, written_back=frozenset({name}))
    assert tolerance_between(mapping, CAPABILITIES, rounding, 0.99, written_back=True) == Tolerance(
        min_cosine={name: 0.99}, normalised=frozenset({name})
    )


def test_a_normalising_target_is_compared_by_angle() -> None:
    source, target = copies()
    for key in range(200):
        change_vector(target, key, lambda values: values / np.linalg.norm(values))
    assert failed(full(source, target)) == {"records"}
    tolerance = Tolerance(min_cosine={"": 0.9999})
    assert full(source, target, tolerance=tolerance).passed
    change_vector(target, 5, lambda values: -values)
    assert failed(full(source, target, tolerance=tolerance)) == {"records"}


def test_ties_may_be_broken_in_any_way() -> None:
    source, target = copies(0)
    same = Dense(np.ones((100, 4), np.float32))
    batch = Batch(IdColumn.of(IdKind.U64, range(100)), vectors={"": same}, payloads=[{}] * 100)
    source.put(batch)
    target.put(batch)
    search = target.search

    def backwards(vectors: Any, k: int, **arguments: Any) -> Any:
        hits = search(vectors, 100, **arguments)
        return replace(hits, ids=[ids.slice(100 - k, 100) for ids in hits.ids])

    target.search = backwards  # type: ignore[method-assign]
    assert full(source, target).passed


def test_h17_scopes_are_kept_apart() -> None:
    source, target = (MemoryDatabase(name, schema=dense_schema(name)) for name in ("source", "target"))
    for scope, seed in (("a", 1), ("b", 2)):
        for database in (source, target):
            database.put(make_batch(range(50), scope=scope, seed=seed))
    splits = [Split(scope=scope, kind=IdKind.U64) for scope in ("a", "b")]
    assert validate_full(Source(source), target, SameMapper(), splits, search=SEARCH).passed
    one, two = target.get(7, "a"), target.get(7, "b")
    target.put(replace(one, scope="b"))
    target.put(replace(two, scope="a"))
    report = validate_full(Source(source), target, SameMapper(), splits, search=SEARCH)
    assert report.tier("ids").passed
    records = report.tier("records")
    assert records.mismatched == 2
    assert [(finding.scope, finding.id) for finding in records.differences] == [("a", "7"), ("b", "7")]


def test_h28_a_transient_fault_during_validation_is_survived() -> None:
    source, target = copies()
    for database, method in ((source, "scan"), (target, "fetch"), (target, "search"), (target, "count")):
        database.faults.append(Fault(method, Throttled("slow", retry_after=0)))
    throttle = Throttle(source=Retry(first_seconds=0), target=Retry(first_seconds=0))
    assert full(source, target, throttle=throttle).passed


def test_every_check_is_shown_what_was_read_and_what_was_promised() -> None:
    class Watching(Check):
        def __init__(self) -> None:
            self.read: list[object] = []
            self.promised: list[object] = []

        def add_source(self, batch: Batch) -> None:
            self.read += batch.ids.to_pylist()

        def add(self, part: Batch) -> None:
            self.promised += part.ids.to_pylist()

        def result(self) -> TierResult:
            return TierResult(tier="watching", passed=True, checked=len(self.read), statement="")

    source, target = copies(20)
    mapper = SameMapper(lambda key: "no place" if key == 5 else None)
    context = Context(source=Source(source), target=target, mapper=mapper, splits=SPLITS)
    checks = Watching(), Watching()
    _read_all(context, *checks)
    for check in checks:
        assert check.read == list(range(20))
        assert check.promised == [key for key in range(20) if key != 5]


########## One partition ##########


def test_a_split_is_validated_by_a_sample_of_its_own_records() -> None:
    source, target = copies()
    change_vector(target, 10, bump)
    wrong = validate_split(Source(source), target, SameMapper(), SPLITS[0], size=1000)
    assert (wrong.passed, wrong.checked, wrong.differences[0].id) == (False, 81, "10")
    assert validate_split(Source(source), target, SameMapper(), SPLITS[1], size=1000).passed


def test_a_split_of_nothing_passes_and_says_so() -> None:
    source, target = copies(50)
    result = validate_split(Source(source), target, SameMapper(), SPLITS[2])
    assert result.passed
    assert result.checked == 0
    assert "nothing is promised of u64 ids after 150" in result.statement


def test_a_target_that_holds_nothing_of_a_split_fails() -> None:
    source, target = copies()
    target.store.records.clear()
    assert not validate_split(Source(source), target, SameMapper(), SPLITS[0], size=10).passed
