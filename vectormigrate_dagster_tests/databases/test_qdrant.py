"""What is particular to Qdrant: settings as intent, small elements, plans from samples, warnings, errors."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from qdrant_client.local import local_collection, qdrant_local

from vectormigrate_dagster.databases import Database, Endpoint, open_target
from vectormigrate_dagster.databases.endpoint import QdrantOptions
from vectormigrate_dagster.databases.qdrant.records import first_after
from vectormigrate_dagster.databases.qdrant.schema import payload_index
from vectormigrate_dagster.databases.splits import cut
from vectormigrate_dagster.errors import (
    AuthenticationFailed,
    BrokenScan,
    ConfigurationError,
    DatabaseError,
    InvalidRecord,
    NotFound,
    SchemaMismatch,
    Throttled,
    Unavailable,
)
from vectormigrate_dagster.model import (
    Batch,
    CollectionSchema,
    Dense,
    Element,
    FieldSchema,
    FieldType,
    IdColumn,
    IdKind,
    IdSchema,
    IndexSpec,
    Metric,
    Multi,
    Packed,
    Sparse,
    Split,
    VectorKind,
    VectorSchema,
    is_valid,
)

IDS = IdSchema(kinds=(IdKind.U64, IdKind.UUID))


@pytest.fixture
def database(tmp_path: Path) -> Any:
    with open_target(Endpoint(type="qdrant", path=tmp_path / "qdrant", collection="things")) as database:
        yield database


def schema(*vectors: VectorSchema) -> CollectionSchema:
    return CollectionSchema(name="things", ids=IDS, vectors=vectors)


def plain(n: int) -> Batch:
    vectors = Dense(np.ones((n, 2), dtype=np.float32))
    return Batch(IdColumn.of(IdKind.U64, range(n)), None, {"": vectors}, [{} for _ in range(n)])


PLAIN = VectorSchema(name="", dim=2, metric=Metric.DOT)

########################################################################
# Schema
########################################################################


def test_settings_of_indexes_are_kept_as_intent(database: Database) -> None:
    made = VectorSchema(
        name="v",
        dim=3,
        metric=Metric.COSINE,
        index=IndexSpec(type="hnsw", params={"m": 8, "ef_construct": 64}),
        quantization=IndexSpec(type="scalar", params={"type": "int8", "quantile": 0.99}),
        on_disk=True,
        optional=True,
    )
    sparse = VectorSchema(name="s", kind=VectorKind.SPARSE, metric=Metric.DOT, modifier="idf", optional=True)
    database.create(schema(made, sparse))
    described = database.describe().vector("v")
    assert described.index is not None
    assert described.index.params.items() >= made.index.params.items()
    assert described.model_copy(update={"index": made.index}) == made
    assert database.describe().vector("s") == sparse


def test_an_unnamed_vector_cannot_stand_beside_named_ones(database: Database) -> None:
    with pytest.raises(SchemaMismatch, match="'other'"):
        database.create(schema(PLAIN, PLAIN.model_copy(update={"name": "other"})))


def test_aliases_and_foreign_metadata_are_described(database: Database) -> None:
    from qdrant_client import models  # noqa: PLC0415

    database.create(schema(PLAIN))
    with database._client("write") as client:
        operation = models.CreateAlias(collection_name="things", alias_name="nickname")
        client.update_collection_aliases([models.CreateAliasOperation(create_alias=operation)])
        client.update_collection("things", metadata={"owner": "me"})
    described = database.describe()
    assert described.aliases == ("nickname",)
    assert described.marker is None
    assert described.settings["metadata"] == {"owner": "me"}


@pytest.mark.parametrize("index", ["keyword", "integer", "float", "bool", "geo", "datetime", "text", "uuid"])
def test_every_payload_index_can_be_written(index: str) -> None:
    field = FieldSchema(name="f", type=FieldType.TEXT, index=IndexSpec(type=index))
    assert payload_index(field).type.value == index


def test_an_unknown_payload_index_is_refused() -> None:
    with pytest.raises(SchemaMismatch, match="'INVERTED'"):
        payload_index(FieldSchema(name="f", index=IndexSpec(type="INVERTED")))


########################################################################
# Records
########################################################################


def test_small_elements_travel_packed(database: Database) -> None:
    database.create(
        schema(
            VectorSchema(name="bytes", element=Element.UINT8, dim=3, metric=Metric.EUCLIDEAN),
            VectorSchema(name="halves", element=Element.FLOAT16, dim=2, metric=Metric.DOT),
        )
    )
    small = Packed(Element.UINT8, 3, np.array([[0, 128, 255], [1, 2, 3]], dtype=np.uint8))
    half = Packed(Element.FLOAT16, 2, np.array([[0.1, -2], [65504, 6e-8]], dtype=np.float16))
    database.upsert(Batch(IdColumn.of(IdKind.U64, [1, 2]), None, {"bytes": small, "halves": half}, [{}, {}]))
    (back,) = database.scan(Split(kind=IdKind.U64))
    for name, column in (("bytes", small), ("halves", half)):
        assert back.vectors[name].element is column.element
        assert back.vectors[name].values.dtype == column.values.dtype
        assert back.vectors[name].values.tobytes() == column.values.tobytes()
    assert database.describe().vector("bytes").element is Element.UINT8


def test_an_element_that_qdrant_lacks_is_refused_before_it_is_misread(database: Database) -> None:
    database.create(schema(PLAIN))
    column = Packed(Element.BFLOAT16, 2, np.array([[16256, 16256]], dtype=np.uint16))
    with pytest.raises(InvalidRecord, match="bfloat16"):
        database.upsert(Batch(IdColumn.of(IdKind.U64, [1]), None, {"": column}, [{}]))


def test_each_vector_may_be_missing_by_itself(database: Database) -> None:
    database.create(
        schema(
            VectorSchema(name="d", dim=2, metric=Metric.DOT),
            VectorSchema(name="m", kind=VectorKind.MULTI, dim=2, metric=Metric.DOT),
            VectorSchema(name="s", kind=VectorKind.SPARSE),
        )
    )
    one = np.ones((1, 2), dtype=np.float32)
    vectors = {
        "d": Dense(np.repeat(one, 4, axis=0), np.array([True, False, False, False])),
        "m": Multi(np.array([0, 0, 1, 1, 1]), one, np.array([False, True, False, False])),
        "s": Sparse(
            np.array([0, 0, 0, 1, 1]),
            np.array([3], dtype=np.uint32),
            np.array([1], dtype=np.float32),
            np.array([False, False, True, False]),
        ),
    }
    database.upsert(Batch(IdColumn.of(IdKind.U64, [1, 2, 3, 4]), None, vectors, [{}] * 4))
    (back,) = database.scan(Split(kind=IdKind.U64))
    for name, column in vectors.items():
        assert is_valid(back.vectors[name]).tolist() == is_valid(column).tolist()


def test_cosine_vectors_of_zeros_stay_zeros(database: Database) -> None:
    database.create(schema(PLAIN.model_copy(update={"metric": Metric.COSINE})))
    database.upsert(Batch(IdColumn.of(IdKind.U64, [1]), None, {"": Dense(np.zeros((1, 2), np.float32))}, [{}]))
    (back,) = database.scan(Split(kind=IdKind.U64))
    assert back.vectors[""].values.tolist() == [[0.0, 0.0]]


def test_a_text_id_is_refused(database: Database) -> None:
    database.create(schema(PLAIN))
    batch = Batch(IdColumn.of(IdKind.TEXT, ["no"]), None, {"": Dense(np.ones((1, 2), np.float32))}, [{}])
    with pytest.raises(InvalidRecord):
        database.upsert(batch)


def test_an_answer_of_both_kinds_of_id_is_given_as_text(database: Database) -> None:
    database.create(schema(PLAIN))
    other = uuid.UUID(int=7)
    vectors = {"": Dense(np.array([[2, 2]], dtype=np.float32))}
    database.upsert(plain(1))
    database.upsert(Batch(IdColumn.of(IdKind.UUID, [other]), None, vectors, [{}]))
    (ids,) = database.search(np.ones((1, 2), dtype=np.float32), 5, exact=True).ids
    assert ids == IdColumn.of(IdKind.TEXT, [str(other), "0"])


########################################################################
# Plans
########################################################################


@given(st.sets(st.integers(0, 2**64 - 1), max_size=60), st.integers(1, 80), st.floats(1, 50))
def test_cut_tiles_whatever_the_sample_is(ids: set[int], target: int, weight: float) -> None:
    splits = cut(IdKind.U64, sorted(ids), weight, target, None)
    assert splits[0].after is None
    assert splits[-1].last is None
    assert [split.last for split in splits[:-1]] == [split.after for split in splits[1:]]
    assert all(sum(split.contains(value) for split in splits) == 1 for value in ids)
    assert len({split.last for split in splits}) == len(splits)


def test_h07_an_id_of_another_split_in_the_wrong_place_ends_the_scan(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.create(schema(VectorSchema(name="", dim=2, metric=Metric.DOT)))
    database.upsert(plain(10))
    with database._client("read") as client:
        honest = client.scroll

    def disordered(*args: Any, **settings: Any) -> Any:
        points, following = honest(*args, **settings)
        return [points[0], points[-1], *points[1:-1]], following

    monkeypatch.setattr(client, "scroll", disordered)
    with pytest.raises(BrokenScan, match="strictly"):
        list(database.scan(Split(kind=IdKind.U64, last="5"), batch_records=10))


def test_there_is_no_id_after_the_last() -> None:
    assert first_after(IdKind.U64, None) == 0
    assert first_after(IdKind.U64, 2**64 - 1) is None
    assert first_after(IdKind.UUID, None) == uuid.UUID(int=0)
    assert first_after(IdKind.UUID, uuid.UUID(int=2**128 - 1)) is None


########################################################################
# Warnings, addresses and errors
########################################################################


def test_many_records_in_a_folder_raise_no_warning(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_local.QdrantLocal, "LARGE_DATA_THRESHOLD", 3)
    monkeypatch.setattr(local_collection.LocalCollection, "LARGE_DATA_THRESHOLD", 3)
    monkeypatch.setattr("qdrant_client.common.client_warnings.SEEN_MESSAGES", set())
    database.create(schema(PLAIN))
    database.upsert(plain(5))
    database.close()
    with open_target(database.endpoint) as again:
        assert again.count() == 5


def test_one_qdrant_is_on_one_host() -> None:
    options = QdrantOptions(grpc_url="http://elsewhere:6334")
    with (
        open_target(Endpoint(type="qdrant", url="http://here:6333", collection="c", options=options)) as database,
        pytest.raises(ConfigurationError, match="'elsewhere'"),
    ):
        database.ping()


def test_a_server_that_is_not_there_is_unavailable() -> None:
    endpoint = Endpoint(type="qdrant", url="http://127.0.0.1:9", collection="c")
    with open_target(endpoint) as database, pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        database.describe()


def test_the_key_is_in_no_text(tmp_path: Path) -> None:
    endpoint = Endpoint(type="qdrant", url="http://here", collection="c", api_key=SecretStr("hush-hush"))
    assert "hush" not in f"{endpoint} {endpoint!r}"


SAID = b'{"status": {"error": "Wrong input: no"}, "time": 0}'


def response(status: int, content: bytes = SAID) -> UnexpectedResponse:
    return UnexpectedResponse(status, "reason", content, httpx.Headers())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (response(400), InvalidRecord),
        (response(413), InvalidRecord),
        (response(422), InvalidRecord),
        (response(400, b"<html>a proxy's</html>"), DatabaseError),
        (response(400, b"{}"), DatabaseError),
        (response(405), DatabaseError),
        (response(409), DatabaseError),
        (response(411, b""), DatabaseError),
        (response(401), AuthenticationFailed),
        (response(403), AuthenticationFailed),
        (response(404), NotFound),
        (response(429), Throttled),
        (response(500), Unavailable),
        (response(503), Unavailable),
        (ResponseHandlingException(httpx.ConnectError("refused")), Unavailable),
        (ResourceExhaustedResponse("slow down", 7), Throttled),
        (ValueError("Collection things not found"), NotFound),
        (ValueError("Wrong input: Vector dimension error"), InvalidRecord),
        (OSError("disk"), DatabaseError),
    ],
)
def test_errors_of_the_client_are_translated(database: Database, error: Exception, expected: type[Exception]) -> None:
    translated = database._translate(error, "write")
    assert type(translated) is expected
    if isinstance(error, ResourceExhaustedResponse):
        assert translated.retry_after == 7
