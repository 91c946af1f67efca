"""The matrix in docs is what the plans say, and every cell of it holds: there and back, without a server."""

from __future__ import annotations

from itertools import product

import pytest

from vectormigrate_dagster.config import MappingConfig
from vectormigrate_dagster.databases import TYPES, capabilities_of
from vectormigrate_dagster.mapping.loss import Grade, LossReport
from vectormigrate_dagster.mapping.origin import Before
from vectormigrate_dagster.mapping.profile import Profiler
from vectormigrate_dagster.mapping.records import RecordMapper
from vectormigrate_dagster.mapping.schema import Mapping, map_schema
from vectormigrate_dagster.model import Batch, CollectionSchema
from vectormigrate_dagster.model.compare import compare
from vectormigrate_dagster_tests.matrix import DOCUMENT, Cell, cells, document

CELLS = cells()


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(CELLS)


def test_every_direction_and_grade_is_there() -> None:
    held = [cell for cell in CELLS if cell.grade is not None]
    assert {(cell.source, cell.target) for cell in held} == set(product(TYPES, TYPES))
    assert {cell.grade for cell in held} == set(Grade)
    assert {cell.grade for cell in held if cell.source == cell.target} == {Grade.EXACT}
    assert {cell.feature.group for cell in held} == {"payload value", "id", "vector", "metric", "scope"}
    assert all(any(cell.feature == other.feature for other in held) for cell in CELLS)


@pytest.mark.parametrize(("source", "target"), list(product(TYPES, TYPES)))
def test_no_cell_differs_in_silence(source: str, target: str) -> None:
    for cell in CELLS:
        if (cell.source, cell.target) == (source, target) and cell.sample is not None:
            check(cell)


def check(cell: Cell) -> None:
    """Records go there and back; what is not refused and not allowed to change is the same again."""
    assert cell.sample is not None
    schema, batches = cell.sample.schema, list(cell.sample.batches)
    mapping, report = planned(schema, cell.source, cell.target, batches)
    assert any(row.blocks for row in report.rows) == (cell.grade in (Grade.LOSSY, Grade.REFUSED)), cell
    if cell.grade is Grade.REFUSED:
        return
    allowed = tuple(row.code for row in report.rows if row.grade is Grade.LOSSY)
    mapping, report = planned(schema, cell.source, cell.target, batches, allow=allowed)
    report.check()
    parts, refused = mapped(mapping, batches)
    assert bool(refused) <= (cell.grade is Grade.LOSSY), (cell, refused)
    if cell.grade is Grade.LOSSY:
        assert refused or any(row.code.endswith(".norm") for row in report.rows)
        return
    back, _ = planned(mapping.target_schema, cell.target, cell.source, parts, allow=("vector.vector.norm",))
    returned, refused = mapped(back, parts)
    assert not refused, (cell, refused)
    floats = any(row.code.endswith(".float") for row in report.rows)
    for before in batches:
        after = [one for one in returned if (one.scope, one.ids.kind) == (before.scope, before.ids.kind)]
        assert after, cell
        for one in after:
            comparison = compare(before, one)
            wrong = [d for d in comparison.differences if not (floats and d.detail == "expected int, found float")]
            wrong = [d for d in wrong if not (cell.grade is Grade.WIDENED and "different kinds" in d.detail)]
            assert [wrong, comparison.missing, comparison.extra] == [[], (), ()], cell


def planned(
    schema: CollectionSchema, source: str, target: str, batches: list[Batch], *, allow: tuple[str, ...] = ()
) -> tuple[Mapping, LossReport]:
    options = MappingConfig(allow=allow)
    profiler = Profiler(Before.of(schema, options))
    for one in batches:
        profiler.add(one)
    profile = profiler.profile(complete=True)
    return map_schema(
        schema, capabilities_of(source), capabilities_of(target), options, profile, collection="copy"
    )  # fmt: skip


def mapped(mapping: Mapping, batches: list[Batch]) -> tuple[list[Batch], list[str]]:
    mapper = RecordMapper(mapping)
    done = [mapper.map(one) for one in batches]
    return [part for one in done for part in one.batches], [r.reason for one in done for r in one.refused]
