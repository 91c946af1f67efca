"""Milvus: what our module asks of a server, and no more."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from pymilvus import DataType
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

from benchmarks.at_once.answers import serve
from benchmarks.at_once.records import COLLECTION, Records, payload


def columns(records: Records) -> tuple[Any, dict[str, str]]:
    """Start a Milvus whose payload fields are columns; return its server and its addresses."""
    return _milvus(records, columns=True)


def dynamic(records: Records) -> tuple[Any, dict[str, str]]:
    """The same with payload fields that are keys of the dynamic field."""
    return _milvus(records, columns=False)


def _milvus(records: Records, *, columns: bool) -> tuple[Any, dict[str, str]]:
    fine = common_pb2.Status()
    page = cache(lambda start, limit: _page(records, start, limit, columns=columns))

    def query(request: bytes) -> bytes:
        asked = milvus_pb2.QueryRequest.FromString(request)
        after = re.fullmatch(r"id > (\d+)", asked.expr)
        limit = next(int(pair.value) for pair in asked.query_params if pair.key == "limit")
        return page(int(after.group(1)) + 1 if after else 0, limit)

    done = milvus_pb2.MutationResult(status=fine).SerializeToString()
    base = "/milvus.proto.milvus.MilvusService"
    server, port = serve({f"{base}/Query": query, f"{base}/Upsert": lambda _: done})

    class Control(milvus_pb2_grpc.MilvusServiceServicer):  # type: ignore[misc]
        """What is asked beside records. The names are the protocol's."""

        def Connect(self, *_: Any) -> Any:  # noqa: N802
            info = common_pb2.ServerInfo(build_tags="v2.5.4")
            return milvus_pb2.ConnectResponse(status=fine, server_info=info)

        def DescribeCollection(self, *_: Any) -> Any:  # noqa: N802
            schema = _schema(records, columns=columns)
            return milvus_pb2.DescribeCollectionResponse(status=fine, schema=schema, collection_name=COLLECTION)

        def DescribeIndex(self, *_: Any) -> Any:  # noqa: N802
            params = [
                common_pb2.KeyValuePair(key=k, value=v) for k, v in (("index_type", "FLAT"), ("metric_type", "L2"))
            ]
            index = milvus_pb2.IndexDescription(index_name="embedding", field_name="embedding", params=params)
            return milvus_pb2.DescribeIndexResponse(status=fine, index_descriptions=[index])

        def ShowPartitions(self, *_: Any) -> Any:  # noqa: N802
            return milvus_pb2.ShowPartitionsResponse(status=fine, partition_names=["_default"])

        def GetLoadState(self, *_: Any) -> Any:  # noqa: N802
            return milvus_pb2.GetLoadStateResponse(status=fine, state=common_pb2.LoadStateLoaded)

    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(Control(), server)
    server.start()
    return server, {"url": f"http://127.0.0.1:{port}"}


def _schema(records: Records, *, columns: bool) -> Any:
    """A `CollectionSchema` message."""

    def field(name: str, type: DataType, **params: Any) -> Any:
        pairs = [
            common_pb2.KeyValuePair(key=key, value=str(value)) for key, value in params.items() if key != "element"
        ]
        element = params.get("element", DataType.NONE)
        return schema_pb2.FieldSchema(name=name, data_type=type, type_params=pairs, element_type=element)

    fields = [field("id", DataType.INT64), field("embedding", DataType.FLOAT_VECTOR, dim=records.vectors.shape[1])]
    fields[0].is_primary_key = True
    if columns:
        fields += [
            field("title", DataType.VARCHAR, max_length=200),
            field("count", DataType.INT64),
            field("price", DataType.DOUBLE),
            field("sold", DataType.BOOL),
            field("tags", DataType.ARRAY, max_capacity=10, max_length=50, element=DataType.VARCHAR),
        ]
    return schema_pb2.CollectionSchema(name=COLLECTION, fields=fields, enable_dynamic_field=not columns)


def _page(records: Records, start: int, limit: int, *, columns: bool) -> bytes:
    """A `QueryResults`."""
    stop = min(start + limit, records.count)
    numbers = range(start, stop)
    reply = milvus_pb2.QueryResults(collection_name=COLLECTION)
    if start == stop:
        return reply.SerializeToString()
    ids = reply.fields_data.add(field_name="id", type=DataType.INT64)
    ids.scalars.long_data.data.extend(numbers)
    vectors = reply.fields_data.add(field_name="embedding", type=DataType.FLOAT_VECTOR)
    vectors.vectors.dim = records.vectors.shape[1]
    vectors.vectors.float_vector.data.extend(records.vectors[start:stop].ravel().tolist())
    payloads = [payload(number) for number in numbers]
    if not columns:
        meta = reply.fields_data.add(field_name="$meta", type=DataType.JSON, is_dynamic=True)
        meta.scalars.json_data.data.extend(json.dumps(each, separators=(",", ":")).encode() for each in payloads)
        return reply.SerializeToString()
    for name, data_type, kind in (
        ("title", DataType.VARCHAR, "string_data"),
        ("count", DataType.INT64, "long_data"),
        ("price", DataType.DOUBLE, "double_data"),
        ("sold", DataType.BOOL, "bool_data"),
    ):
        column = reply.fields_data.add(field_name=name, type=data_type)
        getattr(column.scalars, kind).data.extend(each[name] for each in payloads)
    tags = reply.fields_data.add(field_name="tags", type=DataType.ARRAY)
    tags.scalars.array_data.element_type = DataType.VARCHAR
    for each in payloads:
        tags.scalars.array_data.data.add().string_data.data.extend(each["tags"])
    return reply.SerializeToString()
