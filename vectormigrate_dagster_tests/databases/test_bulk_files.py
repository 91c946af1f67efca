"""Files for bulk imports have exactly the columns that the databases document, and hold every record or refuse it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vectormigrate_dagster import databases
from vectormigrate_dagster.databases import TYPES, Endpoint
from vectormigrate_dagster.databases.bulk_files import BulkFiles
from vectormigrate_dagster.errors import ConfigurationError, SchemaMismatch
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
    Metric,
    Packed,
    Sparse,
    VectorColumn,
    VectorKind,
    VectorSchema,
)

ROWS = 3
VALUES = np.asarray([[1, 2], [3, 4.5], [-0.1, 1e-30]], dtype=np.float32)
SPARSE = Sparse(
    indptr=np.asarray([0, 2, 2, 3], dtype=np.int64),
    indices=np.asarray([1, 2**32 - 2, 7], dtype=np.uint32),
    values=np.asarray([0.5, 1.1, 2], dtype=np.float32),
    valid=np.asarray([True, False, True]),
)


def files(type: str, schema: CollectionSchema) -> BulkFiles:
    return databases.bulk_files_of(Endpoint(type=type, url="http://there", collection="things"), schema)


def read_back(table: pa.Table, folder: Path) -> pa.Table:
    pq.write_table(table, folder / "file.parquet")
    return pq.ParquetFile(folder / "file.parquet").read()


def test_whoever_says_so_has_files_and_nobody_else() -> None:
    can = {name: databases.capabilities_of(name).imports_files for name in TYPES}
    assert can == {"milvus": True, "pinecone": True, "qdrant": False, "weaviate": False}
    for name in TYPES:
        if can[name]:
            assert isinstance(files(name, pinecone() if name == "pinecone" else milvus()), BulkFiles)
        else:
            with pytest.raises(ConfigurationError, match="has no bulk import of files; move the records with"):
                files(name, milvus())
    lite = Endpoint(type="milvus", path=Path("things.db"), collection="things")
    with pytest.raises(ConfigurationError, match="Milvus Lite has no bulk import"):
        databases.bulk_files_of(lite, milvus())


########################################################################
# Pinecone
########################################################################


def pinecone(*names: str) -> CollectionSchema:
    dense = VectorSchema(name="_values", dim=2, metric=Metric.DOT)
    sparse = VectorSchema(name="_sparse_values", kind=VectorKind.SPARSE, metric=Metric.DOT, optional=True)
    known = {"_values": dense, "_sparse_values": sparse}
    vectors = tuple(known.get(name, VectorSchema(name=name, dim=2)) for name in names or known)
    return CollectionSchema(name="things", ids=IdSchema(kinds=(IdKind.TEXT,)), vectors=vectors)


def texts(payloads: list[dict[str, Any]], scope: str | None = None, **vectors: VectorColumn) -> Batch:
    ids = IdColumn.of(IdKind.TEXT, ["a", "b", "c"])
    return Batch(ids=ids, scope=scope, vectors=vectors, payloads=payloads)


def test_pinecones_columns(tmp_path: Path) -> None:
    payloads = [{"year": 1984.0, "tags": ["x", "é"], "ok": True}, {}, {"a.b c": "text"}]
    batch = texts(payloads, _values=Dense(VALUES), _sparse_values=SPARSE)
    table, refused = files("pinecone", pinecone()).table_of(batch)
    assert refused == []
    table = read_back(table, tmp_path)
    assert table.schema.equals(
        pa.schema(
            [
                ("id", pa.string()),
                ("values", pa.list_(pa.field("element", pa.float32()))),
                (
                    "sparse_values",
                    pa.struct(
                        [
                            ("indices", pa.list_(pa.field("element", pa.uint32()))),
                            ("values", pa.list_(pa.field("element", pa.float32()))),
                        ]
                    ),
                ),
                ("metadata", pa.string()),
            ]
        )
    )
    assert table["id"].to_pylist() == ["a", "b", "c"]
    assert np.asarray(table["values"].to_pylist(), dtype=np.float32).tobytes() == VALUES.tobytes()
    first, second, third = table["sparse_values"].to_pylist()
    assert (first["indices"], second, third["indices"]) == ([1, 2**32 - 2], None, [7])
    assert np.float32(first["values"][1]) == np.float32(1.1)
    metadata = table["metadata"].to_pylist()
    assert [None if text is None else json.loads(text) for text in metadata] == [payloads[0], None, payloads[2]]


@pytest.mark.parametrize(("name", "column"), [("_values", "values"), ("_sparse_values", "sparse_values")])
def test_an_index_of_one_kind_has_no_column_of_the_other(name: str, column: str) -> None:
    vectors: dict[str, VectorColumn] = {"_values": Dense(VALUES), "_sparse_values": SPARSE}
    table, _ = files("pinecone", pinecone(name)).table_of(texts([{}] * ROWS, **{name: vectors[name]}))
    assert table.column_names == ["id", column, "metadata"]


def test_pinecone_refuses_what_it_would_change_or_not_take() -> None:
    payloads = [{"n": None}, {"n": 1.0}, {"n": float("nan")}]
    missing = Dense(VALUES, valid=np.asarray([True, False, True]))
    table, refused = files("pinecone", pinecone("_values")).table_of(texts(payloads, "space", _values=missing))
    assert table.num_rows == 0
    assert [(refusal.id, refusal.scope) for refusal in refused] == [("a", "space"), ("b", "space"), ("c", "space")]
    assert [word in refusal.reason for word, refusal in zip(("null", "lacks", "nan"), refused, strict=True)] == [
        True
    ] * 3


def test_a_document_index_is_not_imported_as_parquet() -> None:
    with pytest.raises(SchemaMismatch, match="the plan has vector 'title'"):
        files("pinecone", pinecone("title"))


def test_namespaces_are_folders() -> None:
    layout = files("pinecone", pinecone())
    assert (layout.folder_of(None), layout.folder_of("a b")) == ("__default__", "a b")
    for name in ("a/b", "..", "."):
        with pytest.raises(SchemaMismatch, match="cannot be the name of a folder"):
            layout.folder_of(name)


########################################################################
# Milvus
########################################################################


def milvus(*fields: FieldSchema, vectors: tuple[VectorSchema, ...] = (), dynamic: bool = True) -> CollectionSchema:
    dense = VectorSchema(name="embedding", dim=2, metric=Metric.COSINE)
    ids = IdSchema(kinds=(IdKind.I64,), field="key")
    return CollectionSchema(name="things", ids=ids, vectors=vectors or (dense,), fields=fields, dynamic=dynamic)


def numbers(payloads: list[dict[str, Any]], **vectors: VectorColumn) -> Batch:
    ids = IdColumn.of(IdKind.I64, [-(2**60), 1, 2**60])
    return Batch(ids=ids, vectors=vectors or {"embedding": Dense(VALUES)}, payloads=payloads)


def declared(name: str, type: FieldType, **settings: Any) -> FieldSchema:
    return FieldSchema(name=name, type=type, declared=True, **settings)


def test_milvuss_columns(tmp_path: Path) -> None:
    fields = (
        declared("small", FieldType.INT8),
        declared("big", FieldType.INT64),
        declared("single", FieldType.FLOAT32),
        declared("text", FieldType.TEXT, max_length=9),
        declared("doc", FieldType.JSON),
        declared("tags", FieldType.ARRAY, element=FieldType.TEXT, max_capacity=3, max_length=9),
        declared("marked", FieldType.BOOL, default=True, nullable=False),
    )
    row = {"small": -1, "big": 2**62, "single": 0.5, "text": "é", "doc": {"n": 2**60}, "tags": ["x", "y"]}
    payloads = [{**row, "rest.of it": [1, 2.0, None]}, {**row, "marked": False}, dict.fromkeys(row)]
    table, refused = files("milvus", milvus(*fields)).table_of(numbers(payloads))
    assert refused == []
    table = read_back(table, tmp_path)
    assert dict(zip(table.column_names, map(str, table.schema.types), strict=True)) == {
        "key": "int64",
        "embedding": "list<element: float>",
        "small": "int8",
        "big": "int64",
        "single": "float",
        "text": "string",
        "doc": "string",
        "tags": "list<element: string>",
        "marked": "bool",
        "$meta": "string",
    }
    assert table["key"].to_pylist() == [-(2**60), 1, 2**60]
    assert np.asarray(table["embedding"].to_pylist(), dtype=np.float32).tobytes() == VALUES.tobytes()
    assert table["big"].to_pylist() == [2**62, 2**62, None]
    assert table["doc"].to_pylist() == ['{"n":1152921504606846976}'] * 2 + [None]
    assert table["tags"].to_pylist() == [["x", "y"], ["x", "y"], None]
    assert table["marked"].to_pylist() == [True, False, True]
    assert list(map(json.loads, table["$meta"].to_pylist())) == [{"rest.of it": [1, 2.0, None]}, {}, {}]


def test_milvuss_other_vectors() -> None:
    kinds = (
        VectorSchema(name="bits", dim=16, element=Element.BINARY, metric=Metric.HAMMING),
        VectorSchema(name="halves", dim=2, element=Element.FLOAT16, metric=Metric.COSINE),
        VectorSchema(name="bytes", dim=2, element=Element.INT8, metric=Metric.COSINE),
        VectorSchema(name="sparse", kind=VectorKind.SPARSE, metric=Metric.DOT, optional=True),
    )
    bits = np.asarray([[1, 2], [3, 4], [5, 255]], dtype=np.uint8)
    halves, small = VALUES.astype(np.float16), np.asarray([[1, -2], [3, 4], [5, -128]], dtype=np.int8)
    batch = numbers(
        [{}] * ROWS,
        bits=Packed(Element.BINARY, 16, bits),
        halves=Packed(Element.FLOAT16, 2, halves),
        bytes=Packed(Element.INT8, 2, small),
        sparse=SPARSE,
    )
    table, refused = files("milvus", milvus(vectors=kinds)).table_of(batch)
    assert refused == []
    assert [str(table.schema.field(v.name).type) for v in kinds[:3]] == [
        "list<item: uint8>",
        "list<item: uint8>",
        "list<item: int8>",
    ]
    assert table["bits"].to_pylist() == bits.tolist()
    assert np.asarray(table["halves"].to_pylist(), dtype=np.uint8).tobytes() == halves.tobytes()
    assert table["bytes"].to_pylist() == small.tolist()
    first, second, third = table["sparse"].to_pylist()
    assert (second, json.loads(third)) == (None, {"7": 2.0})
    assert {key: np.float32(value) for key, value in json.loads(first).items()} == {
        "1": np.float32(0.5),
        "4294967294": np.float32(1.1),
    }


def test_milvus_refuses_what_has_no_place() -> None:
    schema = milvus(declared("n", FieldType.INT8, nullable=False), dynamic=False)
    table, refused = files("milvus", schema).table_of(numbers([{"n": 1}, {"n": 1, "other": 2}, {"n": 1000}]))
    assert table.column_names == ["key", "embedding", "n"]
    assert table["key"].to_pylist() == [-(2**60)]
    assert [refusal.id for refusal in refused] == ["1", str(2**60)]


def test_partitions_are_folders() -> None:
    layout = files("milvus", milvus())
    assert (layout.folder_of(None), layout.folder_of("west")) == ("_default", "west")
