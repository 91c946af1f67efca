"""What becomes of vectors and their metrics: kept, widened with consent, or refused."""

from __future__ import annotations

import pytest

from vectormigrate_dagster.model import (
    Batch,
    Capabilities,
    Dense,
    Element,
    IdColumn,
    IdKind,
    Metric,
    VectorKind,
    VectorSchema,
)
from vectormigrate_dagster_tests.mapping.support import (
    DIM,
    MILVUS,
    MILVUS_SERVER,
    QDRANT,
    batch,
    codes,
    every_database,
    mapped,
    milvus_schema,
    qdrant_schema,
    vectors,
)

# --- H-24: metrics ---


@every_database
@pytest.mark.parametrize("metric", list(Metric))
def test_h24_a_metric_is_kept_or_the_plan_refuses(target: Capabilities, metric: Metric) -> None:
    source = qdrant_schema(vectors=(VectorSchema(name="v", dim=DIM, metric=metric),))
    mapping, report = mapped(source, QDRANT, target, batch(IdKind.U64, [1], name="v"))
    held = metric in target.metrics[VectorKind.DENSE]
    assert codes(report)["vector.v.metric"] == ("exact" if held else "refused")
    if held:
        assert mapping.target_schema.vectors[0].metric is metric


def test_h24_another_metric_has_to_be_asked_for_and_allowed() -> None:
    source = qdrant_schema(vectors=(VectorSchema(name="v", dim=DIM, metric=Metric.MANHATTAN),))
    records = batch(IdKind.U64, [1], name="v")
    mapping, report = mapped(source, QDRANT, MILVUS, records, types={"vector.v": "euclidean"})
    assert mapping.target_schema.vectors[0].metric is Metric.EUCLIDEAN
    assert [row.code for row in report.rows if row.blocks] == ["vector.v.metric"]
    _, report = mapped(
        source, QDRANT, MILVUS, records, types={"vector.v": "euclidean"}, allow=("vector.v.metric",)
    )  # fmt: skip
    report.check()


def test_a_vector_without_a_metric_needs_one_unless_there_is_no_choice() -> None:
    sparse = VectorSchema(name="s", kind=VectorKind.SPARSE)
    source = milvus_schema(vectors=(VectorSchema(name="v", dim=2), sparse))
    mapping, report = mapped(source, MILVUS, QDRANT)
    assert codes(report)["vector.v.metric"] == "refused"
    assert mapping.target_schema.vector("s").metric is Metric.DOT


# --- H-12 and the norm ---


def cosine(values, source: Capabilities, **options):
    schema = milvus_schema(vectors=(VectorSchema(name="vector", dim=DIM, metric=Metric.COSINE),))
    records = Batch(IdColumn.of(IdKind.TEXT, ["1", "2"]), None, {"vector": Dense(values)}, [{}, {}])
    return mapped(schema, source, QDRANT, records, **options)


def test_h12_a_norm_that_gets_lost_needs_consent() -> None:
    mapping, report = cosine(vectors(2), MILVUS)
    assert codes(report)["vector.vector.norm"] == "lossy"
    assert mapping.vectors[0].unit
    mapping, report = cosine(vectors(2), MILVUS, allow=("vector.vector.norm",))
    report.check()
    assert not mapping.vectors[0].unit


def test_h12_unit_vectors_are_widened_and_stay_checked() -> None:
    values = vectors(2)
    values /= abs(values).sum(axis=1, keepdims=True)
    values = (values.T / (values**2).sum(axis=1) ** 0.5).T
    mapping, report = cosine(values, MILVUS)
    assert codes(report)["vector.vector.norm"] == "widened"
    assert mapping.vectors[0].unit
    _, report = cosine(vectors(2), QDRANT)
    assert "vector.vector.norm" not in codes(report)


# --- vectors ---


def test_the_unnamed_vector_gets_a_name_and_loses_it_on_the_way_back() -> None:
    there, _ = mapped(qdrant_schema(), QDRANT, MILVUS, batch(IdKind.U64, [1]))
    assert there.vectors[0].target == "vector"
    back, _ = mapped(there.target_schema, MILVUS, QDRANT, batch(IdKind.I64, [1], name="vector"))
    assert back.vectors[0].target == ""
    assert back.target_schema.vectors[0].name == ""


def test_names_that_no_column_may_have_are_changed_without_meeting() -> None:
    names = ("a-b", "a_b", "1", "é")
    source = qdrant_schema(vectors=tuple(VectorSchema(name=name, dim=2, metric=Metric.DOT) for name in names))
    mapping, report = mapped(source, QDRANT, MILVUS)
    assert [m.target for m in mapping.vectors] == ["a_b", "a_b_", "_1", "_"]
    assert codes(report)["vector.a-b"] == "widened"
    back, _ = mapped(mapping.target_schema, MILVUS, QDRANT)
    assert tuple(m.target for m in back.vectors) == names


@pytest.mark.parametrize(
    ("vector", "grade"),
    [
        (VectorSchema(name="v", element=Element.FLOAT16, dim=2, metric=Metric.DOT), "widened"),
        (VectorSchema(name="v", element=Element.UINT8, dim=2, metric=Metric.DOT), "widened"),
        (VectorSchema(name="v", element=Element.BINARY, dim=8, metric=Metric.DOT), "refused"),
        (VectorSchema(name="v", kind=VectorKind.MULTI, dim=2, metric=Metric.DOT), "refused"),
        (VectorSchema(name="v", dim=40_000, metric=Metric.DOT), "refused"),
        (VectorSchema(name="v", dim=2, metric=Metric.DOT), "exact"),
    ],
)
def test_vectors_are_kept_widened_or_refused(vector: VectorSchema, grade: str) -> None:
    mapping, report = mapped(qdrant_schema(vectors=(vector,)), QDRANT, MILVUS)
    assert codes(report)["vector.v"] == grade
    if grade == "widened":
        assert mapping.target_schema.vectors[0].element is Element.FLOAT32
        assert mapping.vectors[0].conversion == "widen_f32"


def test_missing_vectors_need_consent_where_the_target_needs_all() -> None:
    records = Batch(IdColumn.of(IdKind.U64, [1, 2]), None, {"": Dense(vectors(2), vectors(2)[:, 0] > 9)}, [{}, {}])
    mapping, report = mapped(qdrant_schema(), QDRANT, MILVUS, records)
    assert codes(report)["vector..missing"] == "lossy"
    assert mapping.vectors[0].required
    mapping, report = mapped(qdrant_schema(), QDRANT, MILVUS_SERVER, records)
    assert "vector..missing" not in codes(report)
    assert mapping.target_schema.vectors[0].optional
