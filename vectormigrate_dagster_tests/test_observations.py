"""Checks the observer of the matrix: any difference that no row of the report announces is found.

A migration between two collections in memory is right; then one thing of what arrived is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vectormigrate_dagster.databases import Refusal
from vectormigrate_dagster.mapping.loss import Grade, LossReport, LossRow
from vectormigrate_dagster.model import Batch, CollectionSchema, Dense, IdColumn, IdKind, IdSchema, Metric, VectorSchema
from vectormigrate_dagster_tests.matrix_features import Sample
from vectormigrate_dagster_tests.matrix_runs import Newest, fill, move, planned
from vectormigrate_dagster_tests.observations import Moved, Record, announced, observe

PAYLOADS = [{"n": 1, "text": "123", "list": [1, 1.0]}, {"n": 2, "zero": 0.0, "none": None}]


@pytest.fixture(scope="module")
def moved() -> Moved:
    side = Newest.side("qdrant")
    vector = VectorSchema(name="v", dim=2, metric=Metric.DOT, optional=True)
    schema = CollectionSchema(name="any", ids=IdSchema(kinds=(IdKind.U64, IdKind.UUID)), vectors=(vector,))
    values = np.array([[1, 2], [3, 4]], dtype=np.float32)
    batch = Batch(IdColumn.of(IdKind.U64, [1, 2]), None, {"v": Dense(values)}, PAYLOADS)
    origin = fill(side, Sample(schema, (batch,)))
    place = side.new()
    return move(origin, place, planned(origin, place))


def first(moved: Moved, **changes: object) -> list[Record]:
    """What arrived, with the first record changed."""
    one, *others = sorted(moved.after, key=lambda record: str(record.id))
    return [replace(one, **changes), *others]


def test_a_right_migration_is_exact(moved: Moved) -> None:
    seen = observe(moved)
    assert seen.silent == []
    assert set(seen.grades.values()) == {Grade.EXACT}
    assert seen.grades.keys() >= {"ids", "scope", "vector.v", "vector.v.metric", "field.n", "field.none"}


OTHER_VECTOR = {"v": ("float32", (np.array([1, 2.0000002], dtype=np.float32),))}
SMALLER_VECTOR = {"v": ("float16", (np.array([1, 2], dtype=np.float16),))}
CHANGES: dict[str, Callable[[Moved], list[Record]]] = {
    "an int became a float": lambda moved: first(moved, payload={**PAYLOADS[0], "n": 1.0}),
    "an int became a bool": lambda moved: first(moved, payload={**PAYLOADS[0], "n": True}),
    "a text became an int": lambda moved: first(moved, payload={**PAYLOADS[0], "text": 123}),
    "a number in a list": lambda moved: first(moved, payload={**PAYLOADS[0], "list": [1, 1]}),
    "a key is lost": lambda moved: first(moved, payload={"n": 1, "text": "123"}),
    "a key is new": lambda moved: first(moved, payload={**PAYLOADS[0], "new": 1}),
    "a key is renamed": lambda moved: first(moved, payload={"n_": 1, "text": "123", "list": [1, 1.0]}),
    "a value is packed": lambda moved: first(
        moved, payload={"text": "123", "list": [1, 1.0], "_source_json": '{"n":1}'}
    ),
    "a record is lost": lambda moved: list(moved.after)[1:],
    "a record comes twice": lambda moved: [*moved.after, moved.after[0]],
    "a record is new": lambda moved: [*moved.after, replace(moved.after[0], id=3)],
    "another id": lambda moved: first(moved, id=7),
    "an id became a text": lambda moved: first(moved, kind="text", id="1"),
    "another scope": lambda moved: first(moved, scope="north"),
    "one bit of a vector": lambda moved: first(moved, vectors=OTHER_VECTOR),
    "smaller components": lambda moved: first(moved, vectors=SMALLER_VECTOR),
    "a vector is lost": lambda moved: first(moved, vectors={}),
    "null became absent": lambda moved: [
        replace(one, payload={key: value for key, value in one.payload.items() if value is not None})
        for one in moved.after
    ],
    "-0.0": lambda moved: [
        replace(one, payload={k: -0.0 if k == "zero" else v for k, v in one.payload.items()}) for one in moved.after
    ],
}


@pytest.mark.parametrize("what", CHANGES)
def test_h22_a_difference_that_nobody_announced_is_found(moved: Moved, what: str) -> None:
    assert observe(replace(moved, after=CHANGES[what](moved))).silent


def test_h22_another_metric_is_found(moved: Moved) -> None:
    (vector,) = moved.target.vectors
    other = moved.target.model_copy(update={"vectors": (vector.model_copy(update={"metric": Metric.COSINE}),)})
    assert observe(replace(moved, target=other)).silent


def test_h22_a_refusal_has_to_be_announced(moved: Moved) -> None:
    refused = replace(moved, after=list(moved.after)[1:], refused=[Refusal("1", "no place")])
    assert observe(refused).silent
    allowed = LossRow(code="vector.v.zero", subject="v", source="a", target="b", grade=Grade.LOSSY, allowed=True)
    assert observe(replace(refused, report=LossReport(rows=(allowed,)))).silent == []
    assert observe(replace(moved, refused=[Refusal("1", "no place")])).silent


def test_what_is_announced_of_an_index_says_nothing_of_data() -> None:
    def row(code: str, grade: Grade) -> LossRow:
        return LossRow(code=code, subject="any", source="a", target="b", grade=grade)

    report = LossReport(
        rows=(row("field.a.index", Grade.WIDENED), row("field.ab", Grade.LOSSY), row("vector.v.index", Grade.WIDENED))
    )
    assert announced(report, "field.a") is announced(report, "vector.v") is Grade.EXACT
    assert announced(report, "field.ab") is Grade.LOSSY
