"""What newer Milvus servers hold, through the messages that servers speak: several vectors, sparse ones, nulls.

The server of the package index is 2.3.5 and knows none of it. Milvus Lite as a program of its own speaks the same
protocol.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType
from pymilvus.grpc_gen import milvus_pb2

from vectormigrate_dagster.databases import Database, Endpoint, open_target
from vectormigrate_dagster.databases.columns import joined
from vectormigrate_dagster.databases.milvus.messages import batch_of_reply, reply_of
from vectormigrate_dagster.databases.milvus.requests import upsert_of
from vectormigrate_dagster.databases.milvus.wire import grpc_target
from vectormigrate_dagster.errors import InvalidRecord, SchemaMismatch
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
    Packed,
    Sparse,
    Split,
    VectorColumn,
    VectorKind,
    VectorSchema,
)
from vectormigrate_dagster_tests.servers.proxy import HOST

IDS = IdSchema(kinds=(IdKind.I64,), field="key")
WHOLE = Split(kind=IdKind.I64)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("milvus-lite", path=str(Path(sys.executable).parent))
    assert program is not None, "milvus-lite is not installed beside Python"
    with socket.create_server((HOST, 0)) as unused:
        port = unused.getsockname()[1]
    folder = tmp_path_factory.mktemp("lite")
    command = [program, "server", "--data-dir", str(folder), "--host", HOST, "--port", str(port)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + 60
            while not answers(port):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
            yield f"http://{HOST}:{port}"
        finally:
            process.terminate()


def answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with open_target(Endpoint(type="milvus", url=url, collection="things")) as database:
        yield database
        database.drop()


def vector(name: str, **settings: Any) -> VectorSchema:
    index = "SPARSE_INVERTED_INDEX" if settings.get("kind") is VectorKind.SPARSE else "FLAT"
    return VectorSchema(name=name, metric=Metric.DOT, index=IndexSpec(type=index), **settings)


def column(name: str, type: FieldType, **settings: Any) -> FieldSchema:
    return FieldSchema(name=name, type=type, declared=True, **settings)


FIELDS = (
    column("n", FieldType.INT64),
    column("text", FieldType.TEXT, max_length=20),
    column("seven", FieldType.INT64, nullable=False, default=7),
    column("tree", FieldType.JSON),
    column("list", FieldType.ARRAY, element=FieldType.INT64, max_capacity=3),
    column("real", FieldType.FLOAT32),
    column("flag", FieldType.BOOL),
)
VECTORS = (vector("a", dim=4), vector("b", dim=2), vector("s", dim=None, kind=VectorKind.SPARSE))
SPARSE = Sparse(
    indptr=np.array([0, 2, 3, 6], dtype=np.int64),
    indices=np.array([1, 7, 2**32 - 2, 0, 9, 500], dtype=np.uint32),
    values=np.array([0.5, 2, 3, 1e-20, 4, 5], dtype=np.float32),
)
FULL = {"n": -1, "text": "é", "seven": 1, "tree": {"a": [None]}, "list": [1, 2], "real": 0.5, "flag": True}
NULL = dict.fromkeys(FULL, None)


def test_several_vectors_nulls_and_defaults_go_over_the_wire_and_come_back(database: Database) -> None:
    made = CollectionSchema(name="things", ids=IDS, vectors=VECTORS, fields=FIELDS)
    database.create(made)
    described = database.describe()
    assert described.vectors == VECTORS
    assert described.fields == FIELDS

    random = np.random.default_rng(0)
    vectors: dict[str, VectorColumn] = {
        "a": Dense(random.standard_normal((3, 4)).astype(np.float32)),
        "b": Dense(random.standard_normal((3, 2)).astype(np.float32)),
        "s": SPARSE,
    }
    empty = {key: value for key, value in NULL.items() if key != "seven"}
    payloads = [FULL | {"more": [1, {"x": None}]}, empty, {}]
    assert database.upsert(Batch(IdColumn.of(IdKind.I64, [5, 6, 7]), None, vectors, payloads)) == []
    assert database.count() == 3
    read = joined(list(database.scan(WHOLE)))
    assert read.payloads == [payloads[0], NULL | {"seven": 7}, NULL | {"seven": 7}]
    for name in ("a", "b"):
        back = read.vectors[name]
        assert isinstance(back, Dense)
        assert back.valid is None
        assert back.values.tobytes() == vectors[name].values.tobytes()
    sparse = read.vectors["s"]
    assert isinstance(sparse, Sparse)
    for part in ("indptr", "indices", "values"):
        assert getattr(sparse, part).tolist() == getattr(SPARSE, part).tolist()


def test_one_vector_of_several_is_searched_by(database: Database) -> None:
    database.create(CollectionSchema(name="things", ids=IDS, vectors=VECTORS[:2]))
    vectors: dict[str, VectorColumn] = {
        "a": Dense(np.eye(3, 4, dtype=np.float32)),
        "b": Dense(np.array([[1, 0], [2, 0], [3, 0]], dtype=np.float32)),
    }
    database.upsert(Batch(IdColumn.of(IdKind.I64, [0, 1, 2]), None, vectors, [{}] * 3))
    query = np.array([[1, 0]], dtype=np.float32)
    assert database.search(query, 3, vector="b", exact=True).ids[0].to_pylist() == [2, 1, 0]
    query = np.array([[0, 1, 0, 0]], dtype=np.float32)
    assert database.search(query, 1, vector="a", exact=True).ids[0].to_pylist() == [1]


def test_h13_milvus_lite_behind_an_address_is_known_for_what_it_cannot_keep(database: Database) -> None:
    """It says no version, and must not be taken for a new server: it stores a missing vector as zeros."""
    can = database.probe()
    assert (can.title, can.missing_vectors, can.elements) == ("Milvus Lite", False, (Element.FLOAT32,))
    with pytest.raises(SchemaMismatch, match="'a' may be missing"):
        database.create(CollectionSchema(name="things", ids=IDS, vectors=(vector("a", dim=2, optional=True),)))
    database.create(CollectionSchema(name="things", ids=IDS, vectors=VECTORS[1:], fields=FIELDS[3:4]))
    vectors: dict[str, VectorColumn] = {"b": Dense(np.ones((2, 2), dtype=np.float32)), "s": SPARSE.take([0, 1])}
    (refusal,) = database.upsert(Batch(IdColumn.of(IdKind.I64, [1, 2]), None, vectors, [{"tree": "text"}, {}]))
    assert (refusal.id, "keeps objects and lists" in refusal.reason) == ("1", True)
    vectors["s"] = Sparse(np.zeros(3, dtype=np.int64), SPARSE.indices[:0], SPARSE.values[:0])
    with pytest.raises(InvalidRecord, match="at least one nonzero"):
        database.upsert(Batch(IdColumn.of(IdKind.I64, [1, 2]), None, vectors, [{"tree": {}}] * 2))


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://[::1]:19530", "[::1]:19530"),
        ("http://[fe80::1]", "[fe80::1]:19530"),
        ("https://milvus.example", "milvus.example:443"),
        ("http://127.0.0.1:7", "127.0.0.1:7"),
    ],
)
def test_addresses_are_said_as_grpc_understands_them(url: str, target: str) -> None:
    assert grpc_target(url) == target


########################################################################
# Types that no server here knows: from our columns to a message and back
########################################################################

_VALID = np.array([True, False, True])
PACKED = {
    Element.FLOAT16: ("FLOAT16_VECTOR", np.array([[0.5, -2], [0, 0], [65504, 1]], dtype=np.float16)),
    Element.BFLOAT16: ("BFLOAT16_VECTOR", np.array([[0x3F80, 0xC000], [0, 0], [1, 0x7F7F]], dtype=np.uint16)),
    Element.INT8: ("INT8_VECTOR", np.array([[-128, 127], [0, 0], [1, -1]], dtype=np.int8)),
}


@pytest.mark.parametrize("valid", [None, _VALID], ids=["all", "some missing"])
@pytest.mark.parametrize("element", PACKED)
def test_packed_vectors_are_the_same_bytes_in_a_message(element: Element, valid: Any) -> None:
    name, values = PACKED[element]
    packed = Packed(element, 2, values, valid)
    back = through_a_message(packed, name, VectorSchema(name="v", element=element, dim=2, optional=valid is not None))
    assert isinstance(back, Packed)
    assert (back.element, back.dim, back.values.tobytes()) == (element, 2, values.tobytes())
    assert (back.valid is None) == (valid is None)
    assert valid is None or back.valid.tolist() == valid.tolist()


def test_missing_dense_and_sparse_vectors_are_told_apart_from_zeros() -> None:
    dense = Dense(np.array([[1, 2], [0, 0], [0, 0]], dtype=np.float32), _VALID)
    back = through_a_message(dense, "FLOAT_VECTOR", VectorSchema(name="v", dim=2, optional=True))
    assert isinstance(back, Dense)
    assert (back.values.tolist(), back.valid.tolist()) == (dense.values.tolist(), _VALID.tolist())
    weights = np.array([0, 1, 1, 1]), np.array([3], dtype=np.uint32), np.array([0.5], dtype=np.float32)
    sparse = Sparse(*weights, _VALID)
    schema = VectorSchema(name="v", kind=VectorKind.SPARSE, dim=None, optional=True)
    back = through_a_message(sparse, "SPARSE_FLOAT_VECTOR", schema)
    assert isinstance(back, Sparse)
    assert (back.indptr.tolist(), back.indices.tolist(), back.valid.tolist()) == ([0, 1, 1, 1], [3], _VALID.tolist())


def through_a_message(written: VectorColumn, type: str, vector: VectorSchema) -> VectorColumn:
    """What is read out of a reply that holds what an upsert would send."""
    fields = [
        {"name": "key", "type": DataType.INT64, "is_primary": True, "params": {}},
        {"name": "v", "type": DataType[type], "params": {}, "nullable": vector.optional},
    ]
    described = {"fields": fields, "enable_dynamic_field": False}
    sent = Batch(IdColumn.of(IdKind.I64, range(3)), None, {"v": written}, [{}] * 3)
    octets = b"".join(upsert_of(sent, [], collection="c", partition=None, described=described))
    request = milvus_pb2.UpsertRequest.FromString(octets)
    reply = reply_of(milvus_pb2.QueryResults(fields_data=request.fields_data).SerializeToString())
    schema = CollectionSchema(name="c", ids=IDS, vectors=(vector,), dynamic=False)
    batch = batch_of_reply(reply, schema, None)
    assert batch.ids.to_pylist() == [0, 1, 2]
    return batch.vectors["v"]
