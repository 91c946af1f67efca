"""Contract of a full validation: exactly what brute force finds, whichever way ids are compared, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vectormigrate_dagster.databases import Source
from vectormigrate_dagster.errors import BrokenScan
from vectormigrate_dagster.model import Batch, Dense, Id, IdColumn, IdKind, Split, id_text, tile
from vectormigrate_dagster.transfer import OwnershipLog
from vectormigrate_dagster.validation import Context, Exceptions, ValidationReport, validate_full
from vectormigrate_dagster.validation import pairs as pairing
from vectormigrate_dagster.validation.mismatches import Mismatch, MismatchKind
from vectormigrate_dagster.validation.whole import compare_split
from vectormigrate_dagster_tests.batches import make_batch
from vectormigrate_dagster_tests.memory import MemoryDatabase
from vectormigrate_dagster_tests.model.strategies import id_lists
from vectormigrate_dagster_tests.same_mapper import SameMapped, SameMapper

SCOPES = (None, "a", "b")
Key = tuple[str | None, str, str]
"""Scope, kind and text of an id."""


class Asking(SameMapper):
    """Ids do not change, and nobody knows that they keep their order: they are fetched."""

    def target_split(self, split: Split) -> None:
        del split


class Renaming(Asking):
    """Numbers become texts in another order, as they do on the way to a database that has only texts."""

    def map(self, batch: Batch) -> SameMapped:
        if batch.ids.kind is not IdKind.U64:
            return SameMapped((batch,))
        return SameMapped((replace(batch, ids=IdColumn.of(IdKind.TEXT, map(self._text, batch.ids.to_pylist()))),))

    def original_ids(self, batch: Batch) -> list[tuple[IdKind, Id]]:
        if batch.ids.kind is not IdKind.TEXT:
            return super().original_ids(batch)
        return [(IdKind.U64, int(str(value)[::-1])) for value in batch.ids.to_pylist()]

    @staticmethod
    def _text(value: Id) -> str:
        return f"{value:020}"[::-1]


class Keeping(Renaming):
    """Numbers become texts, and only the payload tells which number it was, as where ids are hashed."""

    def map(self, batch: Batch) -> SameMapped:
        (part,) = super().map(batch).batches
        origins = [
            {**payload, "origin": id_text(value)}
            for payload, value in zip(batch.payloads, batch.ids.to_pylist(), strict=True)
        ]
        return SameMapped((replace(part, payloads=origins),))

    def original_ids(self, batch: Batch) -> list[tuple[IdKind, Id]]:
        return [(IdKind.U64, int(payload.get("origin", "none"))) for payload in batch.payloads]


MAPPERS: dict[str, SameMapper] = {
    "merged": SameMapper(),
    "asked": Asking(),
    "renamed": Renaming(),
    "kept": Keeping(),
}


@st.composite
def _sides(draw: Any) -> tuple[MemoryDatabase, MemoryDatabase, list[Split], SameMapper]:
    """A source, a target that is more or less like it, and splits that tile the source."""
    source, target = MemoryDatabase("source"), MemoryDatabase("target")
    mapper = MAPPERS[draw(st.sampled_from(sorted(MAPPERS)))]
    number = draw(st.sampled_from([IdKind.U64, IdKind.I64]))  # no database holds both, and this one tells no 0 from 0
    kinds = draw(st.lists(st.sampled_from([number, IdKind.UUID, IdKind.TEXT]), min_size=1, max_size=2, unique=True))
    if isinstance(mapper, Renaming):
        kinds = [IdKind.U64]
    splits: list[Split] = []
    for scope in draw(st.sampled_from([SCOPES[:1], SCOPES[1:]])):
        for kind in kinds:
            ids = draw(id_lists(kind, max_size=12))
            splits += tile(kind, ids[:: draw(st.integers(1, 5))], scope=scope)
            batch = make_batch(ids, kind=kind, scope=scope)
            source.put(batch)
            for part in mapper.map(batch).batches if ids else ():
                target.put(part)
            for part in mapper.map(make_batch(draw(id_lists(kind, max_size=3)), kind=kind, scope=scope)).batches:
                if len(part):
                    target.put(part)
    for scope, records in list(target.store.records.items()):
        for key in (
            draw(st.lists(st.sampled_from(sorted(records, key=str)), max_size=3, unique=True)) if records else ()
        ):
            if draw(st.booleans()):
                del records[key]
            else:
                records[key] = replace(records[key], payloads=[{"changed": True}], scope=scope)
    if draw(st.booleans()):
        target.put(make_batch(["elsewhere"], kind=IdKind.TEXT, scope=draw(st.sampled_from([*SCOPES, "c"]))))
    return source, target, splits, mapper


def _promised(source: MemoryDatabase, mapper: SameMapper) -> dict[Key, Batch]:
    """Everything that the target must hold."""
    return {
        (part.scope, part.ids.kind.value, id_text(part.ids[0])): part
        for records in source.store.records.values()
        for record in records.values()
        for part in mapper.map(record).batches
    }


def _there(target: MemoryDatabase) -> dict[Key, Batch]:
    return {
        (scope, record.ids.kind.value, id_text(key)): record
        for scope, records in target.store.records.items()
        for key, record in records.items()
    }


def _same(one: Batch, two: Batch) -> bool:
    vectors = [batch.vectors.get("") for batch in (one, two)]
    assert all(isinstance(column, Dense) for column in vectors)
    return list(one.payloads) == list(two.payloads) and np.array_equal(vectors[0].values, vectors[1].values)  # type: ignore[union-attr]


def _listed(found: Iterable[Mismatch], kind: MismatchKind) -> set[Key]:
    return {(mismatch.scope, mismatch.id_kind, mismatch.id) for mismatch in found if mismatch.kind is kind}


@settings(max_examples=150)
@given(_sides(), st.integers(1, 4))
def test_it_finds_what_brute_force_finds(
    sides: tuple[MemoryDatabase, MemoryDatabase, list[Split], SameMapper], page: int
) -> None:
    source, target, splits, mapper = sides
    source.page_records, target.page_records = page, page + 1
    promised, there = _promised(source, mapper), _there(target)
    missing, extra = promised.keys() - there.keys(), there.keys() - promised.keys()
    wrong = {key for key in promised.keys() & there.keys() if not _same(promised[key], there[key])}
    found: list[Mismatch] = []
    report = validate_full(Source(source), target, mapper, splits, sink=found.extend)
    ids, records = report.tier("ids"), report.tier("records")
    assert (ids.checked, ids.missing, ids.extra) == (len(promised), len(missing), len(extra)), ids.statement
    assert (records.checked, records.mismatched, records.missing) == (len(promised), len(wrong), len(missing))
    assert _listed(found, MismatchKind.MISSING) == missing
    assert _listed(found, MismatchKind.EXTRA) == extra
    assert _listed(found, MismatchKind.DIFFERENT) == wrong
    clean = not (missing or extra or wrong)
    assert report.passed == (clean and (bool(promised) or not there))


@pytest.mark.parametrize("mapper", MAPPERS.values(), ids=MAPPERS)
def test_findings_name_the_record_on_both_sides(mapper: SameMapper) -> None:
    source, target = MemoryDatabase("source"), MemoryDatabase("target")
    records = make_batch(range(20), scope="a")
    source.put(records)
    for part in mapper.map(records.slice(1, 20)).batches:
        target.put(part)
    (changed,) = mapper.map(make_batch([7], scope="a", seed=1)).batches
    target.put(changed)
    found: list[Mismatch] = []
    report = validate_full(Source(source), target, mapper, [Split(scope="a", kind=IdKind.U64)], sink=found.extend)
    assert not report.passed
    by_kind = {mismatch.kind: mismatch for mismatch in found}
    assert by_kind.keys() == {MismatchKind.MISSING, MismatchKind.DIFFERENT}
    for kind, number in ((MismatchKind.MISSING, "0"), (MismatchKind.DIFFERENT, "7")):
        one = by_kind[kind]
        assert (one.source_scope, one.source_id, one.source_id_kind) == ("a", number, "u64")
        assert one.promised_digest is not None
        assert len(one.promised_digest) == 16
        assert (one.found_digest is None) == (kind is MismatchKind.MISSING)
    assert by_kind[MismatchKind.DIFFERENT].id == id_text(changed.ids[0])


@pytest.mark.parametrize("origin", ["5", "999", "nonsense"])
def test_a_record_that_names_another_origin_differs_and_is_not_extra(origin: str) -> None:
    """A repair would delete what is extra, and this record was promised."""
    source, target = MemoryDatabase("source"), MemoryDatabase("target")
    source.put(make_batch(range(20)))
    (part,) = Keeping().map(make_batch(range(20))).batches
    payloads = [dict(payload) for payload in part.payloads]
    payloads[7]["origin"] = origin
    target.put(replace(part, payloads=payloads))
    (extra,) = Keeping().map(make_batch([1000])).batches
    target.put(extra)
    found: list[Mismatch] = []
    splits = tile(IdKind.U64, [4, 10])
    report = validate_full(Source(source), target, Keeping(), splits, sink=found.extend)
    ids, records = report.tier("ids"), report.tier("records")
    assert [(one.kind, one.source_id) for one in found] == [(MismatchKind.DIFFERENT, "7"), (MismatchKind.EXTRA, "1000")]
    assert (ids.missing, ids.extra, ids.mismatched, records.mismatched) == (0, 1, 0, 1)


@pytest.mark.parametrize("mapper", MAPPERS.values(), ids=MAPPERS)
def test_the_target_is_not_read_a_second_time_where_nothing_can_be_beside(mapper: SameMapper) -> None:
    source, target = MemoryDatabase("source"), MemoryDatabase("target")
    source.put(make_batch(range(50)))
    target.put(mapper.map(make_batch(range(50))).batches[0])
    assert validate_full(Source(source), target, mapper, [Split(kind=IdKind.U64)]).passed
    assert target.calls["plan_splits"] == 0
    assert source.calls["fetch"] == 0
    target.put(make_batch(["beside"], kind=IdKind.TEXT))
    assert validate_full(Source(source), target, mapper, [Split(kind=IdKind.U64)]).tier("ids").extra == 1
    assert target.calls["plan_splits"] == 1


def test_records_of_somebody_else_that_were_not_asked_for_are_counted(tmp_path: Path) -> None:
    source, target = MemoryDatabase("source"), MemoryDatabase("target")
    source.put(make_batch(range(10)))
    target.put(make_batch(range(10)))
    target.put(make_batch([100, 101]))
    log = OwnershipLog(tmp_path)
    log.record_absent(IdColumn.of(IdKind.U64, [*range(10), 100]), None)
    found: list[Mismatch] = []
    # two stood there before, one of them is gone: the number alone says that all is well
    known = Exceptions(pre_existing=2, ours=log.wrote)
    splits = [Split(kind=IdKind.U64)]
    report = validate_full(Source(source), target, Asking(), splits, exceptions=known, sink=found.extend)
    assert report.tier("count").passed
    assert not report.tier("ids").passed
    assert [(mismatch.kind, mismatch.id) for mismatch in found] == [(MismatchKind.EXTRA, "100")]


def test_rows_of_the_target_that_repeat_an_id_are_counted() -> None:
    source, target = MemoryDatabase("source"), MemoryDatabase("target")
    for database in (source, target):
        database.put(make_batch(range(10)))
    count = target.count
    target.count = lambda scope=None: count(scope) + 2  # type: ignore[method-assign]
    ids = validate_full(Source(source), target, SameMapper(), [Split(kind=IdKind.U64)]).tier("ids")
    assert not ids.passed
    assert "2 ids are in the target more than once" in ids.statement


@pytest.mark.parametrize("side", ["source", "target"])
def test_h01_a_side_that_repeats_records_is_an_error(side: str) -> None:
    sides = {name: MemoryDatabase(name) for name in ("source", "target")}
    for database in sides.values():
        database.put(make_batch(range(10)))
        database.page_records = 5
    sides[side].repeat = 1
    with pytest.raises(BrokenScan):
        validate_full(Source(sides["source"]), sides["target"], SameMapper(), [Split(kind=IdKind.U64)])


def test_a_mapper_that_breaks_its_word_on_order_is_an_error() -> None:
    class Turning(SameMapper):
        def map(self, batch: Batch) -> SameMapped:
            return SameMapped((batch.take(np.arange(len(batch))[::-1]),))

    source = MemoryDatabase("source")
    source.put(make_batch(range(10)))
    with pytest.raises(BrokenScan, match="not the ascending ids"):
        validate_full(Source(source), source, Turning(), [Split(kind=IdKind.U64)])


def test_all_findings_are_listed_and_the_first_are_shown() -> None:
    source, target = MemoryDatabase("source"), MemoryDatabase("target")
    source.put(make_batch(range(100)))
    target.put(make_batch(range(50, 150)))
    found: list[Mismatch] = []
    report = validate_full(Source(source), target, SameMapper(), tile(IdKind.U64, [30, 60]), sink=found.extend)
    assert report.tier("records").mismatched == len(_listed(found, MismatchKind.DIFFERENT)) == 50
    assert len(_listed(found, MismatchKind.MISSING)) == 50
    assert len(_listed(found, MismatchKind.EXTRA)) == 50
    assert len(report.tier("records").differences) == 20


@pytest.mark.parametrize("mapper", [SameMapper(), Asking()], ids=["merged", "asked"])
def test_few_batches_are_held_however_many_there_are(mapper: SameMapper, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: set[int] = set()
    most = 0

    class Counted(Batch):
        """Counts the batches that are read and not yet forgotten."""

        def __post_init__(self) -> None:
            super().__post_init__()
            alive.add(id(self))

        def __del__(self) -> None:
            alive.discard(id(self))

    def counting(batch: Batch) -> None:
        nonlocal most
        most = max(most, len(alive))
        del batch

    monkeypatch.setattr(pairing, "_BATCH_RECORDS", 10)
    monkeypatch.setattr(pairing, "PAGE_RECORDS", 10)
    source, target = MemoryDatabase("source"), MemoryDatabase("target")
    for database in (source, target):
        database.put(make_batch(range(2000)))
        scan = database.scan

        def counted(split: Split, after: str | None = None, batch_records: int = 10, scan: Any = scan) -> Any:
            for page in scan(split, after, batch_records):
                yield Counted(page.ids, page.scope, page.vectors, page.payloads)

        database.scan = counted  # type: ignore[method-assign]
    context = Context(source=Source(source), target=target, mapper=mapper, splits=[Split(kind=IdKind.U64)])
    outcome = compare_split(context, context.splits[0], sink=list, watch=counting)
    assert (outcome.compared, outcome.mismatched, outcome.missing) == (2000, 0, 0)
    assert 0 < most < 20


def test_a_report_is_sealed_by_a_digest_over_everything() -> None:
    source = MemoryDatabase("source")
    source.put(make_batch(range(10)))
    report = validate_full(Source(source), source, SameMapper(), [Split(kind=IdKind.U64)])
    sealed = report.sealed(plan="p", seed=3, looked_at="full")
    read = ValidationReport.model_validate(sealed.to_json())
    assert read.digest == sealed.digest == read.compute_digest()
    for changed in ({"seed": 4}, {"passed": False}, {"plan": "q"}, {"seconds": 1e9}):
        assert read.model_copy(update=changed).compute_digest() != read.digest
